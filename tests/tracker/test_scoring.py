"""Scores of tracks, against cases that can be counted by hand."""

import math
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veintrack.tracker.scoring.reading import read_rows
from veintrack.tracker.scoring.rows import Rows
from veintrack.tracker.scoring.score import TrackScore, score

DT_S = 0.04


def rows(*objects: tuple[int, list[tuple[int, float, float]]], box: float = 0.0) -> Rows:
    """Rows of objects: (id, [(frame, x, y), ...])."""
    flat = [(f, i, x, y) for i, places in objects for f, x, y in places]
    frame = np.array([f for f, *_ in flat], np.int64)
    xy = np.array([(x, y) for *_, x, y in flat], float).reshape(-1, 2)
    half = np.full_like(xy, box)
    return Rows(
        frame=frame,
        id=np.array([i for _, i, *_ in flat], np.int64),
        time_s=(frame * DT_S).astype(np.float64),
        xy_px=xy,
        box_px=np.hstack([xy - half, 2 * half]) if box else None,
    )


def line(frames: range, x: float, y: float = 100.0) -> list[tuple[int, float, float]]:
    return [(f, x + f, y) for f in frames]


TWO = rows((1, line(range(100), 0)), (2, line(range(100), 200)))


def test_perfect_tracks_score_one() -> None:
    tracks = rows((7, line(range(100), 0)), (9, line(range(100), 200)))
    got = score(tracks, TWO)
    s = got.scores
    assert (s.hota, s.det_a, s.ass_a, s.mota, s.id_f1) == pytest.approx((1, 1, 1, 1, 1))
    assert (s.switches, s.fragments, got.false_tracks, got.false_frames) == (0, 0, 0, 0)
    assert (got.recall, got.identity_kept, got.confirm_s) == (1, 1, 0)
    assert got.error_px is not None
    assert got.error_px.maximum == 0
    assert got.seconds == pytest.approx(100 * DT_S)


def test_boxes_that_are_alike_score_one_too() -> None:
    truth = rows((1, line(range(10), 0)), box=8)
    tracks = rows((3, line(range(10), 0)), box=8)
    got = score(tracks, truth)
    assert got.similarity == "box"
    assert got.scores.hota == pytest.approx(1)


def test_a_swap_half_way_costs_what_it_does_by_hand() -> None:
    # Each track follows each object for half of the time.
    tracks = rows(
        (1, line(range(50), 0) + line(range(50, 100), 200)),
        (2, line(range(50), 200) + line(range(50, 100), 0)),
    )
    got = score(tracks, TWO)
    s = got.scores
    assert s.switches == 2
    assert s.id_f1 == pytest.approx(0.5)  # 100 of 200 rows are right whichever way one pairs them
    assert s.mota == pytest.approx(1 - 2 / 200)
    # Each row's association has TPA 50, FNA 50 and FPA 50, as Luiten et al., 2021, define them.
    assert s.ass_a == pytest.approx(1 / 3)
    assert s.det_a == pytest.approx(1)
    assert s.hota == pytest.approx(math.sqrt(1 / 3))
    assert got.identity_kept == 0
    assert [one.tracks for one in got.objects] == [(1, 2), (2, 1)]


def test_an_identity_that_ends_and_a_new_one_are_one_switch() -> None:
    # In 60 rows the association is right in 60 of 100 rows, in 40 of them in 40 of 100.
    truth = rows((1, line(range(100), 0)))
    got = score(rows((1, line(range(60), 0)), (2, line(range(60, 100), 0))), truth)
    assert got.scores.switches == 1
    assert got.scores.ass_a == pytest.approx(0.6 * 0.6 + 0.4 * 0.4)
    assert got.scores.id_f1 == pytest.approx(60 / (60 + 0.5 * 40 + 0.5 * 40))


def test_a_gap_is_a_fragment_and_a_miss() -> None:
    truth = rows((1, line(range(100), 0)))
    got = score(rows((1, line(range(40), 0) + line(range(50, 100), 0))), truth)
    assert (got.scores.fragments, got.scores.switches) == (1, 0)
    assert got.recall == pytest.approx(0.9)
    assert got.scores.det_a == pytest.approx(0.9)
    assert got.identity_kept == 1


def test_similarity_of_centroids_is_a_half_at_the_near_distance() -> None:
    truth, tracks = rows((1, line(range(10), 0))), rows((1, line(range(10), 10)))
    assert score(tracks, truth, near_px=10.01).scores.mota == pytest.approx(1)
    assert score(tracks, truth, near_px=9.99).scores.mota == pytest.approx(-1)
    # 0.75 at half that distance: enough for 15 of HOTA's 19 limits, from 0.05 to 0.75.
    assert score(tracks, truth, near_px=20).scores.hota == pytest.approx(15 / 19)


