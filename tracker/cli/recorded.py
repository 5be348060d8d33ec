"""What ``--record`` adds to a run: frames on their way in, and what was made of them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from veintrack.errors import OutputError
from veintrack.tracker.cli.stopping import Stop
from veintrack.tracker.config import RunConfig
from veintrack.tracker.frame import FrameResult, Region
from veintrack.tracker.pipeline import Pipeline
from veintrack.tracker.recording import Recorder, RecordSettings
from veintrack.tracker.recording_names import FOLDER, FORMAT, TRACKED, TRACKS
from veintrack.tracker.recording_parts import ENCODER, ENCODER_OPTIONS
from veintrack.tracker.recording_tap import Tap
from veintrack.tracker.sinks.base import SinkThread
from veintrack.tracker.sinks.tables import CsvSink
from veintrack.tracker.sinks.tracked import TrackedSink
from veintrack.tracker.sources.base import Source

__all__ = ["Recording"]


class Recording:
    """Records a run: make it, put :attr:`source` in place of the source, begin, and show results.

    Parameters
    ----------
    config : RunConfig
        Of the run.
    source : Source
        Where frames come from.

    Attributes
    ----------
    source : Tap
        To be read in place of the source.
    """

    def __init__(self, config: RunConfig, source: Source) -> None:
        self._config = config
        self._settings = RecordSettings(
            full=config.record_full, max_gb=config.record_max_gb, minutes=config.record_minutes
        )
        self.source = Tap(source)
        self._recorder: Recorder | None = None
        self._sinks: list[SinkThread] = []

    @property
    def _known_px(self) -> Region | None:
        """The scan area, where it is known before the first frame."""
        crop = self._config.crop
        return crop if isinstance(crop, tuple) else self.source.info.scan_area_px

    @property
    def _whole(self) -> bool:
        return self._settings.full or self._config.crop == "none"

    @property
    def said(self) -> str:
        """Say what is recorded."""
        if self._whole:
            return "recording whole frames, with whatever is written on them"
        return "recording the scan area: what lies outside may name the patient"

    def begin(
        self, folder: Path, record: Mapping[str, Any], pipeline: Pipeline, stop: Stop
    ) -> None:
        """Open the files; the pipeline is not running yet.

        Raises
        ------
        OutputError
            If they cannot be written.
        """
        patient = not pipeline.newest_only
        known_px = self._known_px
        if known_px is None and not self._whole and pipeline.newest_only:
            self.source.first_look = pipeline.show
        options = {"encoder": ENCODER, "encoder_options": ENCODER_OPTIONS}
        self._recorder = self.source.recorder = Recorder(
            folder,
            replace(self._settings, full=self._whole),
            {"format": FORMAT, **_without_folders(record), "whole_frames": self._whole, **options},
            region=known_px,
            patient=patient,
            driver_drops=lambda: self.source.driver_drops,
            due_s=lambda: stop.by_s,
        )
        own = folder / FOLDER
        try:
            tables = CsvSink(own / TRACKS), TrackedSink(own / TRACKED)
        except OSError as error:
            self._recorder.close()
            raise OutputError(f"cannot write to {own}: {error.strerror}") from error
        for sink in tables:
            sink.name = f"{FOLDER}/{sink.name}"
            self._sinks.append(
                SinkThread(sink, capacity=128, patient=patient, due_s=lambda: stop.by_s)
            )

    @property
    def sinks(self) -> list[SinkThread]:
        """What writes the tracks that are kept with the frames."""
        return self._sinks

    def put(self, result: FrameResult) -> None:
        """Take note of a result."""
        if self._recorder is not None:
            self._recorder.show(result)

    def end(self) -> None:
        """Say that no more frames come, and wait for nothing."""
        if self._recorder is not None:
            self._recorder.end()

    def close(self) -> None:
        """Finish the files."""
        if self._recorder is not None:
            self._recorder.close()

    def problems(self) -> list[str]:
        """Say what went wrong."""
        return [] if self._recorder is None else self._recorder.problems()

    @property
    def facts(self) -> dict[str, Any] | None:
        """What was recorded."""
        return None if self._recorder is None else self._recorder.facts

    @property
    def in_words(self) -> str:
        """What was recorded, in a line."""
        facts = self.facts
        if facts is None:
            return ""
        parts = f"{facts['frames']} frames, {facts['bytes'] / 1e6:.0f} MB, {facts['lost']} lost"
        kept_out = facts["left_out"]
        return parts + (f", {kept_out} left out" if kept_out else "")


def _without_folders(record: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the folders of a file out: a recording is handed on, and they may name the patient."""
    config, source = record["configuration"], record["source"]
    if source["live"]:
        return {**record, "configuration": {**config, "output": None}}
    name = Path(config["source"]).name
    return {
        **record,
        "configuration": {**config, "source": name, "output": None},
        "source": {**source, "name": Path(source["name"]).name},
    }
