"""From a scenario to what a tracker is given; rendered, segmented and detected once, then kept.

What is kept lies in a folder, each step under a digest of all that it was made from: settings, the
model, and the code. So a change of the tracker leaves all of it valid, one of the detector all but
the detections, and one of the phantom nothing.
"""

import functools
import hashlib
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tracking_masks
from tracking_contest import Moment
from tracking_masks import THRESHOLD, Corruption, exact
from tracking_scenarios import Scenario

from veintrack.engines.model import DEFAULT_MODEL, ModelInfo, read_model_info, resolve_model
from veintrack.tracker import detect as detect_module
from veintrack.tracker import frame, phantom, picture, picturestep, probemotion
from veintrack.tracker import grid as grid_module
from veintrack.tracker.detect import detect
from veintrack.tracker.frame import F32, U8, PictureState, Region, Spacing
from veintrack.tracker.grid import Grid, fit, image_to_grid
from veintrack.tracker.phantom import Phantom, VesselTruth
from veintrack.tracker.picture import PictureWatch
from veintrack.tracker.probemotion import MotionWatch
from veintrack.tracker.segment import Segmenter, load_segmenter

__all__ = ["MASKS", "Run", "prepare"]

MASKS = ("truth", "corrupted", "network")
_GRID = (256, 256)
_SHOWING = (PictureState.GOOD, PictureState.FROZEN)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One scenario, ready for any tracker.

    Attributes
    ----------
    name, seed, masks : str, int, str
        Which it is.
    moments : tuple of Moment
        Its frames.
    rate_hz : float
        Nominal frames a second.
    area_px : tuple of int
        ``(x, y, width, height)`` of the scan area.
    spacing_mm : tuple of float
        ``(row_mm, col_mm)``.
    """

    name: str
    seed: int
    masks: str
    moments: tuple[Moment, ...]
    rate_hz: float
    area_px: Region
    spacing_mm: Spacing


@dataclass(frozen=True, slots=True, eq=False)
class _Rendered:
    """What the phantom showed.

    Attributes
    ----------
    pictures : ndarray of shape (N, H, W), uint8
        Each frame as it lies on the grid.
    labels : list of bytes
        Each frame's labels, deflated.
    truth : list of tuple of VesselTruth
        Of each frame.
    """

    pictures: U8
    labels: list[bytes]
    truth: list[tuple[VesselTruth, ...]]


def prepare(scenario: Scenario, seed: int, masks: str, cache: Path) -> Run:
    """Make a run, or find it in the cache.

    Raises
    ------
    ValueError
        If there are no such masks.
    """
    if masks not in MASKS:
        raise ValueError(f"masks must be one of {', '.join(MASKS)}, got {masks!r}")
    drawn = _digest(scenario.settings, scenario.indices, _CODE["phantom"])
    made = _digest(drawn, masks, _mask_facts(masks, seed))
    seen = _digest(made, scenario.stamps_ns, _CODE["detector"])
    kept = _file(cache, "moments", scenario, seed, masks, seen)
    if not kept.exists():
        rendered = _kept(
            _file(cache, "rendered", scenario, seed, "", drawn), lambda: _render(scenario)
        )
        maps = _kept(
            _file(cache, "masks", scenario, seed, masks, made),
            lambda: _maps(scenario, seed, masks, rendered),
        )
        _write(kept, _moments(scenario, masks, rendered, maps))
    settings = scenario.settings
    return Run(
        scenario.name,
        seed,
        masks,
        _read(kept),
        scenario.rate_hz,
        _area(scenario),
        (settings.mm_per_px, settings.mm_per_px),
    )


def _render(scenario: Scenario) -> _Rendered:
    grid, phantom_ = _grid(scenario), Phantom(scenario.settings)
    pictures = np.zeros((len(scenario.indices), *_GRID), np.uint8)
    labels, truth = [], []
    for picture_, index in zip(pictures, scenario.indices, strict=True):
        rendered = phantom_.render(index)
        image_to_grid(rendered.pixels, grid, picture_)
        labels.append(zlib.compress(rendered.labels.tobytes(), 1))
        truth.append(rendered.vessels)
    return _Rendered(pictures, labels, truth)


def _maps(scenario: Scenario, seed: int, masks: str, rendered: _Rendered) -> list[bytes]:
    """Make the probability map of each frame: on the grid, in half precision, deflated."""
    maps: Iterable[F32]
    if masks == "network":
        maps = (_segment(picture_) for picture_ in rendered.pictures)
    else:
        maps = _made_up(scenario, seed, masks, rendered)
    return [zlib.compress(m.astype(np.float16).tobytes(), 1) for m in maps]


def _made_up(scenario: Scenario, seed: int, masks: str, rendered: _Rendered) -> Iterator[F32]:
    """Make maps of the phantom's labels."""
    settings, grid = scenario.settings, _grid(scenario)
    corruption = Corruption(
        len(settings.vessels),
        settings.mm_per_px,
        _area(scenario),
        scenario.indices[-1] / settings.rate_hz,
        _fault_seed(scenario, seed),
    )
    for number, index in enumerate(scenario.indices):
        flat = np.frombuffer(zlib.decompress(rendered.labels[number]), np.uint8)
        labels = flat.reshape(settings.height_px, settings.width_px)
        if masks == "truth":
            yield exact(labels, grid)
        else:
            time_s = index / settings.rate_hz
            yield corruption.probability(labels, rendered.truth[number], time_s, index, grid)


