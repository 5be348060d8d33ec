"""What to train on: one folder, or several that a YAML file lists, each read in its own way."""

from collections.abc import Callable, Mapping, Sequence
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
        What belongs together; see `veintrack.train.splits.group_frames`. ``auto``: near duplicates,
        see `veintrack.train.leaks.group_duplicates`.
    ignore : tuple of str
        What is called so in the data is unknown to every class: neither learnt from nor judged.
    unlabelled : str
        What a pixel without any label is: ``background``, or ``unknown`` where not everything
        that could be labelled was.
    val, test : float
        Parts of the frames that are not trained on. In cross-validation the folds take the place
        of `test`; but a data set whose `test` is 0 is kept out of the folds, and never tested on.
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

    @property
    def name(self) -> str:
        """What the folder itself is called; a list has each name once."""
        return self.folder.resolve().name


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
        If the YAML file is not of that form, or two of its folders have one name.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        return [DataSet(folder=path, **default)]
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"data file {path} cannot be read as YAML: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"data file {path} must hold a list of data sets, each with a folder")
    data_sets = [_entry(path, number, entry, default) for number, entry in enumerate(entries, 1)]
    _check_names(path, data_sets)
    return data_sets


def _check_names(path: Path, data_sets: Sequence[DataSet]) -> None:
    """Refuse two data sets of one name: nobody could tell their frames apart in ``split.json``."""
    first_of: dict[str, DataSet] = {}
    for data_set in data_sets:
        first = first_of.setdefault(data_set.name, data_set)
        if first is not data_set:
            raise ValueError(
                f"data file {path}: {first.folder} and {data_set.folder} are both called "
                f"{data_set.name}, so their frames could not be told apart: rename one of them, or "
                "list it once"
            )


def _entry(path: Path, number: int, entry: object, default: Mapping[str, Any]) -> DataSet:
    where = f"data file {path}, data set {number}"
    if not isinstance(entry, dict) or "folder" not in entry:
        raise ValueError(f"{where}: expected a mapping with a folder, got {entry!r}")
    known = {field.name for field in fields(DataSet)}
    if unknown := sorted(set(map(str, entry)) - known):
        raise ValueError(
            f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    for key, value in entry.items():
        if key in _FORMS and not _FORMS[key][0](value):
            raise ValueError(f"{where}: {key} must {_FORMS[key][1]}, got {value!r}")
    values = dict(default) | entry
    values["folder"] = path.parent / entry["folder"]
    if str(entry.get("groups")).endswith((".json", ".csv")):
        values["groups"] = str(path.parent / entry["groups"])
    values["labels"] = {str(name): str(value) for name, value in values["labels"].items()}
    if "ignore" in entry:
        ignore = entry["ignore"]
        values["ignore"] = tuple(map(str, ignore if isinstance(ignore, list) else [ignore]))
    try:
        return DataSet(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_label(value: object) -> bool:
    return _is_text(value) or type(value) is int


def _are_labels(value: object) -> bool:
    return all(map(_is_label, value)) if isinstance(value, list) else _is_label(value)


def _name_classes(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_label, [*value, *value.values()]))


_NUMBER = (_is_number, "be a number")
_FORMS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "folder": (_is_text, "be a path as text"),
    "labels": (_name_classes, "map classes to values (a number, a name, or '#ff0000' in quotes)"),
    "groups": (lambda value: value is None or _is_text(value), "be text (a path or an expression)"),
    "ignore": (_are_labels, "be a label or a list of labels (numbers, names, colours in quotes)"),
    "val": _NUMBER,
    "test": _NUMBER,
    "share": _NUMBER,
}
"""What an entry's values must be; `DataSet` checks the other keys itself."""


def class_names(data_sets: Sequence[DataSet]) -> tuple[str, ...]:
    """Name all classes of some data sets, in the order in which they come first."""
    return tuple(dict.fromkeys(name for data in data_sets for name in data.labels))
