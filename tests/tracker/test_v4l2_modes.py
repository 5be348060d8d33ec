"""Which modes a device is found to offer, and which of them is taken."""

import contextlib
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracker.machine_scene import FakeDevice
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2_modes import (
    ENOUGH_HZ,
    LUMA,
    READABLE,
    Mode,
    ModeWish,
    bandwidth_bytes_s,
    choose_mode,
    current_mode,
    is_same_rate,
    list_modes,
    parse_mode,
)

USB_2_BYTES_S = 24_576_000.0
CHEAP_GRABBER = (  # what a USB 2 grabber of HDMI says it can do
    Mode("MJPG", 1920, 1080, 30.0),
    Mode("MJPG", 1280, 720, 60.0),
    Mode("MJPG", 1280, 720, 30.0),
    Mode("MJPG", 640, 480, 30.0),
    Mode("YUYV", 1920, 1080, 5.0),
    Mode("YUYV", 1280, 720, 10.0),
    Mode("YUYV", 640, 480, 30.0),
)

# What the user writes


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("1280x720", ModeWish(1280, 720, None, None)),
        ("1280x720@30", ModeWish(1280, 720, 30.0, None)),
        ("1280x720@29.97:MJPG", ModeWish(1280, 720, 29.97, "MJPG")),
        ("640x480:Y16", ModeWish(640, 480, None, "Y16")),
        (" 640X480@25:yuy2 ", ModeWish(640, 480, 25.0, "YUYV")),
        ("640x480:mjpeg", ModeWish(640, 480, None, "MJPG")),
    ],
)
def test_a_mode_is_read_as_it_is_written(text: str, wish: ModeWish) -> None:
    assert parse_mode(text) == wish
    assert parse_mode(str(wish)) == wish


