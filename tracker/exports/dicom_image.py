"""The frames of a recording as a DICOM ultrasound cine (``.us.dcm``).

Ultrasound Multi-frame Image Storage (PS3.3 section A.7), grey, uncompressed, with the time of each
frame and the calibration of the scan area. No patient: who archives it has to name one.
"""

from statistics import median
from tempfile import TemporaryFile

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from veintrack.errors import OutputError
from veintrack.tracker.exports.dicom_source import MAKER, describe_frames, leave_empty
from veintrack.tracker.exports.formats import Request
from veintrack.tracker.exports.frames import RecordedFrames, Stack, recording_of, store
from veintrack.tracker.exports.placing import placing
from veintrack.tracker.exports.record import RunFacts, read_facts
from veintrack.tracker.frame import Region, Spacing

__all__ = ["describe", "write"]

_MOST_BYTES = 2**32 - 2  # PS3.5 section 7.1.1: the length of an element has 32 bits
_LONGEST_TEXT = 2**16 - 2  # of a decimal string with explicit VR (PS3.5 section 7.1.2)
_TWO_D, _TISSUE, _CENTIMETRES, _NO_UNITS = 1, 1, 3, 0  # PS3.3 section C.8.5.5.1
_LOSSY = ("video", "stream")  # kinds of sources whose frames were packed with loss before


def write(request: Request) -> str:
    """Write the frames of a recording; see :meth:`Format.write`."""
    facts = read_facts(recording_of(request.run))
    with (
        RecordedFrames(request.run, full=request.full) as frames,
        placing(request.to) as partial,
        TemporaryFile(dir=partial.parent) as pixels,
    ):
        stack = store(frames, pixels)
        if pixels.tell() > _MOST_BYTES:
            raise OutputError(
                f"{len(stack)} frames are {pixels.tell() / 2**30:.1f} GiB, and a DICOM file holds "
                "4: write .mha or .nrrd"
            )
        pixels.seek(0)
        dataset = describe(stack, frames.region_px, facts)
        if facts.source_kind in _LOSSY:
            dataset.LossyImageCompression = "01"
        dataset.PixelData = pixels
        dataset["PixelData"].VR = "OB"
        dataset.save_as(partial, enforce_file_format=True)
        return stack.in_words(frames)


def describe(stack: Stack, region_px: Region, facts: RunFacts) -> Dataset:
    """Make all of the image but its pixels.

    Parameters
    ----------
    stack : Stack
        The frames.
    region_px : tuple of int
        ``(x, y, width, height)`` of the ultrasound in them.
    facts : RunFacts
        Of the run that they were recorded in.
    """
    data = Dataset()
    leave_empty(data)
    data.SOPClassUID = UltrasoundMultiFrameImageStorage
    data.SOPInstanceUID, data.StudyInstanceUID = generate_uid(), generate_uid()
    data.SeriesInstanceUID = generate_uid()
    data.Modality, data.SeriesNumber, data.InstanceNumber = "US", 1, 1
    data.Laterality = data.PatientOrientation = ""  # not known
    data.Manufacturer = data.ManufacturerModelName = MAKER
    data.SoftwareVersions = facts.version
    data.ImageType = ["DERIVED", "PRIMARY"]  # of what the scanner showed
    data.ImageComments = facts.notice
    if region_px != (0, 0, *stack.shape_px[::-1]):
        data.BurnedInAnnotation, data.PatientIdentityRemoved = "NO", "YES"
        data.DeidentificationMethod = "only the scan area was kept"
    _describe_pixels(data, stack)
    _describe_times(data, stack)
    data.SequenceOfUltrasoundRegions = Sequence([_region(region_px, stack.spacing_mm)])
    describe_frames(data, facts, stack.indices)
    return data


def _describe_pixels(data: Dataset, stack: Stack) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = stack.shape_px
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.NumberOfFrames = len(stack)


def _describe_times(data: Dataset, stack: Stack) -> None:
    """Write the milliseconds since the frame before, to the nanosecond (PS3.3 C.7.6.5.1.2)."""
    ends_ns = zip((stack.times_ns[0], *stack.times_ns), stack.times_ns, strict=False)
    steps_ns = [after - before for before, after in ends_ns]
    data.FrameIncrementPointer = Tag("FrameTimeVector")
    steps_ms = [f"{ns // 10**6}.{ns % 10**6:06d}" for ns in steps_ns]
    data.FrameTimeVector = steps_ms
    if len(stack) > 1:
        rate_hz = 1e9 / max(1, median(steps_ns[1:]))
        data.RecommendedDisplayFrameRate = max(1, round(rate_hz))
    # A length of 16 bits, with explicit VR, is enough for some 6000 frames.
    size_bytes = len("\\".join(steps_ms))
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = (
        ImplicitVRLittleEndian if size_bytes > _LONGEST_TEXT else ExplicitVRLittleEndian
    )


def _region(region_px: Region, spacing_mm: Spacing | None) -> Dataset:
    """Describe the scan area (PS3.3 section C.8.5.5); without a scale it has no units."""
    x, y, width, height = region_px
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = _TWO_D, _TISSUE, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x, y
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x + width - 1, y + height - 1
    units = _NO_UNITS if spacing_mm is None else _CENTIMETRES
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    row_mm, col_mm = spacing_mm or (10.0, 10.0)
    item.PhysicalDeltaX, item.PhysicalDeltaY = col_mm / 10, row_mm / 10
    return item
