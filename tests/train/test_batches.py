"""What a run is divided into, what is said of it, and what could not be learnt or judged."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.formats_scene import save
from veintrack.train.batches import RunData, prepare_data
from veintrack.train.settings import TrainSettings

Prepare = Callable[..., RunData]


def write(folder: Path, patients: dict[str, str]) -> None:
    """Write frames like ``a3``: patient, number; each character is a frame's label, 0 for none."""
    for patient, labels in patients.items():
        for number, label in enumerate(labels):
            mask = np.zeros((32, 32), np.uint8)
            mask[8:16, 8:16] = int(label)
            name = f"{patient}{number}.png"
            save(folder / "images" / name, np.full((32, 32), 90, np.uint8))
            save(folder / "masks" / name, mask)


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    def prepare(data: str, **more: Any) -> RunData:
        (tmp_path / "data.yaml").write_text(data)
        given: dict[str, Any] = {"groups": "^([a-z])", "size_px": 32, "allow_leaks": True} | more
        return prepare_data(
            TrainSettings(data=tmp_path / "data.yaml", output=tmp_path / "out", **given)
        )

    return prepare


def names(data: RunData, part: str, prefix: str = "") -> list[str]:
    return [name for name in data.split_names[part] if name.startswith(prefix)]


def test_the_sizes_of_the_parts_are_said_and_how_often_each_shows_a_class(
    prepare: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "arms", dict.fromkeys("abcdefghij", "12"))
    write(tmp_path / "legs", dict.fromkeys("ab", "110"))
    listed = (
        "- {folder: arms, labels: {vessel: 1, nerve: 2}}\n- {folder: legs, val: 0, test: 0.5}\n"
    )
    with caplog.at_level(logging.INFO, "veintrack.train"):
        prepare(listed, val_fraction=0.1, test_fraction=0.2)
    assert caplog.messages[-3:] == [
        "train 17, val 2, test 7 frames",
        "vessel: shown in train 9, val 1, test 4 frames",
        "nerve: shown in train 7, val 1, test 2 frames",
    ]
    assert not [r for r in caplog.records if r.levelno > logging.INFO]


def test_a_part_that_cannot_have_its_size_is_warned_of(
    prepare: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "arms", {"a": "1" * 12, "b": "1" * 8})
    prepare("- {folder: arms, val: 0.1, test: 0}")
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith("arms: 8 of 20 frames are in part val instead of 2: its groups")


# The patient with one frame is for validation: the other has too many.
@pytest.mark.parametrize(
    ("patients", "of"),
    [({"a": "11111111", "b": "0"}, "validation"), ({"a": "00000000", "b": "1"}, "training")],
)
def test_a_class_that_cannot_be_judged_or_learnt_is_refused(
    prepare: Prepare, tmp_path: Path, patients: dict[str, str], of: str
) -> None:
    write(tmp_path / "arms", patients)
    with pytest.raises(ValueError, match=f"^no {of} frame shows vessel: give another --seed or "):
        prepare("- {folder: arms, val: 0.1, test: 0}")


def test_synthetic_frames_are_enough_to_learn_the_first_class(
    prepare: Prepare, tmp_path: Path
) -> None:
    write(tmp_path / "arms", {"a": "00000000", "b": "1"})
    data = prepare("- {folder: arms, val: 0.1, test: 0}", phantom=1, workers=1)
    assert (names(data, "val"), len(data.train)) == (["b0"], 8)


def test_folds_keep_out_of_data_that_is_never_tested_on(prepare: Prepare, tmp_path: Path) -> None:
    for folder in ("arms", "legs"):
        write(tmp_path / folder, dict.fromkeys("abcdef", "1"))
    listed = "- {folder: arms, val: 0.2}\n- {folder: legs, val: 0.2, test: 0}\n"
    tested = []
    for fold in range(3):
        data = prepare(listed, folds=3, fold=fold)
        assert names(data, "test", "legs") == []
        assert (len(names(data, "val", "arms")), len(names(data, "val", "legs"))) == (2, 2)
        tested += names(data, "test")
    assert sorted(tested) == [f"arms/{patient}0" for patient in "abcdef"]


def test_folds_without_anything_to_test_on_are_refused(prepare: Prepare, tmp_path: Path) -> None:
    write(tmp_path / "arms", dict.fromkeys("abcdef", "1"))
    with pytest.raises(ValueError, match="folds are of data with a test above 0, .* leave out --t"):
        prepare("- folder: arms", folds=3, test_fraction=0.0)
