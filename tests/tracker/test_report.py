"""The report of a run: what it tells, what it shows, and what it keeps to itself."""

import base64
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracker.review_scene import (
    AREA,
    RECORD,
    between,
    keep,
    keep_tables,
    predicted,
    result,
    seen,
    write,
)
from veintrack.tracker.cli.app import run
from veintrack.tracker.frame import F64, U8, FrameResult, PictureState
from veintrack.tracker.report import open_run, render_report
from veintrack.tracker.report_frames import pick_frames
from veintrack.tracker.report_plots import draw_courses, draw_timeline, thinned
from veintrack.tracker.report_story import Course, Story, read_story
from veintrack.tracker.sinks.video import VideoSink


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pressed(count: int = 60, level: Callable[[int], int] = lambda _: 90) -> list[FrameResult]:
    """A vein that is pressed flat from frame 20 to 30, and an artery from frame 10 on."""
    results = []
    for i in range(count):
        vein = predicted(1, collapsed=True) if 20 <= i < 30 else seen(1, minor=12 - abs(25 - i) / 5)
        if i >= 30:
            vein = seen(1, minor=6 + (i - 30) / 5, collapse=0.5 if i < 50 else 0.6)
        tracks = [vein, seen(2, 80, minor=9.0)] if i >= 10 else [vein]
        pixels = np.full((90, 121), level(i), np.uint8)
        results.append(result(i, *tracks, pixels=pixels))
    return results


def page_of(folder: Path) -> str:
    return render_report(open_run(folder))


def pictures(page: str) -> list[U8]:
    """Decode the pictures of a page, grey."""
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    data = [np.frombuffer(base64.b64decode(text), np.uint8) for text in found]
    return [np.asarray(cv2.imdecode(one, cv2.IMREAD_GRAYSCALE), np.uint8) for one in data]


