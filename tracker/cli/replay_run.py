"""What a replay is: the recording, what was done with it, and what is to be done now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.config import make_config
from veintrack.tracker.frame import Region
from veintrack.tracker.pipeline import Pipeline, PipelineSettings, slots_for
from veintrack.tracker.recording_lines import read_manifest, readable_lines
from veintrack.tracker.recording_names import MANIFEST, TRACKS, find_recording
from veintrack.tracker.replaying import KeptFraming, Retake, read_script
from veintrack.tracker.segment import Segmenter
from veintrack.tracker.sources.base import Source
from veintrack.tracker.sources.recording import RecordingSource
from veintrack.tracker.tracks import VeinTracker
from veintrack.tracker.verifying import Until, Verdict, comparable, verify_tracks

__all__ = ["Replay"]

#: What of the recorded configuration says how frames are looked at; the rest says what was written.
_KEPT = ("model", "crop", "judge_pictures", "sort_by", "catheter_mm", "track", "detect", "parity")


class Replay:
    """A recording that is to be tracked again.

    Parameters
    ----------
    path : Path
        The recording, or the folder of its run.
    given : mapping
        Options of the main job, in place of what was recorded.
    pace : str
        ``asap``, ``realtime`` or ``as-captured``.
    seek_s : float
        Where to begin.
    all_frames : bool
        Whether frames that were passed over are tracked, too.
    verify : bool
        Whether the tracks are held against those that were kept.

    Attributes
    ----------
    config : RunConfig
        Of this run.
    verdict : Verdict or None
        What :meth:`judge` found.

    Raises
    ------
    SourceNotFoundError, SourceUnreadableError
        If there is no recording, or it is damaged.
    ValueError
        If an option has a wrong value.
    """

    def __init__(
        self,
        path: Path,
        given: Mapping[str, Any],
        *,
        pace: str = "asap",
        seek_s: float = 0.0,
        all_frames: bool = False,
        verify: bool = False,
    ) -> None:
        folder = find_recording(path)
        if folder is None:
            raise SourceNotFoundError(
                f"{path} holds no recording: a run with --record makes one, with a {MANIFEST}"
            )
        self._folder, self._manifest = folder, read_manifest(folder)
        self._script = read_script(folder)
        if not self._script.turns:
            raise SourceUnreadableError(f"{folder}: no frame of it was tracked")
        if verify and not (folder / TRACKS).is_file():
            raise SourceUnreadableError(f"{folder} holds no {TRACKS} to verify against")
        if verify and self._manifest.get("began_late"):
            raise ValueError(
                f"{folder} began while its run was going on: its tracks depend on what came "
                "before, and cannot be verified"
            )
        self._pace, self._seek_s, self._all, self._verifies = pace, seek_s, all_frames, verify
        self._keeps_crop, self._keeps_model = "crop" not in given, "model" not in given
        of_file = "realtime" if pace == "realtime" else "asap"
        now = {**given, "source": str(path), "pace": of_file}
        self.config = make_config(now, self._options_then(given))
        if verify and (self.config.max_frames or self.config.duration):
            raise ValueError("all tracks are verified: leave --max-frames and --duration out")
        self.verdict: Verdict | None = None
        self._source: RecordingSource | None = None

    def _options_then(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Give the options that were in force, with what ran the network then."""
        try:
            was = self._manifest["configuration"]
            kept = {name: was[name] for name in _KEPT if was.get(name) is not None}
            ran = {name: str(self._manifest[name]) for name in ("engine", "precision")}
            ran |= {"device": str(was["device"])}
        except (KeyError, TypeError, AttributeError) as error:
            raise SourceUnreadableError(
                f"{self._folder / MANIFEST} does not say how it was tracked"
            ) from error
        return kept if {*ran, "model"} & given.keys() else kept | ran

    @property
    def slots(self) -> int | None:
        """How many frames an engine should have in work: as many as it had."""
        was = str(self._manifest["configuration"].get("pace", "asap"))
        live = bool(self._manifest["source"].get("live"))
        return slots_for(live=live, pace="realtime" if self._pace == "realtime" else was)

    def open(self) -> RecordingSource:
        """Open the frames."""
        tracked_only = self._pace != "realtime" and not self._all
        self._source = RecordingSource(
            self._folder,
            only=self._script.turns.keys() if tracked_only else None,
            seek_s=self._seek_s,
            paced=self._pace == "as-captured",
            spacing_mm=self.config.spacing,
        )
        return self._source

    def line(
        self,
        source: Source,
        segmenter: Segmenter,
        tracker: VeinTracker,
        settings: PipelineSettings,
    ) -> Pipeline:
        """Make the line that the frames of `source`, which is what was opened, go through."""
        if self._source is None:
            raise ValueError("the recording must be opened first")
        again = Retake(self._source, self._script)
        keeps_turns = self._pace != "realtime"  # else it is like any other file
        return Pipeline(
            source,
            segmenter,
            tracker,
            settings,
            framing=KeptFraming(self._script.turns) if self._keeps_crop else None,
            limit=again.limit if keeps_turns else None,
            arrange=again.gaps if keeps_turns else again.signals,
        )

    def notes(self, segmenter: Segmenter) -> list[str]:
        """Say what is not as it was, though nobody asked for that."""
        was = self._manifest.get("model", {}).get("sha256")
        if self._keeps_model and was is not None and was != segmenter.model.sha256:
            return ["the model is another than when this was recorded: the tracks will differ"]
        return []

    def judge(self, output: Path) -> list[str]:
        """Hold the tracks of this run against those that were kept, if that was asked for.

        Returns
        -------
        list of str
            What differs.
        """
        if not self._verifies or self._source is None:
            return []
        crops_px, same = {}, dict[Region, Region]()  # hours of frames share what is the same
        for line in readable_lines(self._folder):
            crops_px[line.index] = same.setdefault(line.crop_px, line.crop_px)
        for index in self._source.missing:
            crops_px.pop(index, None)
        kept = self._folder / TRACKS
        done = self._manifest.get("ended") == "done"
        until = comparable(self._script, crops_px, kept, done=done)
        self.verdict = verify_tracks(kept, output / TRACKS, until)
        damage = self._lacking(len(crops_px), until)
        return [problem for problem in (self.verdict.problem, damage) if problem]

    def _lacking(self, frames: int, until: Until) -> str:
        """Say how many frames are gone that were recorded; empty if none are."""
        written = self._manifest.get("recorded", {}).get("frames", 0)
        if not isinstance(written, int) or frames >= written:
            return ""
        return f"the recording is damaged: {frames} of its {written} frames are left" + (
            f", and {until.why}" if until.why else ""
        )
