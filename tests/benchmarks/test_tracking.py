"""The tracking benchmark: scenarios, masks that go wrong, what is kept, and what is scored."""

import importlib
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veintrack.tracker.frame import PictureState
from veintrack.tracker.grid import fit
from veintrack.tracker.phantom import Phantom


@pytest.fixture(scope="module")
def scenarios() -> Any:
    return importlib.import_module("tracking_scenarios")


@pytest.fixture(scope="module")
def masks() -> Any:
    return importlib.import_module("tracking_masks")


@pytest.fixture(scope="module")
def moments() -> Any:
    return importlib.import_module("tracking_moments")


@pytest.fixture(scope="module")
def contest() -> Any:
    return importlib.import_module("tracking_contest")


@pytest.fixture(scope="module")
def scores() -> Any:
    pytest.importorskip("trackeval", reason='needs trackeval: pip install "veintrack[eval]"')
    return importlib.import_module("tracking_scores")


@pytest.fixture(scope="module")
def tracking() -> Any:
    return importlib.import_module("tracking")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def steady(scenarios: Any, moments: Any, cache: Path) -> Any:
    return moments.prepare(scenarios.scenario("steady", 0, 1.0), 0, "truth", cache)


def test_there_are_fifteen_scenarios_at_least_and_each_is_its_seeds_alone(scenarios: Any) -> None:
    assert len(scenarios.SCENARIOS) >= 15
    for name in scenarios.SCENARIOS:
        made = [scenarios.scenario(name, seed) for seed in (0, 0, 1)]
        assert made[0] == made[1]
        assert made[0].settings.vessels != made[2].settings.vessels
        stamps_s = np.array(made[0].stamps_ns) * 1e-9
        assert (np.diff(stamps_s) > 0).all()
        assert 9.5 < stamps_s[-1] - stamps_s[0] < 11
        assert len(stamps_s) == len(made[0].indices)


def test_vessels_start_apart(scenarios: Any) -> None:
    for name in scenarios.SCENARIOS:
        for seed in range(5):
            for a, b in combinations(scenarios.scenario(name, seed).settings.vessels, 2):
                apart_mm = math.hypot(a.x_mm - b.x_mm, a.depth_mm - b.depth_mm)
                assert apart_mm > (a.minor_mm + b.minor_mm) / 2 + 0.4, (name, seed)


def test_an_unknown_scenario_is_told(scenarios: Any) -> None:
    with pytest.raises(ValueError, match="no scenario 'backflip'; there are steady, slide"):
        scenarios.scenario("backflip", 0)


def test_three_frames_of_ten_are_dropped_and_jitter_is_jitter(scenarios: Any) -> None:
    kept = [len(scenarios.scenario("30 % dropped", seed).indices) / 250 for seed in range(20)]
    assert np.mean(kept) == pytest.approx(0.7, abs=0.03)
    steps_ms = np.diff(np.array(scenarios.scenario("jitter", 0).stamps_ns)) * 1e-6
    assert steps_ms.mean() == pytest.approx(40, abs=2)
    assert 8 < steps_ms.std() < 14


@pytest.mark.parametrize(("name", "hidden_s"), [("press", 1.0), ("lift", 0.5)])
def test_vessels_are_hidden_for_as_long_as_it_is_said(
    scenarios: Any, name: str, hidden_s: float
) -> None:
    made = scenarios.scenario(name, 3)
    phantom = Phantom(replace(made.settings, rate_hz=100.0))
    vein = [phantom._lumen(made.settings.vessels[0], phantom._pose(t / 100)) for t in range(500)]
    lift = [phantom._contact(phantom._pose(t / 100)).max() >= 0.5 for t in range(500)]
    hidden = sum(not (lumen.open and seen) for lumen, seen in zip(vein, lift, strict=True))
    assert hidden / 100 == pytest.approx(hidden_s, abs=0.06)


def test_what_happens_in_time_does_not_depend_on_the_frame_rate(masks: Any) -> None:
    rng = np.random.default_rng(0)
    windows = [masks.Fault(0.5, 0.3).windows(100.0, rng) for _ in range(40)]
    starts = [len(w) / 100 for w in windows]
    lengths = [end - start for w in windows for start, end in w]
    assert np.mean(starts) == pytest.approx(0.5, rel=0.1)
    assert np.mean(lengths) == pytest.approx(0.3, rel=0.1)


