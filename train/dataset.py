"""What to train on: one folder, or several that a YAML file lists, each read in its own way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from veintrack.train.formats import FORMATS

__all__ = ["UNLABELLED", "DataSet", "class_names", "read_data_sets"]

Unlabelled = Literal["background", "unknown"]
UNLABELLED: tuple[Unlabelled, ...] = ("background", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A folder of labelled frames, and how to read and divide it.

    Attributes
    ----------
    folder : Path
        Where it is: a folder, or a COCO file.
    labels : mapping of str to str
        Classes, and what they are called in the data: a number, a colour or a name. A class that
        another data set has and this one lacks is unknown here, not absent.
    format : str
        One of `veintrack.train.formats.FORMATS`.
    groups : str or None
        What belongs together; see `veintrack.train.splits.group_frames`.
    ignore : tuple of str
        What is called so in the data is unknown to every class: neither learnt from nor judged.
    unlabelled : str
        What a pixel without any label is: ``background``, or ``unknown`` where not everything
        that could be labelled was.
    val, test : float
        Parts of the frames that are not trained on.
    share : float
        Part of the training frames that each epoch draws, above 0 and up to 1.
    """

    folder: Path
    labels: Mapping[str, str]
    format: str = "auto"
    groups: str | None = None
    ignore: tuple[str, ...] = ()
    unlabelled: Unlabelled = "background"
    val: float = 0.15
    test: float = 0.15
    share: float = 1.0

    def __post_init__(self) -> None:
        _check(self.format in FORMATS, f"format must be one of {', '.join(FORMATS)}", self.format)
        _check(
            self.unlabelled in UNLABELLED,
            f"unlabelled must be {' or '.join(UNLABELLED)}",
            self.unlabelled,
        )
        _check(len(self.labels) > 0, "labels must name at least one class", dict(self.labels))
        _check(
            self.val >= 0 and self.test >= 0 and self.val + self.test < 1,
            "val and test must not be negative and sum to less than 1",
            f"{self.val} and {self.test}",
        )
        _check(0 < self.share <= 1, "share must be above 0 and at most 1", self.share)


def _check(holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{expected}, got {got}")


def read_data_sets(path: Path, default: Mapping[str, Any]) -> list[DataSet]:
    """List the data sets of a run.

    Parameters
    ----------
    path : Path
        A folder or a COCO file; or a YAML file with a list of mappings whose keys are the
        attributes of `DataSet`. Paths in it are relative to it.
    default : mapping
        Values of the attributes that are not given there.

    Raises
    ------
    ValueError
        If the YAML file is not of that form.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        return [DataSet(folder=path, **default)]
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"data file {path} cannot be read as YAML: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"data file {path} must hold a list of data sets, each with a folder")
    return [_entry(path, number, entry, default) for number, entry in enumerate(entries, 1)]


def _entry(path: Path, number: int, entry: object, default: Mapping[str, Any]) -> DataSet:
    where = f"data file {path}, data set {number}"
    if not isinstance(entry, dict) or "folder" not in entry:
        raise ValueError(f"{where}: expected a mapping with a folder, got {entry!r}")
    known = {field.name for field in fields(DataSet)}
    if unknown := sorted(set(map(str, entry)) - known):
        raise ValueError(
            f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    values = dict(default) | entry
    values["folder"] = path.parent / str(entry["folder"])
    if str(entry.get("groups")).endswith((".json", ".csv")):
        values["groups"] = str(path.parent / entry["groups"])
    labels = values["labels"]
    if not isinstance(labels, Mapping):
        raise ValueError(f"{where}: labels must map classes to values, got {labels!r}")
    values["labels"] = {str(name): str(value) for name, value in labels.items()}
    if "ignore" in entry:
        ignore = entry["ignore"]
        values["ignore"] = tuple(map(str, ignore if isinstance(ignore, list) else [ignore]))
    try:
        return DataSet(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def class_names(data_sets: Sequence[DataSet]) -> tuple[str, ...]:
    """Name all classes of some data sets, in the order in which they come first."""
    return tuple(dict.fromkeys(name for data in data_sets for name in data.labels))
