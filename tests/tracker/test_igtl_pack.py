"""Results as OpenIGTLink messages: read again, they are what they were."""

import json
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic_ns
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tests.tracker.test_sinks import result_of, seen_vessel, track_of
from veintrack.tracker.frame import FrameResult, Region, Signal, SourceState, Spacing, TrackStatus
from veintrack.tracker.sinks.igtl_crc import crc64
from veintrack.tracker.sinks.igtl_pack import message, packed
from veintrack.tracker.sources.igtl_messages import (
    HEADER_BYTES,
    HEADER_LAYOUT,
    Message,
    parse_header,
    picture,
)

AREA: Region = (30, 20, 101, 80)
SPACING: Spacing = (0.1, 0.2)
UNIX_NS = 1_790_000_000_123_456_789


def messages(data: bytes) -> Iterator[Message]:
    """Take a row of messages apart, checksums included."""
    while data:
        header = parse_header(data[:HEADER_BYTES])
        body = bytearray(data[HEADER_BYTES : HEADER_BYTES + header.size_bytes])
        assert HEADER_LAYOUT.unpack(data[:HEADER_BYTES])[-1] == crc64(bytes(body))
        yield Message(header, body, 0)
        data = data[HEADER_BYTES + header.size_bytes :]


def sent(result: FrameResult) -> dict[str, Message]:
    """The messages of a result by device."""
    return {m.header.device: m for m in messages(packed(result, UNIX_NS))}


def scene(*tracks: Any, spacing_mm: Spacing | None = SPACING) -> FrameResult:
    result = result_of(7, tracks or [track_of(seen_vessel(), TrackStatus.CONFIRMED)])
    pixels = np.random.default_rng(1).integers(0, 255, result.frame.pixels.shape, np.uint8)
    frame = replace(result.frame, pixels=pixels, spacing_mm=spacing_mm)
    return replace(result, frame=frame, scan_area_px=AREA)


def matrix_of(device: Message) -> list[float]:
    numbers: list[float] = np.frombuffer(device.body, ">f4").tolist()
    return numbers


def said(devices: dict[str, Message]) -> dict[str, Any]:
    body = devices["Veintrack_tracks"].body
    encoding, length = np.frombuffer(body[:4], ">u2").tolist()
    assert (encoding, length) == (3, len(body) - 4)
    facts: dict[str, Any] = json.loads(body[4:].decode("ascii"))
    return facts


def bit_by_bit(data: bytes) -> int:
    register = 0
    for octet in data:
        for bit in range(7, -1, -1):
            carry = register >> 63 ^ octet >> bit & 1
            register = register << 1 & 2**64 - 1
            register ^= 0x42F0E1EBA9EA3693 if carry else 0
    return register


def test_the_checksum_is_that_of_ecma_182() -> None:
    assert crc64(b"123456789") == 0x6C40DF5F0B497347  # as catalogues of checksums say
    assert crc64(b"") == 0


@given(st.binary(max_size=200))
def test_the_checksum_is_that_of_a_shift_register(data: bytes) -> None:
    assert crc64(data) == bit_by_bit(data)


def test_the_checksum_of_a_picture_is_that_of_a_second_implementation() -> None:
    peer = pytest.importorskip("pyigtl.messages", reason="to compare with: pip install pyigtl")
    for size in (640 * 480, 639 * 479 + 72, 1 << 16):
        data = np.random.default_rng(size).bytes(size)
        assert crc64(data) == peer.CRC64(data)


def test_a_result_is_a_picture_a_place_for_each_believed_track_and_a_text() -> None:
    seen = seen_vessel()
    kinds = [TrackStatus.TENTATIVE, TrackStatus.CONFIRMED, TrackStatus.COASTING, TrackStatus.LOST]
    tracks = [
        track_of(seen if kind is TrackStatus.CONFIRMED else None, kind, number)
        for number, kind in enumerate(kinds, 1)
    ]
    row = list(messages(packed(scene(*tracks), UNIX_NS)))
    assert [(m.header.kind, m.header.device) for m in row] == [
        ("IMAGE", "Veintrack_mm"),
        ("TRANSFORM", "Vein_2_mm"),
        ("TRANSFORM", "Vein_3_mm"),
        ("STRING", "Veintrack_tracks"),
    ]
    assert {(m.header.version, m.header.sender_ns) for m in row} == {(1, UNIX_NS)}