@pytest.mark.parametrize(
    "text",
    [
        *("", "1280", "1280x", "x720", "0x720", "1280x720@0", "1280x720@", "1280x720:"),
        *("1280x720@30fps", "1280x720:ABCDE", "-640x480", "640x480@-5", "640x480@nan"),
        *("640x480@30:MJPG:x", "1e9x1"),
    ],
)
def test_what_is_no_mode_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 1280x720@30:MJPG, got") as caught:
        parse_mode(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_a_mode_or_one_clear_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        wish = parse_mode(text)
        assert parse_mode(str(wish)) == wish


# What the device says


def test_every_format_size_and_rate_is_listed_in_the_drivers_order() -> None:
    device = FakeDevice(
        {"MJPG": [(1280, 720)], "YUYV": [(640, 480), (320, 240)]}, [(1, 30), (2, 5)]
    )
    assert [str(mode) for mode in list_modes(3, device)] == [
        "1280x720@30:MJPG",
        "1280x720@2.5:MJPG",
        "640x480@30:YUYV",
        "640x480@2.5:YUYV",
        "320x240@30:YUYV",
        "320x240@2.5:YUYV",
    ]


def test_a_format_that_is_not_read_is_named_once() -> None:
    device = FakeDevice(
        {"H264": [(1920, 1080), (640, 480)], "GREY": [(640, 480)]}, [(1, 30), (1, 5)]
    )
    names = [mode.fourcc for mode in list_modes(3, device)]
    assert names == ["H264", "GREY", "GREY"]


def test_a_range_of_sizes_has_the_usual_ones_its_ends_the_one_set_and_the_one_wished_for() -> None:
    device = FakeDevice({"YUYV": [(32, 1000, 4, 30, 800, 2)]}, [(1, 25)], now=("YUYV", 980, 550))
    wish = parse_mode("500x402")
    sizes = [mode.size_px for mode in list_modes(3, device, wish)]
    assert sizes[:2] == [(980, 550), (500, 402)]
    assert {(640, 480), (32, 30), (1000, 800)} <= set(sizes)
    assert (1280, 720) not in sizes
    assert len(sizes) == len(set(sizes))
    odd = parse_mode("501x402")
    assert (501, 402) not in [mode.size_px for mode in list_modes(3, device, odd)]


def test_a_range_of_rates_has_the_usual_ones_its_ends_and_the_one_wished_for() -> None:
    device = FakeDevice({"GREY": [(640, 480)]}, ((1, 48), (1, 8)))
    rates = [mode.rate_hz for mode in list_modes(3, device, parse_mode("640x480@33.5"))]
    assert rates == [48.0, 33.5, 30.0, 25.0, 20.0, 15.0, 10.0, 8.0]


def test_a_driver_that_knows_neither_sizes_nor_rates_has_what_is_set() -> None:
    device = FakeDevice(
        {"UYVY": [], "RGB3": []},
        now=("UYVY", 1920, 1080),
        period=(1001, 60000),
        unasked=(abi.VIDIOC_ENUM_FRAMESIZES, abi.VIDIOC_ENUM_FRAMEINTERVALS),
    )
    assert [str(mode) for mode in list_modes(3, device)] == [
        "1920x1080@59.94:UYVY",
        "1920x1080@59.94:RGB3",
    ]
    silent = replace(device, unasked=(*device.unasked, abi.VIDIOC_G_PARM))
    assert [str(mode) for mode in list_modes(3, silent)] == ["1920x1080:UYVY", "1920x1080:RGB3"]


@pytest.mark.parametrize("period", [None, (0, 30), (1, 0)])
def test_a_rate_that_makes_no_sense_is_none(period: tuple[int, int] | None) -> None:
    device = FakeDevice(now=("GREY", 640, 480), period=period)
    assert current_mode(3, device) == Mode("GREY", 640, 480, None)


def test_a_device_that_says_nothing_has_no_modes() -> None:
    assert list_modes(3, FakeDevice()) == ()
    assert current_mode(3, FakeDevice()) is None


def test_sizes_and_steps_of_nothing_are_passed_over() -> None:
    device = FakeDevice({"GREY": [(0, 0), (640, 480)], "NV12": [(16, 8, 0, 0, 0, 0)]}, [(0, 0)])
    assert [str(mode) for mode in list_modes(3, device)] == ["640x480:GREY"]


def test_a_driver_whose_lists_never_end_is_not_asked_for_ever() -> None:
    device = FakeDevice({"GREY": [(640, 480)]}, [(1, 30)], endless=True)
    assert [str(mode) for mode in list_modes(3, device)] == ["640x480@30:GREY"]
    assert device.calls < 10_000


def test_a_device_that_is_gone_is_told() -> None:
    with pytest.raises(OSError, match="gone"):
        list_modes(3, FakeDevice({"GREY": [(640, 480)]}, gone=True))


# What it costs


@pytest.mark.parametrize(
    ("mode", "bytes_s"),
    [
        (Mode("YUYV", 1280, 720, 10.0), 18_432_000),
        (Mode("NV12", 1280, 720, 30.0), 41_472_000),
        (Mode("GREY", 640, 480, 25.0), 7_680_000),
        (Mode("RGB3", 640, 480, 25.0), 23_040_000),
        (Mode("MJPG", 1280, 720, 30.0), 6_912_000),
        (Mode("YUYV", 1280, 720, None), None),
        (Mode("H264", 1280, 720, 30.0), None),
    ],
)
def test_bandwidth_is_pixels_times_rate_times_depth(mode: Mode, bytes_s: float | None) -> None:
    assert bandwidth_bytes_s(mode) == bytes_s


# What is taken


@pytest.mark.parametrize(
    ("current", "taken"),
    [
        ("1280x720@10:YUYV", "1280x720@30:MJPG"),  # the size stays, the rate must be enough
        ("1920x1080@5:YUYV", "1920x1080@30:MJPG"),
        ("640x480@30:YUYV", "640x480@30:YUYV"),  # uncompressed where it is as good
        ("320x240@30:YUYV", "640x480@30:YUYV"),  # too small to be kept
        ("1280x720@60:MJPG", "1280x720@60:MJPG"),
        (None, "640x480@30:YUYV"),
    ],
)
def test_a_usb_2_grabber_is_set_so_that_it_delivers_enough(current: str | None, taken: str) -> None:
    now = None
    if current:
        size = parse_mode(current)
        now = Mode(size.fourcc or "", size.width_px, size.height_px, size.rate_hz)
    assert str(choose_mode(CHEAP_GRABBER, now, None, None)) == taken


def test_a_rate_that_is_asked_for_comes_before_the_size() -> None:
    now = Mode("MJPG", 1920, 1080, 30.0)
    assert str(choose_mode(CHEAP_GRABBER, now, None, 60.0)) == "1280x720@60:MJPG"
    assert str(choose_mode(CHEAP_GRABBER, now, None, 5.0)) == "1920x1080@5:YUYV"
    # More than is offered: the highest.
    assert str(choose_mode(CHEAP_GRABBER, now, None, 100.0)) == "1280x720@60:MJPG"


def test_the_rate_that_is_set_is_kept_where_it_is_enough() -> None:
    modes = tuple(Mode("YUYV", 640, 480, hz) for hz in (60.0, 50.0, 30.0, 25.0, 5.0))
    taken = {now.rate_hz: choose_mode(modes, now, None, None).rate_hz for now in modes}
    assert taken == {60.0: 60.0, 50.0: 50.0, 30.0: 30.0, 25.0: 25.0, 5.0: 30.0}
    assert choose_mode(modes, None, None, None).rate_hz == 30.0


def test_what_the_link_does_not_carry_is_not_taken() -> None:
    modes = (Mode("YUYV", 1920, 1080, 60.0), Mode("MJPG", 1920, 1080, 60.0))
    assert choose_mode(modes, None, None, None) == modes[0]
    assert choose_mode(modes, None, None, None, link_bytes_s=USB_2_BYTES_S) == modes[1]


def test_a_grabber_that_follows_its_input_is_left_as_it_is() -> None:
    modes = (Mode("UYVY", 1920, 1200, None), Mode("RGB3", 1920, 1200, None))
    assert choose_mode(modes, modes[1], None, None) == modes[0]


def test_a_wish_is_taken_exactly_and_the_rest_is_chosen() -> None:
    def take(text: str) -> str:
        return str(choose_mode(CHEAP_GRABBER, None, parse_mode(text), None))

    assert take("1280x720@10") == "1280x720@10:YUYV"
    assert take("1280x720") == "1280x720@30:MJPG"
    assert take("1280x720:YUYV") == "1280x720@10:YUYV"
    assert take("1280x720@29.97:MJPG") == "1280x720@30:MJPG"


def test_a_wish_that_is_not_offered_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="does not offer 1280x720@30:YUYV; nearest to it: ") as no:
        choose_mode(CHEAP_GRABBER, None, parse_mode("1280x720@30:YUYV"), None)
    near = str(no.value).split("nearest to it: ")[1].split(", ")
    assert near[0] == "1280x720@30:MJPG"
    assert "1280x720@10:YUYV" in near
    assert len(near) == 5


