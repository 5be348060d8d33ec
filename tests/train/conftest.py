"""What the tests of training share: a data set that is learnt in seconds."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from veintrack.train.fit import fit
from veintrack.train.settings import TrainSettings


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty dark discs in noise, 64 x 64 px, as class number 2."""
    folder = tmp_path_factory.mktemp("data") / "discs"
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(50):
        x, y = (int(v) for v in rng.integers(16, 48, 2))
        mask = cv2.circle(np.zeros((64, 64), np.uint8), (x, y), 10, 2, -1)
        image = rng.integers(120, 200, (64, 64), np.uint8)
        image[mask == 2] //= 6
        cv2.imwrite(str(folder / f"images/{i:02}.png"), image)
        cv2.imwrite(str(folder / f"masks/{i:02}.png"), mask)
    return folder


@pytest.fixture(scope="session")
def settings(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """A run of a few seconds."""
    return TrainSettings(
        data=discs,
        output=tmp_path_factory.mktemp("run") / "out",
        labels={"vessel": "2"},
        groups=r"(\d)$",
        phantom=4,
        size_px=64,
        epochs=2,
        batch=4,
        val_fraction=0.3,
        test_fraction=0.3,
        allow_leaks=True,  # discs in noise are all alike
        accelerator="cpu",
        workers=1,
    )


@pytest.fixture(scope="session")
def trained(settings: TrainSettings) -> Path:
    """The model file of that run; nobody may change the run's folder."""
    return fit(settings)
