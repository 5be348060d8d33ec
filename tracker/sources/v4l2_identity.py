"""Which capture devices there are, and which of them is the one from before.

The number of a node says nothing: a card that is plugged in again may get another, and two cards
may swap theirs. What the driver and sysfs say of a card stays.
"""

import errno
import os
from dataclasses import dataclass, replace
from pathlib import PurePath

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.naturalorder import natural_key
from veintrack.tracker.sources import v4l2_abi as abi

__all__ = [
    "CaptureDevice",
    "explain",
    "find_again",
    "identify",
    "is_same",
    "list_devices",
    "without_shared_serial",
]

_SYSFS = "/sys/class/video4linux"


@dataclass(frozen=True, slots=True)
class CaptureDevice:
    """A node under ``/dev`` and what is behind it.

    Attributes
    ----------
    path : str
        ``/dev/video0``, or however the node is called now; no link.
    card, driver : str
        Name of the card and of its driver; empty where the node cannot be opened.
    bus : str
        Where it is plugged in, in the driver's words; empty where it does not say.
    serial : str
        Serial number of a USB device; empty where it has none.
    node : str
        Which of its card's nodes this is: the interface and a number, ``1.0/0``. A camera's
        second node carries metadata.
    links : tuple of str
        Names of it that stay: ``/dev/v4l/by-id/...``, ``/dev/v4l/by-path/...``.
    fault : str
        Why no pictures can be had from it, in one line; empty if they can.
    """

    path: str
    card: str
    driver: str
    bus: str
    serial: str
    node: str
    links: tuple[str, ...] = ()
    fault: str = ""

    @property
    def can_capture(self) -> bool:
        """Whether pictures can be had from it."""
        return not self.fault

    def __str__(self) -> str:
        """Name the card and where it is plugged in."""
        return f"{self.card} ({self.bus})" if self.bus else self.card


def explain(path: str, error: OSError) -> SourceNotFoundError | SourceUnreadableError:
    """Put a failed opening into one line that says what would help."""
    code = error.errno
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        there = " ".join(sorted(abi.find_paths("/dev/video*"))) or "none"
        return SourceNotFoundError(f"no such device: {path} (video devices here: {there})")
    if code in (errno.EACCES, errno.EPERM):
        return SourceUnreadableError(
            f"{path}: permission denied; run `sudo usermod -aG video $USER` and log in again"
        )
    if code == errno.EBUSY:
        return SourceUnreadableError(
            f"{path} is in use by another program; `fuser -v {path}` names it"
        )
    if code == errno.ENOSPC:  # uvcvideo's word for it
        return SourceUnreadableError(
            f"{path}: the USB link has no room for these pictures; take a smaller mode or a "
            "compressed one (MJPG), or plug the device into a port of its own"
        )
    if code in (errno.ENOTTY, errno.EISDIR, errno.ENOTDIR):
        return SourceUnreadableError(f"{path} is not a video device")
    return SourceUnreadableError(f"{path} cannot be read: {os.strerror(code or errno.EIO)}")


def identify(path: str, fd: int, kernel: abi.Kernel) -> CaptureDevice:
    """Ask an open node what it is.

    Raises
    ------
    SourceUnreadableError
        If it is no video device.
    OSError
        If it is gone.
    """
    caps = abi.Capability()
    try:
        kernel.ioctl(fd, abi.VIDIOC_QUERYCAP, caps)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            raise SourceUnreadableError(f"{path} is not a video device") from error
        raise
    card = caps.card.decode(errors="replace")
    return replace(
        _seen_from_outside(path, kernel),
        card=card,
        driver=caps.driver.decode(errors="replace"),
        bus=caps.bus_info.decode(errors="replace"),
        fault=_fault(f"{path} ({card})", caps),
    )


def _fault(what: str, caps: abi.Capability) -> str:
    """Say why a node gives no pictures that are read; empty if it does."""
    # A driver with several nodes says under device_caps what this one can do.
    whole = not caps.capabilities & abi.CAP_DEVICE_CAPS
    can = caps.capabilities if whole else caps.device_caps
    if can & abi.CAP_VIDEO_CAPTURE:
        return "" if can & abi.CAP_STREAMING else f"{what} cannot stream into mapped buffers"
    if can & abi.CAP_META_CAPTURE:
        return f"{what} carries metadata only; its pictures come from another node"
    if can & abi.CAP_VIDEO_CAPTURE_MPLANE:
        return f"{what} delivers multi-planar pictures, which are not read"
    return f"{what} does not capture"


