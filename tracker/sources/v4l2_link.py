"""What lies between a capture device and the machine, as Linux's ``/sys`` tells it.

The figures are of the specifications, for one device that has the bus for itself. Universal Serial
Bus 2.0, section 5.6.3: an isochronous endpoint sends at most 1023 bytes in a frame of 1 ms (full
speed), or 3 x 1024 bytes in a microframe of 125 us (high speed); table 5-10: 13 bulk packets of
512 bytes in a microframe. Universal Serial Bus 3.2, section 9.6.7: 3 bursts of 16 packets of
1024 bytes in a service interval of 125 us.
"""

from dataclasses import dataclass
from pathlib import Path

from veintrack.tracker.sources.v4l2_abi import find_paths

__all__ = ["UsbLink", "usb_link"]

_FULL_SPEED, _HIGH_SPEED = 12.0, 480.0
_FULL_BYTES_S = 1023 * 1000.0
_HIGH_BYTES_S = 3 * 1024 * 8000.0
_HIGH_BULK_BYTES_S = 13 * 512 * 8000.0
_SUPER_BYTES_S = 3 * 16 * 1024 * 8000.0
_VIDEO_STREAMING = (
    "0e",
    "02",
)  # class and subclass of an interface, USB Video Class 1.5, A.1 and A.2


@dataclass(frozen=True, slots=True)
class UsbLink:
    """How a USB device is connected.

    Attributes
    ----------
    folder : Path
        Of the device under ``/sys/devices``.
    speed_mbit_s : float
        Signalling rate that device and port agreed on.
    bulk : bool
        True where its pictures come as bulk transfers, not in reserved (isochronous) slots.
    usable_bytes_s : float
        What one stream of pictures gets at most, bytes a second; at least so much where the link
        is faster than 5000 Mbit/s.
    may_sleep : bool
        True where Linux may suspend the device while nobody uses it.
    """

    folder: Path
    speed_mbit_s: float
    bulk: bool
    usable_bytes_s: float
    may_sleep: bool


def usb_link(name: str, root: Path = Path("/")) -> UsbLink | None:
    """Find how a device is connected.

    Parameters
    ----------
    name : str
        Of its node, such as ``video0``.
    root : Path
        Under which ``sys`` lies.

    Returns
    -------
    UsbLink or None
        None for a device that is on no USB, or whose system does not say.
    """
    top = root.resolve()
    here = (top / "sys/class/video4linux" / name / "device").resolve()
    for folder in (here, *here.parents):
        if folder == top:
            return None
        speed = _read(folder / "speed")
        if speed.replace(".", "", 1).isdecimal() and _read(folder / "idVendor"):  # or "unknown"
            bulk = any(_is_bulk(interface) for interface in find_paths(f"{folder}/*:*"))
            usable_bytes_s = _usable_bytes_s(float(speed), bulk)
            may_sleep = _read(folder / "power/control") == "auto"
            return UsbLink(folder, float(speed), bulk, usable_bytes_s, may_sleep)
    return None


def _usable_bytes_s(speed_mbit_s: float, bulk: bool) -> float:
    if speed_mbit_s <= _FULL_SPEED:
        return _FULL_BYTES_S
    if speed_mbit_s <= _HIGH_SPEED:
        return _HIGH_BULK_BYTES_S if bulk else _HIGH_BYTES_S
    return _SUPER_BYTES_S


def _is_bulk(interface: str) -> bool:
    kind = tuple(_read(Path(interface, f"bInterface{what}")) for what in ("Class", "SubClass"))
    ends = find_paths(f"{interface}/ep_8*/type")  # 8 in an address is the direction to the machine
    return kind == _VIDEO_STREAMING and any(_read(Path(end)) == "Bulk" for end in ends)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
