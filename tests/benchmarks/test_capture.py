"""The cost of capture: that every format is really read, and what is written of it."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veintrack.tracker.sources.v4l2 import open_v4l2
from veintrack.tracker.sources.v4l2_modes import READABLE


@pytest.fixture(scope="module")
def capture() -> Any:
    return importlib.import_module("capture")


def test_every_format_is_read_to_the_same_picture(capture: Any) -> None:
    pictures = {}
    for device in capture.devices():
        with open_v4l2("0", kernel=device) as source:
            frame = next(iter(source))
        if device.quantization == capture.abi.QUANTIZATION_FULL:
            pictures[device.name, device.size_px] = frame.pixels
    assert {name for name, _ in pictures} == set(READABLE)
    for (name, size_px), pixels in pictures.items():
        assert pixels.shape == size_px[::-1]
        difference = np.abs(pixels.astype(int) - pictures["GREY", size_px])
        assert difference.max() <= (40 if name == "MJPG" else 1)


def test_figures_are_written_with_what_they_were_measured_on(
    capture: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = tmp_path / "capture.json"
    words = ["--frames", "2", "--rounds", "1", "--json", str(written)]
    monkeypatch.setattr(sys, "argv", ["capture.py", *words])
    capture.main()
    record = json.loads(written.read_text())
    assert len(record["scores"]) == len(capture.devices())
    assert all(0 < score["least_ms"] <= score["frame_ms"] for score in record["scores"])
    assert record["machine"]["cores"] >= 1
    assert "YUYV" in capsys.readouterr().out


def test_a_run_without_frames_is_refused(capture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["capture.py", "--frames", "0"])
    with pytest.raises(SystemExit, match="must be at least 1"):
        capture.main()
