"""A capture device's modes as findings: what each puts on the link, and which one to take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from veintrack.tracker.health import NOT_NEEDED, OK, Check
from veintrack.tracker.sources.v4l2_link import UsbLink
from veintrack.tracker.sources.v4l2_modes import (
    ENOUGH_HZ,
    READABLE,
    Mode,
    bandwidth_bytes_s,
    choose_mode,
)

__all__ = ["mode_checks"]

_SHOWN_SIZES = 3
_USUAL_HZ = 30.0
_SUPER_SPEED_MBIT_S = 5000.0


def mode_checks(
    name: str, modes: Sequence[Mode], current: Mode | None, link: UsbLink | None
) -> Iterator[Check]:
    """Show what a device delivers over its link, and which mode to take.

    Parameters
    ----------
    name : str
        Of the device.
    modes : sequence of Mode
        What it offers.
    current : Mode or None
        What it is set to.
    link : UsbLink or None
        How it is connected, where that is USB.
    """
    slow = _slow_mode(modes, current)
    if link:
        yield from _link_checks(name, link, slow is not None)
    formats: dict[str, list[Mode]] = {}
    for mode in modes:
        formats.setdefault(mode.fourcc, []).append(mode)
    for fourcc in filter(READABLE.__contains__, formats):
        yield Check(f"{name} {fourcc}", OK, _offer(formats[fourcc], current, link))
    if unread := [fourcc for fourcc in formats if fourcc not in READABLE]:
        yield Check(f"{name} others", NOT_NEEDED, f"not read: {_shortened(unread, 8, 'format')}")
    if not modes:
        yield Check(f"{name} mode", NOT_NEEDED, "it offers no format: does anything feed it?")
        return
    try:
        taken = choose_mode(modes, current, None, None, link_bytes_s=_carries(link))
    except ValueError as error:
        yield Check(f"{name} mode", NOT_NEEDED, str(error))
        return
    if slow:
        yield _slowness(name, modes, link, slow, taken)
    now = f"; now it is set to {current}" if current else ""
    yield Check(f"{name} mode", OK, f"{taken} is what veintrack takes{now}")


def _link_checks(name: str, link: UsbLink, too_slow: bool) -> Iterator[Check]:
    kind = "bulk transfers" if link.bulk else "one stream"
    faster = "a USB 3 port and cable carry more, if the card is made for it"
    yield Check(
        f"{name} link",
        OK,
        f"USB at {link.speed_mbit_s:g} Mbit/s: {_mb_s(link.usable_bytes_s)} for {kind}",
        faster if too_slow and link.speed_mbit_s < _SUPER_SPEED_MBIT_S else "",
    )
    if link.may_sleep:
        yield Check(
            f"{name} power",
            OK,
            "sleeps while nobody uses it (power/control is auto): a card that wakes badly stalls",
            f"echo on | sudo tee {link.folder}/power/control   # where it stalls",
        )


def _offer(modes: Sequence[Mode], current: Mode | None, link: UsbLink | None) -> str:
    """Put the sizes of a format into words, each at its highest rate, the one set first."""
    now = current.size_px if current else None
    fastest = sorted(
        _fastest(modes).values(),
        key=lambda mode: (mode.size_px != now, not _is_useful(mode), -mode.height_px),
    )
    return _shortened([_with_bandwidth(mode, link) for mode in fastest], _SHOWN_SIZES, "size")


def _shortened(names: Sequence[str], shown: int, what: str) -> str:
    more = len(names) - shown
    rest = f", and {more} more {what}{'s' * (more > 1)}" if more > 0 else ""
    return ", ".join(names[:shown]) + rest


def _fastest(modes: Sequence[Mode]) -> Mapping[tuple[int, int], Mode]:
    """Find the mode of the highest rate at each size."""
    found: dict[tuple[int, int], Mode] = {}
    for mode in modes:
        best = found.setdefault(mode.size_px, mode)
        if (mode.rate_hz or 0.0) > (best.rate_hz or 0.0):
            found[mode.size_px] = mode
    return found


def _is_useful(mode: Mode) -> bool:
    return 480 <= mode.height_px <= 1080


def _with_bandwidth(mode: Mode, link: UsbLink | None) -> str:
    text = str(mode).removesuffix(f":{mode.fourcc}")
    need_bytes_s = bandwidth_bytes_s(mode)
    if need_bytes_s is None:
        return text
    if mode.fourcc == "MJPG":
        return f"{text} (about {_mb_s(need_bytes_s)})"
    carries = _carries(link)
    over = ", more than the link" if carries is not None and need_bytes_s > carries else ""
    return f"{text} ({_mb_s(need_bytes_s)}{over})"


def _slow_mode(modes: Sequence[Mode], current: Mode | None) -> Mode | None:
    """Find an uncompressed mode of a useful size that is too slow: of the size set, if it is."""
    raw = [mode for mode in modes if mode.fourcc in READABLE and mode.fourcc != "MJPG"]
    fastest = _fastest([mode for mode in raw if _is_useful(mode)])
    slow = {
        size_px: mode
        for size_px, mode in fastest.items()
        if mode.rate_hz is not None and mode.rate_hz < ENOUGH_HZ
    }
    first = next(iter(slow.values()), None)
    return slow.get(current.size_px, first) if current else first


def _slowness(
    name: str, modes: Sequence[Mode], link: UsbLink | None, slow: Mode, taken: Mode
) -> Check:
    """Say why a mode is slow, and which to take."""
    need_bytes_s = bandwidth_bytes_s(replace(slow, rate_hz=_USUAL_HZ))
    carries, why = _carries(link), ""
    if need_bytes_s and carries and need_bytes_s > carries:
        why = f": {_USUAL_HZ:g} Hz would put {_mb_s(need_bytes_s)} on a link of {_mb_s(carries)}"
    width, height = slow.size_px
    detail = f"{slow.fourcc} at {width}x{height} comes at {slow.rate_hz:.3g} Hz only{why}"
    quick = [m for m in modes if m.fourcc in READABLE and (m.rate_hz or 0.0) >= ENOUGH_HZ]
    same = [mode for mode in quick if mode.size_px == slow.size_px]
    if not quick:
        return Check(f"{name} rate", OK, f"{detail}; no mode reaches {ENOUGH_HZ:g} Hz")
    better = choose_mode(same, None, None, _USUAL_HZ) if same else taken
    return Check(f"{name} rate", OK, detail, f"veintrack --source {name} --mode {better}")


def _carries(link: UsbLink | None) -> float | None:
    return None if link is None else link.usable_bytes_s


def _mb_s(bytes_s: float) -> str:
    return f"{bytes_s / 1e6:.1f} MB/s"
