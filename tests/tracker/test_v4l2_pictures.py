"""Buffers of every format become the same grey levels, whatever way is the quickest."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from veintrack.tracker.frame import U8
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.grey import FULL_RANGE
from veintrack.tracker.sources.v4l2_modes import READABLE
from veintrack.tracker.sources.v4l2_pictures import GreyPictures, PictureFormat, picture_format

NAMES = ("GREY", "NV12", "YU12", "YUYV", "UYVY", "RGB3", "BGR3")
BYTES = {"GREY": 1, "NV12": 1, "YU12": 1, "YUYV": 2, "UYVY": 2, "RGB3": 3, "BGR3": 3}


def form(name: str, levels: U8, padding: int = 0, limited: bool = False) -> PictureFormat:
    height, width = levels.shape
    return PictureFormat(name, width, height, width * BYTES[name] + padding, limited, None)


def packed(name: str, levels: U8, padding: int, noise: np.random.Generator) -> U8:
    """Lay grey levels out as a driver does; chroma and padding are noise."""
    height, width = levels.shape
    pixels = noise.integers(0, 256, (height, width, BYTES[name]), np.uint8)
    pixels[..., 1 if name == "UYVY" else 0] = levels
    if name in ("RGB3", "BGR3"):
        pixels[:] = levels[..., None]
    rows = noise.integers(0, 256, (height, width * BYTES[name] + padding), np.uint8)
    rows[:, : width * BYTES[name]] = pixels.reshape(height, -1)
    chroma = noise.integers(0, 256, rows.size // 2 if name in ("NV12", "YU12") else 0, np.uint8)
    return np.concatenate((rows.reshape(-1), chroma))


@given(
    name=st.sampled_from(NAMES),
    height=st.integers(1, 20).map(lambda half: 2 * half),
    width=st.integers(1, 40).map(lambda half: 2 * half),
    padding=st.integers(0, 9),
    limited=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_grey_levels_are_those_of_the_buffer(
    name: str, height: int, width: int, padding: int, limited: bool, seed: int
) -> None:
    noise = np.random.default_rng(seed)
    levels = noise.integers(0, 256, (height, width), np.uint8)
    pictures = GreyPictures(form(name, levels, padding, limited))
    raw = packed(name, levels, padding, noise)
    assert pictures.look_at(raw) is not None
    grey = pictures.grey(raw)
    assert grey is not None
    assert_array_equal(grey, FULL_RANGE[levels] if limited else levels)
    assert grey.flags.c_contiguous
    assert not np.shares_memory(grey, raw)
    assert pictures.grey(raw[: -raw.size // 3]) is None


@pytest.mark.parametrize(("name", "depth_bits"), [("Y10", 10), ("Y12", 12), ("Y16", 12)])
@pytest.mark.parametrize("padding", [0, 5])
def test_deep_grey_is_scaled_by_its_depth(name: str, depth_bits: int, padding: int) -> None:
    levels = np.arange(32, dtype="<u2").reshape(4, 8) << (depth_bits - 5)
    rows = np.zeros((4, 16 + padding), np.uint8)
    rows[:, :16] = levels.view(np.uint8)
    pictures = GreyPictures(PictureFormat(name, 8, 4, 16 + padding, False, None))
    notes = pictures.look_at(rows.reshape(-1))
    assert_array_equal(pictures.grey(rows.reshape(-1)), levels >> (depth_bits - 8))
    scale = 1 << (depth_bits - 8)
    assert notes == (
        f"{name} pictures",
        f"16-bit grey: {depth_bits} bits in use, scaled by 1/{scale}",
    )


def test_colour_becomes_luma_in_either_order() -> None:
    red = np.zeros((4, 8, 3), np.uint8)
    red[..., 0] = 200
    for name, pixels in (("RGB3", red), ("BGR3", red[..., ::-1])):
        raw = np.ascontiguousarray(pixels).reshape(-1)
        pictures = GreyPictures(form(name, red[..., 0]))
        assert pictures.look_at(raw) == (
            f"{name} pictures",
            "colour pictures: luma taken (BT.601)",
        )
        assert_array_equal(pictures.grey(raw), round(0.299 * 200))


def jpeg(level: int, size_px: tuple[int, int] = (64, 48)) -> U8:
    width, height = size_px
    data = cv2.imencode(".jpg", np.full((height, width), level, np.uint8))[1]
    return np.asarray(data, np.uint8).reshape(-1)


def test_compressed_pictures_are_decoded_and_cut_off_ones_left_out() -> None:
    pictures = GreyPictures(PictureFormat("MJPG", 64, 48, 0, False, None))
    padded = np.concatenate((jpeg(90), np.zeros(700, np.uint8)))
    assert pictures.look_at(padded) == ("MJPG pictures",)
    grey = pictures.grey(padded)
    assert grey is not None
    assert grey.shape == (48, 64)
    assert abs(int(grey.mean()) - 90) <= 1
    assert pictures.grey(jpeg(90)[:-20]) is None
    assert pictures.look_at(jpeg(90)[:-2]) is None
    assert pictures.grey(np.zeros(50, np.uint8)) is None


def test_a_first_picture_of_another_size_is_none() -> None:
    pictures = GreyPictures(PictureFormat("MJPG", 32, 48, 0, False, None))
    assert pictures.look_at(jpeg(90)) is None


@pytest.mark.parametrize(
    ("name", "quantization", "colorspace", "limited"),
    [
        ("YUYV", 0, 0, True),
        ("YUYV", abi.QUANTIZATION_FULL, 0, False),
        ("YUYV", 0, abi.COLORSPACE_JPEG, False),
        ("GREY", 0, 0, False),
        ("GREY", abi.QUANTIZATION_LIMITED, 0, True),
        ("RGB3", 0, 0, False),
        ("RGB3", abi.QUANTIZATION_LIMITED, 0, True),
        ("MJPG", abi.QUANTIZATION_LIMITED, 0, False),
    ],
)
def test_the_range_of_luma_is_what_the_driver_says(
    name: str, quantization: int, colorspace: int, limited: bool
) -> None:
    answer = abi.Format(pixelformat=abi.fourcc(name), width=8, height=4, bytesperline=32)
    answer.quantization, answer.colorspace = quantization, colorspace
    assert picture_format(answer, 25.0).limited is limited


def test_every_format_that_may_be_chosen_can_be_read() -> None:
    answer = abi.Format(width=8, height=4, bytesperline=10)
    for name in READABLE:
        answer.pixelformat = abi.fourcc(name)
        found = picture_format(answer, None)
        assert replace(found, stride_bytes=0) == PictureFormat(
            name, 8, 4, 0, name in ("NV12", "YU12", "YUYV", "UYVY"), None
        )


def test_brightness_stays_when_a_device_comes_back() -> None:
    form = PictureFormat("Y16", 8, 4, 16, False, None)
    bright, dark = (np.full((4, 16), level, np.uint8).reshape(-1) for level in (200, 1))
    before = GreyPictures(form)
    assert before.look_at(bright) is not None
    after = GreyPictures(form, before)
    assert after.look_at(dark) is not None
    assert_array_equal(after.grey(bright), 200)
