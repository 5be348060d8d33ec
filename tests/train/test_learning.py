"""The recipe learns: seconds of training, and the vessels of pictures it has not seen."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from veintrack.tracker.frame import U8
from veintrack.tracker.phantom import Phantom, demo_settings
from veintrack.tracker.segment import load_segmenter
from veintrack.train.fit import fit
from veintrack.train.settings import TrainSettings


def stills(examinations: range, each: int, first: int) -> list[tuple[str, U8, U8]]:
    """Pictures of the demonstration's vessels, a little magnified, in many a tissue and moment."""
    found = []
    for seed in examinations:
        phantom = Phantom(replace(demo_settings(seed, 96, 128), depth_mm=28.0))
        for number in range(each):
            frame = phantom.render(first + 37 * number + seed)
            mask = (frame.labels > 0).astype(np.uint8)
            found.append((f"e{seed}_{number}", frame.pixels, mask))
    return found


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for name, pixels, mask in stills(range(12), 8, 0):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), pixels)
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    return folder


def test_seconds_of_training_find_the_vessels_of_unseen_phantoms(
    phantoms: Path, tmp_path: Path
) -> None:
    model = fit(
        TrainSettings(
            data=phantoms, output=tmp_path / "run", groups=r"e(\d+)_", size_px=64, epochs=6,
            batch=4, lr=2e-3, ema_decay=0.8, augment="none", val_fraction=1 / 6, test_fraction=0.0,
            allow_leaks=True, accelerator="cpu", workers=1,
        )
    )  # fmt: skip
    shared = marked = there = 0
    with load_segmenter(str(model), engine="onnxruntime") as segmenter:
        for _, pixels, mask in stills(range(100, 104), 4, 11):
            found = segmenter(pixels) >= segmenter.threshold
            shared += int(np.count_nonzero(found & (mask > 0)))
            marked += int(np.count_nonzero(found))
            there += int(np.count_nonzero(mask))
    assert 2 * shared / (marked + there) > 0.9
