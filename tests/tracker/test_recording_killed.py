"""A recording survives the end of its process, and a disk that is full, as any file would."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tracker.recording_scene import noise
from veintrack.tracker.recording_lines import read_lines
from veintrack.tracker.sources.recording import open_recording

# A live source of 100 frames a second whose recording is killed.
RECORDS = """
import sys, time
from pathlib import Path
from tests.tracker.recording_scene import MANIFEST, frame_of
from veintrack.tracker.recording import Recorder, RecordSettings

frames = [frame_of(i) for i in range(400)]
recorder = Recorder(Path(sys.argv[1]), RecordSettings(full=True), MANIFEST, patient=False)
print("begun", flush=True)
for frame in frames:
    time.sleep(0.01)
    recorder.put(frame)
    print(frame.index, flush=True)
time.sleep(9)
"""


@pytest.mark.parametrize("seed", range(3))
def test_what_is_killed_at_any_moment_opens_and_lacks_a_second_at_most(
    tmp_path: Path, seed: int
) -> None:
    put = tmp_path / "put.txt"
    with put.open("w") as told:
        process = subprocess.Popen([sys.executable, "-c", RECORDS, str(tmp_path)], stdout=told)
        while not put.stat().st_size and process.poll() is None:
            time.sleep(0.01)
        time.sleep(random.Random(seed).uniform(0.3, 1.2))
        process.kill()
        process.wait()
    handed_over = len(put.read_text().splitlines()) - 1
    with open_recording(tmp_path) as source:
        frames = list(source)
    assert [f.index for f in frames] == list(range(len(frames)))
    assert all(np.array_equal(f.pixels, noise(f.index)) for f in frames)
    assert len(frames) >= handed_over - 100  # a second of them
    assert len(frames) >= len(list(read_lines(tmp_path / "recording"))) - 1


# The system's limit of a file's size stands in for a disk that is full.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from veintrack.__main__ import main
sys.exit(main())
"""


def test_where_files_cannot_grow_tracking_goes_on_to_the_end(
    tmp_path: Path, model_file: Path
) -> None:
    given = ["--source", "demo", "--max-frames", "40", "--model", str(model_file)]
    options = ["--engine", "onnxruntime", "--record", "--output", "run", "--view", "none"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *given, *options, "--json", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("veintrack: recording ended after frame ")
    assert "File too large" in line
    assert json.loads(done.stdout)["frames"] == 40
    with open_recording(tmp_path / "run") as source:
        frames = [f.index for f in source]
    assert 5 <= len(frames) < 12
    assert frames == list(range(len(frames)))
