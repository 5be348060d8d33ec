"""Frames on the network's grid."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.grid import fit, image_to_grid
from veintrack.train.data import Frames, load_frames
from veintrack.train.formats import LabelChoice, open_folder

VESSEL = LabelChoice({"vessel": "2"})


def write(folder: Path, name: str, mask_value: int = 2, size: tuple[int, int] = (40, 60)) -> None:
    image = np.random.default_rng(len(name)).integers(0, 256, size, np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[10:20, 20:40] = mask_value
    for part, pixels in (("images", image), ("masks", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / part / f"{name}.png"), pixels)


def test_frames_lie_on_the_grid_as_inference_lays_them(tmp_path: Path) -> None:
    write(tmp_path, "a")
    loaded = load_frames(open_folder(tmp_path), VESSEL, ["vessel"], 32)
    frames = loaded.frames
    assert (loaded.names, loaded.found.frames, len(loaded.thumbnails)) == (("a",), 1, 1)
    expected = np.zeros((32, 32), np.uint8)
    image = cv2.imread(str(tmp_path / "images/a.png"), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    image_to_grid(image.astype(np.uint8), fit((40, 60), (32, 32)), expected)
    np.testing.assert_array_equal(frames.images[0, 0], expected)
    # 200 of the frame's pixels, 32/60 of their size on the grid.
    area = frames.masks.sum() / 255
    assert area == pytest.approx(200 * (32 / 60) ** 2, rel=0.05)
    assert not frames.unknown.any()


def test_each_class_is_a_channel_and_one_that_is_not_labelled_here_is_unknown(
    tmp_path: Path,
) -> None:
    write(tmp_path, "a", mask_value=1)
    write(tmp_path, "b", mask_value=2)
    choice = LabelChoice({"vessel": "2", "nerve": "1"})
    classes = ["nerve", "muscle", "vessel"]
    frames = load_frames(open_folder(tmp_path), choice, classes, 32).frames
    shown = frames.masks.reshape(2, 3, -1).any(axis=2)
    assert shown.tolist() == [[True, False, False], [False, False, True]]
    assert frames.unknown.reshape(2, 3, -1).all(axis=2).tolist() == [[False, True, False]] * 2
    assert not frames.unknown[:, [0, 2]].any()


def test_what_has_no_label_may_be_unknown(tmp_path: Path) -> None:
    write(tmp_path, "a")
    choice = LabelChoice({"vessel": "2"}, unlabelled="unknown")
    frames = load_frames(open_folder(tmp_path), choice, ["vessel"], 60).frames
    np.testing.assert_array_equal(frames.unknown[0, 0, 10:50] == 0, frames.masks[0, 0, 10:50] > 0)


def test_what_cannot_be_read_is_reported_and_left_out(tmp_path: Path) -> None:
    for name in ("f10", "f2", "f1"):
        write(tmp_path, name)
    (tmp_path / "images/f2.png").write_bytes(b"no picture")
    loaded = load_frames(open_folder(tmp_path), VESSEL, ["vessel"], 32)
    assert loaded.names == ("f1", "f10")
    assert len(loaded.frames) == 2
    assert [problem.path.name for problem in loaded.found.problems] == ["f2.png"]
    for name in ("f10", "f1"):
        (tmp_path / f"images/{name}.png").write_bytes(b"")
    with pytest.raises(SourceUnreadableError, match=r"no frame of .* can be used: .*f1\.png"):
        load_frames(open_folder(tmp_path), VESSEL, ["vessel"], 32)


def test_images_and_masks_must_fit_together() -> None:
    with pytest.raises(ValueError, match="of one number and size"):
        Frames(
            np.zeros((2, 1, 32, 32), np.uint8),
            np.zeros((2, 1, 32, 64), np.uint8),
            np.zeros((2, 1, 32, 64), np.uint8),
        )


def test_frames_are_joined_and_picked() -> None:
    def flat(n: int, level: int) -> Frames:
        plane = np.full((n, 1, 32, 32), level, np.uint8)
        return Frames(plane, plane, plane)

    joined = Frames.join([flat(2, 7), flat(0, 0), flat(1, 9)])
    assert joined.images[:, 0, 0, 0].tolist() == [7, 7, 9]
    assert joined.take([2, 0]).masks[:, 0, 0, 0].tolist() == [9, 7]
