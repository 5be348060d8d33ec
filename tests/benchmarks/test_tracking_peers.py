"""The other trackers of the comparison: each follows what is easy, in its own words and ours."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from veintrack.tracker.frame import Detection, PictureState

NAMES = ("norfair", "SORT", "ByteTrack", "OC-SORT", "Stone Soup")


@pytest.fixture(scope="module")
def tracking_peers() -> Any:
    return importlib.import_module("tracking_peers")


@pytest.fixture(params=NAMES)
def contestant(request: pytest.FixtureRequest, tracking_peers: Any) -> Any:
    library = {"norfair": "norfair", "Stone Soup": "stonesoup"}.get(request.param, "trackers")
    if library in tracking_peers.missing():
        pytest.skip(f"{library} is not installed: see the head of benchmarks/tracking_peers.py")
    return tracking_peers.make(request.param)


def vessel(x: float, y: float, radius: float = 20.0) -> Detection:
    return Detection(
        centroid_px=np.array([x, y]),
        covariance_px2=np.eye(2),
        area_px2=np.pi * radius**2,
        axes_px=(2 * radius, 2 * radius),
        angle_rad=0.0,
        score=0.95,
        box_px=(x - radius, y - radius, 2 * radius, 2 * radius),
    )


def run(contestant: Any, frames: Sequence[Sequence[Detection]]) -> list[Any]:
    contest = importlib.import_module("tracking_contest")
    contestant.start(25.0, (0, 0, 480, 400), (0.1, 0.1))
    return [
        contestant.update(
            contest.Moment(i, i * 40_000_000, tuple(seen), PictureState.GOOD, None, ())
        )
        for i, seen in enumerate(frames)
    ]


def two_drifting(count: int) -> list[list[Detection]]:
    return [[vessel(100 + i, 120), vessel(300 - i, 200)] for i in range(count)]


def test_two_vessels_keep_an_identity_each(contestant: Any) -> None:
    reports = run(contestant, two_drifting(50))
    assert all(len(said) == 2 for said in reports[15:])
    assert len({report.id for said in reports for report in said}) == 2


def test_what_is_reported_lies_on_the_vessel(contestant: Any) -> None:
    last = run(contestant, two_drifting(50))[-1]
    left = min(last, key=lambda report: report.xy_px[0])
    assert left.xy_px == pytest.approx((149, 120), abs=2.0)
    assert left.box_px == pytest.approx((129, 100, 40, 40), abs=3.0)


def test_a_new_run_begins_without_the_tracks_of_the_last(contestant: Any) -> None:
    run(contestant, two_drifting(50))
    assert run(contestant, [[]] * 3) == [[], [], []]


def test_frames_without_a_vessel_are_taken(contestant: Any) -> None:
    reports = run(contestant, [*two_drifting(20), *[[]] * 5, *two_drifting(45)[25:]])
    assert len({report.id for said in reports for report in said}) == 2


def test_every_contestant_has_tuned_settings(tracking_peers: Any) -> None:
    assert set(tracking_peers.TUNED) == set(NAMES)
