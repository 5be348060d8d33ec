"""Near duplicates are found whatever an export did to them, and other frames are left alone."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from veintrack.tracker.frame import F32, U8
from veintrack.tracker.phantom import random_still
from veintrack.train.formats import open_folder, read_image
from veintrack.train.leaks import check_split, group_duplicates, near_duplicates, thumbnail
from veintrack.train.splits import Split, group_frames


def thumbnails(pictures: list[U8]) -> F32:
    return np.stack([thumbnail(picture) for picture in pictures])


@pytest.fixture(scope="module")
def stills() -> list[U8]:
    return [random_still(seed, 360, 480)[0] for seed in range(30)]


def reexported(picture: U8) -> U8:
    """Another size, gain, sharpness and margin."""
    small = cv2.GaussianBlur(cv2.resize(picture, None, fx=0.8, fy=0.8), (0, 0), 1)
    louder = np.clip(small * 1.25 + 8 * (small > 4), 0, 255).astype(np.uint8)
    return cv2.copyMakeBorder(louder, 0, 40, 0, 0, cv2.BORDER_CONSTANT)  # type: ignore[return-value]


def test_a_frame_that_was_exported_again_is_found(stills: list[U8]) -> None:
    lit = [p for p in stills if p.mean() > 50][:6]
    pairs = near_duplicates(thumbnails([*lit, *(reexported(p) for p in lit)]))
    assert {(a, b) for a, b, _ in pairs} == {(i, i + 6) for i in range(6)}
    assert [c for *_, c in pairs] == sorted((c for *_, c in pairs), reverse=True)


def test_different_frames_are_left_alone(stills: list[U8]) -> None:
    assert near_duplicates(thumbnails(stills)) == []


def test_many_frames_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 8), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    at_once = near_duplicates(vectors)
    assert len(at_once) > 10
    monkeypatch.setattr("veintrack.train.leaks._BLOCK", 7)
    assert [pair[:2] for pair in near_duplicates(vectors)] == [pair[:2] for pair in at_once]


def test_frames_that_show_nothing_are_like_nothing() -> None:
    assert near_duplicates(thumbnails([np.full((64, 64), 90, np.uint8)] * 3)) == []
    assert near_duplicates(np.zeros((0, 1024), np.float32)) == []


def test_a_leaking_split_is_refused_and_a_sound_one_is_not(stills: list[U8]) -> None:
    looks = thumbnails([stills[0], stills[1], stills[0]])
    names = ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"1 pairs .* first a \(train\) and c \(test\), correlat"):
        check_split(names, looks, Split((0,), (1,), (2,)))
    check_split(names, looks, Split((0, 2), (1,), ()))


def test_near_duplicates_make_a_group(stills: list[U8]) -> None:
    a, b, c = [p for p in stills if p.mean() > 50][:3]
    looks = thumbnails([a, b, c, b, a, b])
    groups = group_duplicates(["a", "b", "c", "b2", "a2", "b3"], looks)
    assert groups == ["cluster 0", "cluster 1", "c", "cluster 1", "cluster 0", "cluster 1"]
    assert group_duplicates(["c"], looks[2:3]) == ["c"]
    assert group_duplicates([], looks[:0]) == []


def test_the_clusters_of_real_frames_are_found(recordings: Path) -> None:
    folder = recordings / "vessels"
    frames = open_folder(folder).frames
    names = [frame.name for frame in frames]
    looks = thumbnails([read_image(frame.image) for frame in frames])
    pairs = near_duplicates(looks)
    found = {frozenset((int(names[a]), int(names[b]))) for a, b, _ in pairs}
    clusters = [set(c) for c in json.loads((folder / "near_duplicates.json").read_text())]
    assert sum(any(pair <= cluster for pair in found) for cluster in clusters) >= 30
    strangers = [pair for pair in found if not any(pair <= cluster for cluster in clusters)]
    assert len(strangers) <= 2
    listed = group_frames(names, str(folder / "near_duplicates.json"))
    assert group_duplicates(names, looks) == listed