def test_corruption_goes_wrong_as_often_as_it_says(scenarios: Any, masks: Any) -> None:
    settings = scenarios.scenario("steady", 1).settings
    frame = Phantom(settings).render(0)
    grid = fit((400, 480), (128, 128))
    found, blobs, areas = 0, 0, []
    times = np.arange(0, 60, 0.4)
    made = masks.Corruption(3, settings.mm_per_px, (0, 0, 480, 400), 60.0, seed=5)
    centres = [grid.to_grid(*v.centroid_px) for v in frame.vessels]
    inside = masks.exact(frame.labels, grid) > 0
    for index, time_s in enumerate(times):
        p = made.probability(frame.labels, frame.vessels, time_s, index, grid)
        if index < 3:
            again = made.probability(frame.labels, frame.vessels, time_s, index, grid)
            assert np.array_equal(p, again)
        assert not p[: grid.inner[1]].any()
        assert p.max() <= 1
        near = [p[int(cy) - 4 : int(cy) + 6, int(cx) - 4 : int(cx) + 6] for cx, cy in centres]
        found += sum((part >= masks.THRESHOLD).mean() > 0.4 for part in near)
        far = p.copy()
        far[inside] = 0
        blobs += (far >= masks.THRESHOLD).sum() > 30
        areas.append((p >= masks.THRESHOLD)[inside].sum())
    missed = 1 - found / (3 * len(times))
    assert 0.04 < missed < 0.16  # 0.1
    assert 0.08 < blobs / len(times) < 0.35  # 0.25, less those that are small or near a vessel
    assert np.std(areas) > 0.03 * np.mean(areas)


def test_without_faults_a_corrupted_mask_is_the_exact_one(scenarios: Any, masks: Any) -> None:
    settings = scenarios.scenario("steady", 1).settings
    frame = Phantom(settings).render(0)
    grid = fit((400, 480), (256, 256))
    never = masks.Fault(0.0, 1.0)
    calm = masks.Faults(
        never, 0.0, never, never, never, false=never, outline=(0.0,) * 5, shiver=0.0
    )
    made = masks.Corruption(3, 0.1, (0, 0, 480, 400), 10.0, seed=0, faults=calm)
    p = made.probability(frame.labels, frame.vessels, 1.0, 25, grid)
    exact = masks.exact(frame.labels, grid)
    assert np.mean((p >= 0.5) != (exact >= 0.5)) < 1e-3


