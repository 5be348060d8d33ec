"""Scores against closed forms and a second implementation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from veintrack.train.metrics import PooledScores


@given(st.integers(0, 2**32 - 1), st.integers(1, 255), st.integers(1, 3))
def test_scores_equal_counting_at_every_threshold(seed: int, level: int, batches: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.random((batches, 2, 1, 6, 6), np.float32)
    target = rng.random((batches, 2, 1, 6, 6), np.float32) < rng.random()
    scores = PooledScores(1)
    for p, t in zip(probability, target, strict=True):
        scores.update(torch.from_numpy(p), torch.from_numpy(t).float())
    at = scores.at(level / 256)
    found = probability >= level / 256
    both, either = (found & target).sum(), (found | target).sum()
    total = found.sum() + target.sum()
    assert at.dice == pytest.approx(2 * both / total if total else 1)
    assert at.iou == pytest.approx(both / either if either else 1)
    assert at.pixel_accuracy == pytest.approx((found == target).mean())
    assert scores.best().dice >= at.dice - 1e-12


def test_the_best_threshold_lies_between_what_is_and_what_is_not() -> None:
    scores = PooledScores(1)
    probability = torch.tensor([0.1, 0.3, 0.7, 0.9]).view(1, 1, 2, 2)
    scores.update(probability, (probability > 0.5).float())
    best = scores.best()
    assert best.dice == best.iou == best.pixel_accuracy == 1
    assert best.threshold == pytest.approx(0.5, abs=0.01)
    assert {name: float(value) for name, value in scores.compute().items()} == {
        "dice": 1,
        "iou": 1,
        "pixel_accuracy": 1,
    }


def test_false_alarms_on_empty_frames_count() -> None:
    scores = PooledScores(1)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    scores.update(mask, mask)
    assert scores.at(0.5).dice == 1
    scores.update(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    assert scores.at(0.5).dice == pytest.approx(2 * 8 / (2 * 8 + 16))


def test_classes_are_scored_apart_and_averaged() -> None:
    scores = PooledScores(2)
    target = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    scores.update(torch.ones(1, 2, 4, 4), target)
    assert scores.at(0.5).dice == pytest.approx(0.5)


def test_unknown_pixels_count_for_nothing() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 2, 8, 8), (torch.rand(2, 2, 8, 8) > 0.6).float()
    unknown = torch.zeros(2, 2, 8, 8)
    unknown[:, :, :, 4:] = 1
    whole, part = PooledScores(2), PooledScores(2)
    whole.update(torch.sigmoid(logits), target, unknown)
    part.update(torch.sigmoid(logits[..., :4]), target[..., :4])
    assert torch.equal(whole.histogram, part.histogram)


def test_each_class_has_its_dice_and_an_unknown_one_counts_in_no_mean() -> None:
    scores = PooledScores(3)
    scores.names = ("vein", "artery", "nerve")
    target = torch.zeros(1, 3, 4, 4)
    target[:, :2, :2] = 1
    found = target.clone()
    found[:, 1] = 1
    unknown = torch.zeros(1, 3, 4, 4)
    unknown[:, 2] = 1
    scores.update(found, target, unknown)
    at = scores.at(0.5)
    assert at.dice_of_classes == (1.0, 2 / 3, None)
    assert at.dice == pytest.approx((1 + 2 / 3) / 2)
    logged = {name: float(value) for name, value in scores.compute().items()}
    assert logged["dice"] == pytest.approx(at.dice)
    assert logged["dice_artery"] == pytest.approx(2 / 3)
    assert math.isnan(logged["dice_nerve"])
