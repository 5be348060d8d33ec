"""When the frames of a DICOM file were taken, counted from its first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from statistics import median

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from veintrack.tracker.sources.base import unused_fps
from veintrack.tracker.sources.dicom_file import items, moment, numbers, quiet

__all__ = ["FALLBACK_RATE_HZ", "FrameTimes", "read_times"]

FALLBACK_RATE_HZ = 30.0
_SLOWEST_HZ, _FASTEST_HZ = 1e-3, 1e5  # outside of these a rate is damage
_RATES = (
    ("CineRate", "Cine Rate"),
    ("RecommendedDisplayFrameRate", "Recommended Display Frame Rate"),
)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Times of frames.

    Attributes
    ----------
    rate_hz : float
        Frames per second, nominal or of the median step.
    words : str
        Where the times come from.
    stamps_ns : tuple of int
        Strictly increasing, from 0; empty where frames are one period apart.
    notes : tuple of str
        What is odd about them.
    """

    rate_hz: float
    words: str
    stamps_ns: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def at(self, index: int) -> int:
        """Give the time of a frame in nanoseconds since the first."""
        return self.stamps_ns[index] if self.stamps_ns else round(index * 1e9 / self.rate_hz)


def read_times(dataset: Dataset, count: int, fps: float | None) -> FrameTimes:
    """Find the times of a file's frames.

    The Frame Increment Pointer says whether Frame Time or Frame Time Vector holds (PS3.3 section
    C.7.6.6); without it the one that is measured, the vector, comes first. Then the times that
    an enhanced image has on each frame (C.7.6.16.2.2), then Cine Rate and Recommended Display
    Frame Rate (C.7.6.5), then `fps`, then 30 Hz, which is said.

    Parameters
    ----------
    dataset : Dataset
        The file's header.
    count : int
        Frames in it.
    fps : float, optional
        Frames per second for a file that says nothing.
    """
    vector, nominal = _from_vector(dataset, count), _from_frame_time(dataset)
    if tag_for_keyword("FrameTime") in _pointers(dataset):
        vector, nominal = nominal, vector
    known = vector or nominal or _from_frames(dataset, count) or _from_rates(dataset)
    passed_over = tuple(_unusable(dataset, count))
    if known is not None:
        return replace(known, notes=(*passed_over, *known.notes, *unused_fps(fps)))
    why = "; ".join(passed_over) or "no times in the file"
    if fps is not None:
        words = f"{why}: {fps:g} frames a second as given"
        return FrameTimes(fps, words, notes=passed_over)
    words = f"{why}: {FALLBACK_RATE_HZ:g} frames a second assumed"
    return FrameTimes(FALLBACK_RATE_HZ, words, notes=(f"{words}; --fps says otherwise",))


def _unusable(dataset: Dataset, count: int) -> Iterator[str]:
    """Name the times that the file has and that cannot be used, and say why."""
    if _is_there(dataset, "FrameTimeVector") and count != 1 and not _from_vector(dataset, count):
        values = len(numbers(dataset, "FrameTimeVector"))
        why = "its values cannot be times between frames"
        if values and values != count:
            why = f"{values} values for {count or 'an unknown number of'} frames"
        yield f"the file's Frame Time Vector cannot be used ({why})"
    if _is_there(dataset, "FrameTime") and not _from_frame_time(dataset):
        yield f"the file's Frame Time cannot be used ({_first(dataset, 'FrameTime')} ms)"
    for keyword, words in _RATES:
        if _is_there(dataset, keyword) and not any(map(_possible, numbers(dataset, keyword)[:1])):
            yield f"the file's {words} cannot be used ({_first(dataset, keyword)} a second)"


def _is_there(dataset: Dataset, keyword: str) -> bool:
    """Tell whether a tag has a value, be it damaged."""
    try:
        with quiet():
            return dataset.get(keyword) not in (None, "")
    except Exception:  # pydicom raises what it likes on damaged values
        return True


def _first(dataset: Dataset, keyword: str) -> str:
    values = numbers(dataset, keyword)
    return f"{values[0]:g}" if values else "not a number"


def _pointers(dataset: Dataset) -> tuple[float, ...]:
    return numbers(dataset, "FrameIncrementPointer")


def _possible(rate_hz: float) -> bool:
    return _SLOWEST_HZ <= rate_hz <= _FASTEST_HZ  # False for NaN too


def _from_frame_time(dataset: Dataset) -> FrameTimes | None:
    """Take Frame Time, the nominal milliseconds per frame (PS3.3 section C.7.6.5.1.1)."""
    for time_ms in numbers(dataset, "FrameTime")[:1]:
        if time_ms > 0 and _possible(1000 / time_ms):
            return FrameTimes(1000 / time_ms, f"the file's Frame Time, {time_ms:g} ms")
    return None


def _from_vector(dataset: Dataset, count: int) -> FrameTimes | None:
    """Add up Frame Time Vector, the milliseconds since the frame before (C.7.6.5.1.2)."""
    steps_ms = numbers(dataset, "FrameTimeVector")
    if len(steps_ms) != count or count < 2:
        return None
    if not all(math.isfinite(step) and step >= 0 for step in steps_ms):
        return None
    return _stamped(list(steps_ms[1:]), "the file's Frame Time Vector")


def _from_frames(dataset: Dataset, count: int) -> FrameTimes | None:
    """Take differences of the date and time on each frame; the dates themselves go no further."""
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(groups) != count or count < 2:
        return None
    contents = [items(group, "FrameContentSequence") for group in groups]
    for keyword in ("FrameAcquisitionDateTime", "FrameReferenceDateTime"):
        found = [moment(content[0], keyword) if content else None for content in contents]
        times = [time for time in found if time is not None]
        zoned = {time.tzinfo is not None for time in times}
        if len(times) != count or len(zoned) != 1:
            continue
        steps_ms = [1000 * ((after - before) / _SECOND) for before, after in pairwise(times)]
        if all(step >= 0 for step in steps_ms):
            return _stamped(steps_ms, "the times on the file's frames")
    return None


def _stamped(steps_ms: list[float], words: str) -> FrameTimes | None:
    """Add up steps; None where their middle one cannot be a frame time."""
    middle_ms = median(steps_ms)
    if middle_ms <= 0 or not _possible(1000 / middle_ms) or max(steps_ms) > 1e9:
        return None
    stamps, total_ms, pushed = [0], 0.0, 0
    for step_ms in steps_ms:
        total_ms += step_ms
        now_ns = round(total_ms * 1e6)
        pushed += now_ns <= stamps[-1]
        stamps.append(max(now_ns, stamps[-1] + 1))
    notes = (f"frames that have the time of the one before: {pushed}",) if pushed else ()
    return FrameTimes(1000 / middle_ms, words, tuple(stamps), notes)


def _from_rates(dataset: Dataset) -> FrameTimes | None:
    for keyword, words in _RATES:
        for rate_hz in numbers(dataset, keyword)[:1]:
            if _possible(rate_hz):
                return FrameTimes(rate_hz, f"the file's {words}, {rate_hz:g} frames a second")
    return None