def test_what_was_made_is_made_once(
    scenarios: Any, moments: Any, steady: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("made again")

    scenario = scenarios.scenario("steady", 0, 1.0)
    monkeypatch.setattr(moments, "_render", fails)
    with monkeypatch.context() as also:
        also.setattr(moments, "_maps", fails)
        also.setattr(moments, "_moments", fails)
        again = moments.prepare(scenario, 0, "truth", cache)
    assert [m.capture_ns for m in again.moments] == [m.capture_ns for m in steady.moments]
    first, second = (r.moments[7].detections[0] for r in (again, steady))
    assert np.array_equal(first.centroid_px, second.centroid_px)
    with monkeypatch.context() as also:
        also.setattr(moments, "_maps", fails)
        also.setitem(moments._CODE, "detector", b"another")
        moments.prepare(scenario, 0, "truth", cache)  # detects again, on the same masks
    assert len(list(cache.glob("*/steady-0-*"))) == 3  # and nothing old is left
    with pytest.raises(AssertionError, match="made again"):
        moments.prepare(scenarios.scenario("steady", 1, 1.0), 1, "truth", cache)
    with pytest.raises(ValueError, match="masks must be one of truth, corrupted, network"):
        moments.prepare(scenario, 0, "guessed", cache)


def test_a_moment_holds_what_a_tracker_needs(steady: Any) -> None:
    assert len(steady.moments) == 25
    assert steady.area_px == (0, 0, 480, 400)
    moment = steady.moments[10]
    assert (moment.index, moment.capture_ns) == (10, 400_000_000)
    assert moment.picture is PictureState.GOOD
    assert len(moment.detections) == len(moment.truth) == 3
    for vessel in moment.truth:
        away = [np.hypot(*(d.centroid_px - vessel.centroid_px)) for d in moment.detections]
        assert min(away) < 0.3


def test_veintrack_follows_exact_masks(scores: Any, contest: Any, steady: Any) -> None:
    result = scores.play(contest.Veintrack(), steady)
    assert result.switches == 0
    assert result.id_f1 > 0.9
    assert result.rmse_px < 0.5
    assert result.false_tracks_min == 0
    assert result.update_us > 0
    again = scores.play(contest.Veintrack(), steady)
    assert replace(again, update_us=0) == replace(result, update_us=0)


class Oracle:
    """Reports every vessel where it is, also while it is hidden, under a name that it is given."""

    name = "oracle"

    def __init__(self, contest: Any, rename: Any = lambda number, _: number) -> None:
        self._report, self._rename = contest.Report, rename

    def start(self, rate_hz: float, area_px: Any, spacing_mm: Any) -> None:
        del rate_hz, area_px, spacing_mm

    def update(self, moment: Any) -> list[Any]:
        said = []
        for vessel in moment.truth:
            x, y = vessel.centroid_px if vessel.visible else vessel.place_px
            box = vessel.box_px if vessel.visible else (x - 9, y - 9, 18, 18)
            number = self._rename(vessel.id, moment.index)
            said.append(self._report(number, (float(x), float(y)), box))
        return said


@pytest.fixture(scope="module")
def pressed(scenarios: Any, moments: Any, cache: Path) -> Any:
    return moments.prepare(scenarios.scenario("press", 0, 4.5), 0, "truth", cache)


def test_who_reports_hidden_vessels_where_they_are_is_right(
    scores: Any, contest: Any, pressed: Any
) -> None:
    assert not all(v.visible for m in pressed.moments for v in m.truth)
    result = scores.play(Oracle(contest), pressed)
    assert (result.id_f1, result.mota) == pytest.approx((1, 1))
    assert result.false_tracks_min == 0
    assert (result.gaps, result.kept) == (2, 2)


def test_a_lifted_probe_is_a_gap_for_every_vessel(
    scenarios: Any, moments: Any, scores: Any, contest: Any, cache: Path
) -> None:
    lifted = moments.prepare(scenarios.scenario("lift", 0, 4.5), 0, "truth", cache)
    assert PictureState.NO_CONTACT in {m.picture for m in lifted.moments}
    result = scores.play(Oracle(contest), lifted)
    assert (result.gaps, result.kept, result.mota) == (3, 3, 1)


def test_a_new_name_after_a_gap_is_not_kept(scores: Any, contest: Any, pressed: Any) -> None:
    def rename(number: int, index: int) -> int:
        return number + 10 * (index > 60)  # in the middle of the press

    result = scores.play(Oracle(contest, rename), pressed)
    assert (result.gaps, result.kept) == (2, 0)
    assert result.switches == 3
    assert result.id_f1 < 0.8


def test_who_reports_nothing_is_scored_too(scores: Any, contest: Any, steady: Any) -> None:
    class Silent(Oracle):
        def update(self, moment: Any) -> list[Any]:
            del moment
            return []

    result = scores.play(Silent(contest), steady)
    assert (result.id_f1, result.recall, result.pairs) == (0, 0, 0)
    assert math.isnan(result.rmse_px)


def test_summing_up_pools_errors_and_adds_counts(scores: Any, contest: Any, steady: Any) -> None:
    one = scores.play(Oracle(contest), steady)
    good = replace(one, rmse_px=1.0, pairs=30, switches=1, hota=0.5)
    bad = replace(one, rmse_px=2.0, pairs=10, switches=2, hota=1.0, seed=1)
    (row,) = scores.sum_up([good, bad], ("scenario", "contestant"))
    assert row["rmse_px"] == pytest.approx(math.sqrt((30 + 40) / 40))
    assert (row["switches"], row["hota"], row["scenario"]) == (3, 0.75, "steady")


def test_measurements_on_exact_masks_are_right(scenarios: Any, pressed: Any) -> None:
    measures = importlib.import_module("tracking_measures")
    vessels = measures.measure_all(pressed, scenarios.scenario("press", 0, 4.5))
    assert [v.kind for v in vessels] == ["vein", "artery", "vein"]
    found = measures.sum_up(vessels)
    for size in ("area", "major", "minor"):
        assert found["sizes"][size]["right"] > 0.95
    assert found["collapse"]["right"] > 0.95
    assert min(minor for _, minor in vessels[0].minor) < 2  # pressed flat
    assert measures.sum_up([])["sizes"] == {}


def test_the_command_prints_a_table_and_writes_json(
    tracking: Any, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, scores: Any,
) -> None:  # fmt: skip
    del scores
    wanted = "--masks truth --scenarios steady --seeds 0 --seconds 1 --contestants veintrack"
    into = tmp_path / "figures.json"
    words = ["tracking.py", *wanted.split(), "--cache", str(cache), "--json", str(into)]
    monkeypatch.setattr("sys.argv", words)
    tracking.main()
    assert "steady" in capsys.readouterr().out
    record = tracking.json.loads(into.read_text())
    assert record["runs"][0]["contestant"] == "veintrack"
    assert record["summary"][0]["switches"] == 0
    monkeypatch.setattr("sys.argv", [w.replace("veintrack", "nobody") for w in words])
    with pytest.raises(SystemExit, match="tracking: no contestant nobody; there are"):
        tracking.main()
