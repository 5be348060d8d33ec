"""Finding, reading, grouping and splitting labelled frames."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.grid import fit, image_to_grid
from veintrack.train.data import (
    Frames,
    find_frames,
    group_frames,
    load_frames,
    split_groups,
)


def write(folder: Path, name: str, mask_value: int = 2, size: tuple[int, int] = (40, 60)) -> None:
    image = np.random.default_rng(len(name)).integers(0, 256, size, np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[10:20, 20:40] = mask_value
    for part, pixels in (("images", image), ("masks", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / part / f"{name}.png"), pixels)


def test_frames_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("f10", "f2", "f1"):
        write(tmp_path, name)
    assert [file.name for file in find_frames(tmp_path)] == ["f1", "f2", "f10"]


def test_frames_lie_on_the_grid_as_inference_lays_them(tmp_path: Path) -> None:
    write(tmp_path, "a")
    frames = load_frames(find_frames(tmp_path), {"vessel": 2}, 32)
    expected = np.zeros((32, 32), np.uint8)
    image = cv2.imread(str(tmp_path / "images/a.png"), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    image_to_grid(image.astype(np.uint8), fit((40, 60), (32, 32)), expected)
    np.testing.assert_array_equal(frames.images[0, 0], expected)
    # 200 of the frame's pixels, 32/60 of their size on the grid.
    area = frames.masks.sum() / 255
    assert area == pytest.approx(200 * (32 / 60) ** 2, rel=0.05)


def test_each_label_is_a_channel_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "a", mask_value=1)
    write(tmp_path, "b", mask_value=2)
    masks = load_frames(find_frames(tmp_path), {"nerve": 1, "vessel": 2}, 32).masks
    assert masks.reshape(2, 2, -1).any(axis=2).tolist() == [[True, False], [False, True]]


def test_a_folder_without_images_or_masks_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"no folder .*nowhere"):
        find_frames(tmp_path / "nowhere")
    (tmp_path / "images").mkdir()
    with pytest.raises(SourceNotFoundError, match=r"no folder .*masks"):
        find_frames(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(SourceNotFoundError, match="no images"):
        find_frames(tmp_path)


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    (tmp_path / "masks/b.png").unlink()
    with pytest.raises(SourceNotFoundError, match=r"no mask for 1 of 2 images .* first b\.png"):
        find_frames(tmp_path)


def test_one_name_under_two_suffixes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (tmp_path / "images/a.jpg").write_bytes(b"")
    with pytest.raises(SourceUnreadableError, match="'a' under two suffixes"):
        find_frames(tmp_path)


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a")
    cv2.imwrite(str(tmp_path / "masks/a.png"), np.zeros((4, 6), np.uint8))
    with pytest.raises(SourceUnreadableError, match=r"a\.png is 6x4, but its image is 60x40"):
        load_frames(find_frames(tmp_path), {"vessel": 2}, 32)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "a")
    (tmp_path / "images/a.png").write_bytes(content)
    with pytest.raises(SourceUnreadableError, match=r"a\.png cannot be read as an image"):
        load_frames(find_frames(tmp_path), {"vessel": 2}, 32)


def test_a_colour_mask_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    cv2.imwrite(str(tmp_path / "masks/a.png"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(SourceUnreadableError, match="is no index mask"):
        load_frames(find_frames(tmp_path), {"vessel": 2}, 32)


def test_a_label_that_never_occurs_is_named_with_those_that_do(tmp_path: Path) -> None:
    write(tmp_path, "a", mask_value=2)
    with pytest.raises(ValueError, match=r"label vessel=7 occurs in no mask; .* values 0, 2"):
        load_frames(find_frames(tmp_path), {"vessel": 7}, 32)


def test_images_and_masks_must_fit_together() -> None:
    with pytest.raises(ValueError, match="of one number and size"):
        Frames(np.zeros((2, 1, 32, 32), np.uint8), np.zeros((2, 1, 32, 64), np.uint8))


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


def test_the_seed_chooses_the_split() -> None:
    groups = [str(i) for i in range(50)]
    assert split_groups(groups, 0.2, 0.2, 0) != split_groups(groups, 0.2, 0.2, 1)


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sum to less than 1, got 0\.5 and 0\.5"):
        split_groups(["a", "b", "c"], 0.5, 0.5, 0)
    with pytest.raises(ValueError, match="at least 3 groups of frames, got 2"):
        split_groups(["a", "b"], 0.2, 0.2, 0)