def test_a_device_without_a_format_that_is_read_says_which_it_has() -> None:
    with pytest.raises(ValueError, match="the device offers H264; readable are GREY, "):
        choose_mode((Mode("H264", 640, 480, 30.0),), None, None, None)
    with pytest.raises(ValueError, match="offers no format"):
        choose_mode((), None, None, None)


def test_30_and_29_97_are_the_same_rate_but_25_and_24_are_not() -> None:
    assert is_same_rate(30.0, 30000 / 1001)
    assert not is_same_rate(25.0, 24.0)


MODES = st.builds(
    Mode,
    st.sampled_from([*READABLE, "H264"]),
    st.sampled_from([320, 640, 1280, 1920]),
    st.sampled_from([240, 480, 720, 1080, 2160]),
    st.sampled_from([None, 5.0, 10.0, 25.0, 30000 / 1001, 30.0, 60.0]),
)
OFFERS = st.lists(MODES, min_size=1, max_size=20)


def enough(mode: Mode, hz: float = ENOUGH_HZ) -> bool:
    return mode.rate_hz is None or mode.rate_hz >= hz or is_same_rate(mode.rate_hz, hz)


@given(OFFERS, st.none() | MODES, st.none() | st.sampled_from([5.0, 25.0, 30.0, 60.0]))
def test_what_is_taken_is_offered_read_and_fast_enough_if_any_is(
    modes: list[Mode], current: Mode | None, fps: float | None
) -> None:
    offered = [mode for mode in modes if mode.fourcc in READABLE]
    if not offered:
        return
    taken = choose_mode(modes, current, None, fps)
    assert taken in offered
    hz = fps or ENOUGH_HZ
    fast = [mode for mode in offered if enough(mode, hz)]
    assert enough(taken, hz) == bool(fast)
    if not fast:
        assert taken.rate_hz == max(mode.rate_hz or math.inf for mode in offered)
    good = [mode for mode in fast if 480 <= mode.height_px <= 1080]
    if good:
        assert taken in good
        kept = [mode for mode in good if current and mode.size_px == current.size_px]
        assert not kept or taken in kept
        luma = [mode for mode in kept or good if mode.fourcc in LUMA]
        assert not luma or taken.fourcc in LUMA


@given(OFFERS, st.none() | MODES, st.randoms(use_true_random=False))
def test_the_order_of_the_list_changes_nothing_that_matters(
    modes: list[Mode], current: Mode | None, chance: random.Random
) -> None:
    if not any(mode.fourcc in READABLE for mode in modes):
        return
    shuffled = list(modes)
    chance.shuffle(shuffled)
    a, b = (choose_mode(some, current, None, None) for some in (modes, shuffled))
    assert (a.size_px, a.fourcc) == (b.size_px, b.fourcc)


@given(OFFERS, MODES, st.booleans(), st.booleans())
def test_a_wish_is_met_or_refused(
    modes: list[Mode], wanted: Mode, with_rate: bool, with_format: bool
) -> None:
    wish = ModeWish(
        wanted.width_px,
        wanted.height_px,
        wanted.rate_hz if with_rate else None,
        wanted.fourcc if with_format else None,
    )
    if not any(mode.fourcc in READABLE for mode in modes):
        return
    there = wanted in modes and wanted.fourcc in READABLE
    try:
        taken = choose_mode(modes, None, wish, None)
    except ValueError as error:
        met, said = False, str(error)
    else:
        met, said = True, str(taken)
    assert met or not there
    assert "\n" not in said
    if not met:
        return
    assert taken.size_px == wanted.size_px
    assert wish.fourcc in (None, taken.fourcc)
    if wish.rate_hz and taken.rate_hz:
        assert is_same_rate(taken.rate_hz, wish.rate_hz)
