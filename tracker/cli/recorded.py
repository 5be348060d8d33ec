"""Recording a run: all of it (``--record``), or what somebody at a view asks for."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from veintrack.errors import OutputError
from veintrack.tracker.cli.stopping import Stop
from veintrack.tracker.config import RunConfig
from veintrack.tracker.frame import FrameResult, Region
from veintrack.tracker.pipeline import Pipeline
from veintrack.tracker.recording_names import (
    FORMAT,
    TRACKED,
    TRACKS,
    recording_name,
    recordings_in,
)
from veintrack.tracker.recording_tap import Tap
from veintrack.tracker.sinks.base import Sink, SinkThread, problems_of
from veintrack.tracker.sources.base import Source

__all__ = ["Recordings"]


class Recordings:
    """Records a run: have the pipeline read :attr:`source`, and show all results.

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
        self.source = Tap(source)
        self._now: _Recording | None = None
        self._all: list[_Recording] = []

    @property
    def _whole(self) -> bool:
        return self._config.record_full or self._config.crop == "none"

    @property
    def said(self) -> str:
        """Say what is recorded."""
        if self._whole:
            return "recording whole frames, with whatever is written on them"
        return "recording the scan area: what lies outside may name the patient"

    def begin(
        self, folder: Path, record: Mapping[str, Any], pipeline: Pipeline, stop: Stop
    ) -> None:
        """Open the files of a recording.

        Parameters
        ----------
        folder : Path
            Of the run.
        record : mapping
            What ``run.json`` says.
        pipeline : Pipeline
            What tracks the frames.
        stop : Stop
            By when all must be over.

        Raises
        ------
        OutputError
            If they cannot be written.
        """
        late = pipeline.region is not None
        crop, patient = self._config.crop, not pipeline.newest_only
        known_px = crop if isinstance(crop, tuple) else self.source.info.scan_area_px
        if known_px is None and not self._whole and not patient and not late:
            self.source.first_look = pipeline.show
        self._now = _Recording(
            folder,
            recording_name(len(recordings_in(folder)) + 1 if late else 1),
            self._config,
            {**record, "whole_frames": self._whole, "began_late": late},
            region=known_px,
            patient=patient,
            driver_drops=lambda: self.source.driver_drops,
            due_s=lambda: stop.by_s,
        )
        self._all.append(self._now)
        self.source.recorder = self._now.recorder

    @property
    def on(self) -> bool:
        """Whether frames are recorded."""
        return self._now is not None

    def put(self, result: FrameResult) -> None:
        """Take in a result."""
        if self._now is not None:
            self._now.put(result)

    def finish(self) -> str:
        """End the recording, say what it holds so far, and write the rest meanwhile."""
        self.source.recorder = None
        now, self._now = self._now, None
        if now is None:
            return ""
        now.end()
        now.closing = threading.Thread(target=now.close, name="veintrack-recorded", daemon=True)
        now.closing.start()
        return f"recorded {now.name}"

    def end(self) -> None:
        """Say that no more frames come, and wait for nothing."""
        if self._now is not None:
            self._now.end()

    def close(self) -> None:
        """Finish the files."""
        for one in self._all:
            one.close()

    def problems(self) -> list[str]:
        """Say what went wrong."""
        return [problem for one in self._all for problem in one.problems()]

    @property
    def facts(self) -> dict[str, Any] | None:
        """What was recorded, in all recordings together."""
        each = [one.recorder.facts for one in self._all]
        return {name: sum(facts[name] for facts in each) for name in each[0]} if each else None

    @property
    def in_words(self) -> str:
        """What was recorded, in a line."""
        facts = self.facts
        if facts is None:
            return ""
        parts = f"{facts['frames']} frames, {facts['bytes'] / 1e6:.0f} MB, {facts['lost']} lost"
        kept_out = facts["left_out"]
        return parts + (f", {kept_out} left out" if kept_out else "")


class _Recording:
    """One recording: frames on their way in, and what was made of them.

    Parameters
    ----------
    folder, name : Path, str
        Of the run, and of the recording's folder in it.
    config : RunConfig
        Of the run.
    record : mapping
        What the manifest says.
    region : tuple of int, optional
        The scan area, where it is known before the first frame.
    patient : bool
        Whether the source waits for the disk.
    driver_drops, due_s : callable
        As the recorder takes them.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        config: RunConfig,
        record: Mapping[str, Any],
        *,
        region: Region | None,
        patient: bool,
        driver_drops: Callable[[], int],
        due_s: Callable[[], float],
    ) -> None:
        from veintrack.tracker.recording import Recorder, RecordSettings
        from veintrack.tracker.recording_parts import ENCODER, ENCODER_OPTIONS
        from veintrack.tracker.sinks.tables import CsvSink
        from veintrack.tracker.sinks.tracked import TrackedSink

        self.name = name
        self.closing: threading.Thread | None = None
        settings = RecordSettings(
            full=bool(record["whole_frames"]),
            max_gb=config.record_max_gb,
            minutes=config.record_minutes,
        )
        options = {"encoder": ENCODER, "encoder_options": ENCODER_OPTIONS}
        self.recorder = Recorder(
            folder,
            settings,
            {"format": FORMAT, **_without_folders(record), **options},
            name=name,
            region=region,
            patient=patient,
            driver_drops=driver_drops,
            due_s=due_s,
        )
        own = folder / name
        try:
            tables: list[Sink] = [CsvSink(own / TRACKS), TrackedSink(own / TRACKED)]
        except OSError as error:
            self.recorder.close()
            raise OutputError(f"cannot write to {own}: {error.strerror}") from error
        self._sinks = [
            SinkThread(sink, name=f"{name}/{sink.name}", capacity=128, patient=patient, due_s=due_s)
            for sink in tables
        ]

    def put(self, result: FrameResult) -> None:
        """Take in a result."""
        for sink in self._sinks:
            sink.put(result)
        self.recorder.show(result)

    def end(self) -> None:
        """Say that no more frames come, and wait for nothing."""
        for sink in self._sinks:
            sink.end()
        self.recorder.end()

    def close(self) -> None:
        """Finish the files; another thread may be at it."""
        if self.closing is not None and self.closing is not threading.current_thread():
            self.closing.join()
            return
        for sink in self._sinks:
            sink.close()
        self.recorder.close()

    def problems(self) -> list[str]:
        """Say what went wrong."""
        return [*problems_of(self._sinks), *self.recorder.problems()]


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
