"""Results as OpenIGTLink messages.

Every result becomes one row of messages with one time stamp: IMAGE, a TRANSFORM for each believed
track, and a STRING. Headers are of version 1, which every reader understands; layouts are those of
:mod:`veintrack.tracker.sources.igtl_messages`.
"""

import json
import struct
from dataclasses import fields
from typing import Any

import numpy as np

from veintrack.tracker.frame import (
    F64,
    U8,
    FrameResult,
    Measurement,
    Region,
    Spacing,
    Track,
    TrackStatus,
)
from veintrack.tracker.sinks.igtl_crc import crc64
from veintrack.tracker.sources.igtl_messages import HEADER_LAYOUT, IMAGE_LAYOUT, UINT8

__all__ = ["TRACKS_DEVICE", "image_device", "message", "packed", "track_device"]

TRACKS_DEVICE = "Veintrack_tracks"
_HEADER_VERSION = _IMAGE_VERSION = 1
_LITTLE_ENDIAN, _RAS = 2, 1  # of IMAGE; 3D Slicer takes every TRANSFORM for RAS
_TRANSFORM_LAYOUT = struct.Struct(">12f")  # a 4x4 matrix by columns, without its last row
_STRING_LAYOUT = struct.Struct(">HH")  # encoding, length
_ASCII = 3  # IANA's number of the encoding
_BELIEVED = (TrackStatus.CONFIRMED, TrackStatus.COASTING)
_MOST_TRACKS = 64  # a STRING holds 65535 bytes, and a track takes up to 700
_MEASURED = tuple(field.name for field in fields(Measurement))


def image_device(spacing_mm: Spacing | None) -> str:
    """Name the IMAGE's device, which says what its matrix is in."""
    return "Veintrack_px" if spacing_mm is None else "Veintrack_mm"


def track_device(track_id: int | str, spacing_mm: Spacing | None) -> str:
    """Name the device of a track's TRANSFORM, which says what its place is in."""
    return f"Vein_{track_id}_{'px' if spacing_mm is None else 'mm'}"


def packed(result: FrameResult, unix_ns: int) -> bytes:
    """Lay out all messages of one result.

    The scan area alone is sent: what lies outside may name the patient. Between frames of a source
    that was lost there is no picture, only where tracks are predicted.

    Parameters
    ----------
    result : FrameResult
        Its scan area must be settled.
    unix_ns : int
        When it holds, since 1970.

    Raises
    ------
    ValueError
        If the scan area is not settled.
    """
    if not result.scan_area_settled:
        raise ValueError("the scan area must be settled, got a guess that may show a name")
    frame = result.frame
    spacing_mm = frame.spacing_mm
    height, width = frame.pixels.shape
    area_px = result.scan_area_px or (0, 0, width, height)
    tracks = [t for t in result.tracks if t.status in _BELIEVED][:_MOST_TRACKS]
    messages = []
    if result.fresh:
        x, y, width, height = area_px
        body = _image(frame.pixels[y : y + height, x : x + width], spacing_mm)
        messages.append(message("IMAGE", image_device(spacing_mm), unix_ns, body))
    for track in tracks:
        body = _transform(_place(track, area_px, spacing_mm))
        messages.append(message("TRANSFORM", track_device(track.id, spacing_mm), unix_ns, body))
    body = _string(json.dumps(_facts(result, tracks, area_px)))
    messages.append(message("STRING", TRACKS_DEVICE, unix_ns, body))
    return b"".join(messages)


def message(kind: str, device: str, unix_ns: int, body: bytes) -> bytes:
    """Put the header before a body."""
    seconds, rest_ns = divmod(unix_ns, 10**9)
    fraction = -(-(rest_ns << 32) // 10**9)  # rounded up, so that it reads as the same ns again
    head = HEADER_LAYOUT.pack(
        _HEADER_VERSION,
        kind.encode(),
        device.encode(),
        seconds,
        fraction,
        len(body),
        crc64(body),
    )
    return head + body


def _image(pixels: U8, spacing_mm: Spacing | None) -> bytes:
    """Lay out a picture: x to the right, y down, the first pixel's centre at (0, 0, 0)."""
    height, width = pixels.shape
    row, col = spacing_mm or (1.0, 1.0)
    centre = (col * (width - 1) / 2, row * (height - 1) / 2, 0.0)
    matrix = (col, 0.0, 0.0, 0.0, row, 0.0, 0.0, 0.0, 1.0, *centre)
    size = (width, height, 1)
    head = IMAGE_LAYOUT.pack(
        _IMAGE_VERSION, 1, UINT8, _LITTLE_ENDIAN, _RAS, *size, *matrix, 0, 0, 0, *size
    )
    return head + pixels.tobytes()


def _place(track: Track, area_px: Region, spacing_mm: Spacing | None) -> F64:
    """Where a track is in its IMAGE's coordinates, (x, y)."""
    row, col = spacing_mm or (1.0, 1.0)
    place: F64 = (track.centroid_px - np.array(area_px[:2])) * (col, row)
    return place


def _transform(place: F64) -> bytes:
    return _TRANSFORM_LAYOUT.pack(1, 0, 0, 0, 1, 0, 0, 0, 1, place[0], place[1], 0)


def _string(text: str) -> bytes:
    return _STRING_LAYOUT.pack(_ASCII, len(text)) + text.encode("ascii")


def _facts(result: FrameResult, tracks: list[Track], area_px: Region) -> dict[str, Any]:
    """Gather what the STRING says; names, places and units are those of ``tracks.jsonl``."""
    return {
        "frame": result.frame.index,
        "fresh": result.fresh,
        "time_ns": result.time_ns,
        "source": result.source.signal.value,
        "picture": result.picture.value,
        "scan_area_px": area_px,
        "spacing_mm": result.frame.spacing_mm,
        "tracks": [_track_facts(track) for track in tracks],
    }


def _track_facts(track: Track) -> dict[str, Any]:
    measured = {name: getattr(track.measurement, name, None) for name in _MEASURED}
    return {
        "id": track.id,
        "status": track.status.value,
        "collapsed": track.collapsed,
        "centroid_px": np.round(track.centroid_px, 4).tolist(),
        "velocity_px_s": np.round(track.velocity_px_s, 4).tolist(),
        "covariance_px2": np.round(track.covariance_px2.ravel(), 6).tolist(),
        "score": round(track.score, 5),
        **{name: None if value is None else round(value, 6) for name, value in measured.items()},
    }
