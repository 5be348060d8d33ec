"""Recording: every frame that a source delivers, kept as it came, on a thread of its own."""

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from veintrack.errors import OutputError
from veintrack.tracker.frame import Frame, FrameResult, Region
from veintrack.tracker.recording_disk import sync_file, sync_folder, write_manifest
from veintrack.tracker.recording_names import FOLDER, TRACKED, TRACKS
from veintrack.tracker.recording_parts import Counts, Parts
from veintrack.tracker.scanarea_layout import LayoutSettings, LayoutWatch

__all__ = ["RecordSettings", "Recorder"]

log = logging.getLogger(__name__)
_HELD_BYTES = 2**27  # of frames that wait to be written
_HELD_LEAST = 80  # frames, however large: more than what comes before the scan area is known
_GLANCE_S = 0.05
_CLOSING_S = 0.3  # before the deadline: no more is written, so that the files can be closed
_SYNC_S = 0.4  # how often files are put onto the disk: with it goes what a power cut takes
_LOOKS = 12  # frames from which the screen's layout is learnt
_GIB = 2**30
_MINUTE_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What is kept of the frames.

    Attributes
    ----------
    full : bool
        Keep whole frames, whatever is written on them; else the scan area.
    max_gb : float or None
        Keep the last so many gigabytes (2^30 bytes).
    minutes : float or None
        Keep the last so many minutes.
    part_minutes : float
        Length of a part of the recording. The oldest part is removed where a limit would be
        passed; parts are then a quarter of the limit at most.
    spare_bytes : int or None
        Recording ends when so little is left on the disk, so that the results have room; a
        twentieth of the disk by default, 4 MiB to 256 MiB.
    """

    full: bool = False
    max_gb: float | None = None
    minutes: float | None = None
    part_minutes: float = 5.0
    spare_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_gb", "minutes", "part_minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be greater than 0 and finite, got {value}")

    def parts(self, folder: Path) -> Parts:
        """Open the files."""
        minutes = self.part_minutes
        if self.minutes is not None:
            minutes = min(minutes, self.minutes / 4)
        most_bytes = None if self.max_gb is None else round(self.max_gb * _GIB)
        return Parts(
            folder,
            part_ns=round(minutes * _MINUTE_NS),
            part_bytes=None if most_bytes is None else max(1, most_bytes // 4),
            most_ns=None if self.minutes is None else round(self.minutes * _MINUTE_NS),
            most_bytes=most_bytes,
        )


class Recorder:
    """Writes frames into a folder; frames come from one thread, results from another.

    A frame waits until the results say where the ultrasound lies. What lies outside may name the
    patient, and is not recorded; nor is a frame on whose screen that place looks to be another
    than when the scan area was found, nor any that comes while it is looked for, the first time or
    anew.

    Parameters
    ----------
    folder : Path
        Of the run. The recording lies in a folder of its own in it, which is made.
    name : str
        Of that folder.
    settings : RecordSettings
        What is kept.
    manifest : mapping
        What is known of the run; written first.
    region : tuple of int, optional
        Where the ultrasound lies, where that is given or known; else it is learnt.
    patient : bool
        With no room left, True makes :meth:`put` wait (files), False loses the frame and counts it.
    driver_drops : callable
        How many frames the driver lost so far.
    due_s : callable
        By when (seconds of ``time.monotonic``) all must be over.

    Attributes
    ----------
    lost : int
        Frames that found no room, as writing was slower than the source.
    left_out : int
        Frames that were kept out, as it was not certain that they show ultrasound only.
    unwritten : int
        Frames that there was no time for before the deadline.
    error : Exception or None
        What recording ended with.

    Raises
    ------
    OutputError
        If the folder or its manifest cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: RecordSettings,
        manifest: Mapping[str, Any],
        *,
        name: str = FOLDER,
        region: Region | None = None,
        patient: bool,
        driver_drops: Callable[[], int] = lambda: 0,
        due_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._folder, self._manifest = folder / name, dict(manifest)
        self._settings, self._patient = settings, patient
        self._driver_drops, self._due_s = driver_drops, due_s
        self.lost = self.left_out = self.unwritten = 0
        self.error: Exception | None = None
        self._last_index: int | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_manifest(self._folder, self._manifest)
            sync_folder(folder)
            self._parts = settings.parts(self._folder)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write to {self._folder}: {error.strerror}") from error
        self._spare_bytes = settings.spare_bytes
        self._changed = threading.Condition()
        self._waiting: deque[Frame] = deque()
        self._ended = False
        # Where the ultrasound lies: None while that is not known.
        self._learns = region is None and not settings.full
        self._region = region
        self._shape: tuple[int, ...] | None = None  # of the last frame that there is a result of
        self._seen: tuple[Frame, ...] = ()
        self._guard: LayoutWatch | None = None
        self._over = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="veintrack-disk", daemon=True)
        self._thread = threading.Thread(target=self._run, name="veintrack-recording", daemon=True)
        self._syncing.start()
        self._thread.start()

    @property
    def facts(self) -> dict[str, Any]:
        """What was recorded, as it is told at the end."""
        return {
            "frames": self._parts.frames,
            "lost": self.lost + self.unwritten,
            "left_out": self.left_out,
            "removed": self._parts.removed,
            "parts": self._parts.count,
            "bytes": self._parts.size_bytes,
        }

    def put(self, frame: Frame) -> None:
        """Hand over a frame, right after it was captured; one thread does. It is not copied.

        After :meth:`end`, and after a failure, it is ignored.
        """
        if self.error is not None:
            return
        most = max(_HELD_LEAST, _HELD_BYTES // frame.pixels.size)
        with self._changed:
            # While the place of the ultrasound is not known, waiting could be for ever.
            while self._patient and self._knows() and len(self._waiting) >= most:
                if self._ended or self._due_s() < math.inf:
                    break
                self._changed.wait(_GLANCE_S)
            if len(self._waiting) >= most and not self._knows():
                self._waiting.popleft()
                self.left_out += 1
            if self._ended:
                return
            if len(self._waiting) < most:
                self._waiting.append(frame)
                self._changed.notify_all()
            elif self._due_s() < math.inf:
                self.unwritten += 1
            else:
                self._lose()

    def _lose(self) -> None:
        if not self.lost:
            log.warning("recording is slower than the source: frames are lost to it")
        self.lost += 1

    def _knows(self) -> bool:
        return self._settings.full or self._region is not None

    def learn(self, frames: Sequence[Frame]) -> None:
        """Take note of frames that came before the first one that is put, and show the screen."""
        with self._changed:
            self._seen = tuple(frames[-_LOOKS:])

    def show(self, result: FrameResult) -> None:
        """Take note of where the ultrasound lies, by a result; in order, on any one thread."""
        if not self._learns or not result.fresh:
            return
        shape = result.frame.pixels.shape
        with self._changed:
            if "layout changed" in result.changes or self._shape not in (None, shape):
                self._guard = None
            self._shape = shape
            if not result.scan_area_settled:
                self._region = None
                if self._guard is None:  # of this screen nothing is known: it may be of text
                    self._seen = ()
                    self._drop_until(result.frame.index)
            elif result.scan_area_px != self._region or self._guard is None:
                self._region = result.scan_area_px or (0, 0, shape[1], shape[0])
                self._guard = self._guard or self._watch(result.frame, self._region)
                self._changed.notify_all()

    def _drop_until(self, index: int) -> None:
        while self._waiting and self._waiting[0].index <= index:
            self._waiting.popleft()
            self.left_out += 1

    def _watch(self, frame: Frame, region: Region) -> LayoutWatch:
        """Make what tells another layout of the screen, from the frames at hand."""
        at_hand = [*self._seen, *self._waiting, frame]
        pictures = [f.pixels for f in at_hand if f.pixels.shape == frame.pixels.shape]
        pictures = pictures[:: max(1, len(pictures) // _LOOKS)]
        low, high = pictures[0], pictures[0]
        for picture in pictures[1:]:
            low, high = np.minimum(low, picture), np.maximum(high, picture)
        self._seen = ()
        return LayoutWatch(low, high, region, LayoutSettings(calls=1))

    def end(self) -> None:
        """Say that no more frames come, and wait for nothing."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits, by the deadline if there is one, and finish the files."""
        self.end()
        while self._thread.is_alive() and time.monotonic() < self._due_s():
            self._thread.join(_GLANCE_S)
        if self._thread.is_alive():
            self.error = self.error or OutputError("it could not be written to its end in time")

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            if self.error is None:  # after a failure the rest is still taken, or put() would wait
                self._try(lambda taken=taken: self._write(*taken))  # type: ignore[misc]
        self._over.set()
        self._try(self._parts.close)
        self._try(self._finish)

    def _next(self) -> tuple[Frame, Region | None] | None:
        """Wait for a frame whose place is known; None when there are no more, or no time."""
        with self._changed:
            while time.monotonic() < self._due_s() - _CLOSING_S:
                if self._waiting and (self._knows() or self.error is not None):
                    self._changed.notify_all()
                    return self._waiting.popleft(), self._region
                if self._ended:
                    self.left_out += len(self._waiting)
                    self._waiting.clear()
                    return None
                self._changed.wait(_GLANCE_S)
            self._ended = True
            self.unwritten += len(self._waiting)
            self._waiting.clear()
            return None

    def _write(self, frame: Frame, region: Region | None) -> None:
        height, width = frame.pixels.shape
        x, y, w, h = region or (0, 0, width, height)
        guard = self._guard
        if x + w > width or y + h > height or (guard is not None and guard.changed(frame.pixels)):
            self._leave_out(frame)
            return
        self._check_room()
        counts = Counts(self._driver_drops(), self.lost, self.left_out)
        self._parts.write(frame, (x, y, w, h), counts)
        self._last_index = frame.index

    def _leave_out(self, frame: Frame) -> None:
        if not self.left_out:
            log.warning(
                "frame %d is not recorded: the screen is laid out differently, and what lies in "
                "the scan area may be no ultrasound",
                frame.index,
            )
        self.left_out += 1

    def _check_room(self) -> None:
        """End while there is room for the results: they are written to the same disk.

        Raises
        ------
        OutputError
            If there is too little.
        """
        disk = os.statvfs(self._folder)
        if self._spare_bytes is None:
            twentieth = disk.f_blocks * disk.f_frsize // 20
            self._spare_bytes = min(max(twentieth, 2**22), 2**28)
        if disk.f_bavail * disk.f_frsize < self._spare_bytes:
            raise OutputError(
                f"the disk is full but for {self._spare_bytes / 2**20:.0f} MiB, "
                "which are left for the results"
            )

    def _sync(self) -> None:
        while not self._over.wait(_SYNC_S):
            self._parts.sync()
            for name in (TRACKED, TRACKS):  # without them it cannot be repeated
                sync_file(self._folder / name)

    def _finish(self) -> None:
        """Say in the manifest how it ended."""
        ended = "interrupted" if self._due_s() < math.inf else "done"
        if self.error is not None:
            ended = _in_words(self.error)
        write_manifest(self._folder, {**self._manifest, "ended": ended, "recorded": self.facts})

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # whatever it met, tracking goes on and the run says so
            if self.error is None:
                self.error = error
                log.debug("recording failed", exc_info=True)

    def problems(self) -> list[str]:
        """Say what went wrong, a line for each kind."""
        said = []
        if self.error is not None:
            last = self._last_index
            until = "before its first frame" if last is None else f"after frame {last}"
            said.append(
                f"recording ended {until}: {_in_words(self.error)}; what was recorded until then "
                "can be read"
            )
        if self.lost:
            said.append(
                f"the recording lacks {self.lost} frames: writing was slower than the source"
            )
        if self.unwritten and self.error is None:
            said.append(
                f"the recording lacks the last {self.unwritten} frames: the run was stopped before "
                "their turn"
            )
        if self.error is None and self.left_out and not self._parts.frames:
            said.append(
                "nothing was recorded: no scan area was found, and the rest may name the patient; "
                "name it with --crop X,Y,W,H, or keep all with --record-full"
            )
        return said


def _in_words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
