"""The report: complete, self-contained, and readable for what it shows."""

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from tests.conftest import disc
from veintrack.train.curves import count_levels
from veintrack.train.report import Example, pick_examples, remarks, render_report, score_rows
from veintrack.train.scores import FrameScores, score_frame
from veintrack.train.summary import Summary, summarise

SHAPE = (60, 80)
TRUTH = disc(SHAPE, 40, 30, 12).astype(bool)


def shifted(name: str, dx: int) -> FrameScores:
    return score_frame(name, TRUTH, np.roll(TRUTH, dx, axis=1), (0.1, 0.1))


def empty(name: str = "empty") -> FrameScores:
    return score_frame(name, np.zeros(SHAPE, bool), TRUTH)


class Tags(HTMLParser):
    """Collects what a page refers to, and checks that its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    frames = [shifted("a&b", 2), shifted("c", 5), empty()]
    pixels = np.full(SHAPE, 90, np.uint8)
    blank = np.zeros(SHAPE, bool)
    examples = [
        Example("best", frames[0], pixels, TRUTH, np.roll(TRUTH, 2, axis=1)),
        Example("worst", frames[1], pixels, TRUTH, blank),
    ]
    levels = count_levels(TRUTH.astype(np.float32), TRUTH)
    facts = {"model": "m<1>.onnx"}
    return render_report(facts, summarise(frames), frames, levels, 0.5, examples, "Research only.")


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert len(tags.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in tags.sources)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)


def test_its_figures_are_pictures_with_both_outline_colours(page: str) -> None:
    data = [base64.b64decode(text) for text in re.findall(r'base64,([^"]+)"', page)]
    pictures = [cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_COLOR_RGB) for d in data]
    gallery = pictures[-1]
    assert gallery is not None
    for colour in ((0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)):
        distance = np.abs(gallery.astype(int) - colour).sum(axis=2)
        assert np.count_nonzero(distance < 20) > 50


def test_names_are_escaped_and_the_notice_is_there(page: str) -> None:
    assert "m&lt;1&gt;.onnx" in page
    assert "<td>a&amp;b</td>" in page
    assert "Research only." in page


def test_a_report_without_examples_or_vessels_found_is_a_report() -> None:
    frames = [score_frame("a", TRUTH, np.zeros(SHAPE, bool))]
    levels = count_levels(np.zeros(SHAPE, np.float32), TRUTH)
    page = render_report({}, summarise(frames), frames, levels, 0.5, [], "Research only.")
    assert "undefined" in page


def test_pixel_accuracy_stands_beside_that_of_marking_nothing() -> None:
    rows = score_rows(summarise([shifted("a", 3)]))
    names = [name for name, _, _ in rows]
    assert names.index("  if nothing were marked") == names.index("pixel accuracy") + 1


def test_millimetres_are_shown_only_where_they_are_known() -> None:
    with_mm = score_rows(summarise([shifted("a", 3)]))
    without = score_rows(summarise([score_frame("a", TRUTH, TRUTH)]))
    assert any("mm" in name for name, _, _ in with_mm)
    assert not any("mm" in name for name, _, _ in without)


def test_what_was_drawn_anew_is_said() -> None:
    frames = [shifted(f"{dx}", dx) for dx in range(40)]
    assert "over 40 frames, taken for independent." in remarks(summarise(frames))[0]
    in_pairs = remarks(summarise(frames, [f"{n // 2}" for n in range(40)]))[0]
    assert "over 20 groups of frames, drawn whole." in in_pairs
    assert "fewer than 30 groups" in in_pairs
    assert "fewer" not in remarks(summarise(frames, [f.name for f in frames]))[0]


def test_where_no_frame_shows_a_vessel_false_alarms_are_what_is_said() -> None:
    frames = [empty("a"), score_frame("b", np.zeros(SHAPE, bool), np.zeros(SHAPE, bool))]
    summary = summarise(frames, replicates=9)
    [(name, _, value), _] = score_rows(summary)
    assert (name, value.split()[0]) == ("false detections a frame", "0.500")
    assert remarks(summary)[1] == "No frame shows a vessel: whatever is detected is a false alarm."
    levels = count_levels(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool))
    page = render_report({}, summary, frames, levels, 0.5, [], "Research only.")
    assert "<img" not in page


def test_vessels_are_counted_by_their_size() -> None:
    names = [name for name, _, _ in score_rows(summarise([shifted("a", 3)]))]
    after = names.index("vessels detected") + 1
    assert all(name.startswith("  diameter ") for name in names[after : after + 3])


def partly_labelled() -> tuple[Summary, list[FrameScores]]:
    beside = disc(SHAPE, 12, 30, 6).astype(bool)
    frames = [score_frame("a", TRUTH, TRUTH | beside, background_known=False)]
    return summarise(frames), frames


def test_with_an_unknown_background_the_report_says_what_it_leaves_out() -> None:
    summary, frames = partly_labelled()
    pixels, none = np.full(SHAPE, 90, np.uint8), np.zeros(SHAPE, bool)
    left_out = disc(SHAPE, 12, 30, 6).astype(bool)
    example = Example("best", frames[0], pixels, TRUTH, TRUTH, left_out)
    levels = count_levels(TRUTH.astype(np.float32), TRUTH)
    page = render_report({}, summary, frames, levels, 0.5, [example], "Research only.")
    assert "1 in 1 frames, count in no score" in page
    assert "Marked but left out, dotted, pink." in page
    assert "Expected calibration error" not in page
    complete = render_report(
        {}, summarise([shifted("a", 2)]), frames, levels, 0.5,
        [Example("best", frames[0], pixels, TRUTH, TRUTH, none)], "Research only.",
    )  # fmt: skip
    assert "left out, dotted" not in complete
    assert "Expected calibration error" in complete


def test_with_an_unknown_background_rows_that_need_it_are_gone() -> None:
    names = [name for name, _, _ in score_rows(partly_labelled()[0])]
    assert "pixel accuracy" not in names
    assert "  false, without a vessel" not in names


def test_the_best_the_middle_and_the_worst_frames_are_picked() -> None:
    frames = [*(shifted(f"{dx}", dx) for dx in range(11)), empty()]
    picked = pick_examples(frames, each=2)
    assert [(rank, f.name) for rank, f in picked] == [
        ("best", "0"), ("best", "1"), ("median", "4"), ("median", "5"), ("worst", "9"),
        ("worst", "10"),
    ]  # fmt: skip


@pytest.mark.parametrize(("n", "shown"), [(0, 0), (1, 1), (2, 2), (3, 3), (5, 3)])
def test_few_frames_are_shown_once_each(n: int, shown: int) -> None:
    assert len(pick_examples([shifted(f"{dx}", dx) for dx in range(n)])) == shown