def _seen_from_outside(path: str, kernel: abi.Kernel) -> CaptureDevice:
    """Say what is known of a node without opening it."""
    real = kernel.resolve(path)
    place = f"{_SYSFS}/{PurePath(real).name}"
    on_usb, _, interface = PurePath(kernel.resolve(f"{place}/device")).name.rpartition(":")
    return CaptureDevice(
        path=real,
        card="",
        driver="",
        bus="",
        # A node's device is one interface of the USB device, which is the folder above.
        serial=kernel.read_text(f"{place}/device/../serial"),
        node=(interface if on_usb else "") + "/" + (kernel.read_text(f"{place}/index") or "0"),
        links=tuple(
            link for link in sorted(kernel.find("/dev/v4l/by-*/*")) if kernel.resolve(link) == real
        ),
    )


def without_shared_serial(device: CaptureDevice, kernel: abi.Kernel) -> CaptureDevice:
    """Leave out a serial number that another card has too: cheap ones are all numbered alike."""
    if not device.serial:
        return device
    own = PurePath(kernel.resolve(device.path)).name
    others = (PurePath(p).name for p in kernel.find(f"{_SYSFS}/video*"))
    seen = (_seen_from_outside(f"/dev/{name}", kernel) for name in others if name != own)
    shared = any((one.serial, one.node) == (device.serial, device.node) for one in seen)
    return replace(device, serial="") if shared else device


def list_devices(kernel: abi.Kernel) -> tuple[CaptureDevice, ...]:
    """Look at every video node of this machine, by number.

    Those that deliver no pictures and those that cannot be opened are there too, with their fault.

    Parameters
    ----------
    kernel : Kernel
        System calls.
    """
    nodes = {kernel.resolve(path) for path in kernel.find("/dev/video*")}
    seen = (_look_at(path, kernel) for path in sorted(nodes, key=natural_key))
    return tuple(device for device in seen if device is not None)


def _look_at(path: str, kernel: abi.Kernel) -> CaptureDevice | None:
    """Open a node and ask what it is; None if it has vanished."""
    try:
        fd = kernel.open(path)
        try:
            return identify(path, fd, kernel)
        finally:
            kernel.close(fd)
    except SourceUnreadableError as error:
        return replace(_seen_from_outside(path, kernel), fault=str(error))
    except FileNotFoundError:
        return None
    except OSError as error:
        return replace(_seen_from_outside(path, kernel), fault=str(explain(path, error)))


def is_same(known: CaptureDevice, found: CaptureDevice, name: str = "") -> bool:
    """Whether a device is the one that was open before.

    Told by the serial number; without one by where it is plugged in, unless the user named it by
    a link that follows the card; without that, too, by its path.

    Parameters
    ----------
    known, found : CaptureDevice
        What was open, and what is there now.
    name : str
        The source as the user named it.
    """
    if (found.card, found.driver, found.node) != (known.card, known.driver, known.node):
        return False
    if known.serial:
        return found.serial == known.serial
    if name.startswith("/dev/v4l/by-id/") and name in found.links:
        return True
    return found.bus == known.bus if known.bus else found.path == known.path


def find_again(known: CaptureDevice, name: str, kernel: abi.Kernel) -> str:
    """Find the path of a device that was open before, wherever it is now.

    Where several may be it, the one in the old place is; if that does not tell, none is taken.

    Parameters
    ----------
    known : CaptureDevice
        What was open.
    name : str
        The source as the user named it.
    kernel : Kernel
        System calls.

    Raises
    ------
    SourceNotFoundError
        If it is not there.
    SourceUnreadableError
        If what may be it cannot be opened; the message says what would help.
    """
    devices = list_devices(kernel)
    same = [device for device in devices if is_same(known, device, name)]
    if len(same) > 1:
        same = [device for device in same if device.bus == known.bus]
    if len(same) == 1:
        return same[0].path
    for device in devices:
        unknown = not device.card and device.fault
        if unknown and (device.path == known.path or device.serial == known.serial != ""):
            raise SourceUnreadableError(device.fault)
    there = ", ".join(f"{device.path} {device}" for device in devices if device.card) or "no device"
    raise SourceNotFoundError(f"{known} is not there; there is {there}")
