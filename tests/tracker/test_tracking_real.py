"""Tracking real ultrasound: the stills that are set in motion, the carotid, clips without a vessel.

The figures themselves are the benchmark's (`benchmarks/tracking_real.py`); held here is what must
not get worse, on as much as fits into seconds.
"""

import importlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import disc
from veintrack.tracker.segment import Segmenter, load_segmenter

ROOT = Path(__file__).parents[2]
MOVES = ("shift", "slide", "rotate", "breathe", "scale")


@pytest.fixture(scope="module", autouse=True)
def _scripts_are_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield


@pytest.fixture(scope="module")
def real() -> Any:
    return importlib.import_module("tracking_real")


@pytest.fixture(scope="module")
def real_warps() -> Any:
    return importlib.import_module("tracking_real_warps")


@pytest.fixture(scope="module")
def warping() -> Any:
    return importlib.import_module("tracking_warps")


@pytest.fixture(scope="module")
def segmenter() -> Iterator[Segmenter]:
    with load_segmenter("default", engine="openvino", limits=None) as opened:
        yield opened


def still_of(warping: Any, *discs: tuple[float, float, float]) -> Any:
    """Grey tissue of 240x200 px with dark discs in it."""
    mask = np.zeros((200, 240), bool)
    for x, y, radius in discs:
        mask |= disc(mask.shape, x, y, radius) > 0
    pixels = np.where(mask, 20, 120).astype(np.uint8)
    return warping.Still.of("discs", pixels, mask)


# --- stills in motion ----------------------------------------------------------------------------


@pytest.mark.parametrize("move", MOVES)
def test_a_vessel_goes_where_its_truth_says(warping: Any, move: str) -> None:
    still = still_of(warping, (90.0, 80.0, 18.0))
    rows, columns = np.mgrid[:200, :240]
    for moved in warping.moving(still, warping.MOVES[move], 5.0, 20, seed=1):
        x, y = moved.places[0].xy_px
        near = np.hypot(columns - x, rows - y) < 30
        dark = np.where(near, np.maximum(70.0 - moved.pixels, 0), 0)
        for weight, tolerance_px in ((dark, 0.35), (moved.mask, 0.05)):
            centre = [(weight * axis).sum() / weight.sum() for axis in (columns, rows)]
            assert centre == pytest.approx((x, y), abs=tolerance_px)


@settings(max_examples=40)
@given(st.sampled_from(MOVES), st.floats(0, 20))
def test_a_warp_turns_back(move: str, time_s: float) -> None:
    warping = importlib.import_module("tracking_warps")
    warp = warping.MOVES[move](time_s)
    centre, xy = np.array([120.0, 100.0]), np.array([[10.0, 20.0], [200.0, 150.0]])
    moved = warp.move(xy, centre)
    back = (moved - centre - warp.shift_px) @ np.linalg.inv(warp.linear).T + centre
    np.testing.assert_allclose(back, xy, atol=1e-9)


def test_speckle_is_new_in_every_frame_and_the_same_for_a_seed(warping: Any) -> None:
    still = still_of(warping, (90.0, 80.0, 18.0))
    first, second, again = (
        [moved.pixels for moved in warping.moving(still, warping.MOVES["scale"], 25.0, 2, seed)]
        for seed in (1, 2, 1)
    )
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], first[1])
    assert first[0][:40].std() == pytest.approx(8.0, rel=0.1)


def test_vessels_that_reach_the_border_are_left_out(warping: Any) -> None:
    still = still_of(warping, (90.0, 80.0, 18.0), (0.0, 150.0, 20.0), (180.0, 120.0, 3.0))
    assert len(still.vessels) == 1


def test_of_a_vessel_that_is_never_found_nothing_is_said(warping: Any, real_warps: Any) -> None:
    still = still_of(warping, (90.0, 80.0, 18.0))
    blind = replace(still, mask=np.zeros_like(still.mask))
    *_, row = real_warps.warps([blind], None, 25.0, 5, ["scale"])
    assert (row["vessels"], row["found"], row["found_frames"]) == (1, 0, 0.0)
    assert all(math.isnan(row[name]) for name in ("rmse_px", "motion_rmse_px", "one_identity"))


@pytest.mark.parametrize(("beside_px", "kept"), [(1, 0), (2, 0), (3, 1)])
def test_nobody_draws_to_the_last_pixel(warping: Any, beside_px: int, kept: int) -> None:
    mask = np.zeros((200, 240), bool)
    mask[60:120, beside_px : beside_px + 50] = True
    still = warping.Still.of("cut", np.where(mask, 20, 120).astype(np.uint8), mask)
    assert len(still.vessels) == kept


def test_a_vessel_that_leaves_the_frame_is_not_visible(warping: Any) -> None:
    still = still_of(warping, (205.0, 80.0, 18.0))
    seen = [m.places[0].visible for m in warping.moving(still, warping.MOVES["slide"], 5.0, 20, 1)]
    assert set(seen) == {True, False}


# --- the carotid ---------------------------------------------------------------------------------


def test_sequences_are_cut_at_long_gaps(real: Any, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in (1, 5, 9, 14, 20, 60, 64, 66, 67, 68, 200):
        (tmp_path / "images" / f"S1_007VAS_{number:05d}.png").touch()
    first, second = real.stretches(tmp_path, slice_hz=30.0)
    assert [name[-9:-4] for _, name in first] == ["00001", "00005", "00009", "00014", "00020"]
    assert [time_s for time_s, _ in second] == pytest.approx([n / 30 for n in (60, 64, 66, 67, 68)])


def test_the_carotid_keeps_its_identity_on_labelled_masks(real: Any, recordings: Path) -> None:
    folder = recordings / "carotid"
    row = real.carotid(folder, real.stretches(folder, 30.0, "S4"), None)
    assert row["one_identity"] >= 0.8
    assert row["idf1"] >= 0.7


# --- what the network sees -----------------------------------------------------------------------


def test_nothing_is_confirmed_for_long_where_there_is_no_vessel(
    real: Any, recordings: Path, segmenter: Segmenter
) -> None:
    clip = recordings / "replay" / "Reg_Image_18122_crop.mp4"
    assert real.lungs(clip, segmenter, frames=120)["confirmed"] <= 0.02


def test_real_tissue_in_motion_keeps_its_vessels(real_warps: Any, recordings: Path) -> None:
    stills = [real_warps.read_still(recordings / "vessels", name) for name in ("0117", "0134")]
    *_, row = real_warps.warps(stills, None, 25.0, 20)
    assert row["one_identity"] == 1.0
    assert row["rmse_px"] <= 1.5


def test_a_real_vessel_is_followed_through_a_known_warp(
    real_warps: Any, recordings: Path, segmenter: Segmenter
) -> None:
    still = real_warps.read_still(recordings / "vessels", "0134")
    *_, row = real_warps.warps([still], segmenter, 25.0, 20, ["slide", "rotate"])
    assert row["one_identity"] == 1.0
    assert row["motion_rmse_px"] <= 1.5
