"""What happens inside the test machine: one function a scenario, facts as JSON for the host.

Called with the shared folder, the installed command, and the names of the scenarios to run (all by
default). Each gets a machine without devices, and may leave behind what it likes; one that fails
leaves its traceback as its fact.
"""

import itertools
import json
import multiprocessing
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[3]))  # behind the installed veintrack

from tests.acceptance.v4l2 import drivers
from tests.acceptance.v4l2.drivers import BufferTrace
from tests.acceptance.v4l2.usb_card import UsbCard, wait_until_empty
from tests.acceptance.v4l2.watching import Row, Watch, warm_up
from veintrack.tracker.frame import U8

Facts = dict[str, Any]
Scenario = Callable[["Guest"], Facts]

_RATE_HZ = 10.0  # of what is fed; the emulated cards can do no more
_NODE = Path("/dev/video0")
_AHEAD_NS = 200_000_000  # vivid stamps a picture up to a frame time ahead of its arrival
_VIVID = ("n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0")  # one webcam


class Guest:
    """What scenarios need: the command, a model that is quick, the phantom's pictures."""

    def __init__(self, share: Path, command: Path) -> None:
        self.share, self.command = share, command
        self.pictures: U8 = np.load(share / "phantom.npy")
        self.small: U8 = self.pictures[:, ::2, ::2].copy()  # what an emulated USB port can carry
        self._numbers = itertools.count()

    def folder(self) -> Path:
        """Make a folder for a run, outside the slow shared one."""
        folder = Path(f"/tmp/runs/{next(self._numbers)}")
        folder.mkdir(parents=True)
        return folder

    def options(self, source: Path, out: Path) -> list[str]:
        """Give the command's options; the shipped network would take minutes a frame."""
        return [
            *("--source", str(source), "--model", str(self.share / "model.onnx")),
            *("--engine", "onnxruntime", "--precision", "fp32", "--crop", "none"),
            *("--view", "none", "--output", str(out)),
        ]

    def watch(self, source: Path, *arguments: str) -> Watch:
        """Start the command on a device."""
        folder = self.folder()
        return Watch(self.command, folder, [*self.options(source, folder / "out"), *arguments])

    def card(self, port: int = 0, *, silent: bool = False) -> UsbCard:
        """Plug in a card that shows the phantom."""
        return UsbCard(port, self.small, _RATE_HZ, silent=silent)

    def other_card(self, port: int) -> UsbCard:
        """Plug in a card of the same make that shows no vessel."""
        return UsbCard(port, 255 - self.small, _RATE_HZ)


def _fresh(row: Row) -> bool:
    return bool(row["fresh"])


def _lost(row: Row) -> bool:
    return not row["fresh"]


def _confirmed(row: Row) -> bool:
    return _fresh(row) and any(track["status"] == "confirmed" for track in row["tracks"])