def test_the_picture_is_the_scan_area_with_its_scale() -> None:
    result = scene()
    seen = picture(sent(result)["Veintrack_mm"])
    assert_array_equal(seen.levels, result.frame.pixels[20:100, 30:131])
    assert seen.spacing_mm == pytest.approx(SPACING)


def test_a_track_lies_in_the_picture_where_it_is_seen() -> None:
    devices = sent(scene())
    columns = np.frombuffer(devices["Veintrack_mm"].body[12:60], ">f4").reshape(4, 3).T
    (right, down, _), centre = columns[:, :3].T, columns[:, 3]
    place = matrix_of(devices["Vein_1_mm"])
    assert place[:9] == np.eye(3).ravel().tolist()
    # The centroid is at (60, 50) in the frame; the middle of the area at (80, 59.5).
    there = centre + (60 - 80) * right + (50 - 59.5) * down
    assert place[9:] == pytest.approx(there.tolist(), abs=1e-5)
    assert place[9:] == pytest.approx([30 * 0.2, 30 * 0.1, 0])


def test_without_a_scale_places_are_in_pixels_and_named_so() -> None:
    devices = sent(scene(spacing_mm=None))
    assert list(devices) == ["Veintrack_px", "Vein_1_px", "Veintrack_tracks"]
    assert matrix_of(devices["Vein_1_px"])[9:] == [30, 30, 0]
    assert picture(devices["Veintrack_px"]).spacing_mm is None
    assert said(devices)["spacing_mm"] is None


def test_the_text_says_what_is_known_of_the_tracks_in_the_frame_s_own_pixels() -> None:
    facts = said(sent(scene()))
    (track,) = facts.pop("tracks")
    assert facts == {
        "frame": 7,
        "fresh": True,
        "time_ns": 5_280_000_000,
        "source": "streaming",
        "picture": "good",
        "scan_area_px": list(AREA),
        "spacing_mm": list(SPACING),
    }
    assert (track["id"], track["status"], track["centroid_px"]) == (1, "confirmed", [60, 50])
    assert track["minor_mm"] == pytest.approx(4.1, abs=0.2)
    assert track["covariance_px2"] == [0.5, 0.125, 0.125, 0.25]


def test_between_frames_places_go_on_without_a_picture() -> None:
    state = SourceState(Signal.LOST, monotonic_ns(), "name of a person")
    track = track_of(None, TrackStatus.COASTING)
    between = replace(scene(track), source=state, between_ns=6_000_000_000)
    devices = sent(between)
    assert list(devices) == ["Vein_1_mm", "Veintrack_tracks"]
    facts = said(devices)
    assert (facts["source"], facts["fresh"], facts["time_ns"]) == ("lost", False, 6_000_000_000)
    assert b"person" not in devices["Veintrack_tracks"].body


def test_a_frame_without_an_area_is_sent_whole() -> None:
    result = replace(scene(), scan_area_px=None)
    devices = sent(result)
    assert_array_equal(picture(devices["Veintrack_mm"]).levels, result.frame.pixels)
    assert said(devices)["scan_area_px"] == [0, 0, 161, 120]


def test_a_guess_at_the_area_is_refused() -> None:
    with pytest.raises(ValueError, match="the scan area must be settled, got a guess"):
        packed(replace(scene(), scan_area_settled=False), UNIX_NS)


def test_more_tracks_than_a_text_holds_are_left_out_of_both() -> None:
    seen = seen_vessel()
    crowd = [track_of(seen, TrackStatus.CONFIRMED, 10**9 + n) for n in range(300)]
    devices = sent(scene(*crowd))
    assert len(devices) == 66
    assert len(said(devices)["tracks"]) == 64


@given(st.integers(0, 2**32 * 10**9 - 1))
def test_a_time_is_read_again_to_the_nanosecond(unix_ns: int) -> None:
    assert parse_header(message("STRING", "x", unix_ns, b"")).sender_ns == unix_ns
