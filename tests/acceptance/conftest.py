"""What the tests of ``veintrack evaluate segmentation`` share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import dark_is_vessel
from veintrack.tracker.cli.app import run

COMMAND = ("evaluate", "segmentation")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command in an empty folder; in this process, which saves starting another."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Done:
        code = run([*COMMAND, *map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dark_is_vessel(tmp_path_factory.mktemp("rule") / "rule.onnx", 192)


def write(folder: Path, name: str, pixels: np.ndarray, mask: np.ndarray) -> None:
    for part, picture in (("images", pixels), ("masks", mask)):
        (folder / part).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / part / f"{name}.png"), picture)


def folders(folder: Path) -> tuple[object, ...]:
    return ("--images", folder / "images", "--masks", folder / "masks")


def squares(folder: Path, names: str) -> None:
    """Write frames that the rule marks: a labelled square, and one beside it that is not."""
    for name in names:
        pixels, mask = np.full((96, 96), 250, np.uint8), np.zeros((96, 96), np.uint8)
        pixels[10:40, 10:40], mask[10:40, 10:40] = 20, 1
        pixels[60:90, 60:90] = 20
        write(folder, f"{name}1", pixels, mask)
        write(folder, f"{name}2", pixels, mask)