def test_a_false_track_is_counted_a_minute() -> None:
    tracks = rows((1, line(range(100), 0)), (2, line(range(100), 200)), (3, line(range(5), 500)))
    got = score(tracks, TWO)
    assert got.false_tracks == 1
    assert got.false_tracks_min == pytest.approx(60 / (100 * DT_S))
    assert got.false_frames == pytest.approx(0.05)


def test_a_track_that_strays_for_less_than_half_its_life_is_not_false() -> None:
    tracks = rows((1, line(range(60), 0) + line(range(60, 100), 500)))
    got = score(tracks, TWO)
    assert (got.false_tracks, got.false_frames) == (0, 0.4)


def test_time_to_confirm_is_counted_from_the_first_visible_frame() -> None:
    truth = rows((1, line(range(20, 100), 0)), (2, line(range(100), 200)))
    tracks = rows((1, line(range(25, 100), 0)), (2, line(range(10, 100), 200)))
    got = score(tracks, truth)
    assert [one.confirm_s for one in got.objects] == pytest.approx([5 * DT_S, 10 * DT_S])
    assert got.confirm_s == pytest.approx(7.5 * DT_S)


def test_an_object_that_is_never_found_has_no_time_to_confirm() -> None:
    got = score(rows((1, line(range(100), 0))), TWO)
    assert [one.confirm_s for one in got.objects] == [0, None]
    assert (got.confirm_s, got.recall) == (0, 0.5)


def with_flags(table: Rows, **flags: object) -> Rows:
    return Rows(table.frame, table.id, table.time_s, table.xy_px, **flags)  # type: ignore[arg-type]


def test_a_hidden_time_is_no_fragment() -> None:
    truth = rows((1, line(range(100), 0)), (2, line(range(100), 200)))
    hidden = with_flags(truth, visible=(truth.id == 2) | (truth.frame < 40) | (truth.frame >= 60))
    seen = rows((1, line(range(40), 0) + line(range(60, 100), 0)), (2, line(range(100), 200)))
    assert score(seen, hidden).scores.fragments == 0
    assert score(seen, truth).scores.fragments == 1


def test_what_follows_a_hidden_object_is_neither_right_nor_wrong() -> None:
    truth = rows((1, line(range(100), 0)))
    hidden = with_flags(truth, visible=(truth.frame < 40) | (truth.frame >= 60))
    kept = rows((1, line(range(100), 0)))
    lost = rows((1, line(range(40), 0) + line(range(60, 100), 0)))
    for tracks in (kept, lost):
        got = score(tracks, hidden)
        assert got.scores.hota == pytest.approx(1)
        assert (got.scores.mota, got.recall, got.false_frames) == (1, 1, 0)
        assert got.error_px is not None
        assert got.error_px.count == 80


def test_predicted_rows_can_be_left_out() -> None:
    tracks = rows((1, line(range(100), 0)))
    flagged = with_flags(tracks, confirmed=tracks.frame < 70)
    truth = rows((1, line(range(100), 0)))
    assert score(flagged, truth).recall == 1
    assert score(flagged, truth, confirmed_only=True).recall == pytest.approx(0.7)


def test_frames_without_truth_can_be_left_out() -> None:
    truth = rows((1, [(f, float(f), 100.0) for f in range(0, 100, 10)]))
    tracks = rows((1, line(range(100), 0)))
    assert score(tracks, truth, only_labelled=True).scores.det_a == pytest.approx(1)
    assert score(tracks, truth).scores.det_a == pytest.approx(0.1)


def test_errors_in_mm_follow_an_uneven_spacing() -> None:
    truth = rows((1, line(range(10), 0, 100)))
    tracks = rows((1, line(range(10), 3, 104)))
    got = score(tracks, truth, spacing_mm=(0.2, 0.1))
    assert got.error_px is not None
    assert got.error_mm is not None
    assert got.error_px.mean == pytest.approx(5)
    assert got.error_mm.mean == pytest.approx(math.hypot(0.3, 0.8))
    assert score(tracks, truth).error_mm is None


def test_errors_are_those_of_their_definitions() -> None:
    truth = rows((1, [(f, 0.0, 0.0) for f in range(100)]))
    tracks = rows((1, [(f, f / 10, 0.0) for f in range(100)]))
    error = score(tracks, truth, near_px=30).error_px
    away = np.arange(100) / 10
    assert error is not None
    assert error.mean == pytest.approx(4.95)
    assert error.sd == pytest.approx(away.std(ddof=1))
    assert error.rmse == pytest.approx(math.sqrt((away**2).mean()))
    assert (error.p95, error.maximum) == pytest.approx((np.percentile(away, 95), 9.9))


