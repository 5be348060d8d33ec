"""Which pictures a capture device can deliver, and which of them to take.

Asked as in the kernel's user-space API documentation, "Video for Linux API":
``VIDIOC_ENUM_FMT``, ``VIDIOC_ENUM_FRAMESIZES``, ``VIDIOC_ENUM_FRAMEINTERVALS``.
"""

import ctypes
import errno
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from veintrack.tracker.sources import v4l2_abi as abi

__all__ = [
    "ENOUGH_HZ",
    "LUMA",
    "READABLE",
    "Mode",
    "ModeWish",
    "bandwidth_bytes_s",
    "choose_mode",
    "current_mode",
    "is_same_rate",
    "list_modes",
    "parse_mode",
]

#: Formats whose luma is taken as it is, the smallest first.
LUMA = ("GREY", "NV12", "YU12", "YUYV", "UYVY", "Y10", "Y12", "Y16")
#: Formats that are read, the best first: luma, colour to be converted, compressed.
READABLE = (*LUMA, "RGB3", "BGR3", "MJPG")
#: Frames a second that a vein is followed with; below it, a pulse is missed and a hand is too fast.
ENOUGH_HZ = 25.0

_BITS_PER_PIXEL = {
    "GREY": 8,
    **dict.fromkeys(("NV12", "YU12"), 12),
    **dict.fromkeys(("YUYV", "UYVY", "Y10", "Y12", "Y16"), 16),
    **dict.fromkeys(("RGB3", "BGR3"), 24),
    "MJPG": 2,  # an estimate
}
_GROUP = dict.fromkeys(LUMA, 0) | {"RGB3": 1, "BGR3": 1, "MJPG": 2}
_HEIGHTS_PX = (480, 1080)
_USUAL_HZ = 30.0
_SAME_RATE = 0.002  # 30 and 29.97 are the same; 25 and 24 are not
_OTHER_NAMES = {"YUY2": "YUYV", "MJPEG": "MJPG"}
_MODE = re.compile(r"(\d{1,5})x(\d{1,5})(?:@(\d{1,4}(?:\.\d+)?))?(?::([A-Z0-9]{3,5}))?", re.I)

# What is tried of a range of sizes or rates: those in use at cameras, screens and grabbers.
_SIZES_PX = (
    *((320, 240), (640, 480), (720, 480), (720, 576), (768, 576), (800, 600), (1024, 768)),
    *((1280, 720), (1280, 800), (1280, 960), (1280, 1024), (1440, 900), (1600, 900)),
    *((1600, 1200), (1680, 1050), (1920, 1080), (1920, 1200), (2560, 1440), (3840, 2160)),
)
_RATES_HZ = (60.0, 50.0, 30.0, 25.0, 20.0, 15.0, 10.0, 5.0)
# A driver that never says where its list ends must not be asked for ever.
_MOST_ENTRIES, _MOST_MODES = 256, 2000
_GONE = (errno.ENODEV, errno.ENXIO, errno.EBADF)

_Entry = TypeVar("_Entry", bound=ctypes.Structure)


@dataclass(frozen=True, slots=True)
class Mode:
    """One way in which a device delivers pictures.

    Attributes
    ----------
    fourcc : str
        Four letters of the pixel format, without trailing blanks.
    width_px, height_px : int
        Size of a picture.
    rate_hz : float or None
        Frames a second; None where the driver does not say.
    """

    fourcc: str
    width_px: int
    height_px: int
    rate_hz: float | None

    @property
    def size_px(self) -> tuple[int, int]:
        """``(width, height)`` of a picture."""
        return self.width_px, self.height_px

    def __str__(self) -> str:
        """Write it as ``--mode`` takes it."""
        rate = "" if self.rate_hz is None else f"@{round(self.rate_hz, 2):g}"
        return f"{self.width_px}x{self.height_px}{rate}:{self.fourcc}"


@dataclass(frozen=True, slots=True)
class ModeWish:
    """What the user asks of a device; None leaves it open.

    Attributes
    ----------
    width_px, height_px : int
        Size of a picture.
    rate_hz : float or None
        Frames a second.
    fourcc : str or None
        Four letters of the pixel format.
    """

    width_px: int
    height_px: int
    rate_hz: float | None
    fourcc: str | None

    def __str__(self) -> str:
        """Write it as ``--mode`` takes it."""
        rate = "" if self.rate_hz is None else f"@{self.rate_hz:g}"
        form = "" if self.fourcc is None else f":{self.fourcc}"
        return f"{self.width_px}x{self.height_px}{rate}{form}"