def test_the_page_holds_everything_and_asks_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path / "a run", pressed())
    assert run(["report", "a run"]) == 0
    assert capsys.readouterr().out == "written: a run/report.html\n"
    page = (tmp_path / "a run" / "report.html").read_text()
    for text in ("Research use only.", "29.5", "p50 1.0 ms", "default", "00ff", "onnxruntime"):
        assert text in page
    for heading in ("Tracks", "What happened", "Key frames", "Settings"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<svg ") == 2
    assert "  coast s".replace("  ", "&emsp;") in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    addresses = re.findall(r'(?:src|href|url|@import)[=(" ]+([^")\s]*)', page)
    assert all(a.startswith(("data:", "#")) for a in addresses)
    assert "<script" not in page
    assert "<link" not in page


def test_a_track_is_told_with_its_sizes(tmp_path: Path) -> None:
    folder = keep_tables(tmp_path / "run", pressed())
    vein, artery = re.findall(r"<tr><td>[12]</td>.*?</tr>", page_of(folder))
    cells = re.findall("<td>(.*?)</td>", vein)
    assert cells[:4] == ["1", "0.00", "1.97", "83%"]
    assert cells[4].endswith("(0.6 to 1.2)")
    assert cells[7] == "0.60"
    assert re.findall("<td>(.*?)</td>", artery)[4] == "0.9 (0.9 to 0.9)"
    assert "diameter, mm" in page_of(folder)


def test_without_spacing_sizes_are_in_px(tmp_path: Path) -> None:
    keep_tables(tmp_path, pressed())
    path = tmp_path / "tracks.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for track in (t for row in rows for t in row["tracks"]):
        track.update({name: None for name in track if name.endswith(("_mm", "_mm2"))})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    page = page_of(tmp_path)
    assert "diameter, px" in page
    assert "area, px²" in page
    assert "9.0 (9.0 to 9.0)" in page


def curve(story: Story, place: int = 0) -> tuple[F64, F64]:
    """The diameter of a track, as it is drawn."""
    x, y = draw_courses(story).axes[0].lines[2 * place].get_data()
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


def test_a_gap_is_where_a_track_was_predicted(tmp_path: Path) -> None:
    story = read_story(keep_tables(tmp_path / "run", pressed()))
    x, y = curve(story)
    gap = int(np.flatnonzero(np.isnan(y))[0])
    assert x[gap - 1] == pytest.approx(19 / 30)
    assert x[gap + 1] == pytest.approx(30 / 30)
    bridge = draw_courses(story).axes[0].lines[1]
    assert bridge.get_linestyle() == ":"
    assert np.asarray(bridge.get_xdata())[:2] == pytest.approx([19 / 30, 30 / 30])


@given(
    st.lists(st.tuples(st.floats(0.001, 0.3), st.floats(-1e3, 1e3)), min_size=1, max_size=300),
    st.floats(0.01, 5),
)
def test_thinning_keeps_the_ends_and_the_extremes(
    steps: list[tuple[float, float]], step_s: float
) -> None:
    time_s, values = np.cumsum([s for s, _ in steps]), np.array([v for _, v in steps])
    kept = thinned(time_s, values, step_s)
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    assert len(kept) <= 2 * (np.ptp(time_s) / step_s + 1) + 2
    for begin in np.arange(time_s[0], time_s[-1], step_s):
        own = (time_s >= begin + 1e-9) & (time_s < begin + step_s - 1e-9)
        near = values[kept][(time_s[kept] > begin - 1e-9) & (time_s[kept] < begin + step_s + 1e-9)]
        if own.any():
            assert near.max() >= values[own].max()
            assert near.min() <= values[own].min()


def long_story(minutes: float = 10, tracks: int = 8) -> Story:
    """Tracks whose sizes are nothing but noise: what is hardest to draw with few points."""
    count = round(minutes * 60 * 30)
    rng = np.random.default_rng(0)
    time_s, frame = np.arange(count) / 30, np.arange(count)
    names = ("diameter", "depth", "area", "collapse")
    courses = tuple(
        Course(
            number,
            frame,
            time_s,
            rng.random(count) > 0.01,
            np.zeros(count, bool),
            {name: rng.random(count) for name in names},
        )
        for number in range(1, tracks + 1)
    )
    return Story(frame, time_s, courses, (), in_mm=True)


def test_ten_minutes_take_less_than_two_megabytes_of_curves() -> None:
    from veintrack.tracker.page import as_svg

    story = long_story()
    assert (
        len(as_svg(draw_courses(story), "curves")) + len(as_svg(draw_timeline(story), "lanes"))
        < 2_000_000
    )


def eventful() -> list[FrameResult]:
    """Frozen from frame 10 to 20, lost after frame 30 for a second, brighter with frame 70."""
    results: list[FrameResult] = []
    for i in [*range(31), *range(61, 90)]:
        state = PictureState.FROZEN if 10 <= i < 20 else PictureState.GOOD
        changes = ("gain up 2 x",) if i == 70 else ()
        results.append(result(i, seen(1), picture=state, changes=changes))
        if i == 30:
            results += [between(30, 0.25 * k, predicted(1)) for k in (1, 2, 3)]
    return results


def test_what_happened_is_told_with_its_time(tmp_path: Path) -> None:
    told = []
    for name, objects in (("with", True), ("without", False)):
        folder = keep(tmp_path / name, eventful(), objects=objects)
        story = read_story(folder if objects else folder / "recording")
        told.append(story)
        frozen, lost, gain = story.events
        assert (frozen.kind, frozen.what, frozen.frame) == ("picture", "frozen", 10)
        assert (frozen.begin_s, frozen.end_s) == pytest.approx((10 / 30, 20 / 30), abs=1e-5)
        assert (lost.kind, lost.what, lost.frame) == ("source", "lost", 30)
        assert (lost.begin_s, lost.end_s) == pytest.approx((1.25, 61 / 30), abs=1e-5)
        assert (gain.kind, gain.what, gain.frame) == ("change", "gain up 2 x", 70)
    # The tables of a recording tell the same as those of its run, but for what was pressed flat.
    a, b = told
    assert np.array_equal(a.frame, b.frame)
    assert a.time_s == pytest.approx(b.time_s, abs=1e-5)
    for name in ("frame", "seen"):
        assert np.array_equal(getattr(a.courses[0], name), getattr(b.courses[0], name))
    page = page_of(tmp_path / "with")
    assert "<td>source: lost</td>" in page
    assert "<td>gain up 2 x</td>" in page


def test_key_frames_show_first_sightings_the_collapse_and_events(tmp_path: Path) -> None:
    wanted = pick_frames(read_story(keep_tables(tmp_path / "pressed", pressed())))
    why = {one.frame: one.why for one in wanted}
    assert why[0] == "track 1 confirmed first"
    assert why[10] == "track 2 confirmed first"
    assert why[30] == "largest collapse: 0.60, of track 1"  # where it was smallest
    assert len(wanted) == len(why) == 6
    assert list(why) == sorted(why)
    wanted = pick_frames(read_story(keep_tables(tmp_path / "eventful", eventful())))
    why = {one.frame: one.why for one in wanted}
    assert why[10] == "picture: frozen"
    assert why[30] == "source: lost"
    assert why[70] == "gain up 2 x"


def test_key_frames_come_from_the_recording(tmp_path: Path) -> None:
    keep(tmp_path, pressed(level=lambda i: 60 + 3 * i))
    page = page_of(tmp_path)
    shown = pictures(page)
    wanted = pick_frames(read_story(tmp_path))
    assert len(shown) == len(wanted) == 6
    for picture, one in zip(shown, wanted, strict=True):
        assert np.median(picture) == pytest.approx(60 + 3 * one.frame, abs=4)
    assert shown[0].shape == (7 * 70, 7 * 90)  # of the scan area, enlarged to be read
    assert "From the recording." in page
    alone = page_of(tmp_path / "recording")
    assert len(pictures(alone)) == 6


def test_without_a_recording_they_come_from_the_video(tmp_path: Path) -> None:
    results = pressed(level=lambda i: 60 + 3 * i)
    unsure = [
        result(i, pixels=np.zeros((90, 121), np.uint8), scan_area_settled=False) for i in range(5)
    ]  # of these the video has none
    results = [*unsure, *results[5:]]
    keep_tables(tmp_path, results)
    write(VideoSink(tmp_path / "overlay.mp4"), results)
    page = page_of(tmp_path)
    wanted = [one for one in pick_frames(read_story(tmp_path)) if one.frame >= 5]
    shown = pictures(page)
    assert "From the annotated video" in page
    for picture, one in zip(shown[-len(wanted) :], wanted, strict=True):
        assert np.median(picture) == pytest.approx(60 + 3 * one.frame, abs=6)


def test_without_either_it_says_so(tmp_path: Path) -> None:
    page = page_of(keep_tables(tmp_path / "run", pressed()))
    assert pictures(page) == []
    assert "it was made without --record, and without --video" in page


def named() -> U8:
    """A dark scan area in a bright screen: what lies outside may name the patient."""
    pixels = np.full((90, 121), 255, np.uint8)
    x, y, width, height = AREA
    pixels[y : y + height, x : x + width] = 50
    return pixels


def bright(picture: U8) -> float:
    """Part of a picture that no overlay would make so bright."""
    return float(np.mean(picture > 245))


def test_what_lies_outside_the_scan_area_is_never_shown(tmp_path: Path) -> None:
    results = [result(i, seen(1), pixels=named()) for i in range(30)]
    page = page_of(keep(tmp_path, results, region=None))
    assert len(pictures(page)) == 6
    assert max(map(bright, pictures(page))) < 0.01


def test_nor_what_may_have_come_to_its_place(tmp_path: Path) -> None:
    """Whole frames were recorded; the place was not known at first, and another one later."""
    text = np.full((90, 121), 255, np.uint8)
    results = [
        result(
            i,
            seen(1),
            pixels=text if i < 5 or 50 <= i < 100 else named(),
            scan_area_settled=i >= 5,
            changes=("layout changed",) if i == 100 else (),
        )
        for i in range(200)
    ]
    page = page_of(keep(tmp_path, results, region=None))
    assert len(pictures(page)) >= 3
    assert max(map(bright, pictures(page))) < 0.01


def test_a_run_that_was_cut_off_has_a_report(tmp_path: Path) -> None:
    keep(tmp_path, pressed())
    record = {**RECORD, "ended": None, "summary": None}
    (tmp_path / "run.json").write_text(json.dumps(record))
    for name in ("tracks.jsonl", "recording/tracks.csv", "recording/tracked.jsonl"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-300])
    page = page_of(tmp_path)
    assert "cut off: it did not come to its end" in page
    assert "59 frames" in page
    assert pictures(page)
    assert pictures(page_of(tmp_path / "recording"))


