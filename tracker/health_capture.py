"""What the capture devices of this machine can do, and what keeps pictures from coming.

A device is only asked, never set, unless its pace is measured.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.health import (
    BROKEN,
    MISSING,
    NOT_NEEDED,
    OK,
    Check,
    Places,
    in_container,
    look,
    one_line,
)
from veintrack.tracker.health_modes import mode_checks
from veintrack.tracker.health_pace import Pace
from veintrack.tracker.naturalorder import natural_key
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2_link import usb_link
from veintrack.tracker.sources.v4l2_modes import Mode, current_mode, list_modes

__all__ = ["answer_within", "capture_checks", "check_device", "holders"]

_T = TypeVar("_T")
Measure = Callable[[str], Pace]

_ANSWER_S = 5.0  # a driver in trouble may never answer
_PACE_S = 15.0  # five for the first picture, two to measure, and the rest to be told of a fault
_JOIN_GROUP = "sudo usermod -aG video $USER   # then log in again"
_REPLUG = "unplug it and plug it in again; sudo dmesg | tail   # says why"
_LATE = 0.9  # below so much of the rate that the driver says, something slows the device
_DELETED = " (deleted)"  # what the system adds to the name of a file that is gone
_VIDEO_MAJOR = 81  # of device nodes (devices.txt of the kernel)
_VIDEO_CLASS = "0e"  # of a USB interface

_CAP_VIDEO_OUTPUT = 0x00000002 | 0x00002000  # single and multi-planar
_CAP_VIDEO_M2M = 0x00008000 | 0x00004000


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a device says of itself."""

    card: str
    driver: str
    bus: str
    fault: str
    modes: tuple[Mode, ...] = ()
    current: Mode | None = None


def capture_checks(
    places: Places,
    kernel: abi.Kernel,
    *,
    only: str | None = None,
    measure: Measure | None = None,
) -> Iterator[Check]:
    """Say what each ``/dev/video*`` is, what it delivers, and what is in its way.

    Parameters
    ----------
    places : Places
        Where they are.
    kernel : Kernel
        System calls.
    only : str, optional
        The one that is to be looked at: ``0``, ``/dev/video0`` or ``/dev/v4l/by-id/...``.
    measure : callable, optional
        Opens a device that captures, and measures its pace.
    """
    found = _nodes(places)
    nodes = found if only is None else [_node(places, only)]
    if not found:
        yield from look("video devices", partial(_without_devices, places))
    yield from look("v4l2loopback", partial(_loopback, places))
    held = holders(places)
    for node in nodes if found else ():
        who = held.get(node.name, ())
        yield from look(str(node), partial(_device, places, kernel, node, who, measure))
    for name in (name for name in held if name.endswith(_DELETED)):
        gone = f"/dev/{name.removesuffix(_DELETED)}"
        detail = f"gone, but open in {', '.join(held[name])}: its card gets another number"
        yield Check(gone, OK, detail, "end that program, and plug the card in again")


def check_device(places: Places, source: str) -> None:
    """Refuse what is no video device, before anything is looked at.

    Parameters
    ----------
    places : Places
        Where the devices are.
    source : str
        As the user named it: ``0``, ``/dev/video0`` or ``/dev/v4l/by-id/...``.

    Raises
    ------
    SourceNotFoundError
        If there is none of that name.
    SourceUnreadableError
        If it is something else.
    """
    node, nodes = _node(places, source), _nodes(places)
    there = f"video devices here: {' '.join(map(str, nodes)) or 'none'}"
    try:
        device = node.stat()
    except OSError as error:
        raise SourceNotFoundError(f"no such device: {source} ({there})") from error
    is_video = stat.S_ISCHR(device.st_mode) and os.major(device.st_rdev) == _VIDEO_MAJOR
    if node not in nodes and not is_video:
        raise SourceUnreadableError(f"{source} is not a video device ({there})")


def _nodes(places: Places) -> list[Path]:
    """Find the video devices, in the order of their numbers."""
    return sorted((places.root / "dev").glob("video*"), key=lambda node: natural_key(node.name))


def _node(places: Places, source: str) -> Path:
    """Find the node that a source's name stands for."""
    path = f"dev/video{source}" if source.isdecimal() else source.lstrip("/")
    return (places.root / path).resolve()