def parse_mode(text: str) -> ModeWish:
    """Read ``WxH``, ``WxH@FPS``, ``WxH:FOURCC`` or ``WxH@FPS:FOURCC``.

    Raises
    ------
    ValueError
        If it is none of these, or a number is 0.
    """
    found = _MODE.fullmatch(text.strip())
    if found:
        width_px, height_px = int(found[1]), int(found[2])
        rate_hz = float(found[3]) if found[3] else None
        name = found[4].upper() if found[4] else None
        name = _OTHER_NAMES.get(name, name) if name else None
        if width_px and height_px and rate_hz != 0 and (name is None or len(name) <= 4):
            return ModeWish(width_px, height_px, rate_hz, name)
    raise ValueError(
        f"mode must be WxH, WxH@FPS, WxH:FOURCC or WxH@FPS:FOURCC such as 1280x720@30:MJPG, "
        f"got {text!r}"
    )


def is_same_rate(a_hz: float, b_hz: float) -> bool:
    """Whether two rates differ by no more than television's 30 and 29.97 do."""
    return abs(a_hz - b_hz) <= _SAME_RATE * max(a_hz, b_hz)


def bandwidth_bytes_s(mode: Mode) -> float | None:
    """Compute what a mode puts on the link to the machine, headers left out.

    Returns
    -------
    float or None
        Bytes a second: bits of a pixel times pixels times rate. For MJPG an estimate with 2 bits a
        pixel (the demo's pictures take 1.4 at a quality of 90, 1.9 at 95). None where the rate or
        the format's depth is not known.
    """
    bits = _BITS_PER_PIXEL.get(mode.fourcc)
    if bits is None or mode.rate_hz is None:
        return None
    return mode.width_px * mode.height_px * mode.rate_hz * bits / 8


def current_mode(fd: int, kernel: abi.Kernel) -> Mode | None:
    """Ask what the device is set to; None where it does not say.

    Raises
    ------
    OSError
        If the device is gone.
    """
    form = abi.Format(type=abi.BUF_TYPE_VIDEO_CAPTURE)
    if not _answers(fd, kernel, abi.VIDIOC_G_FMT, form) or not (form.width and form.height):
        return None
    parameters = abi.StreamParameters(type=abi.BUF_TYPE_VIDEO_CAPTURE)
    rate_hz = None
    if _answers(fd, kernel, abi.VIDIOC_G_PARM, parameters):
        rate_hz = _rate_hz(parameters.numerator, parameters.denominator)
    return Mode(abi.fourcc_name(form.pixelformat), form.width, form.height, rate_hz)


def list_modes(fd: int, kernel: abi.Kernel, wish: ModeWish | None = None) -> tuple[Mode, ...]:
    """Ask for every mode that a device offers, in the driver's order.

    Where a driver names a range, the usual sizes and rates in it stand for it, with its ends, what
    is set now, and what is wished for. Where it names no sizes, it has the one that is set now.

    Parameters
    ----------
    fd : int
        The open device.
    kernel : Kernel
        System calls.
    wish : ModeWish, optional
        What is to be listed, too, where a range has it.

    Returns
    -------
    tuple of Mode
        At most 2000, each once. A format that is not read is there once, so that it can be named.

    Raises
    ------
    OSError
        If the device is gone.
    """
    now = current_mode(fd, kernel)

    def modes() -> Iterator[Mode]:
        for number in _formats(fd, kernel):
            name = abi.fourcc_name(number)
            offered = (
                Mode(name, *size_px, rate_hz)
                for size_px in _sizes_px(fd, kernel, number, now, wish)
                for rate_hz in _rates_hz(fd, kernel, number, size_px, now, wish)
            )
            yield from offered if name in READABLE else islice(offered, 1)

    return tuple(dict.fromkeys(islice(modes(), _MOST_MODES)))


def _answers(fd: int, kernel: abi.Kernel, request: int, argument: ctypes.Structure) -> bool:
    """Put a question; False where the driver has no answer. OSError only if the device is gone."""
    try:
        kernel.ioctl(fd, request, argument)
    except OSError as error:
        if error.errno in _GONE:
            raise
        return False
    return True


