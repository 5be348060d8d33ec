"""A machine made of files, for the tests that look at one."""

from pathlib import Path

from veintrack.tracker.health import Check, Places

__all__ = ["find", "plain_machine", "write"]


def write(root: Path, files: dict[str, str]) -> Places:
    """Lay files under a root, by their path."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Places(root)


def plain_machine(root: Path) -> Places:
    """Write what a machine without a GPU and without video devices says of itself."""
    files = {
        "proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n",
        "proc/cpuinfo": "processor : 0\nmodel name\t: CPU Z\n",
        "etc/os-release": 'ID=z\nPRETTY_NAME="Linux Z"\n',
    }
    return write(root, files)


def find(checks: list[Check], name: str) -> Check:
    """Find the finding of a name."""
    return next(check for check in checks if check.name == name)