def answer_within(limit_s: float, work: Callable[[], _T]) -> _T:
    """Do what may never end; raise TimeoutError if it has not by then."""
    said: SimpleQueue[tuple[_T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            said.put((work(), None))
        except BaseException as error:  # raised below, by the one who asked
            said.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = said.get(timeout=limit_s)
    except Empty:
        raise TimeoutError(f"no answer within {limit_s:g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def holders(places: Places) -> dict[str, tuple[str, ...]]:
    """Find the programs that have video devices open, as far as they may be looked at.

    Returns
    -------
    dict
        By the node's name, such as ``video0``, or ``video0 (deleted)``: ``obs (pid 4711)``.
    """
    found: dict[str, list[str]] = {}
    for pid in sorted((n for n in places.names("proc") if n.isdecimal()), key=int):
        if int(pid) == os.getpid():
            continue
        for node in {_open_node(places.root / f"proc/{pid}/fd/{fd}") for fd in _fds(places, pid)}:
            if node:
                name = places.read(f"proc/{pid}/comm") or "a program"
                found.setdefault(node, []).append(f"{name} (pid {pid})")
    return {node: tuple(names) for node, names in found.items()}


def _fds(places: Places, pid: str) -> list[str]:
    return places.names(f"proc/{pid}/fd")


def _open_node(fd: Path) -> str:
    try:
        target = str(fd.readlink())
    except OSError:  # closed meanwhile
        return ""
    return target.removeprefix("/dev/") if target.startswith("/dev/video") else ""


def _without_devices(places: Places) -> Iterator[Check]:
    """Say why there may be none."""
    known = [name for name in places.names("sys/class/video4linux") if name.startswith("video")]
    if known and in_container(places):
        names = ", ".join(sorted(known, key=natural_key))
        hand_in = f"start the container with --device /dev/{min(known, key=natural_key)}"
        yield Check(
            "video devices", MISSING, f"the machine has {names}, this container none", hand_in
        )
        return
    for interface in places.names("sys/bus/usb/devices"):
        at = f"sys/bus/usb/devices/{interface}"
        if places.read(f"{at}/bInterfaceClass") == _VIDEO_CLASS and not places.has(f"{at}/driver"):
            device = interface.split(":")[0]
            product = places.read(f"sys/bus/usb/devices/{device}/product") or "unnamed"
            detail = f"{product} is plugged in at USB {device}, and no driver serves it"
            yield Check("video devices", MISSING, detail, "sudo modprobe uvcvideo")
            return
    yield Check(
        "video devices",
        NOT_NEEDED,
        "none: files, folders, streams and the demo need none",
        "plug the card in, and see `lsusb` and `sudo dmesg | tail`; "
        "start a container with --device /dev/video0",
    )


def _loopback(places: Places) -> Iterator[Check]:
    """Tell of loopback devices that look like cameras with nobody behind them."""
    at = "sys/module/v4l2loopback/parameters"
    exclusive = places.read(f"{at}/exclusive_caps").split(",")
    numbers = [n for n in places.read(f"{at}/video_nr").split(",") if n not in ("-1", "")]
    if "N" in exclusive[: max(len(numbers), 1)]:
        yield Check(
            "v4l2loopback",
            OK,
            "loaded without exclusive_caps: its devices look like cameras while nobody feeds them",
            "sudo modprobe -r v4l2loopback && sudo modprobe v4l2loopback exclusive_caps=1",
        )


def _device(
    places: Places,
    kernel: abi.Kernel,
    node: Path,
    held_by: Sequence[str],
    measure: Measure | None,
) -> Iterator[Check]:
    """Say what one device is and does."""
    card = places.read(f"sys/class/video4linux/{node.name}/name") or "unnamed"
    users = ", ".join(held_by)
    try:
        asked = answer_within(_ANSWER_S, partial(_ask, kernel, str(node)))
    except OSError as error:
        yield _refusal(node, card, users, error)
        return
    links = (places.root / "dev/v4l/by-id").glob("*")
    lasting = sorted(str(link) for link in links if link.resolve() == node.resolve())
    known_as = "; ".join([asked.card or card, _served_by(places, node.name, asked), *lasting])
    if asked.fault:
        yield Check(str(node), NOT_NEEDED, f"{known_as}; {asked.fault}")
        return
    yield Check(str(node), OK, known_as)
    if users:
        one_only = "close it if no picture comes: one program at a time can capture"
        yield Check(f"{node} users", OK, f"open in {users}", one_only)
    link = usb_link(node.name, places.root)
    yield from mode_checks(str(node), asked.modes, asked.current, link)
    if measure:
        yield _pace_check(node, asked, measure)


def _ask(kernel: abi.Kernel, path: str) -> _Asked:
    """Ask a device what it is and what it delivers."""
    said = abi.Capability()
    fd = kernel.open(path)
    try:
        kernel.ioctl(fd, abi.VIDIOC_QUERYCAP, said)
        fault = _fault(said)
        modes = () if fault else list_modes(fd, kernel)
        current = None if fault else current_mode(fd, kernel)
    finally:
        kernel.close(fd)
    card, driver, bus = (
        field.decode(errors="replace") for field in (said.card, said.driver, said.bus_info)
    )
    version = ".".join(str(said.version >> shift & 0xFF) for shift in (16, 8, 0))
    return _Asked(card, f"{driver} {version}", bus, fault, modes, current)


def _fault(said: abi.Capability) -> str:
    """Say why a device delivers no pictures that are read; empty if it does."""
    whole = not said.capabilities & abi.CAP_DEVICE_CAPS
    can = said.capabilities if whole else said.device_caps
    if can & abi.CAP_VIDEO_CAPTURE:
        return "" if can & abi.CAP_STREAMING else "cannot stream into mapped buffers"
    if can & abi.CAP_META_CAPTURE:
        return "metadata only: its pictures come from another node of this card"
    if can & _CAP_VIDEO_M2M:
        return "a converter of pictures: it captures none"
    if can & abi.CAP_VIDEO_CAPTURE_MPLANE:
        return "its pictures come in several planes, which are not read"
    if can & _CAP_VIDEO_OUTPUT:
        return "an output: it takes pictures, and delivers none until somebody feeds it"
    return "delivers no pictures"


def _refusal(node: Path, card: str, users: str, error: OSError) -> Check:
    """Say what keeps a device from being asked."""
    name = str(node)
    if isinstance(error, TimeoutError):
        return Check(name, BROKEN, f"{card}; {one_line(error)}", _REPLUG)
    if error.errno == errno.EACCES:
        return Check(name, MISSING, f"{card}; you may not read it", _JOIN_GROUP)
    if error.errno == errno.EPERM:
        hand_in = f"start the container with --device {node}"
        return Check(name, MISSING, f"{card}; the container may not", hand_in)
    if error.errno == errno.EBUSY:
        find = "" if users else f"sudo fuser -v {node}   # names by whom"
        return Check(name, OK, f"{card}; in use" + (f" by {users}" if users else ""), find)
    if error.errno in (errno.ENODEV, errno.ENXIO):
        kept = f", and {users} keeps its node" if users else ""
        end = "end the program that has it open" if users else _REPLUG
        return Check(name, BROKEN, f"{card}; the device is gone{kept}", end)
    return Check(name, BROKEN, f"{card}; {one_line(error)}")


def _served_by(places: Places, name: str, asked: _Asked) -> str:
    """Name the driver, its module where that is called otherwise, and where the card is."""
    at = places.root / "sys/class/video4linux" / name / "device/driver/module"
    module = at.resolve().name if at.exists() else ""
    other = f" (module {module})" if module and module != asked.driver.split()[0] else ""
    return f"driver {asked.driver}{other} at {asked.bus}"


def _pace_check(node: Path, asked: _Asked, measure: Measure) -> Check:
    """Measure a device."""
    name = f"{node} pace"
    try:
        pace = answer_within(_PACE_S, partial(measure, str(node)))
    except Exception as error:  # whatever keeps it from delivering is what was found
        return Check(name, BROKEN, str(error) or one_line(error))
    said = f" (the driver says {pace.said_hz:.4g})" if pace.said_hz else ""
    detail = (
        f"{pace.rate_hz:.2f} Hz over {pace.frames} frames{said}, "
        f"one every {pace.interval_ms:.1f} ms, 99 % within {pace.jitter_ms:.1f} ms of it, "
        f"{pace.lost or 'none'} lost{_age(pace)}"
    )
    mend = ""
    is_late = pace.said_hz is not None and pace.rate_hz < _LATE * pace.said_hz
    if is_late and asked.driver.startswith("uvcvideo"):
        mend = (
            f"v4l2-ctl -d {node} -c exposure_dynamic_framerate=0   # a camera in the dark is slow"
        )
    return Check(name, OK, detail, mend)


def _age(pace: Pace) -> str:
    if pace.age_ms is None:
        return ""
    if pace.age_ms < 0:
        return f", stamped {-pace.age_ms:.1f} ms ahead: the driver stamps the end of the frame"
    return f", {pace.age_ms:.1f} ms old when read (at most {pace.oldest_ms:.1f})"
