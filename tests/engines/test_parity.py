"""The gate between a built engine and its user: what it counts, what it lets through, what not."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.conftest import disc
from veintrack.engines.base import F32, U8, open_engine
from veintrack.engines.model import read_model_info
from veintrack.engines.parity import Answer, Parity, ParityLimits, compare

SHAPE = (48, 64)
FRAME = np.zeros((1, 1, *SHAPE), np.uint8)
GOOD = Parity((0.999, 0.995), 0.02, 1e-4, 0.1, 0.05, 7, 0, 1, 4)


def answers(*maps: NDArray[np.floating]) -> Answer:
    """Answer the n-th frame with the n-th map, of shape (H, W) or (C, H, W)."""
    left = iter(maps)
    return lambda _: np.float32(next(left)).reshape(1, -1, *SHAPE)


def judge(
    reference: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    candidate: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    min_area_px: int = 20,
) -> Parity:
    count = len(reference) if isinstance(reference, list) else 1
    first, second = (maps if isinstance(maps, list) else [maps] for maps in (reference, candidate))
    return compare(
        answers(*first), answers(*second), [FRAME] * count, threshold=0.5, min_area_px=min_area_px
    )


def blob(x: float, y: float, radius: float = 5) -> NDArray[np.float64]:
    return 0.1 + 0.8 * disc(SHAPE, x, y, radius).astype(np.float64)


NOTHING = np.full(SHAPE, 0.1)
noise = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((3, *SHAPE)))


@settings(max_examples=25)
@given(noise)
def test_identical_answers_pass_the_strictest_gate(maps: NDArray[np.float64]) -> None:
    parity = judge(maps, maps, min_area_px=1)
    assert parity.passes(ParityLimits(dice=1, centroid_shift_px=0))
    assert (parity.probability_max, parity.centroid_shift_px) == (0, 0)
    assert (parity.gained, parity.lost) == (0, 0)
    assert parity.matched > 0


@settings(max_examples=25)
@given(noise, noise)
def test_changing_sides_swaps_gained_and_lost_and_nothing_else(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> None:
    there, back = judge(a, b, 5), judge(b, a, 5)
    assert (there.gained, there.lost) == (back.lost, back.gained)
    assert (there.dice, there.matched) == (back.dice, back.matched)
    assert there.probability_mean == pytest.approx(back.probability_mean)


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_a_shifted_vessel_gives_exactly_that_shift(dx_px: int, dy_px: int) -> None:
    parity = judge(blob(30, 20), blob(30 + dx_px, 20 + dy_px))
    assert parity.centroid_shift_px == pytest.approx(np.hypot(dx_px, dy_px), abs=1e-6)
    assert (parity.matched, parity.gained, parity.lost) == (1, 0, 0)


@given(st.integers(1, 4), st.integers(0, 4))
def test_vessels_that_one_side_lacks_are_gained_or_lost(added: int, kept: int) -> None:
    few = np.maximum.reduce([NOTHING, *(blob(7 + 12 * i, 10) for i in range(kept))])
    many = np.maximum.reduce([few, *(blob(7 + 12 * i, 35) for i in range(added))])
    more, less = judge(few, many), judge(many, few)
    assert (more.matched, more.gained, more.lost) == (kept, added, 0)
    assert (less.matched, less.gained, less.lost) == (kept, 0, added)
    assert more.centroid_shift_px == 0


def test_dice_is_twice_the_shared_over_the_sum() -> None:
    left, right = NOTHING.copy(), NOTHING.copy()
    left[10:20, 10:20] = right[10:20, 14:24] = 0.9
    assert judge(left, right).dice == (0.6,)


def test_dice_pools_the_frames_and_keeps_the_classes_apart() -> None:
    pixel = NOTHING.copy()
    pixel[3, 3] = 0.9
    parity = judge(
        [np.stack([blob(30, 20), NOTHING]), np.stack([NOTHING, pixel])],
        [np.stack([blob(30, 20), NOTHING]), np.stack([pixel, pixel])],
    )
    area = disc(SHAPE, 30, 20, 5).sum()
    assert parity.dice == (2 * area / (2 * area + 1), 1)
    assert parity.frames == 2


def test_a_class_that_neither_sees_agrees_and_one_that_a_single_side_sees_does_not() -> None:
    assert judge(NOTHING, NOTHING).dice == (1,)
    assert judge(NOTHING, NOTHING).passes()
    assert judge(NOTHING, blob(30, 20)).dice == (0,)


def test_differences_of_probability_are_absolute() -> None:
    other = NOTHING.copy()
    other[0, 0], other[0, 1] = 0.4, 0.0
    parity = judge(NOTHING, other)
    assert parity.probability_max == pytest.approx(0.3)
    assert parity.probability_mean == pytest.approx(0.4 / NOTHING.size)


def test_blobs_below_the_least_area_are_no_vessels() -> None:
    parity = judge(NOTHING, blob(30, 20, 2))
    assert (parity.gained, parity.centroid_shift_px) == (0, 0)
    assert judge(NOTHING, blob(30, 20, 2), min_area_px=13).gained == 1


def test_of_a_vessel_that_breaks_the_larger_part_is_matched() -> None:
    broken = NOTHING.copy()
    whole = NOTHING.copy()
    whole[10:20, 10:40] = broken[10:20, 10:29] = broken[10:20, 30:40] = 0.9
    parity = judge(whole, broken)
    assert (parity.matched, parity.gained, parity.lost) == (1, 1, 0)
    assert parity.centroid_shift_px == pytest.approx(24.5 - 19)


def test_a_soft_edge_pulls_the_centroid_by_its_probability() -> None:
    soft = blob(30, 20)
    soft[15:26, 26:30] *= 0.7
    assert 0 < judge(blob(30, 20), soft).centroid_shift_px < 0.5


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_a_number_never_passes(wrong: float) -> None:
    broken = blob(30, 20)
    broken[0, 0] = wrong
    parity = judge(blob(30, 20), broken)
    assert not parity.passes(ParityLimits(dice=0, centroid_shift_px=1e9))
    assert "its answers hold what is not a number" in parity.reason()
    assert parity.to_json()["probability_max"] is None


def test_what_passes_is_summed_up_in_one_line() -> None:
    assert GOOD.passes()
    assert GOOD.reason() == (
        "Dice 0.9950, largest centroid shift 0.10 px, largest probability difference 0.0200, "
        "vessels 7 matched, 0 gained, 1 lost, in 4 frames"
    )


def test_what_does_not_pass_says_by_how_much() -> None:
    strict = ParityLimits(dice=0.998, centroid_shift_px=0.05)
    assert not GOOD.passes(strict)
    assert GOOD.reason(strict) == (
        "Dice 0.9950 of class 1 is below 0.998; a centroid lies 0.10 px off, more than 0.05"
    )


@pytest.mark.parametrize(
    "parity", [GOOD, replace(GOOD, probability_max=np.inf, probability_mean=np.inf)]
)
def test_it_is_written_as_json_and_read_again(parity: Parity) -> None:
    written = json.loads(json.dumps(parity.to_json(), allow_nan=False))
    assert Parity.from_json(written) == parity


@pytest.mark.parametrize(
    "fields", [{}, GOOD.to_json() | {"colour": 3}, {"dice": [1.0]}, GOOD.to_json() | {"dice": None}]
)
def test_json_of_another_kind_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Parity.from_json(fields)


def test_a_vessel_that_the_reference_is_not_sure_of_may_move() -> None:
    vague, moved = 0.75 * blob(30, 20), 0.75 * blob(33, 20)  # 0.675 inside
    parity = judge(vague, moved)
    assert (parity.matched, parity.centroid_shift_px) == (1, 0)
    strict = compare(answers(vague), answers(moved), [FRAME], threshold=0.5, sure=0.6)
    assert strict.centroid_shift_px == pytest.approx(3, abs=1e-6)


def test_how_sure_the_engine_is_does_not_matter() -> None:
    parity = judge(blob(30, 20), 0.75 * blob(33, 20))
    assert parity.centroid_shift_px == pytest.approx(3, abs=1e-6)


def test_a_vessel_is_as_sure_as_its_pixels_are_on_average() -> None:
    half = blob(30, 20)
    half[:, 30:] *= 0.75
    mean = half[half >= 0.5].mean()
    for sure, shift_px in ((mean - 0.01, 2), (mean + 0.01, 0)):
        both = answers(half), answers(np.roll(half, 2, axis=0))
        parity = compare(*both, [FRAME], threshold=0.5, sure=float(sure))
        assert parity.centroid_shift_px == pytest.approx(shift_px, abs=1e-6)
        assert parity.centroid_shift_mean_px == pytest.approx(shift_px, abs=1e-6)


def test_a_vessel_that_is_not_sure_counts_for_the_mask() -> None:
    assert judge(0.75 * blob(30, 20), NOTHING).dice == (0,)
    assert judge(0.75 * blob(30, 20), NOTHING).lost == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParityLimits(dice=1.1), "dice must lie between 0 and 1, got 1.1"),
        (lambda: ParityLimits(sure=-0.1), "sure must lie between 0 and 1, got -0.1"),
        (lambda: ParityLimits(centroid_shift_px=-1), "must be 0 or more, got -1"),
        (lambda: ParityLimits(dice=float("nan")), "dice must lie between"),
        (lambda: judge([], []), "frames must hold at least one picture, got none"),
        (
            lambda: judge(NOTHING, np.stack([NOTHING, NOTHING])),
            r"expected an answer of shape \(1, 1, 48, 64\), got \(1, 2, 48, 64\)",
        ),
    ],
)
def test_misuse_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_engines_are_compared_as_they_are(model_file: Path) -> None:
    info = read_model_info(model_file)
    frame: U8 = np.full((1, 1, 64, 64), 90, np.uint8)
    frame[0, 0, 20:40, 10:30] = 20
    reference = open_engine(info, "onnxruntime")

    def dead(frames: U8) -> F32:
        return np.zeros(frames.shape, np.float32)

    same = compare(reference, reference, [frame] * 2, threshold=info.threshold)
    assert (same.passes(ParityLimits(1, 0)), same.matched, same.frames) == (True, 2, 2)
    other = open_engine(info, "openvino", precision="fp32")
    assert compare(reference, other, [frame], threshold=info.threshold).passes()
    lost = compare(reference, dead, [frame], threshold=info.threshold)
    assert (lost.passes(), lost.lost) == (False, 1)


def test_where_the_reference_sees_no_vessel_probabilities_have_to_agree() -> None:
    nothing = np.zeros(SHAPE)
    assert judge(nothing, nothing + 0.05).passes()
    doubtful = judge(nothing, nothing + 0.39)  # no mask either, but far from the reference
    assert not doubtful.passes()
    assert "in which the reference sees no vessel: judge on others" in doubtful.reason()
