"""Where the ultrasound lies over a run: guessed, settled, kept, and looked for anew."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from veintrack.tracker import framing
from veintrack.tracker.frame import U8, Frame, Region
from veintrack.tracker.framing import Framing, Place

GUESS: Region = (0, 0, 40, 30)
FOUND: Region = (5, 4, 30, 20)
PERIOD_NS = 40_000_000


@dataclass
class FakeFinder:
    """Finds the same area always; a frame of level 200 has another layout."""

    shape_px: tuple[int, int]
    found: ClassVar[bool] = True
    seen: list[U8] = field(default_factory=list)

    def add(self, pixels: U8) -> None:
        self.seen.append(pixels)

    def area(self) -> Region:
        return FOUND

    def layout_changed(self, pixels: U8) -> bool:
        return int(pixels[0, 0]) == 200


@pytest.fixture(autouse=True)
def finders(monkeypatch: pytest.MonkeyPatch) -> list[FakeFinder]:
    made: list[FakeFinder] = []

    def make(shape_px: tuple[int, int]) -> FakeFinder:
        made.append(FakeFinder(shape_px))
        return made[-1]

    monkeypatch.setattr(framing, "ScanAreaFinder", make)
    monkeypatch.setattr(framing, "find_scan_area", lambda _: GUESS)
    return made


def frame(index: int, level: int = 50, shape: tuple[int, int] = (30, 40)) -> Frame:
    return Frame(np.full(shape, level, np.uint8), index, index * PERIOD_NS)


def places(one: Framing, count: int, first: int = 0, level: int = 50) -> list[Place]:
    return [one.place(frame(i, level)) for i in range(first, first + count)]


def test_live_a_guess_serves_until_a_second_was_seen(finders: list[FakeFinder]) -> None:
    seen = places(Framing("auto"), 40)
    assert [p.region for p in seen[:25]] == [GUESS] * 25
    assert [p.region for p in seen[25:]] == [FOUND] * 15
    assert [p.settled for p in seen] == [False] * 25 + [True] * 15
    assert 8 <= len(finders[0].seen) <= 12  # a few, over the whole second


def test_frames_shown_ahead_settle_it_before_the_first(finders: list[FakeFinder]) -> None:
    one = Framing("auto")
    ahead = [frame(i) for i in range(26)]
    assert not one.shown_enough(ahead[0], ahead[24])
    assert one.shown_enough(ahead[0], ahead[25])
    one.show(ahead)
    assert places(one, 26)[0] == Place(FOUND)
    assert 8 <= len(finders[0].seen) <= 14
    assert len(finders) == 1


def test_what_is_given_or_known_is_not_searched(finders: list[FakeFinder]) -> None:
    assert Framing((1, 2, 3, 4)).place(frame(0)) == Place((1, 2, 3, 4))
    assert Framing("none").place(frame(0)) == Place((0, 0, 40, 30))
    assert Framing("auto", known=(2, 2, 9, 9)).place(frame(0)) == Place((2, 2, 9, 9))
    assert Framing("none", known=(2, 2, 9, 9)).place(frame(0)) == Place((0, 0, 40, 30))
    assert finders == []


def test_another_layout_is_told_once_and_searched_anew(
    finders: list[FakeFinder], caplog: pytest.LogCaptureFixture
) -> None:
    one = Framing("auto")
    places(one, 30)
    seen = places(one, 60, first=30, level=200)
    told = [i for i, p in enumerate(seen) if p.changed]
    assert told[0] <= 25  # it is looked at once a second
    assert not seen[told[0]].settled
    assert seen[told[0] + 25].settled
    assert "layout changed" in caplog.text
    assert len(finders) >= 2


def test_pictures_of_another_size_are_searched_anew(finders: list[FakeFinder]) -> None:
    one = Framing("auto")
    places(one, 30)
    place = one.place(frame(30, shape=(60, 80)))
    assert (place.region, place.settled) == (GUESS, False)
    assert [f.shape_px for f in finders] == [(30, 40), (60, 80)]


def test_frames_of_other_sizes_do_not_take_part_in_what_is_shown_ahead(
    finders: list[FakeFinder],
) -> None:
    one = Framing("auto")
    assert one.shown_enough(frame(0), frame(1, shape=(9, 9)))
    one.show([frame(0), frame(1), frame(2, shape=(9, 9))])
    assert {pixels.shape for pixels in finders[0].seen} == {(30, 40)}


def test_without_frames_there_is_nothing_to_show() -> None:
    one = Framing("auto")
    one.show([])
    assert one.place(frame(0)).settled is False


def test_the_second_begins_when_the_pictures_show_something(finders: list[FakeFinder]) -> None:
    one = Framing("auto")
    one.place(frame(0))
    for i in range(1, 60):
        assert not one.place(frame(i), usable=False).settled
    seen = places(one, 30, first=60)
    assert [p.settled for p in seen] == [False] * 25 + [True] * 5
    assert len(finders) == 2


def test_a_screen_on_which_nothing_is_found_is_looked_at_again(
    finders: list[FakeFinder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeFinder, "found", False)
    one = Framing("auto")
    assert not any(p.settled for p in places(one, 60))
    monkeypatch.setattr(FakeFinder, "found", True)
    assert places(one, 60, first=60)[-1].settled
    assert len(finders) >= 3


def test_two_frames_far_apart_settle_nothing(finders: list[FakeFinder]) -> None:
    one = Framing("auto")
    for second in range(3):
        assert not one.place(frame(250 * second)).settled
    assert one.place(frame(250 * 3)).settled
    assert len(finders[0].seen) == 4


def test_after_an_outage_the_layout_is_looked_at_before_it_is_believed() -> None:
    one = Framing("auto")
    places(one, 30)
    one.interrupted()
    seen = places(one, 10, first=30)
    assert [p.settled for p in seen] == [False] * 3 + [True] * 7
    assert {p.region for p in seen} == {FOUND}
