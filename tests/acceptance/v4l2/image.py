"""The test machine's image: a stock Debian kernel with its video drivers, and a first program.

Made once from Debian's packages, without root and without touching the system: lists and packages
are fetched into the cache folder, and unpacked there. The image holds no files of the guest; its
root is the host's own file system, read-only (see `machine.py`).
"""

import fcntl
import hashlib
import lzma
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TOOLS", "Image", "MachineError", "cache_folder", "install_tools", "prepare"]

#: Programs that are needed, and the Debian packages that bring them.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "v4l2-ctl": "v4l-utils",
    "insmod": "kmod",
    "gcc": "gcc",
    "make": "make",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}
#: What the guest finds under /run/machine/modules, to be loaded by the tests as they need them.
DRIVERS = ("vivid", "v4l2loopback", "uvcvideo", "vhci-hcd")
_BASE = ("virtio_pci", "virtio_console", "virtio-rng", "9pnet_virtio", "9p", "overlay")
_HERE = Path(__file__).parent
_XZ = b"\xfd7zXZ\0"


class MachineError(RuntimeError):
    """The test machine cannot be had; one line says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Image:
    """What qemu boots.

    Attributes
    ----------
    kernel, initrd : Path
        The unpacked kernel, and the first file system: busybox, drivers, ``guest_init.sh``.
    """

    kernel: Path
    initrd: Path


def cache_folder() -> Path:
    """Give the folder that keeps images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "veintrack-vm"


