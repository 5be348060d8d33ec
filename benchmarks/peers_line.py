"""veintrack as a contestant: the whole line, without outlines and sinks, as fast as it can."""

import platform

import numpy as np
from numpy.typing import NDArray
from peers_process import Brief, PeerError, serve, timed

from veintrack._version import __version__
from veintrack.tracker.pipeline import Pipeline, PipelineSettings, slots_for
from veintrack.tracker.runfolder import library_versions
from veintrack.tracker.segment import load_segmenter
from veintrack.tracker.sources.arrays import ArraySource
from veintrack.tracker.tracks import VeinTracker

_AFTER = 16  # frames that keep the line busy until the last one counted is done


class VeintrackLine:
    """Frame in, tracks out, in the precision that the brief names."""

    def __init__(self, brief: Brief) -> None:
        self._pictures = list(np.load(brief["pictures"]))
        self._segmenter = load_segmenter(
            brief["model"],
            engine=brief["engine"],
            precision=brief["precision"],
            slots=slots_for(live=False, pace="asap"),
        )
        engine = self._segmenter.engine
        if engine.precision != brief["precision"]:  # it may fall back, and says why
            raise PeerError(f"{brief['precision']} is not offered here, only {engine.precision}")
        self.facts = {
            "does": "resize, network, components with their shape and uncertainty, tracks by "
            "Kalman filter; several frames in work",
            "clock": "from a frame in memory to its tracks",
            "precision": engine.precision,
            "engine": engine.name,
            "device": engine.device,
            "slots": engine.slots,
            "versions": {
                "veintrack": __version__,
                "python": platform.python_version(),
                **library_versions(),
            },
        }

    def turn(self, frames: int, warm_up: int) -> tuple[float, float]:
        count = frames + warm_up + _AFTER
        settings = PipelineSettings(crop="none", contours=False)
        with ArraySource(self._pictures, frame_count=count) as source:
            line = Pipeline(source, self._segmenter, VeinTracker(), settings)
            return timed(line, frames, warm_up)

    def masks(self, count: int) -> NDArray[np.uint8]:
        return np.stack([self._mask(picture) for picture in self._pictures[:count]])

    def _mask(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        work = self._segmenter.start(picture)
        x, y, width, height = work.grid.inner
        inside = self._segmenter.result(work)[y : y + height, x : x + width]
        return (inside >= self._segmenter.threshold).astype(np.uint8)


if __name__ == "__main__":
    serve(VeintrackLine)
