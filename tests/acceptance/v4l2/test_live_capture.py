"""Live capture against real kernel drivers, in an emulated machine (`machine.py`).

One machine runs every scenario of `guest.py`; here is said what each must have come to. The
machine's clock counts its instructions (a billion a second), so that its seconds, unlike ours, do
not depend on how busy the host is.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.acceptance.v4l2.machine import MachineError, prepare, run
from tests.conftest import dark_is_vessel
from veintrack.tracker.phantom import Phantom, PhantomSettings, TissueSettings, VesselSettings

pytestmark = pytest.mark.vm

Facts = dict[str, Any]
_PICTURES = 100
_LIMIT_S = 900
_SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """One dark vein that moves in plain tissue, so that a rule can stand in for the network.

    The shipped network takes minutes a frame where every instruction is emulated.
    """
    vein = VesselSettings(
        "vein", 0.0, 15.0, 9.0, 6.5, 0.1, sway_mm=1.5, sway_hz=0.25, blood_db=-55.0, haze=0.0
    )
    tissue = TissueSettings(
        sheets=0,
        nerves=0,
        bellies=0,
        planes=0,
        attenuation_db_mm=0.0,
        streak_db=0.0,
        muscle_db=-30.0,
        deep_db=-30.0,
        noise_db=-90.0,
    )
    return Phantom(
        PhantomSettings(
            height_px=480,
            width_px=480,
            rate_hz=25.0,
            depth_mm=30.0,
            gain_db=8.0,
            vessels=(vein,),
            tissue=tissue,
        )
    )


def _write_model(path: Path) -> None:
    """Write the rule that dark is vessel, looking at means over 7 cells because of the speckle."""
    model = onnx.load(dark_is_vessel(path, 192, level=80.0))
    model.graph.node[0].output[0] = "sharp"
    pool = helper.make_node(
        "AveragePool", ["sharp"], ["grey"], kernel_shape=[7, 7], pads=[3, 3, 3, 3]
    )
    model.graph.node.insert(1, pool)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def facts(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Facts]:
    """Run the machine once; what is asked for is the facts of one scenario."""
    try:
        image = prepare()
    except MachineError as error:
        if os.environ.get("VEINTRACK_VM") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))
    share = tmp_path_factory.mktemp("machine")
    np.save(share / "phantom.npy", [phantom.render(i).pixels for i in range(_PICTURES)])
    _write_model(share / "model.onnx")
    command = Path(sys.executable).parent / "veintrack"
    assert command.exists(), 'the command is not installed: pip install -e ".[test]"'
    script = Path(__file__).with_name("guest.py")
    code = run(
        image,
        [sys.executable, str(script), str(share), str(command)],
        shares=[share],
        env={"VEINTRACK_CACHE": "/tmp/veintrack-cache", "OMP_NUM_THREADS": "1"},
        limit_s=_LIMIT_S,
    )
    assert code == 0, "the guest's script failed; its output is above"

    def of(scenario: str) -> Facts:
        found: Facts = json.loads((share / f"{scenario}.json").read_text())
        assert "failure" not in found, found["failure"]
        return found

    return of


def _fresh(found: Facts) -> list[Facts]:
    return [row for row in found["rows"] if row["fresh"]]


def _stamps(rows: list[Facts]) -> list[tuple[int, int]]:
    """What a driver writes on a buffer: its number, and its time."""
    names = "driver_sequence" if rows and "driver_sequence" in rows[0] else "sequence"
    return [(row[names], row["capture_ns"]) for row in rows]


def _assert_no_frame_is_invented(found: Facts) -> None:
    rows = _fresh(found)
    made = _stamps(found["buffers"])
    shown = _stamps(rows)
    assert len(shown) > 2
    assert set(shown) <= set(made)
    assert len(set(shown)) == len(shown)
    order = [made.index(stamp) for stamp in shown]
    assert order == sorted(order)
    indices = [row["frame"] for row in rows]
    assert indices == sorted(set(indices))


def _assert_closed(found: Facts) -> None:
    """Interrupted within a second, and what was written is whole."""
    assert found["exit_code"] == 130, found["said"]
    assert found["ended_s"] < 1.0
    assert "Traceback" not in found["said"]
    assert found["record"]["ended"] == "interrupted"
    assert found["record"]["summary"]["frames"] == len(_fresh(found))
    assert found["tail"].endswith("}\n")
    assert found["csv_tail"].endswith("\n")


def _vessel(row: Facts) -> Facts:
    """The one track that is believed."""
    (track,) = [t for t in row["tracks"] if t["status"] in ("confirmed", "coasting")]
    found: Facts = track
    return found


def test_stamps_and_numbers_are_those_that_the_kernel_gave(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("test_card")
    assert found["exit_code"] == 0, found["said"]
    _assert_no_frame_is_invented(found)
    assert {row["stamp"] for row in found["rows"]} == {"end of frame"}
    assert "kernel's stamps" in found["record"]["source"]["times_from"]


def test_v4l2_ctl_reads_the_same_stamps_as_the_kernels_record(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("test_card")
    said = re.findall(r"seq: +(\d+) .*? ts: (\d+)\.(\d{6})", found["v4l2_ctl"])
    read = [(int(n), (int(s) * 1_000_000 + int(us)) * 1000) for n, s, us in said]
    assert len(read) >= 9
    assert set(read) <= set(_stamps(found["buffers"]))


def test_frames_that_the_driver_withholds_are_counted_exactly(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("withheld_frames")
    assert found["exit_code"] == 0, found["said"]
    _assert_no_frame_is_invented(found)
    rows = _fresh(found)
    first = rows[0]["driver_sequence"] - rows[0]["frame"]  # of the frame with index 0
    came = [b["sequence"] for b in found["buffers"] if b["sequence"] >= first]
    withheld = came[-1] - first + 1 - len(came)
    assert withheld > 5
    assert found["record"]["summary"]["driver_drops"] == withheld
    assert all(row["frame"] == row["driver_sequence"] - first for row in rows)


def test_a_device_in_use_is_refused_with_one_line(facts: Callable[[str], Facts]) -> None:
    second = facts("withheld_frames")["second"]
    assert second["exit_code"] == 2
    assert "/dev/video0 is in use by another program" in second["said"]
    assert "Traceback" not in second["said"]


def test_a_driver_that_damages_fails_and_is_taken_away_is_opened_again(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("failures")
    assert found["exit_code"] == 0, found["said"]
    (damaged,) = [b for b in found["buffers"] if b["damaged"]]
    assert damaged["capture_ns"] not in [row["capture_ns"] for row in _fresh(found)]
    assert found["record"]["summary"]["driver_drops"] >= 1
    assert "failed" in found["failed"]["source"]["reason"]
    assert "unplugged" in found["gone"]["source"]["reason"]
    assert found["gone"]["seen_ns"] - found["gone_ns"] < _SECOND_NS
    _assert_no_frame_is_invented(found)
    assert found["record"]["summary"]["outages"] == 2


def test_the_phantom_is_followed_through_a_loopback_device(
    facts: Callable[[str], Facts], phantom: Phantom
) -> None:
    found = facts("phantom")
    assert found["exit_code"] == 0, found["said"]
    # A second reader kept the pictures: the driver's number is that of the picture, bit by bit
    # (but for its first one, which is always 0).
    numbers = [int(n) for n in re.findall(r"seq: +(\d+)", found["v4l2_ctl"])]
    assert len(numbers) >= 9
    assert found["numbers"][1:] == [n % _PICTURES for n in numbers[1:]]
    rows = _fresh(found)
    assert len(rows) > 30
    late = [row for row in rows if row["frame"] > 5]
    assert {_vessel(row)["id"] for row in late} == {1}
    for row in late:
        truth = phantom.render(row["driver_sequence"] % _PICTURES).vessels[0].centroid_px
        assert np.hypot(*(_vessel(row)["centroid_px"] - truth)) < 3.0
    assert found["record"]["summary"]["tracks_confirmed"] == 1


def test_unplugging_is_told_within_a_second_and_the_run_goes_on_after_it(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("unplug")
    assert found["exit_code"] == 0, found["said"]
    lost, again = found["lost"], found["again"]
    assert lost["source"]["state"] == "lost"
    assert "unplugged" in lost["source"]["reason"]
    assert lost["seen_ns"] - found["unplugged_ns"] < _SECOND_NS
    between = [row for row in found["rows"] if not row["fresh"]]
    assert [t["status"] for t in between[0]["tracks"]] == ["coasting"]
    assert len([row for row in between if row["tracks"]]) >= 5
    assert all(a["time_ns"] < b["time_ns"] for a, b in pairwise(between))
    assert again["frame"] == lost["frame"] + 1
    assert again["capture_ns"] > found["replugged_ns"]
    _assert_no_frame_is_invented(found)
    assert found["record"]["summary"]["outages"] == 1


def test_a_card_that_stays_away_ends_the_run_after_the_time_to_wait(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("given_up")
    assert found["exit_code"] == 1, found["said"]
    assert "not back within 1 s" in found["said"].splitlines()[-1]
    assert found["record"]["summary"]["frames"] == len(_fresh(found)) > 0
    assert found["rows"][-1]["source"]["state"] == "lost"


def test_a_stall_is_told_and_the_run_goes_on_after_it(facts: Callable[[str], Facts]) -> None:
    found = facts("stall")
    stalled, again = found["stalled"], found["again"]
    assert stalled["source"]["state"] == "stalled"
    assert stalled["seen_ns"] - found["stalled_ns"] < _SECOND_NS
    assert again["frame"] == stalled["frame"] + 1
    assert again["capture_ns"] > found["gone_on_ns"]
    _assert_no_frame_is_invented(found)


def test_the_same_card_is_taken_again_under_another_number(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("swap")
    first, second, taken, moved = found["nodes"]
    assert (taken, moved) == (first, second), "the cards did not swap their numbers"
    # While only the other card was there, under the name that was asked for, no frame came.
    assert found["again"]["capture_ns"] > found["plugged_ns"]
    assert [t["status"] for t in found["back"]["tracks"]].count("confirmed") == 1
    _assert_no_frame_is_invented(found)


def test_ctrl_c_while_streaming_ends_the_run_with_whole_files(
    facts: Callable[[str], Facts],
) -> None:
    _assert_closed(facts("stall"))


@pytest.mark.parametrize("state", ["stalled", "lost"])
def test_ctrl_c_while_nothing_comes_ends_the_run_with_whole_files(
    facts: Callable[[str], Facts], state: str
) -> None:
    found = facts(f"interrupted_while_{state}")
    _assert_closed(found)
    assert found["rows"][-1]["source"]["state"] == state


def test_ctrl_c_while_a_silent_card_is_opened_leaves_nothing_behind(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("interrupted_while_opening")
    assert found["was_open"]
    assert found["exit_code"] == 130, found["said"]
    assert found["ended_s"] < 1.0
    assert "Traceback" not in found["said"]
    assert found["record"] is None


def test_a_consumer_ten_times_too_slow_gets_the_newest_frame_and_exact_counts(
    facts: Callable[[str], Facts],
) -> None:
    found = facts("slow_consumer")
    rows, frame_ns = found["rows"], _SECOND_NS / found["rate_hz"]
    ages_ns = [row["age_ns"] for row in rows]
    inference_ns = max(row["inference_ns"] for row in rows)
    assert np.percentile(ages_ns, 99) < 2 * frame_ns + inference_ns
    made = [number for number, _ in _stamps(found["buffers"])]
    first = rows[0]["driver_sequence"] - rows[0]["frame"]
    for count, row in enumerate(rows[1:], 2):
        came = sum(first <= number <= row["driver_sequence"] for number in made)
        assert count + row["drops"] == came
        assert row["frame"] + 1 == came + row["driver_drops"]
    assert rows[-1]["drops"] > 100
    assert set(_stamps(rows)) <= set(_stamps(found["buffers"]))
