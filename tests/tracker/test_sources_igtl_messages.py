"""OpenIGTLink messages of every kind, nonsense included."""

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tests.tracker.igtl_scene import (
    PICTURE,
    UNKNOWN,
    first,
    image_body,
    message,
    send_all,
    sending,
)
from veintrack.errors import SourceLostError, SourceUnreadableError
from veintrack.tracker.frame import Stamp
from veintrack.tracker.sources.igtl import open_igtl
from veintrack.tracker.sources.igtl_messages import Message, parse_header, picture


def test_without_the_sender_s_time_the_arrival_is_taken() -> None:
    with sending(send_all(message(body=image_body(columns=UNKNOWN)))) as sender:
        source, frame = first(sender)
    assert frame.stamp is Stamp.ARRIVAL
    assert frame.capture_ns == frame.arrival_ns
    assert frame.sender_ns is None
    assert source.info.times_from == "arrival here: the sender gives no times"
    assert frame.spacing_mm is None  # a scale of exactly 1 is what senders write that know none


@pytest.mark.parametrize("mm", [0.0, 1e-6, 50.0, float("inf"), float("nan")])
def test_a_scale_that_cannot_be_is_no_spacing(mm: float) -> None:
    body = bytearray(image_body(columns=((0.1, 0.0, 0.0), (0.0, mm, 0.0), (0.0, 0.0, 1.0))))
    assert picture(Message(parse_header(message()[:58]), body, 0)).spacing_mm is None


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2"])
def test_16_bit_pictures_are_scaled_by_the_first_one_s_depth(dtype: str) -> None:
    deep = (PICTURE.astype(np.uint16) * 4).astype(dtype)
    with sending(send_all(message(body=image_body(deep)))) as sender:
        source, frame = first(sender)
    assert_array_equal(frame.pixels, PICTURE)
    assert source.info.notes == ("16-bit grey: 10 bits in use, scaled by 1/4",)


def test_colour_becomes_luma() -> None:
    blue = np.zeros((24, 32, 3), np.uint8)
    blue[..., 2] = 200
    with sending(send_all(message(body=image_body(blue)))) as sender:
        _, frame = first(sender)
    assert frame.pixels.min() == frame.pixels.max() == round(0.114 * 200)


def test_messages_of_version_3_with_metadata_are_read() -> None:
    metadata_header, metadata = struct.pack(">HHHI", 1, 3, 3, 5), b"keyvalue"
    extended = struct.pack(">HHII", 12, len(metadata_header), len(metadata), 7)
    body = extended + image_body() + metadata_header + metadata
    with sending(send_all(message(body=body, version=2))) as sender:
        _, frame = first(sender)
    assert_array_equal(frame.pixels, PICTURE)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (np.random.default_rng(1).bytes(100_000), "not OpenIGTLink"),
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\nConnection: close\r\n\r\n" * 9, "not OpenIGTL"),
        (message(size=1 << 60), "message of 1152921504606846976 bytes, over the limit"),
        (message(body=image_body()[:50]), "an IMAGE without its header"),
        (message(body=image_body()[:-1]), "32 x 24 pixels in 767 bytes"),
        (message(body=image_body(size=(32, 24, 9))), "no whole picture: 32 x 24 x 9"),
        (message(body=image_body(part=(0, 0, 0, 8, 8, 1))), "no whole picture"),
        (message(body=image_body(code=99)), "levels of type 99"),
        (message(body=image_body(channels=2)), "in 2 channels"),
        (message(body=image_body(PICTURE.astype(np.float32))), "range is not known"),
        (message(body=b"", version=2), "without its extended header"),
        (message(body=b"\xff" * 400, version=2), "an IMAGE"),
    ],
)
def test_a_sender_of_nonsense_is_refused_in_one_line(noise: bytes, words: str) -> None:
    with sending(send_all(noise)) as sender, pytest.raises(SourceUnreadableError) as caught:
        open_igtl(sender.url())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nonsense_after_a_good_start_is_a_loss() -> None:
    script = send_all(message(body=image_body()), b"\xff" * 1000)
    with (
        sending(script) as sender,
        open_igtl(sender.url()) as source,
        pytest.raises(SourceLostError, match="not OpenIGTLink"),
    ):
        list(source)


@given(st.binary(max_size=300), st.integers(1, 3))
def test_any_bytes_are_a_picture_or_a_value_error(body: bytes, version: int) -> None:
    header = parse_header(message(body=body, version=version)[:58])
    with suppress(ValueError):
        picture(Message(header, bytearray(body), 0))


@given(st.binary(min_size=58, max_size=58))
def test_any_header_is_one_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        parse_header(data)
