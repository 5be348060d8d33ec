"""Which frames belong together, and how they are divided."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veintrack.train.splits import fold_groups, group_frames, split_groups


def test_clusters_are_groups_and_other_frames_stand_alone(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text(json.dumps([[1, 3], ["x", "y"], [77, 78]]))
    groups = group_frames(["0001", "0002", "0003", "x", "y"], str(path))
    assert groups[0] == groups[2]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3


def test_an_expression_groups_by_what_it_captures() -> None:
    names = ["S1_2_3", "S2_1_1", "S1_4_4"]
    assert group_frames(names, r"^(S\d+)_") == ["S1", "S2", "S1"]
    assert group_frames(names, None) == names


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (r"S\d+", "one capture group, got .* with 0"),
        (r"(", "is no regular expression"),
        (r"(T\d+)", "does not match the frame 'S1'"),
        ("nowhere.json", "cannot be read as JSON"),
    ],
)
def test_unusable_groups_are_refused(groups: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group_frames(["S1"], groups)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "must hold a list of lists"),
        ("[[1, 2], [2, 3]]", "has 2 in two clusters"),
        ("[[1", "as JSON"),
    ],
)
def test_a_malformed_groups_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "g.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        group_frames(["1", "2", "3"], str(tmp_path / "g.json"))


fractions = st.sampled_from([0.0, 0.1, 0.2, 0.4])


@given(st.lists(st.integers(0, 30).map(str), min_size=40), fractions, fractions, st.integers(0, 99))
def test_a_split_divides_the_frames_but_never_a_group(
    groups: list[str], val: float, test: float, seed: int
) -> None:
    if len(set(groups)) < 3:
        return
    split = split_groups(groups, val, test, seed)
    parts = [split.train, split.val, split.test]
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    members = [{groups[i] for i in part} for part in parts]
    assert sum(map(len, members)) == len(set(groups))
    assert [bool(part) for part in parts] == [True, val > 0, test > 0]
    assert split == split_groups(groups, val, test, seed)


def test_a_split_has_about_the_sizes_asked_for() -> None:
    split = split_groups([str(i // 2) for i in range(200)], 0.15, 0.2, seed=1)
    assert [len(split.train), len(split.val), len(split.test)] == [130, 30, 40]


@pytest.mark.parametrize("seed", range(8))
def test_a_large_group_does_not_fill_a_small_part(seed: int) -> None:
    patients = ["a"] * 90 + ["b"] * 5 + ["c"] * 5
    split = split_groups(patients, 0.1, 0.1, seed)
    assert [len(split.train), len(split.val), len(split.test)] == [90, 5, 5]
    alone = split_groups(patients, 0.1, 0, seed)
    assert [len(alone.train), len(alone.val)] == [90, 10]


def test_where_every_group_is_too_large_a_part_has_the_smallest() -> None:
    for seed in range(8):
        assert len(split_groups(["a"] * 60 + ["b"] * 40, 0.1, 0, seed).val) == 40


def test_a_group_is_taken_where_a_part_is_nearer_to_its_size_with_it() -> None:
    groups = [str(i // 10) for i in range(100)]
    sizes = {val: len(split_groups(groups, val, 0, 0).val) for val in (0.12, 0.15, 0.18)}
    assert sizes == {0.12: 10, 0.15: 20, 0.18: 20}


def test_the_seed_chooses_the_split() -> None:
    groups = [str(i) for i in range(50)]
    assert split_groups(groups, 0.2, 0.2, 0) != split_groups(groups, 0.2, 0.2, 1)


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sum to less than 1, got 0\.5 and 0\.5"):
        split_groups(["a", "b", "c"], 0.5, 0.5, 0)
    with pytest.raises(ValueError, match="at least 3 groups of frames, got 2"):
        split_groups(["a", "b"], 0.2, 0.2, 0)


def test_a_table_groups_by_name_or_file_name(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("image,subject\na.png,S1\nb,S1\n\nc.d.png,S2,left arm\n")
    assert group_frames(["b", "a", "c.d"], str(table)) == ["S1", "S1", "S2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,S1\n", r"has no group for 1 of 2 frames, first 'b'"),
        ("a,S1\nb\n", r"must have two columns, name and group, got \['b'\]"),
        ("a,S1\nb,S1\na.png,S2\n", r"has 'a.png' in two groups"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "groups.csv"
    table.write_text(content)
    with pytest.raises(ValueError, match=message):
        group_frames(["a", "b"], str(table))
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        group_frames(["a"], str(tmp_path / "none.csv"))


@given(
    st.lists(st.sampled_from("abcdefghij"), min_size=10, max_size=60).filter(
        lambda groups: len(set(groups)) >= 5
    ),
    st.integers(0, 5),
)
def test_folds_test_every_frame_once_and_divide_no_group(groups: list[str], seed: int) -> None:
    splits = [fold_groups(groups, 3, fold, 0.1, seed) for fold in range(3)]
    tested = Counter(i for split in splits for i in split.test)
    assert tested == Counter(range(len(groups)))
    for split in splits:
        parts = [{groups[i] for i in part} for part in (split.train, split.val, split.test)]
        assert all(parts)
        assert sum(map(len, parts)) == len(set(groups))


def test_folds_are_alike_in_size() -> None:
    groups = ["big"] * 5 + [str(i) for i in range(20)]
    assert [len(fold_groups(groups, 5, fold, 0.1, 0).test) for fold in range(5)] == [5] * 5


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (3, 3), (3, -1), (5, 0)])
def test_impossible_folds_are_refused(folds: int, fold: int) -> None:
    with pytest.raises(ValueError, match=rf"got fold {fold} of {folds} and 4 groups"):
        fold_groups(list("abcd"), folds, fold, 0.1, 0)


def test_folds_that_leave_too_little_for_validation_are_refused() -> None:
    message = (
        "with 2 folds, 5 of 10 frames are for the test, so the validation part must be below 0.5, "
        "got 0.5"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        fold_groups(list("abcdefghij"), 2, 0, 0.5, 0)
