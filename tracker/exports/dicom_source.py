"""DICOM objects: their names, what is left empty in them, and the image that tracks belong to."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.exports.formats import Request
from veintrack.tracker.exports.record import RunFacts

__all__ = ["MAKER", "SourceImage", "describe_frames", "leave_empty", "read_source", "uid_of"]

MAKER = "veintrack"
# What every object has of a patient and a study, and may be empty (PS3.3 C.7.1.1, C.7.2.1).
_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
_NEEDED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Rows",
    "Columns",
)
_OPTIONAL = ("NumberOfFrames", "Modality", "Manufacturer", "TransferSyntaxUID")
# Our own elements of an image made from a recording (PS3.5 section 7.8).
_GROUP, _BLOCK = 0x0099, 0x1000
_CREATOR, _IDENTITY, _INDICES = (_GROUP << 16) + 0x10, 0x00, 0x01
_FILES = ("dicom", "recording")  # kinds of sources that may be a DICOM file
_NAMESPACE = uuid5(NAMESPACE_URL, MAKER)


def uid_of(*what: str) -> str:
    """Make a UID that is the same for the same words (PS3.5 section B.2: ``2.25.`` and a UUID)."""
    return f"2.25.{uuid5(_NAMESPACE, chr(10).join(what)).int}"


def leave_empty(dataset: Dataset) -> None:
    """Give a dataset the elements of a patient and a study, with nothing in them."""
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")


def describe_frames(dataset: Dataset, facts: RunFacts, indices: Sequence[int]) -> None:
    """Note in an image which frames of which run it holds."""
    block = dataset.private_block(_GROUP, MAKER, create=True)
    block.add_new(_IDENTITY, "UI", uid_of("run", facts.identity))
    block.add_new(_INDICES, "OL", struct.pack(f"<{len(indices)}I", *indices))


@dataclass(frozen=True, slots=True, eq=False)
class SourceImage:
    """The image that the tracks belong to.

    Attributes
    ----------
    dataset : Dataset
        What is needed to refer to it; the patient is left out.
    numbers : mapping
        By the index of a frame in the run: its number in the image, from 1.
    """

    dataset: Dataset
    numbers: Mapping[int, int]


def read_source(request: Request, facts: RunFacts) -> SourceImage:
    """Read what is needed of the image that the tracks of a run belong to.

    Of the patient nothing is read.

    Raises
    ------
    ValueError
        If no image is named.
    SourceNotFoundError, SourceUnreadableError
        If it is missing, is none, or is not of this run.
    """
    path = request.source_dicom
    if path is None:
        raise ValueError(
            f"{request.to.name} refers to a DICOM image: name it with --source-dicom, be it the "
            "file that was tracked or one made from the recording (--to NAME.us.dcm)"
        )
    dataset = _read(path)
    height, width = facts.shape_px
    if (dataset.Rows, dataset.Columns) != facts.shape_px:
        raise SourceUnreadableError(
            f"{path} holds pictures of {dataset.Columns}x{dataset.Rows} px, and {width}x{height} "
            "were tracked: it is not what the tracks belong to"
        )
    count = int(dataset.get("NumberOfFrames") or 1)
    return SourceImage(dataset, _numbers(path, dataset, count, facts))


def _read(path: Path) -> Dataset:
    own = (_CREATOR, *((_GROUP << 16) + _BLOCK + at for at in (_IDENTITY, _INDICES)))
    tags = [*map(Tag, (*_NEEDED, *_OPTIONAL)), *map(Tag, own)]
    if not path.is_file():
        raise SourceNotFoundError(f"no such file: {path}")
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=tags)
        missing = [name for name in _NEEDED if not found.get(name)]
    except (InvalidDicomError, OSError, ValueError, EOFError, NotImplementedError) as error:
        raise SourceUnreadableError(f"{path} is no DICOM file, or damaged") from error
    if missing:
        raise SourceUnreadableError(f"{path} is no image that can be referred to: no {missing[0]}")
    leave_empty(found)
    return found


def _numbers(path: Path, dataset: Dataset, count: int, facts: RunFacts) -> dict[int, int]:
    """Give frames their numbers; an image made from a recording says what it holds."""
    if dataset.get("Manufacturer") != MAKER:
        if facts.source_kind not in _FILES:
            raise SourceUnreadableError(
                f"{path} was not made from the recording, and what was tracked is no DICOM file: "
                "export the recording first (--to NAME.us.dcm)"
            )
        if facts.source_kind == "dicom" and facts.frame_count not in (None, count):
            raise SourceUnreadableError(
                f"{path} has {count} frames, and what was tracked {facts.frame_count}: it is not "
                "what the tracks belong to"
            )
        return {index: index + 1 for index in range(count)}
    try:
        block = dataset.private_block(_GROUP, MAKER)
        identity, packed = block[_IDENTITY].value, block[_INDICES].value
        indices = struct.unpack(f"<{count}I", packed)
    except (KeyError, ValueError, TypeError, struct.error) as error:
        raise SourceUnreadableError(
            f"{path} no longer says which frames of the run it holds: export it again"
        ) from error
    # A replay has frames of the run that it repeats, and does not say of which.
    if facts.source_kind != "recording" and identity != uid_of("run", facts.identity):
        raise SourceUnreadableError(f"{path} was made from another run's recording")
    return {index: number for number, index in enumerate(indices, 1)}