def test_a_crossing_that_the_tracks_follow_is_no_switch() -> None:
    there = [(f, float(f), 0.0) for f in range(101)]
    back = [(f, 100.0 - f, 0.0) for f in range(101)]
    noise = np.random.default_rng(3).normal(0, 1.5, (2, 101))
    tracks = rows(
        (5, [(f, x + n, y) for (f, x, y), n in zip(there, noise[0], strict=True)]),
        (6, [(f, x + n, y) for (f, x, y), n in zip(back, noise[1], strict=True)]),
    )
    got = score(tracks, rows((1, there), (2, back)), near_px=15)
    assert got.identity_kept == 1
    assert got.scores.switches == 0


def test_nothing_tracked_and_nothing_to_track_have_their_scores() -> None:
    nothing = rows()
    missed = score(nothing, TWO)
    assert (missed.scores.hota, missed.scores.mota, missed.recall) == (0, 0, 0)
    assert missed.error_px is None
    empty = Rows(
        nothing.frame, nothing.id, nothing.time_s, nothing.xy_px,
        all_frames=np.arange(100), all_time_s=np.linspace(0, 99 * DT_S, 100),
    )  # fmt: skip
    false = score(rows((1, line(range(50), 0))), empty)
    assert (false.scores.hota, false.recall) == (None, None)
    assert (false.false_tracks, false.false_frames) == (1, 0.5)
    assert false.false_tracks_min == pytest.approx(15)
    assert score(nothing, empty).false_tracks == 0


def test_rows_that_state_no_covariance_are_not_judged_by_it() -> None:
    truth, tracks = rows((1, line(range(10), 0))), rows((1, line(range(10), 1)))
    stated = np.tile(np.eye(2), (10, 1, 1))
    stated[5:] = np.nan
    got = score(with_flags(tracks, cov_px2=stated), truth).seen
    assert got is not None
    assert (got.count, got.nees) == (5, 1)


def test_places_without_a_match_have_no_mean_overlap() -> None:
    got = score(rows((1, line(range(10), 500))), rows((1, line(range(10), 0))))
    assert (got.scores.hota, got.scores.loc_a) == (0, None)


def test_times_that_run_backwards_tell_no_duration() -> None:
    truth = rows((1, line(range(10), 0)))
    back = Rows(truth.frame, truth.id, -truth.time_s, truth.xy_px)
    got = score(back, back)
    assert (got.seconds, got.false_tracks_min) == (None, None)


def test_near_is_not_nothing_where_boxes_have_no_size() -> None:
    truth = rows((1, line(range(10), 0)), box=8)
    assert truth.box_px is not None
    truth.box_px[:, 2:] = 0
    assert score(truth, truth).near_px == 15


def test_any_number_is_an_identity() -> None:
    truth = rows((-1, line(range(10), 0)), (0, line(range(10), 100)))
    assert score(truth, truth).scores.id_f1 == pytest.approx(1)


def write_mot(path: Path, table: Rows) -> None:
    """Write rows as MOTChallenge files hold them: the first frame and pixel are 1."""
    assert table.box_px is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "\n".join(
            f"{frame + 1},{number},{left + 1.5:.3f},{top + 1.5:.3f},{width},{height},1,1,1"
            for frame, number, (left, top, width, height) in zip(
                table.frame, table.id, table.box_px, strict=True
            )
        )
    )


def by_trackeval(folder: Path, frames: int) -> dict[str, Any]:
    """Score gt/X-train/seq and of/X-train/tracker with trackeval's own reader and evaluator."""
    import trackeval

    quiet = {"PRINT_CONFIG": False}
    silent = ("PRINT_RESULTS", "TIME_PROGRESS", "PLOT_CURVES", "OUTPUT_SUMMARY", "OUTPUT_DETAILED")
    facts = f"[Sequence]\nname=seq\nseqLength={frames}\nframeRate=25\n"
    (folder / "gt" / "X-train" / "seq" / "seqinfo.ini").write_text(facts)
    (folder / "gt" / "seqmaps").mkdir()
    (folder / "gt" / "seqmaps" / "X-train.txt").write_text("name\nseq\n")
    data = trackeval.datasets.MotChallenge2DBox(
        {
            **quiet, "GT_FOLDER": str(folder / "gt"), "TRACKERS_FOLDER": str(folder / "of"),
            "BENCHMARK": "X", "TRACKERS_TO_EVAL": ["tracker"],
        }
    )  # fmt: skip
    kinds = trackeval.metrics
    judged, _ = trackeval.Evaluator(
        {**quiet, **dict.fromkeys(silent, False), "BREAK_ON_ERROR": True}
    ).evaluate([data], [kinds.HOTA(), kinds.CLEAR(quiet), kinds.Identity(quiet)])
    figures: dict[str, Any] = judged["MotChallenge2DBox"]["tracker"]["seq"]["pedestrian"]
    return figures


