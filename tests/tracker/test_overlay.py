"""What is drawn on a picture, and where."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veintrack.tracker.frame import U8, Frame, FrameResult, Timings, Track, TrackStatus
from veintrack.tracker.overlay import draw
from veintrack.tracker.overlay_canvas import Box, Canvas, size_of
from veintrack.tracker.overlay_labels import place_labels
from veintrack.tracker.overlay_legend import draw_legend, draw_scale, round_length_mm

SHAPE = (480, 640)


def result_of(*tracks: Track, spacing_mm: tuple[float, float] | None = None) -> FrameResult:
    frame = Frame(np.full(SHAPE, 80, np.uint8), 0, 0, spacing_mm=spacing_mm)
    return FrameResult(frame, (), tracks, Timings(0, 0, 0, 0, 0, 0, 0, 0))


def coasting(x: float = 300.0, y: float = 200.0, number: int = 1) -> Track:
    return Track(
        number, TrackStatus.COASTING, np.array([x, y]), np.zeros(2), np.eye(2),
        (x - 40, y - 30, 80.0, 60.0), 0.9,
    )  # fmt: skip


def black(height: int = 480, width: int = 640) -> Canvas:
    return Canvas(np.zeros((height, width, 3), np.uint8), 1, np.zeros(2))


def test_a_track_that_is_not_seen_is_paler() -> None:
    pale = draw(result_of(coasting()))
    full = draw(result_of(replace(coasting(), status=TrackStatus.CONFIRMED)))
    around = np.s_[160:240, 250:350]
    assert np.ptp(full[around], axis=2).max() > 1.5 * np.ptp(pale[around], axis=2).max() > 60


def test_while_the_scan_area_is_not_known_the_picture_is_left_out_and_that_is_said() -> None:
    plain = result_of(coasting())
    plain.frame.pixels[300:] = 250
    hidden = draw(replace(plain, scan_area_settled=False))
    assert hidden[320:440].max() == 0
    assert np.ptp(hidden[160:240, 250:350], axis=2).max() > 60  # the tracks are shown
    assert hidden[28:48, :250].max() > 200


def test_the_legend_stays_in_the_lowest_tenth_of_the_picture() -> None:
    without = draw(result_of(spacing_mm=(0.1, 0.1)))
    changed = (draw(result_of(spacing_mm=(0.1, 0.1)), legend=True) != without).any(axis=2)
    rows = changed.any(axis=1).nonzero()[0]
    assert rows.min() > 0.9 * SHAPE[0]


def test_there_is_no_scale_where_spacing_is_not_known() -> None:
    corner = np.s_[440:, 560:]
    known, unknown = (
        draw(result_of(spacing_mm=mm), legend=True)[corner] for mm in ((0.1, 0.1), None)
    )
    assert known.max() == 255
    assert np.ptp(unknown) == 0


@pytest.mark.parametrize("zoom", [1, 2])
def test_the_scale_bar_is_as_long_as_it_says(zoom: int) -> None:
    canvas = Canvas(np.zeros((480, 640, 3), np.uint8), zoom, np.zeros(2))
    draw_scale(canvas, (0.11, 0.11), 460)
    bar = (canvas.pixels[460] == 255).all(axis=1).nonzero()[0]
    mm = {1: 10, 2: 5}[zoom]  # a fifth of 640 px is 14 mm, or 7
    assert np.ptp(bar) == pytest.approx(mm / 0.11 * zoom, abs=1)
    assert canvas.pixels[:430].max() == 0  # none upright


def test_where_rows_and_columns_differ_each_has_its_bar() -> None:
    canvas = black()
    draw_scale(canvas, (0.2, 0.1), 460)
    across = (canvas.pixels[460] == 255).all(axis=1).nonzero()[0]
    upright = (canvas.pixels[:, across.max() - 3] == 255).all(axis=1).nonzero()[0]
    assert (np.ptp(across), np.ptp(upright)) == (
        pytest.approx(103, abs=4),
        pytest.approx(50, abs=4),
    )


@given(st.floats(1e-6, 1e6))
def test_a_round_length_is_one_two_or_five_and_not_much_less(most_mm: float) -> None:
    mm = round_length_mm(most_mm)
    assert mm <= most_mm < 2.5 * mm * (1 + 1e-9)
    assert f"{mm:e}"[0] in "125"
    assert float(f"{mm:.0e}") == pytest.approx(mm, rel=1e-12)


@pytest.mark.parametrize("length", [0.0, -1.0, float("inf"), float("nan")])
def test_a_length_that_is_none_has_no_round_one(length: float) -> None:
    with pytest.raises(ValueError, match="most_mm must be positive and finite"):
        round_length_mm(length)


@pytest.mark.parametrize("width", [200, 320, 640, 1280])
def test_the_legend_is_wrapped_to_what_is_there(width: int) -> None:
    boxes = draw_legend(black(480, width), 450)
    assert len(boxes) == 5
    for k, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert right <= width
        assert bottom <= 460
        assert not any(_overlap((left, top, right, bottom), other) for other in boxes[:k])


def _overlap(one: Box, other: Box) -> bool:
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(
        one[1], other[1]
    )


_boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.integers(-50, 640), st.integers(-50, 480), st.integers(1, 300), st.integers(1, 300),
)  # fmt: skip
_sizes = st.tuples(st.integers(5, 250), st.integers(5, 30))


@given(st.lists(st.tuples(_sizes, _boxes), max_size=8), st.lists(_boxes, max_size=3))
def test_labels_stay_on_the_canvas(
    labelled: list[tuple[tuple[int, int], Box]], taken: list[Box]
) -> None:
    sizes, vessels = [size for size, _ in labelled], [box for _, box in labelled]
    placed = place_labels(sizes, vessels, taken, (640, 480))
    for (width, height), (left, top, right, bottom) in zip(sizes, placed, strict=True):
        assert (right - left, bottom - top) == (width, height)
        assert left >= 0
        assert right <= 640
        assert top >= 0
        assert bottom <= 480


def test_a_label_goes_where_it_hides_no_other_vessel() -> None:
    upper, lower = (100, 100, 200, 180), (100, 190, 200, 280)
    first, second = place_labels([(90, 16)] * 2, [upper, lower], [], (640, 480))
    assert first[3] <= upper[1]  # above
    assert second[1] >= lower[3]  # above is the other vessel
    between = [(100, 0, 200, 95), upper, lower]
    third = place_labels([(90, 16)] * 3, between, [], (640, 480))[1]
    assert third[0] >= upper[2]  # neither above nor below is room


def test_labels_of_vessels_at_one_place_do_not_hide_each_other() -> None:
    vessel = (300, 200, 360, 240)
    placed = place_labels([(80, 16)] * 4, [vessel] * 4, [], (640, 480))
    for k, box in enumerate(placed):
        assert not any(_overlap(box, other) for other in [vessel, *placed[:k]])


def test_words_at_an_edge_are_moved_or_cut_and_never_fail() -> None:
    for canvas in (black(), black(8, 8)):
        for at in ((-20, 5), (635, 5), (10, -40), (10, 500), (630, 482)):
            canvas.write("a word", at)
        canvas.write("", (3, 3))
    width, height = size_of("a word")
    assert 40 < width < 80
    assert 12 < height < 24


def test_words_are_readable_on_white_and_on_black() -> None:
    for level in (0, 255):
        canvas = Canvas(np.full((40, 200, 3), level, np.uint8), 1, np.zeros(2))
        left, top, right, bottom = canvas.write("frame 7", (10, 25))
        part: U8 = canvas.pixels[top:bottom, left:right]
        assert np.ptp(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)) > 150
