"""One data set, or several that a YAML file lists."""

from pathlib import Path
from typing import Any

import pytest

from veintrack.train.dataset import DataSet, class_names, read_data_sets

DEFAULT: dict[str, Any] = {"labels": {"vessel": "1"}, "groups": r"^(\w)", "val": 0.1, "test": 0.2}


def test_a_folder_is_one_data_set_with_the_values_given() -> None:
    [only] = read_data_sets(Path("scans"), DEFAULT)
    assert only == DataSet(folder=Path("scans"), **DEFAULT)


def test_a_list_says_what_differs_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    listed = tmp_path / "data.yaml"
    listed.write_text(
        """
        - folder: legs
          labels: {vessel: 2, nerve: 1}
          groups: clusters.json
        - folder: /scans/necks
          unlabelled: unknown
          ignore: 255
          share: 0.5
          test: 0
        """
    )
    legs, necks = read_data_sets(listed, DEFAULT)
    assert legs.folder == tmp_path / "legs"
    assert legs.labels == {"vessel": "2", "nerve": "1"}
    assert legs.groups == str(tmp_path / "clusters.json")
    assert (legs.val, legs.test, legs.share) == (0.1, 0.2, 1.0)
    assert necks.folder == Path("/scans/necks")
    assert (necks.unlabelled, necks.ignore) == ("unknown", ("255",))
    assert (necks.share, necks.test) == (0.5, 0)
    assert necks.groups == DEFAULT["groups"]
    assert class_names([necks, legs]) == ("vessel", "nerve")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- [", "cannot be read as YAML"),
        ("folder: x", "must hold a list of data sets, each with a folder"),
        ("- labels: {vessel: 1}", "data set 1: expected a mapping with a folder, got"),
        ("- folder: a\n- {folder: b, lable: 3}", "data set 2: unknown key 'lable'; known are"),
        ("- {folder: a, labels: 3}", r"data set 1: labels must map classes to values \(.*, got 3"),
        ("- {folder: a, labels: {}}", "data set 1: labels must name at least one class"),
        ("- {folder: a, unlabelled: no}", "unlabelled must be background or unknown, got False"),
        ("- {folder: a, format: dicom}", "format must be one of auto, .*, got dicom"),
        ("- {folder: a, share: 0}", "share must be above 0 and at most 1, got 0"),
        ("- {folder: a, val: 0.5, test: 0.5}", "sum to less than 1, got 0.5 and 0.5"),
        ("- {folder: a, val: many}", "data set 1: val must be a number, got 'many'"),
        ("- {folder: a, val: null}", "data set 1: val must be a number, got None"),
        ("- {folder: a, test: yes}", "data set 1: test must be a number, got True"),
        ("- {folder: a, share: [1]}", r"data set 1: share must be a number, got \[1\]"),
        ("- {folder: a, val: .nan}", "must not be negative and sum to less than 1, got nan"),
        ("- {folder: null}", "data set 1: folder must be a path as text, got None"),
        ("- {folder: 2024}", "data set 1: folder must be a path as text, got 2024"),
        ("- {folder: a, groups: 5}", r"groups must be text \(a path or an expression\), got 5"),
        ("- {folder: a, labels: {vessel: [1, 2]}}", r"labels must map .*got {'vessel': \[1, 2\]}"),
        ("- {folder: a, labels: {vein: #f00\n}}", "labels must map .*quotes.*got {'vein': None}"),
        ("- {folder: a, ignore: null}", "ignore must be a label or a list of labels .*, got None"),
        ("- {folder: a, ignore: [1, 2.5]}", r"ignore must be .*, got \[1, 2\.5\]"),
    ],
)
def test_a_list_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    listed = tmp_path / "data.yaml"
    listed.write_text(content)
    with pytest.raises(ValueError, match=rf"data file .*data\.yaml.*{message}"):
        read_data_sets(listed, DEFAULT)


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data file .*none\.yml cannot be read"):
        read_data_sets(tmp_path / "none.yml", DEFAULT)


def test_a_list_may_take_back_the_groups_and_what_is_ignored(tmp_path: Path) -> None:
    listed = tmp_path / "data.yaml"
    listed.write_text("- {folder: a, groups: null, ignore: []}")
    [only] = read_data_sets(listed, DEFAULT | {"ignore": ("7",)})
    assert (only.groups, only.ignore) == (None, ())


@pytest.mark.parametrize("second", ["b/scans", "a/scans", "a/scans/../scans/"])
def test_two_data_sets_of_one_name_are_refused(tmp_path: Path, second: str) -> None:
    listed = tmp_path / "data.yaml"
    listed.write_text(f"- folder: a/scans\n- folder: a/others\n- folder: {second}\n")
    with pytest.raises(ValueError, match=r"a/scans and .*scans are both called scans, .*: rename"):
        read_data_sets(listed, DEFAULT)