def test_a_run_without_a_track_has_a_report(tmp_path: Path) -> None:
    folder = keep_tables(tmp_path / "run", [result(i) for i in range(3)])
    page = page_of(folder)
    assert "No track was confirmed." in page
    assert "the picture was good" in page
    assert [one.why for one in pick_frames(read_story(folder))] == ["in between"] * 3
    keep_tables(folder, [])
    assert "0 frames" in page_of(folder)


def test_folders_of_files_are_not_told(tmp_path: Path) -> None:
    source = {"name": "/ward/A Person/scan.mp4", "live": False, "notes": ["/ward/A Person"]}
    configuration = {"source": "A Person/scan.mp4", "output": "A Person/run", "model": "/b/m.onnx"}
    keep_tables(tmp_path, pressed(), source=source, configuration=configuration)
    page = page_of(tmp_path)
    assert "A Person" not in page
    assert "scan.mp4" in page
    assert "m.onnx" in page


def test_what_a_run_says_is_text_not_markup(tmp_path: Path) -> None:
    keep_tables(tmp_path, pressed(), ended="<script>alert(1)</script>")
    page = page_of(tmp_path)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_many_tracks_are_cut_to_those_that_were_followed_longest(tmp_path: Path) -> None:
    results = [result(i, *(seen(n, 30 + n) for n in range(1, 20) if i < 40 - n)) for i in range(40)]
    page = page_of(keep_tables(tmp_path / "run", results))
    assert "Drawn are the 12 tracks that were followed longest." in page
    assert ">track 12<" in page
    assert ">track 13<" not in page


