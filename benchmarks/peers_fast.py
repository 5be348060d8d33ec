"""FAST as a contestant (Smistad et al., https://fast-imaging.github.io), as its users write it.

Runs in a Python of its own with `pyfast` and `numpy`. A streamer reads one-channel images from
files on a thread of its own, a `SegmentationNetwork` runs on FAST's OpenVINO, and a `DataStream`
hands the masks out; each is looked at. Handing FAST its frames from memory, one by one, was tried
too and was slower: reading ahead is what its streamers are for.
"""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers_process import Brief, serve, timed

STREAMED = 1000
"""Frames that streaming alone is timed with."""
_EXACT = 1e-3  # FP32 differs from FP32 by less; BF16, with 8 bits of a number, by more


class FastStream:
    """Files in, masks out."""

    def __init__(self, brief: Brief) -> None:
        import fast  # type: ignore[import-not-found]  # not before: it prints

        self._fast, self._brief = fast, brief
        self._network = self._load()
        _, _, self._width, self._height = brief["inner"]
        alone, _ = timed(map(np.asarray, self._data(self._stream())), STREAMED, 100)
        difference = self._difference()
        self.facts = {
            "does": "files read ahead, resize by OpenCL, network, threshold; neither components "
            "nor tracks",
            "clock": "from a one-channel .mhd file to its mask, which is looked at",
            "precision": "fp32" if difference < _EXACT else "bf16",
            "difference_from_fp32": difference,
            "streaming_alone_ms": round(1000 / alone, 3),
            "versions": {
                "python": platform.python_version(),
                "pyfast": version("pyfast"),
                "numpy": version("numpy"),
                "openvino": _openvino_version(Path(fast.__file__).parent / "lib"),
            },
        }

    def turn(self, frames: int, warm_up: int) -> tuple[float, float]:
        return timed(self._segment(loop=True), frames, warm_up)

    def masks(self, count: int) -> NDArray[np.uint8]:
        streamed = zip(range(count), self._segment(loop=False), strict=False)
        return np.stack([mask[: self._height, : self._width] for _, mask in streamed])

    def _segment(self, *, loop: bool) -> Iterator[NDArray[np.uint8]]:
        """Stream from the first file on: the masks, the picture in the grid's upper left."""
        streamer = self._stream(loop=loop)
        self._network.connect(streamer)
        for segmentation in self._data(streamer, self._network):
            mask: NDArray[np.uint8] = np.asarray(segmentation)[..., 0]
            mask.any()
            yield mask

    def _stream(self, *, loop: bool = True) -> Any:
        return self._fast.ImageFileStreamer.create(
            self._brief["files"], loop=loop, useTimestamps=False, grayscale=True
        )

    def _data(self, streamer: Any, last: Any = None) -> Iterator[Any]:
        try:
            yield from self._fast.DataStream(last or streamer)
        finally:
            streamer.stop()

    def _load(self, **more: Any) -> Any:
        network = self._fast.SegmentationNetwork.create(
            self._brief["float_model"],
            inferenceEngine="OpenVINO",
            hasBackgroundClass=False,
            threshold=self._brief["threshold"],
            **more,
        )
        network.setPreserveAspectRatio(True)  # as veintrack does
        return network

    def _difference(self) -> float:
        """Largest difference of the probability from FP32 on a picture that needs no resizing."""
        network = self._load(heatmapOutput=True)
        grid = np.load(self._brief["grid"])
        network.setInputData(0, self._fast.Image.createFromArray(grid[..., None]))
        found = np.asarray(network.runAndGetOutputData())[..., 0]
        return round(float(np.abs(found - np.load(self._brief["probability"])).max()), 6)


def _openvino_version(libraries: Path) -> str:
    """Tell the version by the library's file: libopenvino.so.2230 is 2022.3.0."""
    for file in libraries.glob("libopenvino.so.*"):
        year, *rest = file.suffix[1:3], *file.suffix[3:]
        return ".".join([f"20{year}", *rest])
    return "unknown"


if __name__ == "__main__":
    serve(FastStream)