def prepare() -> Image:
    """Find the image in the cache, or make it.

    Raises
    ------
    MachineError
        If a tool is missing, or the packages cannot be had.
    """
    if platform.machine() != "x86_64":
        raise MachineError(f"the test machine is an x86_64, this is {platform.machine()}")
    missing = _missing()
    if "apt-get" in missing:
        raise MachineError("apt-get not found: the image is made of Debian's packages")
    if missing:
        raise MachineError(f"{', '.join(missing)} not found: sudo {' '.join(_install(missing))}")
    recipe = Path(__file__).read_bytes() + (_HERE / "guest_init.sh").read_bytes()
    folder = cache_folder() / hashlib.sha256(recipe).hexdigest()[:12]
    image = Image(folder / "vmlinux", folder / "initrd")
    try:
        with _locked(cache_folder()):
            if not folder.exists():
                _make(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MachineError(
            f"the image cannot be made of Debian's packages ({_reason(error)})"
        ) from error
    return image


def install_tools() -> None:
    """Install missing tools with apt-get; needs root.

    Raises
    ------
    MachineError
        If this is not root, or apt-get fails.
    """
    missing = _missing()
    if not missing or "apt-get" in missing:  # without it, `prepare` says so
        return
    if os.geteuid() != 0:
        raise MachineError(f"not root: sudo {' '.join(_install(missing))}")
    try:
        _call("apt-get", "update", "-qq")
        _call(*_install(missing), "-qq", "-y")
    except (OSError, subprocess.CalledProcessError) as error:
        raise MachineError(f"tools cannot be installed: {_reason(error)}") from error


def _missing() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def _install(tools: Sequence[str]) -> list[str]:
    return ["apt-get", "install", "--no-install-recommends", *(TOOLS[tool] for tool in tools)]


def _call(*command: object, cwd: Path | None = None) -> str:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout


def _reason(error: Exception) -> str:
    """Give the last line of what a command said; apt's is the one that counts."""
    if isinstance(error, subprocess.CalledProcessError):
        said = [line for line in (error.stderr or "").splitlines() if line.strip()]
        return f"{Path(error.cmd[0]).name}: {said[-1] if said else f'exit code {error.returncode}'}"
    return str(error)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time look and make."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path) -> None:
    """Fetch, unpack, build, pack; the folder appears when whole, in place of earlier ones."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        made = work / "image"
        made.mkdir()
        root = _fetch(work)
        (modules,) = root.glob("**/lib/modules/*/kernel")
        version = modules.parent.name
        drivers = {_name(path): path for path in modules.rglob("*.ko*")}
        drivers["v4l2loopback"] = _build_loopback(root, version)
        (vmlinuz,) = root.glob("boot/vmlinuz-*")
        _unpack_kernel(vmlinuz, made / "vmlinux")
        (made / "initrd").write_bytes(b"".join(_cpio(_entries(root, drivers))))
        for earlier in folder.parent.glob("[0-9a-f]*/initrd"):
            shutil.rmtree(earlier.parent)
        made.rename(folder)


def _fetch(work: Path) -> Path:
    """Download Debian's packages and unpack them into one folder."""
    for part in ("lists/partial", "apt/archives/partial", "packages", "root"):
        (work / part).mkdir(parents=True)
    own = [
        *("-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}/apt"),
        *("-o", "APT::Sandbox::User="),  # the folder is ours, not the user _apt's
    ]
    _call("apt-get", *own, "-qq", "-o", "APT::Update::Error-Mode=any", "update")

    def depends(package: str, pattern: str) -> list[str]:
        said = _call("apt-cache", *own, "depends", package)
        return re.findall(rf"Depends: ({pattern})$", said, re.MULTILINE)

    kernel = depends("linux-image-amd64", r"linux-image-\d\S+")
    if not kernel:
        raise OSError("apt knows no package linux-image-amd64 (it needs Debian's sources)")
    headers = kernel[0].replace("linux-image-", "linux-headers-")
    build = depends(headers, r"linux-headers-\S+|linux-kbuild-\S+")
    wanted = (kernel[0], headers, *build, "busybox-static", "v4l2loopback-dkms")
    _call("apt-get", *own, "-qq", "download", *wanted, cwd=work / "packages")
    for package in (work / "packages").glob("*.deb"):
        _call("dpkg-deb", "-x", package, work / "root")
    return work / "root"


def _build_loopback(root: Path, version: str) -> Path:
    """Build the one driver that does not come with the kernel."""
    headers = root / f"usr/src/linux-headers-{version}"
    makefile = headers / "Makefile"  # names the rest of the headers where they would be installed
    makefile.write_text(makefile.read_text().replace(" /usr/src", f" {root}/usr/src"))
    (source,) = root.glob("usr/src/v4l2loopback-*")
    _call("make", "-C", headers, f"M={source}", "CC=gcc", "modules")
    _call("strip", "--strip-debug", source / "v4l2loopback.ko")
    return source / "v4l2loopback.ko"


def _unpack_kernel(packed: Path, unpacked: Path) -> None:
    """Take the ELF kernel out of its packing: to unpack it in the guest takes seconds."""
    data = packed.read_bytes()
    at = data.find(_XZ)
    kernel = lzma.LZMADecompressor().decompress(data[at:]) if at >= 0 else data
    unpacked.write_bytes(kernel if kernel.startswith(b"\x7fELF") else data)


def _name(module: Path) -> str:
    """Name of a driver; file names have - or _ as they please."""
    return module.name.split(".")[0].replace("-", "_")


def _read(module: Path) -> bytes:
    data = module.read_bytes()
    return lzma.decompress(data) if data.startswith(_XZ) else data


def _in_order(names: Sequence[str], modules: dict[str, Path]) -> dict[str, bytes]:
    """Read drivers and all that they need, what is needed before what needs it."""
    found: dict[str, bytes] = {}

    def visit(name: str) -> None:
        name = name.replace("-", "_")
        if name in found or name not in modules:  # not there: built into the kernel
            return
        data = _read(modules[name])
        field = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in field[1].decode().split(",") if field else ():
            visit(other)
        found[name] = data

    for name in names:
        visit(name)
    return found


def _entries(root: Path, modules: dict[str, Path]) -> Iterator[tuple[str, int, bytes]]:
    """List what the first file system holds: path, mode, bytes."""
    for folder in ("bin", "dev", "proc", "sys", "lower", "upper", "newroot", "modules"):
        yield folder, stat.S_IFDIR | 0o755, b""
    (busybox,) = (p for p in (root / "bin/busybox", root / "usr/bin/busybox") if p.exists())
    yield "bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()
    yield "init", stat.S_IFREG | 0o755, (_HERE / "guest_init.sh").read_bytes()
    base = _in_order(_BASE, modules)
    everything = _in_order((*_BASE, *DRIVERS), modules)
    for name, data in everything.items():
        yield f"modules/{name}.ko", stat.S_IFREG | 0o644, data
    drivers = {name.replace("-", "_") for name in DRIVERS}
    for name, listed in (
        ("base", base),
        ("needed", [n for n in everything if n not in base and n not in drivers]),
    ):
        yield f"modules/{name}", stat.S_IFREG | 0o644, "".join(f"{n}\n" for n in listed).encode()


def _cpio(entries: Iterator[tuple[str, int, bytes]]) -> Iterator[bytes]:
    """Pack files as the kernel unpacks them ("initramfs buffer format", the newc variant)."""
    number = 0
    for number, (path, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        name = path.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, four device numbers, length of name, checksum
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name
        yield head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