def _call(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_card(guest: Guest) -> Facts:
    """The command from its very start on vivid's test card, then v4l2-ctl on the same device."""
    drivers.load("vivid", *_VIVID)
    out = guest.folder() / "out"
    done = _call(str(guest.command), *guest.options(_NODE, out), "--duration", "3")
    reading = _call(
        "v4l2-ctl", "-d", str(_NODE), "--stream-mmap=4", "--stream-count=10", "--verbose"
    )
    return {
        "exit_code": done.returncode,
        "said": done.stdout + done.stderr,
        "rows": [json.loads(line) for line in (out / "tracks.jsonl").read_text().splitlines()],
        "record": json.loads((out / "run.json").read_text()),
        "v4l2_ctl": reading.stdout + reading.stderr,
    }


def withheld_frames(guest: Guest) -> Facts:
    """A fifth of vivid's frames is dropped by the driver itself; a second run finds it busy."""
    drivers.load("vivid", *_VIVID)
    drivers.control(_NODE, "percentage_of_dropped_buffers", 20)
    run = guest.watch(_NODE, "--duration", "3")
    run.wait_for(_fresh)
    second = guest.watch(_NODE).end()
    return run.end() | {"second": second}


def phantom(guest: Guest) -> Facts:
    """The phantom through v4l2loopback; afterwards, another reader keeps some of its pictures."""
    drivers.load("v4l2loopback", "video_nr=10", "max_buffers=8", "card_label=loop")
    node, raw = Path("/dev/video10"), guest.folder() / "pictures"
    drivers.feed(node, guest.pictures, _RATE_HZ)
    facts = guest.watch(node, "--duration", "5").end()
    reading = _call(
        *("v4l2-ctl", "-d", str(node), "--stream-mmap=4", "--stream-count=10", "--verbose"),
        f"--stream-to={raw}",
    )
    pictures = guest.pictures
    numbers = []
    for kept in np.fromfile(raw, np.uint8).reshape(-1, *pictures.shape[1:]):
        same = np.flatnonzero((pictures == kept).all(axis=(1, 2)))
        numbers.append(int(same[0]) if len(same) else None)
    return facts | {"v4l2_ctl": reading.stdout + reading.stderr, "numbers": numbers}


def failures(guest: Guest) -> Facts:
    """A driver that damages a frame, then fails, then is taken away and given back."""
    drivers.load("vivid", *_VIVID)
    run = guest.watch(_NODE, "--duration", "8")
    run.wait_for(_fresh)
    drivers.control(_NODE, "inject_v4l2_buf_flag_error", 1)
    # The next picture is the damaged one. Stopped before it came, the driver would damage the
    # first one after that instead, which is taken while the device is opened and counts as none.
    damaged_ns = time.monotonic_ns() + _AHEAD_NS
    run.wait_for(lambda row: _fresh(row) and row["capture_ns"] > damaged_ns)
    drivers.control(_NODE, "inject_fatal_streaming_error", 1)
    failed = run.wait_for(_lost)
    run.wait_for(_fresh)
    gone_ns = time.monotonic_ns()
    drivers.unbind("vivid.0")
    gone = run.wait_for(_lost)
    drivers.bind("vivid.0")
    run.wait_for(_fresh)
    return run.end() | {"failed": failed, "gone_ns": gone_ns, "gone": gone}


def unplug(guest: Guest) -> Facts:
    """A card is unplugged and plugged in again during one run."""
    card = guest.card()
    run = guest.watch(card.node(), "--duration", "8")
    run.wait_for(_confirmed)
    unplugged_ns = time.monotonic_ns()
    card.unplug()
    lost = run.wait_for(_lost)
    time.sleep(1.0)
    replugged_ns = time.monotonic_ns()
    guest.card()
    again = run.wait_for(_fresh)
    return run.end() | {
        "unplugged_ns": unplugged_ns,
        "replugged_ns": replugged_ns,
        "lost": lost,
        "again": again,
    }


def given_up(guest: Guest) -> Facts:
    """A card is unplugged for good."""
    card = guest.card()
    run = guest.watch(card.node(), "--lost-timeout", "1")
    run.wait_for(_fresh)
    card.unplug()
    return run.end()


def stall(guest: Guest) -> Facts:
    """A card that stops sending, goes on, and a Ctrl-C while it streams."""
    card = guest.card()
    run = guest.watch(card.node())
    run.wait_for(_confirmed)
    stalled_ns = time.monotonic_ns()
    card.stall()
    stalled = run.wait_for(_lost)
    time.sleep(0.5)
    gone_on_ns = time.monotonic_ns()
    card.go_on()
    again = run.wait_for(_fresh)
    run.wait_for(_confirmed)
    ended_s = run.interrupt()
    return run.end() | {
        "stalled_ns": stalled_ns,
        "gone_on_ns": gone_on_ns,
        "stalled": stalled,
        "again": again,
        "ended_s": ended_s,
    }


def swap(guest: Guest) -> Facts:
    """Two cards of a make change their numbers while both are away."""
    first = guest.card(0)
    nodes = [first.node()]
    second = guest.other_card(1)
    nodes.append(second.node())
    run = guest.watch(nodes[0])
    run.wait_for(_confirmed)
    first.unplug()
    second.unplug()
    run.wait_for(_lost)
    nodes.append(guest.other_card(1).node())
    time.sleep(2.0)  # for which the wrong card is there, under the right name
    plugged_ns = time.monotonic_ns()
    nodes.append(guest.card(0).node())
    again = run.wait_for(_fresh)
    back = run.wait_for(_confirmed)
    run.interrupt()
    return run.end() | {
        "nodes": [str(node) for node in nodes],
        "plugged_ns": plugged_ns,
        "again": again,
        "back": back,
    }


def interrupted_while_stalled(guest: Guest) -> Facts:
    """Ctrl-C while the card is there and silent."""
    card = guest.card()
    run = guest.watch(card.node())
    run.wait_for(_fresh)
    card.stall()
    run.wait_for(_lost)
    time.sleep(1.5)  # by then it is opened again, and waits for a picture
    ended_s = run.interrupt()
    return run.end() | {"ended_s": ended_s}


def interrupted_while_lost(guest: Guest) -> Facts:
    """Ctrl-C while the card is away."""
    card = guest.card()
    run = guest.watch(card.node())
    run.wait_for(_fresh)
    card.unplug()
    run.wait_for(_lost)
    time.sleep(0.5)
    ended_s = run.interrupt()
    return run.end() | {"ended_s": ended_s}


def interrupted_while_opening(guest: Guest) -> Facts:
    """Ctrl-C while the first picture of a silent card is waited for."""
    node = guest.card(silent=True).node()
    run = guest.watch(node)
    time.sleep(3.0)
    was_open = run.holds(node)
    ended_s = run.interrupt()
    return run.end() | {"ended_s": ended_s, "was_open": was_open}


def slow_consumer(guest: Guest) -> Facts:
    """A loop that takes ten frame times for each result."""
    from veintrack.tracker.pipeline import Pipeline, PipelineSettings
    from veintrack.tracker.segment import load_segmenter
    from veintrack.tracker.sources import open_source
    from veintrack.tracker.tracks import VeinTracker

    drivers.load("vivid", *_VIVID)
    drivers.control(_NODE, "timestamp_source", 1)  # at the start of the frame, not in the future
    model = str(guest.share / "model.onnx")
    rows: list[Row] = []
    with (
        open_source(str(_NODE)) as source,
        load_segmenter(model, engine="onnxruntime", precision="fp32", slots=1) as segmenter,
    ):
        rate_hz = source.info.rate_hz or 0.0
        pipeline = Pipeline(source, segmenter, VeinTracker(), PipelineSettings(crop="none"))
        for result in pipeline:
            rows.append(
                {
                    "frame": result.frame.index,
                    "driver_sequence": result.frame.driver_sequence,
                    "capture_ns": result.frame.capture_ns,
                    "age_ns": time.monotonic_ns() - result.frame.capture_ns,
                    "inference_ns": result.timings.prepare_ns + result.timings.infer_ns,
                    "drops": pipeline.drops,
                    "driver_drops": source.driver_drops,
                }
            )
            if len(rows) == 20:
                break
            time.sleep(10 / rate_hz)
    return {"rows": rows, "rate_hz": rate_hz}


SCENARIOS: tuple[Scenario, ...] = (
    test_card,
    withheld_frames,
    phantom,
    failures,
    unplug,
    given_up,
    stall,
    swap,
    interrupted_while_stalled,
    interrupted_while_lost,
    interrupted_while_opening,
    slow_consumer,
)


def _clear() -> None:
    """End every process of a scenario, cards included, and take its devices away."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    wait_until_empty()
    for driver in ("vivid", "v4l2loopback"):
        drivers.unload(driver)


def main(share: Path, command: Path, names: list[str]) -> None:
    """Run scenarios, one after another, and write down what each came to."""
    drivers.load("uvcvideo")
    drivers.load("vhci_hcd")
    warm_up()
    guest = Guest(share, command)
    for scenario in SCENARIOS:
        if names and scenario.__name__ not in names:
            continue
        begun_s = time.monotonic()
        with BufferTrace() as trace:
            try:
                facts = scenario(guest)
            except Exception:
                facts = {"failure": traceback.format_exc()}
        _clear()
        facts["buffers"] = [asdict(buffer) for buffer in trace.buffers()]
        facts["took_s"] = time.monotonic() - begun_s
        (share / f"{scenario.__name__}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
