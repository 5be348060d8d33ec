"""veintrack beside what its users would otherwise run, on the same weights and frames.

    python -m venv fastenv && fastenv/bin/pip install pyfast numpy
    python benchmarks/peers.py --fast-python fastenv/bin/python --json peers.json

The contestants are veintrack in each of its precisions; FAST (Smistad et al.), streaming from files
through its OpenVINO engine; a plain loop of OpenCV and ONNX Runtime; and the same loop around eager
PyTorch. What is not installed is told and left out.

Each loads once, in a process of its own, and computes only in its turn. In a round all take a turn,
every second round backwards, so that other loads on the machine hit all alike: the ratios, taken
within a round, are what to read. The first frames of a turn warm up.

Each does what its users would have it do; what that is stands below the table. veintrack tracks,
which no other does. All lay the same pictures on the network's grid with their aspect kept, and
Dice says how far the masks of the first ones agree there with veintrack's in its highest precision.

FAST needs an OpenCL driver and some libraries: on Debian, `apt-get install pocl-opencl-icd libgl1
libglu1-mesa libopengl0 libxcb-xinerama0 libxkbcommon-x11-0`.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from peers_inputs import prepare
from peers_process import Brief, Peer, PeerError
from peers_report import OURS, U8, Result, show, sum_up

from veintrack.engines.base import PRECISIONS
from veintrack.errors import VeintrackError
from veintrack.tracker.machine import machine_facts

GET_FAST = "pip install pyfast numpy in an environment of its own, and name it in --fast-python"
_HERE = Path(__file__).parent
_PICTURES = 120  # rendered ahead
_JUDGED = 5  # of them for Dice
_PAUSE_S = 0.5  # until the threads of the one before sleep


@dataclass(frozen=True, slots=True)
class Entry:
    """One who is to take part.

    Attributes
    ----------
    name : str
        As it stands in the table.
    command : sequence of str
        Starts its process.
    more : mapping
        What it is told beside the brief that all are given.
    missing : str
        Why it cannot take part and what would help; empty if nothing is known against it.
    """

    name: str
    command: Sequence[str]
    more: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""


def entries(options: argparse.Namespace) -> list[Entry]:
    """List who is to take part; `missing` says why one cannot, as far as that is known now."""
    line = [sys.executable, str(_HERE / "peers_line.py")]
    loop = [sys.executable, str(_HERE / "peers_loop.py")]
    fast = str(options.fast_python or "")
    return [
        *(
            Entry(f"{OURS} {p}", line, {"engine": options.engine, "precision": p})
            for p in options.precisions
        ),
        Entry(
            "FAST",
            [fast, str(_HERE / "peers_fast.py")],
            missing="" if fast else f"not installed: {GET_FAST}",
        ),
        Entry("OpenCV + ONNX Runtime", [*loop, "onnxruntime"], missing=_lacks("onnxruntime")),
        Entry("OpenCV + eager PyTorch", [*loop, "torch"], missing=_lacks("torch")),
    ]


def _lacks(library: str) -> str:
    return "" if find_spec(library) else f"not installed: pip install {library}"


class Contest:
    """The contestants at work; who fails is left out from then on.

    Parameters
    ----------
    brief : dict
        What all are told.
    work : Path
        A folder for what they write.

    Attributes
    ----------
    results : dict of Result
        By name, of those that have not failed.
    left_out : dict of str
        By name, why one is not among them.
    """

    def __init__(self, brief: Brief, work: Path) -> None:
        self.results: dict[str, Result] = {}
        self.left_out: dict[str, str] = {}
        self._brief, self._work = brief, work
        self._peers: dict[str, Peer] = {}

    def load(self, entry: Entry) -> None:
        """Start a contestant's process and see what it makes of the first pictures."""
        name = entry.name
        if entry.missing:
            self.left_out[name] = entry.missing
            return
        say(f"loading {name}")
        log = self._work / f"{name.replace(' ', '-')}.log"
        masks = self._work / "masks.npy"
        try:
            peer = self._peers[name] = Peer(entry.command, self._brief | dict(entry.more), log)
            peer.masks(_JUDGED, masks)
            self.results[name] = Result(peer.facts, self._read(masks))
        except PeerError as error:
            self._leave_out(name, error)

    def play(self, frames: int, warm_up: int, *, backwards: bool) -> None:
        """Let all take a turn, one after another."""
        for name in list(self.results)[:: -1 if backwards else 1]:
            try:
                turn = self._peers[name].turn(frames, warm_up)
            except PeerError as error:
                self._leave_out(name, error)
                continue
            say(f"  {name}: {turn['fps']:g} fps")
            for of, value in turn.items():
                self.results[name].turns.setdefault(of, []).append(value)
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """End all processes. Safe to call twice."""
        while self._peers:
            self._peers.popitem()[1].close()

    def _read(self, masks: Path) -> U8:
        """Read a contestant's masks; those of another shape could be compared with no other's."""
        *_, width, height = self._brief["inner"]
        shown: U8 = np.load(masks)
        if shown.shape != (_JUDGED, height, width):
            raise PeerError(
                f"expected masks of shape {(_JUDGED, height, width)}, got {shown.shape}"
            )
        return shown

    def _leave_out(self, name: str, error: PeerError) -> None:
        say(f"  {name} is left out: {error}")
        self.left_out[name] = str(error)
        self.results.pop(name, None)
        if name in self._peers:
            self._peers.pop(name).close()


def say(text: str) -> None:
    """Say how far it is."""
    print(text, file=sys.stderr, flush=True)


def read_options() -> argparse.Namespace:
    """Read the command line.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="default", help="shipped name, or path of a model file")
    parser.add_argument("--engine", default="openvino", help="of veintrack")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=["int8", "bf16", "fp32"]
    )
    parser.add_argument("--fast-python", type=Path, help="a Python that has pyfast and numpy")
    parser.add_argument("--frames", type=int, default=200, help="that are counted in a turn")
    parser.add_argument("--warm-up", type=int, default=30, help="before them that are not")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for name, least in (("frames", 1), ("warm_up", 0), ("rounds", 1)):
        if getattr(options, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(options, name)}")
    return options


def main() -> None:
    """Run the comparison and print its table."""
    try:
        options = read_options()
        with TemporaryDirectory() as folder:
            say("rendering frames")
            brief = prepare(options.model, Path(folder), _PICTURES)
            machine = machine_facts()
            contest = Contest(brief, Path(folder))
            try:
                for entry in entries(options):
                    contest.load(entry)
                for number in range(options.rounds):
                    say(f"round {number + 1} of {options.rounds}")
                    contest.play(options.frames, options.warm_up, backwards=number % 2 == 1)
            finally:
                contest.close()
        found = sum_up(contest.results)
    except (ValueError, VeintrackError) as error:
        raise SystemExit(f"peers: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    show(found, contest.left_out, f"{options.rounds} rounds of {options.frames} frames")
    if options.json:
        record = {
            "machine": machine,
            "command": shlex.join(["python", "benchmarks/peers.py", *sys.argv[1:]]),
            **{name: brief[name] for name in ("model_sha256", "shape_px", "input_px")},
            **{name: getattr(options, name) for name in ("frames", "warm_up", "rounds")},
            "contestants": found,
            "left_out": contest.left_out,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