def spoil(name: str, text: str) -> None:
    path = Path("run") / name
    path.write_text(text)


@pytest.mark.parametrize(
    ("arguments", "spoilt", "said"),
    [
        (["nowhere"], None, "nowhere is not there: name the folder of a run or of a recording"),
        (["run/run.json"], None, "run/run.json is a file: name the folder of a run"),
        (["."], None, ". holds no run and no recording: run.json is missing"),
        (["run"], ("run.json", "{"), "run/run.json is not valid JSON"),
        (["run"], ("run.json", "[]"), "run/run.json must hold an object"),
        (["run"], ("tracks.jsonl", "{}\n"), "run/tracks.jsonl: frame None is damaged"),
        (["run"], ("tracks.jsonl", "{\n"), "run/tracks.jsonl: line 1 is damaged"),
        (["run"], ("report.html", ""), "run/report.html exists: name another, or add --overwrite"),
        (["run", "--output", "run"], None, "output must end in .html or .htm, got run"),
        (["run", "--output", "run/run.json/a.html"], None, "run/run.json is not a folder"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    spoilt: tuple[str, str] | None,
    said: str,
) -> None:
    keep_tables(Path("run"), pressed(3))
    if spoilt:
        spoil(*spoilt)
    assert run(["report", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tracks.csv", "frame,time_s\n1,2\n", "run/tracks.csv: line 2 is damaged"),
        ("tracks.csv", None, "run holds no tracks: tracks.jsonl or tracks.csv is missing"),
    ],
)
def test_without_the_larger_table_the_smaller_one_is_read(
    capsys: pytest.CaptureFixture[str], name: str, text: str | None, said: str
) -> None:
    keep_tables(Path("run"), pressed(20))
    Path("run/tracks.jsonl").unlink()
    assert run(["report", "run"]) == 0
    path = Path("run") / name
    path.unlink() if text is None else path.write_text(text)
    assert run(["report", "run", "--overwrite"]) == 2
    assert said in capsys.readouterr().err


def test_a_recording_without_readable_pictures_is_told(tmp_path: Path) -> None:
    keep(tmp_path, pressed(5))
    shutil.copy(tmp_path / "run.json", tmp_path / "recording" / "part-00001.mkv")
    page = page_of(tmp_path)
    assert "The recording recording cannot be read." in page
    assert pictures(page) == []
