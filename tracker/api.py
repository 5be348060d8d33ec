"""The Python interface to the whole line: ``veintrack.track``."""

from collections.abc import Iterator
from pathlib import Path

from veintrack.engines.model import DEFAULT_MODEL
from veintrack.tracker.frame import FrameResult, Region
from veintrack.tracker.pipeline import Pipeline, PipelineSettings, slots_for
from veintrack.tracker.segment import Segmenter, load_segmenter
from veintrack.tracker.sources.base import Source
from veintrack.tracker.tracks import TrackSettings, VeinTracker

__all__ = ["track"]


def track(
    source: Source,
    model: str | Path | Segmenter = DEFAULT_MODEL,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    crop: str | Region = "auto",
    pace: str = "asap",
    contours: bool = True,
    max_age_ms: float | None = None,
    settings: TrackSettings | None = None,
) -> Iterator[FrameResult]:
    """Follow the vessels of a source.

    Parameters
    ----------
    source : Source
        From :func:`veintrack.open_source`. It is read to its end, or until iteration stops, and
        closed then.
    model : str, Path or Segmenter
        Name of a shipped model, path of a model file, or an open segmenter, which stays open.
    engine, precision, device : str
        As for :func:`veintrack.load_segmenter`.
    crop : str or tuple of int
        ``auto`` finds the scan area in the first second, ``none`` looks at the whole frame, or
        ``(x, y, width, height)`` in px.
    pace : str
        ``asap``: every frame of a file. ``realtime``: at the times they were taken, the newest
        frame winning. Live sources always behave as the latter.
    contours : bool
        Keep each vessel's outline in its detection.
    max_age_ms : float, optional
        Of live sources and in real time: frames that would be older when their tracks are ready
        are not segmented; the tracks are predicted.
    settings : TrackSettings, optional
        How vessels move, and when they are believed.

    Yields
    ------
    FrameResult
        One for each frame that was processed, in order. From a live source that was opened with
        ``on_lost="wait"``, also some between frames while it is lost: their
        :attr:`~veintrack.tracker.frame.FrameResult.fresh` is False.

    Raises
    ------
    VeintrackError
        At once if the model or engine cannot be had; while iterating, if the source fails.
    """
    own = isinstance(model, (str, Path))
    segmenter = (
        load_segmenter(
            str(model),
            engine=engine,
            precision=precision,
            device=device,
            slots=slots_for(live=source.info.live, pace=pace),
        )
        if isinstance(model, (str, Path))
        else model
    )
    pipeline = Pipeline(
        source,
        segmenter,
        VeinTracker(settings),
        PipelineSettings(crop=crop, pace=pace, contours=contours, max_age_ms=max_age_ms),
    )
    return _results(pipeline, segmenter if own else None)


def _results(pipeline: Pipeline, own: Segmenter | None) -> Iterator[FrameResult]:
    try:
        yield from pipeline
    finally:
        if own is not None:
            own.close()
