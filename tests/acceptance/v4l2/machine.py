#!/usr/bin/env python3
"""Run a command on an emulated machine that has real video drivers in its kernel.

    machine.py prepare [--install]
    machine.py run [--share FOLDER]... [--env NAME=VALUE]... [--limit S] -- COMMAND...

The machine is emulated in software (qemu's TCG), so it needs no permission and no device of the
host, and is slow. Its root is the host's file system under a layer that is thrown away: the same
Python, the same environment, the same paths. Folders given by ``--share`` are written through.
The command's output and exit code are passed on; 124 is the time limit, 125 a machine that
failed, 126 one that cannot be had.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a program
    sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.acceptance.v4l2.image import Image, MachineError, install_tools, prepare

__all__ = ["Image", "MachineError", "prepare", "run"]

_MEMORY_MB = 1536
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    image: Image,
    command: Sequence[str],
    *,
    shares: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    limit_s: float = 300,
) -> int:
    """Boot, run one command, switch off.

    Parameters
    ----------
    image : Image
        See :func:`prepare`.
    command : sequence of str
        Program and arguments; the program by its full path, or in a system folder. It runs as
        root, in the folder `/`, and its output goes to standard output.
    shares : sequence of Path
        Folders of the host that the command may write to.
    env : mapping, optional
        Its environment, besides a PATH and a HOME.
    limit_s : float
        After this many seconds the machine is switched off.

    Returns
    -------
    int
        The exit code of the command.

    Raises
    ------
    MachineError
        If the time is up, or the machine failed before the command ended.
    """
    with tempfile.TemporaryDirectory() as name:
        control = Path(name)
        tags = {f"share{n}": folder.resolve() for n, folder in enumerate(shares)}
        (control / "shares").write_text("".join(f"{t} {path}\n" for t, path in tags.items()))
        (control / "command").write_text(_script(command, env or {}))
        folders = {"control": control, **tags}
        late = _emulate(_qemu(image, folders, control / "console"), control / "error", limit_s)
        last = " / ".join([*_lines(control / "console"), *_lines(control / "error")][-5:])
        if late:
            raise MachineError(f"the time limit of {limit_s:g} s {last}".strip())
        code = control / "exit_code"
        if not code.exists():
            raise MachineError(f"the machine failed: {last or 'it said nothing'}")
        return int(code.read_text())


def _emulate(command: Sequence[str], errors: Path, limit_s: float) -> bool:
    """Pass the machine's output on until it is off; tell whether it had to be switched off."""
    with (
        errors.open("w") as file,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file, text=True
        ) as qemu,
    ):
        late = threading.Event()

        def switch_off() -> None:
            late.set()
            qemu.kill()

        timer = threading.Timer(limit_s, switch_off)
        timer.start()
        try:
            for line in qemu.stdout or ():
                sys.stdout.write(line)
                sys.stdout.flush()
        except BaseException:
            qemu.kill()
            raise
        finally:
            timer.cancel()
    return late.is_set()


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def _script(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Write what the guest's shell runs."""
    settings = {"HOME": "/tmp", "LANG": "C.UTF-8", "PATH": _PATH, **env}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    return "\n".join([*lines, f"exec {shlex.join(command)}", ""])


def _qemu(image: Image, folders: Mapping[str, Path], console: Path) -> list[str]:
    """Compose the command line of the emulator: one slow processor, 9p folders, one output."""
    options: list[object] = [
        "qemu-system-x86_64",
        *("-accel", "tcg", "-cpu", "Nehalem", "-machine", "q35", "-smp", 1, "-m", _MEMORY_MB),
        *("-icount", "shift=0,sleep=on"),  # an instruction takes 1 ns of its time, not of ours
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", image.kernel, "-initrd", image.initrd),
        *("-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off"),
        *("-serial", f"file:{console}"),
        *("-device", "virtio-serial-pci", "-chardev", "file,id=out,path=/dev/stdout,append=on"),
        *("-device", "virtserialport,chardev=out,name=out", "-device", "virtio-rng-pci"),
        *_folder("root", Path("/"), ",readonly=on"),
    ]
    for tag, folder in folders.items():
        options += _folder(tag, folder, "")
    return [str(option) for option in options]


def _folder(tag: str, path: Path, rights: str) -> list[str]:
    shown = str(path).replace(",", ",,")
    return [
        *("-fsdev", f"local,id={tag},path={shown},security_model=none,multidevs=remap{rights}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    jobs = parser.add_subparsers(dest="job", required=True)
    preparing = jobs.add_parser("prepare", help="make the image, if it is not in the cache")
    preparing.add_argument("--install", action="store_true", help="install missing tools (root)")
    running = jobs.add_parser("run", help="run a command on the machine")
    running.add_argument("--share", type=Path, action="append", default=[], metavar="FOLDER")
    running.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    running.add_argument("--limit", type=float, default=300, metavar="S")
    running.add_argument("command", nargs="+")
    return parser.parse_args()


def _main() -> int:
    given = _arguments()
    try:
        if given.job == "prepare":
            if given.install:
                install_tools()
            prepare()
            return 0
        image = prepare()
    except MachineError as error:
        sys.stderr.write(f"machine: {error}\n")
        return 126
    env = dict(pair.partition("=")[::2] for pair in given.env)
    try:
        return run(image, given.command, shares=given.share, env=env, limit_s=given.limit)
    except MachineError as error:
        sys.stderr.write(f"machine: {error}\n")
        return 124 if "time limit" in str(error) else 125


if __name__ == "__main__":
    sys.exit(_main())
