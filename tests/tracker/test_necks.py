"""Blobs that are taken apart at their necks."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from veintrack.tracker.detect import describe
from veintrack.tracker.frame import F64, Detection, Patch
from veintrack.tracker.necks import apart

SIZE = 120


def ellipse(x: float, y: float, width: float, height: float) -> F64:
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    radius = np.hypot((columns - x) / (width / 2), (rows - y) / (height / 2))
    made: F64 = np.clip(0.5 + (1 - radius) * min(width, height) / 4, 0, 1)
    return made


def bar(left: int, right: int, y: int, thick: int) -> F64:
    made = np.zeros((SIZE, SIZE))
    made[y - thick // 2 : y - thick // 2 + thick, left:right] = 1.0
    return made


def blob(*pieces: F64) -> Detection:
    return describe(Patch(np.maximum.reduce(pieces), 0.5, (10.0, 20.0), (2.0, 1.5)))


def test_two_vessels_that_a_thin_bridge_joins_are_two() -> None:
    left, right = ellipse(35, 60, 36, 30), ellipse(80, 62, 40, 24)
    joined = blob(left, right, bar(45, 70, 61, 5))
    parts = sorted(apart(joined), key=lambda part: part.centroid_px[0])
    assert len(parts) == 2
    for part, alone in zip(parts, (blob(left), blob(right)), strict=True):
        assert_allclose(part.centroid_px, alone.centroid_px, atol=3)
        assert part.area_px2 == pytest.approx(alone.area_px2, rel=0.05)
        assert part.parts_of == (joined,)


def test_a_small_vessel_beside_a_large_one_is_not_lost() -> None:
    parts = apart(blob(ellipse(45, 60, 60, 56), ellipse(92, 60, 28, 24), bar(72, 82, 60, 3)))
    assert sorted(round(part.centroid_px[0] / 2) for part in parts) == [50, 97]


def test_a_tail_is_taken_off() -> None:
    vessel = ellipse(40, 60, 50, 44)
    tail = np.maximum(bar(55, 110, 60, 8), bar(102, 110, 40, 40))
    (kept,) = apart(blob(vessel, tail))
    assert kept.area_px2 == pytest.approx(blob(vessel).area_px2, rel=0.06)


@pytest.mark.parametrize(
    "pieces",
    [
        [ellipse(60, 60, 60, 50)],
        [ellipse(60, 60, 100, 30)],
        [ellipse(50, 60, 50, 50), ellipse(76, 60, 50, 50)],  # it narrows, and has no neck
        [bar(20, 100, 60, 16), bar(20, 36, 70, 40)],  # bent
        [ellipse(60, 60, 5, 4)],
    ],
)
def test_a_blob_without_a_neck_stays_as_it_is(pieces: list[F64]) -> None:
    whole = blob(*pieces)
    assert apart(whole) == (whole,)


def test_a_blob_without_pixels_stays_as_it_is() -> None:
    made = blob(ellipse(35, 60, 36, 30), ellipse(80, 62, 40, 24), bar(45, 70, 61, 5))
    bare = Detection(made.centroid_px, made.covariance_px2, made.area_px2, made.axes_px,
                     made.angle_rad, made.score, made.box_px)  # fmt: skip
    assert apart(bare) == (bare,)


def test_mirrored_blobs_are_taken_apart_alike() -> None:
    shape = np.maximum.reduce(
        [ellipse(35, 60, 36, 30), ellipse(80, 62, 40, 24), bar(45, 70, 61, 5)]
    )
    plain, mirrored = blob(shape), blob(shape[:, ::-1].copy())
    areas = [sorted(part.area_px2 for part in apart(each)) for each in (plain, mirrored)]
    assert_allclose(areas[0], areas[1], rtol=0.02)
