"""Other people's OpenIGTLink programs receive what ``--igtl-out`` sends.

FAST brings libraries of its own and is run by a Python of its own.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import dark_is_vessel
from veintrack.tracker.cli.app import run

FAST = os.environ.get("VEINTRACK_FAST_PYTHON")
QUICK = ("--view", "none", "--engine", "onnxruntime", "--precision", "fp32")
_RECEIVE_WITH_FAST = """
import json, sys
import fast
import numpy as np

streamer = fast.OpenIGTLinkStreamer.create("127.0.0.1", int(sys.argv[1]))
streamer.getOutputPort()  # makes one: it takes the first images that come
seen = []
for image in fast.DataStream(streamer):
    pixels = np.asarray(image)[..., 0]
    total = int(pixels.astype(np.uint64).sum())
    seen.append((pixels.shape, total, np.ravel(image.getSpacing()).tolist()))
    if len(seen) == 20:
        np.save(sys.argv[2], pixels)
        break
streamer.stop()
print("RECEIVED " + json.dumps(seen))
"""


@contextmanager
def sending(folder: Path, *options: str) -> Iterator[int]:
    """Run the main job on the demonstration source; gives the port of its OpenIGTLink."""
    model = dark_is_vessel(folder / "rule.onnx", 128)
    fixed = ("--source", "demo", "--pace", "realtime", "--duration", "600", *QUICK)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "veintrack", *fixed, "--model", str(model)),
            *("--output", str(folder / "out"), "--igtl-out", "0", *options),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"OpenIGTLink on 127\.0\.0\.1:(\d+): ", line):
                yield int(found[1])
                return
        pytest.fail("it does not say where OpenIGTLink goes out")
    finally:
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 130


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with sending(tmp_path_factory.mktemp("run")) as opened:
        yield opened


@contextmanager
def pyigtl_client(port: int) -> Iterator[Any]:
    pyigtl = pytest.importorskip("pyigtl", reason="to receive with: pip install pyigtl")
    client = pyigtl.OpenIGTLinkClient("127.0.0.1", port)
    try:
        yield client
    finally:
        client.stop()


def received(client: Any, limit_s: float, done: Callable[[dict[str, list[Any]]], bool]) -> Any:
    """Collect messages by device."""
    devices: dict[str, list[Any]] = {}
    deadline_s = time.monotonic() + limit_s
    while not done(devices) and time.monotonic() < deadline_s:
        for message in client.get_latest_messages():
            devices.setdefault(message.device_name, []).append(message)
        time.sleep(0.005)
    return devices


def test_a_pyigtl_client_receives_moving_pictures_places_and_texts(port: int) -> None:
    def enough(devices: dict[str, list[Any]]) -> bool:
        places = sum(len(found) for name, found in devices.items() if name.startswith("Vein_"))
        return len(devices.get("Veintrack_tracks", [])) >= 20 and places >= 10

    with pyigtl_client(port) as client:
        devices = received(client, 20, enough)
    pictures = devices["Veintrack_mm"]
    assert len(pictures) >= 20
    assert len({message.image.tobytes() for message in pictures}) == len(pictures)
    stamps_s = [message.timestamp for message in pictures]
    assert all(np.diff(stamps_s) > 0)
    assert abs(stamps_s[-1] - time.time()) < 60
    facts = json.loads(devices["Veintrack_tracks"][-1].string)
    assert list(pictures[-1].image.shape) == [1, *facts["scan_area_px"][:1:-1]]
    row_mm, col_mm = facts["spacing_mm"]
    assert np.diag(pictures[-1].ijk_to_world_matrix) == pytest.approx([col_mm, row_mm, 1, 1])
    assert pictures[-1].ijk_to_world_matrix[:3, 3] == pytest.approx([0, 0, 0], abs=1e-4)
    _places_fit(devices)


def _places_fit(devices: dict[str, list[Any]]) -> None:
    """Each place is that of its track in the text of the same time."""
    texts = {round(m.timestamp * 1e6): json.loads(m.string) for m in devices["Veintrack_tracks"]}
    compared = 0
    for name, places in devices.items():
        for message in places if name.startswith("Vein_") else ():
            facts = texts.get(round(message.timestamp * 1e6))
            if facts is None:
                continue
            (track,) = [t for t in facts["tracks"] if name == f"Vein_{t['id']}_mm"]
            (x, y), (row_mm, col_mm) = track["centroid_px"], facts["spacing_mm"]
            left, top, *_ = facts["scan_area_px"]
            there = [(x - left) * col_mm, (y - top) * row_mm, 0]
            assert message.matrix[:3, 3] == pytest.approx(there, abs=1e-3)
            compared += 1
    assert compared


def test_fast_receives_moving_pictures(port: int, tmp_path: Path) -> None:
    if FAST is None:
        pytest.skip(
            "FAST is not here: pip install pyfast numpy in an environment of its own, and name its "
            "Python in VEINTRACK_FAST_PYTHON"
        )
    script = tmp_path / "receive.py"
    script.write_text(_RECEIVE_WITH_FAST)
    done = subprocess.run(
        [FAST, script, str(port), tmp_path / "picture.npy"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("RECEIVED ")]
    assert said, done.stdout + done.stderr
    shapes, sums, spacings = zip(*json.loads(said[0].removeprefix("RECEIVED ")), strict=True)
    assert len(set(sums)) >= 15  # of 20
    assert len(set(map(tuple, shapes))) == 1
    assert all(0 < spacing[0] < 1 for spacing in spacings)


def test_a_client_that_reads_nothing_costs_a_pyigtl_client_nothing(port: int) -> None:
    def rate_hz() -> float:
        with pyigtl_client(port) as client:
            received(client, 5, lambda devices: bool(devices))
            begun_s = time.monotonic()
            devices = received(client, 2, lambda _: False)
            seconds = time.monotonic() - begun_s
        return len(devices["Veintrack_mm"]) / seconds

    alone = rate_hz()
    with socket.create_connection(("127.0.0.1", port)):
        beside = rate_hz()
    assert beside > 0.7 * alone


def test_a_port_in_use_ends_the_command_with_one_line_and_leaves_nothing(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = dark_is_vessel(tmp_path / "rule.onnx", 64)
    options = ("--model", str(model), "--output", str(tmp_path / "out"), "--igtl-out", str(port))
    assert run(["--source", "demo", "--quiet", *QUICK, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"veintrack: OpenIGTLink cannot go out on 127.0.0.1:{port}: another ")
    assert not (tmp_path / "out").exists()
