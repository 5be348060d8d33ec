"""Losses against closed forms, and what holds for each of them."""

import math

import pytest
import torch
from torch import Tensor

from veintrack.train.losses import LOSSES, segmentation_loss

every_loss = pytest.mark.parametrize("name", LOSSES)

LOG2 = math.log(2)
# A quarter of the pixels of each frame are vessel, and every probability is one half. Of 16 pixels
# a frame and two frames, 4 * 2 are shared and 8 * 2 + 4 * 2 are the sum.
DICE = 1 - (2 * 4 + 1) / (16 + 8 + 1)
UNDECIDED = {
    "bce": LOG2,
    "dice": DICE,
    "bce-dice": LOG2 + DICE,
    "bce-dice-of-frames": LOG2 + 1 - (2 * 2 + 1) / (8 + 4 + 1),
    "bce-tversky": LOG2 + 1 - (4 + 1) / (4 + 0.3 * 12 + 0.7 * 4 + 1),
    "focal-dice": LOG2 / 4 + DICE,
}


def rows(count: int, *, frames: int = 2) -> Tensor:
    target = torch.zeros(frames, 1, 4, 4)
    target[:, :, :count] = 1
    return target


def random_pair(classes: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, classes, 8, 8), (torch.rand(2, classes, 8, 8) > 0.6).float()


@every_loss
def test_the_loss_of_an_undecided_network_is_known(name: str) -> None:
    loss = segmentation_loss(name, torch.zeros(2, 1, 4, 4), rows(1))
    assert float(loss) == pytest.approx(UNDECIDED[name])


@every_loss
def test_the_loss_vanishes_where_all_is_right(name: str) -> None:
    target = torch.cat([rows(2), rows(0)], 1)  # the second class is not there, and not seen
    assert float(segmentation_loss(name, 60 * target - 30, target)) == pytest.approx(0, abs=1e-6)


@every_loss
def test_the_loss_is_the_mean_over_classes(name: str) -> None:
    logits, target = random_pair()
    each = [segmentation_loss(name, logits[:, [c]], target[:, [c]]) for c in range(3)]
    torch.testing.assert_close(segmentation_loss(name, logits, target), torch.stack(each).mean())


@every_loss
def test_unknown_pixels_count_for_nothing(name: str) -> None:
    logits, target = random_pair()
    unknown = torch.zeros_like(logits)
    unknown[:, :, :, 4:] = 1
    cut = segmentation_loss(name, logits[..., :4], target[..., :4])
    torch.testing.assert_close(segmentation_loss(name, logits, target, unknown), cut)
    none = segmentation_loss(name, logits, target, torch.zeros_like(unknown))
    torch.testing.assert_close(none, segmentation_loss(name, logits, target))


@every_loss
def test_a_class_of_which_nothing_is_known_has_no_gradient(name: str) -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    unknown = torch.zeros(1, 2, 4, 4)
    unknown[:, 1] = 1
    loss = segmentation_loss(name, logits, torch.ones(1, 2, 4, 4), unknown)
    [gradient] = torch.autograd.grad(loss, logits)
    assert bool(gradient[:, 0].abs().min() > 0)
    assert not gradient[:, 1].any()


def test_a_miss_costs_more_than_a_false_alarm_of_the_same_size() -> None:
    truth, missed, alarmed = rows(2), rows(1), rows(3)
    miss, alarm = (
        segmentation_loss("bce-tversky", 60 * found - 30, truth) for found in (missed, alarmed)
    )
    assert miss > alarm + 0.05


def test_small_vessels_count_as_large_ones_where_each_frame_has_its_own_dice() -> None:
    truth = torch.cat([rows(4, frames=1), rows(1, frames=1)])
    found = torch.cat([rows(4, frames=1), rows(0, frames=1)])  # the small one is missed
    pooled, each = (
        segmentation_loss(name, 60 * found - 30, truth)
        - segmentation_loss("bce", 60 * found - 30, truth)
        for name in ("bce-dice", "bce-dice-of-frames")
    )
    assert float(pooled) == pytest.approx(1 - (2 * 16 + 1) / (16 + 20 + 1))
    assert float(each) == pytest.approx((1 - 1 / 5) / 2)


def test_the_loss_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match="must have one shape"):
        segmentation_loss("bce-dice", torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, 1))


def test_an_unknown_loss_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="loss must be one of bce-dice, bce, .*, got hinge"):
        segmentation_loss("hinge", torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
