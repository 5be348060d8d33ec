"""The Python interface, used as README shows it."""

from pathlib import Path

import numpy as np
import pytest

import veintrack
from tests.conftest import disc
from veintrack.errors import ModelFileError


def picture(
    shape: tuple[int, int] = (120, 160),
) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    return np.where(disc(shape, 70, 60, 15) == 1, 10, 70).astype(np.uint8)


def test_a_source_is_tracked_frame_by_frame(model_file: Path) -> None:
    with veintrack.open_source("demo", demo_frames=5) as source:
        results = list(veintrack.track(source, model=str(model_file)))
    assert [r.frame.index for r in results] == list(range(5))
    for result in results:
        assert result.timings.age_ns > 0
        for track in result.tracks:
            assert track.covariance_px2.shape == (2, 2)


def test_an_open_segmenter_is_used_and_stays_open(model_file: Path) -> None:
    with veintrack.load_segmenter(str(model_file)) as segmenter:
        for _ in range(2):
            with veintrack.open_source("demo", demo_frames=2) as source:
                assert len(list(veintrack.track(source, model=segmenter))) == 2
        segmenter(picture())


def test_a_wrong_model_is_refused_before_the_first_frame_is_asked_for() -> None:
    with (
        veintrack.open_source("demo") as source,
        pytest.raises(ModelFileError, match="no model 'none'"),
    ):
        veintrack.track(source, model="none")


def test_a_segmenter_answers_in_the_frames_own_pixels(model_file: Path) -> None:
    segmenter = veintrack.load_segmenter(str(model_file))
    for shape in ((120, 160), (200, 150), (120, 160)):
        probability = segmenter(picture(shape))
        assert probability.shape == shape
        assert probability.dtype == np.float32
        rows, columns = np.nonzero(probability >= segmenter.threshold)
        assert (columns.mean(), rows.mean()) == pytest.approx((70, 60), abs=1)


def test_a_segmenter_refuses_colour(model_file: Path) -> None:
    segmenter = veintrack.load_segmenter(str(model_file))
    with pytest.raises(ValueError, match=r"expected \(H, W\) uint8, got \(4, 4, 3\) uint8"):
        segmenter(np.zeros((4, 4, 3), np.uint8))


def test_a_tracker_takes_anybodys_detections() -> None:
    tracker = veintrack.VeinTracker()
    found = veintrack.Detection(
        centroid_px=np.array([10.0, 20.0]),
        covariance_px2=np.eye(2),
        area_px2=100.0,
        axes_px=(12.0, 10.0),
        angle_rad=0.0,
        score=0.9,
        box_px=(4.0, 15.0, 12.0, 10.0),
    )
    for i in range(5):
        (track,) = tracker.update([found], i * 40_000_000)
    assert track.status is veintrack.TrackStatus.CONFIRMED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": np.zeros((4, 4), np.float32)}, r"must be a non-empty .* got \(4, 4\) float32"),
        ({"pixels": np.zeros((0, 4), np.uint8)}, "must be a non-empty"),
        ({"index": -1}, "index must not be negative, got -1"),
        ({"spacing_mm": (0.1, 0.0)}, r"spacing_mm must be positive and finite, got \(0.1, 0.0\)"),
    ],
)
def test_a_frame_is_checked_where_it_is_born(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"pixels": picture(), "index": 0, "capture_ns": 0}
    with pytest.raises(ValueError, match=message):
        veintrack.Frame(**{**fields, **change})  # type: ignore[arg-type]