def _entries(
    fd: int, kernel: abi.Kernel, request: int, make: Callable[[int], _Entry]
) -> Iterator[_Entry]:
    """Ask for a list's entries until the driver has no more."""
    for index in range(_MOST_ENTRIES):
        entry = make(index)
        if not _answers(fd, kernel, request, entry):
            return
        yield entry


def _formats(fd: int, kernel: abi.Kernel) -> Iterator[int]:
    def make(index: int) -> abi.FormatDescription:
        return abi.FormatDescription(index=index, type=abi.BUF_TYPE_VIDEO_CAPTURE)

    for entry in _entries(fd, kernel, abi.VIDIOC_ENUM_FMT, make):
        yield entry.pixelformat


def _sizes_px(
    fd: int, kernel: abi.Kernel, number: int, now: Mode | None, wish: ModeWish | None
) -> Iterator[tuple[int, int]]:
    """Yield the sizes of a format."""

    def make(index: int) -> abi.FrameSize:
        return abi.FrameSize(index=index, pixelformat=number)

    known = [(one.width_px, one.height_px) for one in (now, wish) if one]
    entries = list(_entries(fd, kernel, abi.VIDIOC_ENUM_FRAMESIZES, make))
    if not entries and now:
        yield known[0]
    for entry in entries:
        if entry.type == abi.SIZE_DISCRETE:
            found = [(entry.discrete.width, entry.discrete.height)]
        else:
            steps = entry.stepwise
            ends = [(steps.min_width, steps.min_height), (steps.max_width, steps.max_height)]
            found = [s for s in (*known, *_SIZES_PX, *ends) if _has_size(steps, s)]
        yield from (size for size in found if all(size))
        if entry.type != abi.SIZE_DISCRETE:  # a range is the whole list
            return


def _has_size(steps: abi.FrameSizeSteps, size_px: tuple[int, int]) -> bool:
    width, height = size_px
    wide = range(steps.min_width, steps.max_width + 1, steps.step_width or 1)
    high = range(steps.min_height, steps.max_height + 1, steps.step_height or 1)
    return width in wide and height in high


def _rates_hz(
    fd: int,
    kernel: abi.Kernel,
    number: int,
    size_px: tuple[int, int],
    now: Mode | None,
    wish: ModeWish | None,
) -> Iterator[float | None]:
    """Yield the rates of a format at a size; once None where the driver names none."""

    def make(index: int) -> abi.FrameInterval:
        width, height = size_px
        return abi.FrameInterval(index=index, pixelformat=number, width=width, height=height)

    entries = list(_entries(fd, kernel, abi.VIDIOC_ENUM_FRAMEINTERVALS, make))
    if not entries:
        yield now.rate_hz if now and size_px == now.size_px else None
    for entry in entries:
        if entry.type == abi.INTERVAL_DISCRETE:
            yield _rate_hz(entry.discrete.numerator, entry.discrete.denominator)
            continue
        shortest, longest = entry.stepwise.min, entry.stepwise.max
        most = _rate_hz(shortest.numerator, shortest.denominator) or math.inf
        least = _rate_hz(longest.numerator, longest.denominator) or 0.0
        known = (one.rate_hz for one in (now, wish) if one and one.rate_hz)
        rates = {*known, *_RATES_HZ, *(end for end in (least, most) if math.isfinite(end))}
        yield from sorted((hz for hz in rates if hz and least <= hz <= most), reverse=True)
        return


def _rate_hz(numerator: int, denominator: int) -> float | None:
    """Turn an interval in seconds into a rate."""
    return denominator / numerator if numerator and denominator else None