def _segment(picture_: U8) -> F32:
    """Ask the network. What it is all but sure of not being a vessel is left out: it compresses."""
    segmenter = _segmenter()
    probability = segmenter.result(segmenter.start(picture_))
    return np.where(probability < 0.01, np.float32(0), probability)


@functools.lru_cache(maxsize=1)
def _model() -> ModelInfo:
    return read_model_info(resolve_model(DEFAULT_MODEL))


@functools.lru_cache(maxsize=1)
def _segmenter() -> Segmenter:
    return load_segmenter()


def _moments(
    scenario: Scenario, masks: str, rendered: _Rendered, maps: Sequence[bytes]
) -> tuple[Moment, ...]:
    grid, threshold = _grid(scenario), THRESHOLD
    if masks == "network":
        threshold = _model().threshold
    x, y, width, height = grid.inner
    judge, watch, moments = PictureWatch(), MotionWatch(), []
    for number, (stamp_ns, packed) in enumerate(zip(scenario.stamps_ns, maps, strict=True)):
        picture_ = rendered.pictures[number][y : y + height, x : x + width]
        state = judge.look(picture_, stamp_ns).state
        motion = watch.look(picture_, grid, stamp_ns)
        probability = np.frombuffer(zlib.decompress(packed), np.float16).reshape(_GRID)
        found = detect(probability.astype(np.float32), grid, threshold) if state in _SHOWING else ()
        moments.append(Moment(number, stamp_ns, found, state, motion, rendered.truth[number]))
    return tuple(moments)


def _grid(scenario: Scenario) -> Grid:
    settings = scenario.settings
    return fit((settings.height_px, settings.width_px), _GRID, _area(scenario))


def _area(scenario: Scenario) -> Region:
    left, top = scenario.settings.margins_px[:2]
    height, width = scenario.settings.scan_shape_px
    return left, top, width, height


def _fault_seed(scenario: Scenario, seed: int) -> int:
    return zlib.crc32(f"{scenario.name} {seed}".encode())


def _mask_facts(masks: str, seed: int) -> tuple[Any, ...]:
    """Say what the masks depend on beside the pictures."""
    if masks == "network":
        return (_model().sha256,)
    return (seed, _CODE["masks"]) if masks == "corrupted" else ()


def _code(*files: str | None) -> bytes:
    """Condense some files; read when this module is, so that they are what runs."""
    return _digest(*(Path(str(f)).read_bytes() for f in files)).encode()


def _digest(*parts: object) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part if isinstance(part, bytes) else repr(part).encode())
    return whole.hexdigest()[:16]


def _file(cache: Path, step: str, scenario: Scenario, seed: int, masks: str, digest: str) -> Path:
    words = (scenario.name.replace(" ", "_").replace("%", "percent"), str(seed), masks, digest)
    return cache / step / ("-".join(w for w in words if w) + ".pickle")


def _kept(path: Path, make: Callable[[], Any]) -> Any:
    if path.exists():
        return _read(path)
    made = make()
    _write(path, made)
    return made


def _read(path: Path) -> Any:
    return pickle.loads(zlib.decompress(path.read_bytes()))


def _write(path: Path, value: object) -> None:
    """Write it whole or not at all, and forget what it replaces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(path.stem.rpartition("-")[0] + "-????????????????.pickle"):
        old.unlink(missing_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(zlib.compress(pickle.dumps(value, protocol=5), 1))
    part.replace(path)


_TRACKER = Path(phantom.__file__).parent
_CODE = {
    "phantom": _code(grid_module.__file__, *map(str, sorted(_TRACKER.glob("phantom*.py")))),
    "masks": _code(tracking_masks.__file__),
    "detector": _code(
        *(m.__file__ for m in (detect_module, frame, picture, picturestep, probemotion))
    ),
}
