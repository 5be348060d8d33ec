"""What the command says before and after a run."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import metadata
from veintrack.tracker.cli.app import run
from veintrack.tracker.cli.train import train


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    log = logging.getLogger("veintrack.train")
    before = log.level
    log.setLevel(logging.NOTSET)
    yield log
    log.setLevel(before)


@pytest.fixture
def model(
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: logging.Logger,
) -> Path:
    """The model of a run that takes no time, in a folder with brackets."""

    def fake_fit(_: object) -> Path:
        log.debug("a step")
        log.info("the report")
        return path

    path = tmp_path / "runs [exp1] :bomb:" / "model.onnx"
    path.parent.mkdir()
    make_model(path, props=metadata())
    monkeypatch.setattr("veintrack.train.fit.fit", fake_fit)
    return path


@pytest.mark.parametrize("terminal", [True, False])
def test_the_report_on_the_data_is_shown_on_a_terminal_too(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, terminal: bool
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
    train(phantom=1, output=model.parent)
    assert caplog.messages == ["the report"]


def test_debugging_says_more(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        train(phantom=1, output=model.parent)
    assert caplog.messages == ["a step", "the report"]


def test_a_path_is_shown_as_it_is(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(phantom=1, output=model.parent)
    assert f"model: {model}\n" in capsys.readouterr().out


def test_a_run_to_resume_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--phantom", "1", "--resume"]) == 2
    assert capsys.readouterr().err == (
        "veintrack: --resume needs --output, the folder of the run\n"
    )