def test_scores_are_those_of_trackeval_on_its_own_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    truth = rows(*((i, line(range(5 * i, 40), 40 * i)) for i in (1, 2, 3)), box=10)
    assert truth.box_px is not None
    kept = rng.random(len(truth)) < 0.85
    seen, boxes = truth.take(kept), truth.box_px[kept]
    moved = rng.normal(0, 2, seen.xy_px.shape)
    number = np.where(seen.frame < 20 + seen.id, seen.id, seen.id % 3 + 4)
    boxes[:, :2] += moved
    tracks = Rows(seen.frame, number, seen.time_s, seen.xy_px + moved, box_px=boxes)
    mine = tmp_path / "gt" / "X-train" / "seq" / "gt" / "gt.txt"
    theirs = tmp_path / "of" / "X-train" / "tracker" / "data" / "seq.txt"
    write_mot(mine, truth)
    write_mot(theirs, tracks)
    want = by_trackeval(tmp_path, 40)
    got = score(read_rows(theirs), read_rows(mine)).scores
    for name, value in (("HOTA", got.hota), ("DetA", got.det_a), ("AssA", got.ass_a)):
        assert value == pytest.approx(np.mean(want["HOTA"][name]), abs=1e-9)
    assert got.loc_a == pytest.approx(np.mean(want["HOTA"]["LocA"]), abs=1e-9)
    assert got.mota == pytest.approx(want["CLEAR"]["MOTA"])
    assert got.id_f1 == pytest.approx(want["Identity"]["IDF1"])
    assert got.switches == want["CLEAR"]["IDSW"] > 0


def test_sizes_are_compared_where_both_hold_them() -> None:
    truth, tracks = rows((1, line(range(10), 0))), rows((1, line(range(10), 0)))
    area = np.full(10, 110.0)
    area[5:] = np.nan  # while it coasts
    got = score(with_flags(tracks, area_px2=area), with_flags(truth, area_px2=np.full(10, 100.0)))
    assert got.area is not None
    assert (got.area.count, got.area.bias, got.area.mean) == pytest.approx((5, 0.1, 0.1))
    assert got.minor is None


def test_near_is_half_the_usual_size_where_that_is_known() -> None:
    truth = rows((1, line(range(10), 0)))
    assert score(truth, truth).near_px == 15
    assert score(truth, with_flags(truth, major_px=np.full(10, 50.0))).near_px == 25
    assert score(truth, rows((1, line(range(10), 0)), box=8)).near_px == 8


def test_times_of_different_sources_are_refused() -> None:
    late = rows((1, line(range(100), 0)))
    late = Rows(late.frame, late.id, late.time_s + 3, late.xy_px)
    with pytest.raises(ValueError, match=r"differ by 3 s for the same frames.*same source"):
        score(late, TWO)


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="similarity box needs a box in every row"):
        score(TWO, TWO, similarity="box")
    with pytest.raises(ValueError, match="near_px must be greater than 0 and finite, got 0"):
        score(TWO, TWO, near_px=0)
    with pytest.raises(ValueError, match="neither the tracks nor the truth hold a frame"):
        score(rows(), rows())


def test_rows_are_checked_where_they_are_born() -> None:
    with pytest.raises(ValueError, match="frame 3 holds the object 1 more than once"):
        rows((1, [(3, 0.0, 0.0), (3, 1.0, 0.0)]))
    with pytest.raises(ValueError, match=r"xy_px must be \(1, 2\), got \(1, 3\)"):
        Rows(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="xy_px must be finite"):
        rows((1, [(3, math.nan, 0.0)]))


def figures(got: TrackScore) -> list[float]:
    """All but the objects' names, and the last digits, which depend on the order of sums."""
    assert got.error_px is not None
    assert got.recall is not None
    assert got.identity_kept is not None
    every = [*astuple(got.scores), *astuple(got.error_px), got.recall, got.identity_kept]
    return [round(one, 9) for one in every]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_the_names_of_tracks_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 4, (3, 30, 2)), axis=1) + rng.uniform(0, 60, (3, 1, 2))
    truth = rows(*((i, [(f, *xy) for f, xy in enumerate(w)]) for i, w in enumerate(walk)))
    moved = truth.xy_px + rng.normal(0, 2, truth.xy_px.shape)
    tracks = Rows(truth.frame, truth.id, truth.time_s, moved)
    shuffled = tracks.take(rng.permutation(len(tracks)))
    renamed = Rows(tracks.frame, 40 - tracks.id, tracks.time_s, tracks.xy_px)
    got = figures(score(tracks, truth))
    assert got == figures(score(shuffled, truth.take(rng.permutation(len(truth)))))
    assert got == figures(score(renamed, truth))
