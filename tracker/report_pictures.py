"""Pictures of a run for its report: annotated, and of the scan area only.

What lies outside the scan area may name the patient.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import av
import cv2
import numpy as np

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import U8
from veintrack.tracker.overlay import draw
from veintrack.tracker.recording_names import recordings_in
from veintrack.tracker.report_frames import Wanted
from veintrack.tracker.report_story import Story
from veintrack.tracker.review import Review
from veintrack.tracker.sources.decoder import MAX_PIXELS, silence

__all__ = ["Pictures", "Shown", "open_pictures"]

_NEAR = (0, 1, 2, 5, 10, 20, 30)  # so many frames later one may be shown in place of the wanted
_HALF_S = 0.01  # less than half a frame: times in the video are rounded
_LARGEST_PX = 960
_QUALITY = 88  # of JPEG, 0 to 100


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture.

    Attributes
    ----------
    jpeg : bytes
        Annotated.
    frame : int or None
        Index of the frame; None where only the picture itself says it.
    """

    jpeg: bytes
    frame: int | None


class Pictures(Protocol):
    """Where pictures come from."""

    said: str

    def near(self, wanted: Wanted) -> Shown | None:
        """Give the picture of a frame, or of one shortly after it; None if there is none."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


def open_pictures(folder: Path, story: Story, video: Path) -> Pictures:
    """Open the recordings of a run, or its annotated video.

    Parameters
    ----------
    folder : Path
        Of the run, or of a recording.
    story : Story
        What the run did.
    video : Path
        Its annotated video, which may be missing.
    """
    reviews, problems = [], []
    for path in recordings_in(folder) or [folder]:
        try:
            reviews.append(Review.open(path))
        except SourceNotFoundError:
            continue
        except SourceUnreadableError:
            problems.append(f"The recording {path.name} cannot be read.")
    if reviews:
        return _Recorded(reviews, problems)
    try:
        return _Video(video, story)
    except SourceUnreadableError:
        problems.append("The annotated video cannot be read.")
    except SourceNotFoundError:
        problems.append(
            "The run has no pictures: it was made without --record, and without --video."
        )
    return _Nothing(" ".join(problems))


class _Nothing:
    """No pictures."""

    def __init__(self, said: str) -> None:
        self.said = said

    def near(self, wanted: Wanted) -> Shown | None:
        del wanted
        return None

    def close(self) -> None: ...


class _Recorded(Closing):
    """Frames of recordings, with the tracks drawn on them."""

    def __init__(self, reviews: list[Review], problems: list[str]) -> None:
        self._reviews = reviews
        self.said = " ".join(["From the recording.", *problems])

    def near(self, wanted: Wanted) -> Shown | None:
        for later in _NEAR:
            for review in self._reviews:
                found = self._at(review, wanted.frame + later)
                if found is not None:
                    return found
        return None

    def _at(self, review: Review, frame: int) -> Shown | None:
        position = int(np.searchsorted(review.index, frame))
        if position == review.count or review.index[position] != frame:
            return None
        try:
            result = review.result(position)
        except SourceUnreadableError:  # this one is damaged; the next one may be whole
            return None
        if not result.scan_area_settled:
            return None
        return Shown(_encoded(draw(result, result.scan_area_px)), frame)

    def close(self) -> None:
        for review in self._reviews:
            review.close()


class _Video(Closing):
    """The annotated video; it holds the scan area only."""

    said = "From the annotated video; each picture says which frame it is."

    def __init__(self, path: Path, story: Story) -> None:
        if not path.is_file():
            raise SourceNotFoundError(f"no video {path}")
        silence()
        self._open = ExitStack()
        try:
            options = {"max_pixels": str(MAX_PIXELS)}
            self._container = self._open.enter_context(av.open(str(path), options=options))
            self._stream = self._container.streams.video[0]
            self._scale_s = float(self._stream.time_base or 0)
            pts = [packet.pts for packet in self._container.demux(self._stream)]
            last_s = max(at for at in pts if at is not None) * self._scale_s
        except (av.FFmpegError, OSError, IndexError, ValueError) as error:
            self.close()
            raise SourceUnreadableError(f"{path} cannot be read") from error
        # It begins when the scan area is known, and ends with the run.
        self._late_s = max(0.0, story.end_s - last_s)

    def near(self, wanted: Wanted) -> Shown | None:
        at_s = max(0.0, wanted.time_s - self._late_s)
        try:
            for picture in self._from(at_s):
                if picture.time is not None and picture.time >= at_s - _HALF_S:
                    return Shown(_encoded(cast("U8", picture.to_ndarray(format="bgr24"))), None)
        except (av.FFmpegError, OSError):
            pass
        return None

    def _from(self, at_s: float) -> Iterator[av.VideoFrame]:
        self._container.seek(int(at_s / self._scale_s), stream=self._stream)
        yield from self._container.decode(self._stream)

    def close(self) -> None:
        self._open.close()


def _encoded(picture: U8) -> bytes:
    """Encode a picture, shrunk if need be: a page of six is to stay small."""
    scale = _LARGEST_PX / max(picture.shape[:2])
    if scale < 1:
        picture = cast(
            "U8", cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        )
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return data.tobytes()