def choose_mode(
    modes: Sequence[Mode],
    current: Mode | None,
    wish: ModeWish | None,
    fps: float | None,
    *,
    link_bytes_s: float | None = None,
) -> Mode:
    """Choose the mode to set.

    A wish is taken exactly, and what it leaves open is chosen as without one. Without a wish, of
    the formats that are read, what matters first comes first:

    1. the link carries it, where that is known: drivers offer more than that (not asked of MJPG,
       which a device makes as small as its link wants it);
    2. the rate is at least `fps`, or 25 Hz; if none is, the highest;
    3. the height is 480 to 1080 px, or as near as can be;
    4. the size is the current one: a grabber's is that of its input, another is scaled;
    5. luma is there as it is, before colour, before MJPG, which costs time and leaves blocks;
    6. the picture is the tallest, then the widest;
    7. the rate is nearest to `fps`, or the current one where that is enough, or 30 Hz;
    8. the format is the first in :data:`READABLE`, of few bytes to a pixel.

    Of modes that are alike in all of it, the driver's first. A rate that a driver does not say
    counts as enough: it is the input's.

    Parameters
    ----------
    modes : sequence of Mode
        Of :func:`list_modes`.
    current : Mode or None
        Of :func:`current_mode`.
    wish : ModeWish or None
        What the user asks for.
    fps : float or None
        Frames a second that the user asks for, where the wish says nothing of it.
    link_bytes_s : float, optional
        Bytes a second that the link carries.

    Raises
    ------
    ValueError
        If the wish is not offered (the nearest modes are listed), or no format is read.
    """
    offered = [mode for mode in modes if mode.fourcc in READABLE]
    if not offered:
        there = ", ".join(dict.fromkeys(mode.fourcc for mode in modes)) or "no format"
        raise ValueError(f"the device offers {there}; readable are {', '.join(READABLE)}")
    fitting = [mode for mode in offered if wish is None or _grants(mode, wish)]
    if wish and not fitting:
        near = ", ".join(str(mode) for mode in _nearest(offered, wish))
        raise ValueError(f"the device does not offer {wish}; nearest to it: {near}")
    asked_hz = wish.rate_hz if wish and wish.rate_hz else fps
    return min(fitting, key=lambda mode: _demerits(mode, current, asked_hz, link_bytes_s))


def _demerits(
    mode: Mode, current: Mode | None, asked_hz: float | None, link_bytes_s: float | None
) -> tuple[float, ...]:
    """Weigh a mode by the rule of :func:`choose_mode`; the lesser is the better."""
    need_bytes_s = bandwidth_bytes_s(mode) if mode.fourcc != "MJPG" else None
    enough_hz = asked_hz or ENOUGH_HZ
    rate_hz = mode.rate_hz or enough_hz
    least_px, most_px = _HEIGHTS_PX
    is_enough = rate_hz >= enough_hz or is_same_rate(rate_hz, enough_hz)
    current_hz = (current.rate_hz if current else None) or 0.0
    wanted_hz = asked_hz or (current_hz if current_hz >= ENOUGH_HZ else _USUAL_HZ)
    return (
        link_bytes_s is not None and need_bytes_s is not None and need_bytes_s > link_bytes_s,
        0.0 if is_enough else -rate_hz + enough_hz,
        max(least_px - mode.height_px, mode.height_px - most_px, 0),
        not current or mode.size_px != current.size_px,
        _GROUP[mode.fourcc],
        -mode.height_px,
        -mode.width_px,
        abs(rate_hz - wanted_hz),
        READABLE.index(mode.fourcc),
    )


def _grants(mode: Mode, wish: ModeWish) -> bool:
    """Whether a mode is what is wished for; a rate that the driver does not say is left to it."""
    if mode.size_px != (wish.width_px, wish.height_px):
        return False
    if wish.fourcc not in (None, mode.fourcc):
        return False
    return not (mode.rate_hz and wish.rate_hz) or is_same_rate(mode.rate_hz, wish.rate_hz)


def _nearest(modes: Sequence[Mode], wish: ModeWish) -> list[Mode]:
    """Find five modes that differ from a wish by the smallest factors, each size and rate once."""

    def distance(mode: Mode) -> float:
        width = abs(math.log(mode.width_px / wish.width_px))
        height = abs(math.log(mode.height_px / wish.height_px))
        rate = 0.0
        if mode.rate_hz and wish.rate_hz:
            rate = abs(math.log(mode.rate_hz / wish.rate_hz))
        return width + height + rate + 0.5 * (wish.fourcc not in (None, mode.fourcc))

    nearest: dict[tuple[object, ...], Mode] = {}
    for mode in sorted(modes, key=distance):
        nearest.setdefault((mode.size_px, mode.rate_hz), mode)
    return list(nearest.values())[:5]
