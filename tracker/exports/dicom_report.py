"""Tracks as a DICOM Structured Report (``.sr.dcm``): TID 1500, Measurement Report.

A track has two measurement groups with the same tracking identifier. One (TID 1501) names the
frames in which it was seen, and gives mean, minimum, maximum and standard deviation of its axes,
area and depth over them. The other (TID 1410) shows where it lay: its ellipse in one frame of usual
size, with what was measured there. All frames are left to tables: a report of thousands of items is
more than viewers show, and people read.
"""

import csv
import math
from collections.abc import Mapping
from statistics import fmean, pstdev
from typing import TypeAlias

import highdicom as hd
import numpy as np
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.exports.dicom_source import MAKER, SourceImage, read_source, uid_of
from veintrack.tracker.exports.formats import Request
from veintrack.tracker.exports.placing import placing
from veintrack.tracker.exports.record import RunFacts, read_facts, table_of
from veintrack.tracker.frame import F64

__all__ = ["write"]

_MM, _MM2 = codes.UCUM.Millimeter, codes.UCUM.SquareMillimeter
#: Columns of ``tracks.csv``: what they are called in DICOM (CIDs 7470, 7471), and their unit.
_QUANTITIES = {
    "minor_mm": (codes.SCT.MinorAxis, _MM),
    "major_mm": (codes.SCT.MajorAxis, _MM),
    "area_mm2": (codes.SCT.Area, _MM2),
    "depth_mm": (codes.SCT.Depth, _MM),  # of the centre, below the top of the scan area
}
#: Derivations (CID 7464).
_OVER_FRAMES = (
    (codes.SCT.Mean, fmean),
    (codes.SCT.Minimum, min),
    (codes.SCT.Maximum, max),
    (codes.SCT.StandardDeviation, pstdev),
)
_ELLIPSE = ("x_px", "y_px", "major_px", "minor_px", "angle_deg")
_MOST_NUMBERS = 8000  # of frames in one element: with explicit VR its length has 16 bits

Rows = list[Mapping[str, str]]
Group: TypeAlias = (
    hd.sr.MeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
)


def write(request: Request) -> str:
    """Write the report of a run; see :meth:`Format.write`."""
    facts = read_facts(request.run)
    source = read_source(request, facts)
    tracks = _tracks(request, source)
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=_observer(facts)),
        procedure_reported=codes.SCT.Ultrasonography,
        imaging_measurements=[
            group
            for track, rows in sorted(tracks.items())
            for group in _groups(track, rows, source, facts)
        ],
    )
    document = hd.sr.ComprehensiveSR(
        evidence=[source.dataset],
        content=report[0],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
    )
    with placing(request.to) as partial:
        document.save_as(partial)
    return f"{len(tracks)} tracks as measurement groups"


def _observer(facts: RunFacts) -> hd.sr.ObserverContext:
    return hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=uid_of("device", facts.version, facts.model_sha256),
            name=f"{MAKER} {facts.version}",
            manufacturer_name=MAKER,
            model_name=f"model {facts.model}",
        ),
    )


def _tracks(request: Request, source: SourceImage) -> dict[int, Rows]:
    """Collect the rows of frames that are in the image and in which a track was measured."""
    found: dict[int, Rows] = {}
    try:
        for row in csv.DictReader(table_of(request.run).decode().splitlines()):
            if all(row[name] for name in _QUANTITIES) and int(row["frame"]) in source.numbers:
                found.setdefault(int(row["track_id"]), []).append(row)
    except (ValueError, KeyError, csv.Error) as error:
        raise SourceUnreadableError(f"{request.run}: the table of tracks is damaged") from error
    if not found:
        raise SourceUnreadableError(
            f"{request.run} has no track with sizes in millimetres in a frame of the DICOM image, "
            "and a report gives sizes: track with --spacing"
        )
    return found


def _groups(track: int, rows: Rows, source: SourceImage, facts: RunFacts) -> list[Group]:
    """Make the groups of a track: over all its frames, and in one of usual size."""
    usual = sorted(rows, key=lambda row: float(row["area_mm2"]))[len(rows) // 2]
    image = (source.dataset.SOPClassUID, source.dataset.SOPInstanceUID)
    numbers = sorted({source.numbers[int(row["frame"])] for row in rows})
    known = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=uid_of("track", facts.identity, str(track)), identifier=f"track {track}"
        ),
        "finding_type": codes.SCT.BloodVessel,  # veins and arteries are one class of the network
        "algorithm_id": _algorithm(facts),
    }
    return [
        hd.sr.MeasurementsAndQualitativeEvaluations(
            **known,
            source_images=[
                hd.sr.SourceImageForMeasurementGroup(
                    *image, numbers if len(numbers) <= _MOST_NUMBERS else None
                )
            ],
            measurements=_over_frames(rows),
        ),
        hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            **known,
            referenced_region=hd.sr.ImageRegion(
                hd.sr.GraphicTypeValues.ELLIPSE,
                _ellipse(usual),
                hd.sr.SourceImageForRegion(*image, [source.numbers[int(usual["frame"])]]),
            ),
            measurements=[
                hd.sr.Measurement(name=name, value=float(usual[column]), unit=unit)
                for column, (name, unit) in _QUANTITIES.items()
            ],
        ),
    ]


def _algorithm(facts: RunFacts) -> hd.sr.AlgorithmIdentification:
    return hd.sr.AlgorithmIdentification(
        name=MAKER,
        version=facts.version,
        parameters=[
            f"model {facts.model}, SHA-256 {facts.model_sha256}",
            f"engine {facts.engine}, {facts.precision}",
            facts.notice,
        ],
    )


def _over_frames(rows: Rows) -> list[hd.sr.Measurement]:
    return [
        hd.sr.Measurement(name=name, value=round(value, 4), unit=unit, derivation=derivation)
        for column, (name, unit) in _QUANTITIES.items()
        for derivation, over in _OVER_FRAMES
        for value in [over([float(row[column]) for row in rows])]
    ]


def _ellipse(row: Mapping[str, str]) -> F64:
    """Give the ends of the major, then of the minor axis: ``(column, row)``, shape (4, 2).

    The outer corner of the first pixel is (0, 0) there, and its centre is here (PS3.3 C.18.6.1.1).
    """
    x, y, major, minor, degrees = (float(row[name]) for name in _ELLIPSE)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = np.array([cos, sin]) * major / 2, np.array([-sin, cos]) * minor / 2
    centre: F64 = np.array([x, y]) + 0.5
    return np.stack([centre - along, centre + along, centre - across, centre + across])
