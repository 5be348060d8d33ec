"""Frame in, probability out: the network's grid around an engine."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from veintrack.engines.base import Engine
from veintrack.engines.model import DEFAULT_MODEL, ModelInfo, read_model_info, resolve_model
from veintrack.engines.parity import DEFAULT_LIMITS, ParityLimits
from veintrack.engines.proven import Proof, open_form, open_proven
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import F32, U8, Region
from veintrack.tracker.grid import Grid, fit, image_to_grid, probability_to_frame
from veintrack.tracker.typical import calibration_pictures, judging_pictures

__all__ = ["GridSegmenter", "InWork", "Segmenter", "channel_of", "load_segmenter"]

_VESSEL = ("vessel", "vein")  # the class to follow, where a model has several


@dataclass(frozen=True, slots=True)
class InWork:
    """A frame that is being segmented.

    Attributes
    ----------
    slot : int
        Which of the engine's slots has it.
    grid : Grid
        Where the network's grid lies in the frame.
    picture : ndarray of shape (h, w), uint8
        The frame, or its region, as it lies on the grid: a view of the engine's input, valid until
        the slot's next start.
    """

    slot: int
    grid: Grid
    picture: U8


class GridSegmenter(Protocol):
    """What the pipeline needs of a segmenter; truth from a phantom can stand in for a network."""

    @property
    def threshold(self) -> float:
        """Probability from which a pixel counts as vessel."""
        ...

    @property
    def input_shape(self) -> tuple[int, int]:
        """``(H, W)`` of the grid."""
        ...

    @property
    def slots(self) -> int:
        """How many frames may be in work at once."""
        ...

    def start(self, pixels: U8, region: Region | None = None) -> InWork:
        """Begin to segment a frame, or a region of it."""
        ...

    def ready(self, work: InWork) -> bool:
        """Whether `result` would answer at once."""
        ...

    def result(self, work: InWork) -> F32:
        """Wait for the vessel probability on the grid; in the order in which frames were begun."""
        ...


class Segmenter(Closing):
    """A model in an engine, for frames of any size.

    One thread uses it. Close it, or use it in a ``with``
    block, to free the engine.

    Parameters
    ----------
    engine : Engine
        The engine that runs `model`.
    model : ModelInfo
        What the model says of itself.
    class_name : str, optional
        Which of the model's classes to segment; by default ``vessel``, else ``vein``, else its
        first.
    """

    def __init__(self, engine: Engine, model: ModelInfo, class_name: str | None = None) -> None:
        self.engine = engine
        self.model = model
        self._channel = channel_of(model, class_name)
        self._layouts: list[_Layout | None] = [None] * engine.slots
        self._slot = 0

    @property
    def threshold(self) -> float:
        """Probability from which a pixel counts as vessel, as the model states it."""
        return self.model.threshold

    @property
    def class_name(self) -> str:
        """Which of the model's classes is segmented."""
        return self.model.classes[self._channel]

    @property
    def input_shape(self) -> tuple[int, int]:
        """``(H, W)`` of the network's grid."""
        return self.model.input_shape

    def __call__(self, pixels: U8) -> F32:
        """Segment one frame.

        Parameters
        ----------
        pixels : ndarray of shape (H, W), uint8
            Grey levels.

        Returns
        -------
        ndarray of shape (H, W), float32
            Vessel probability in the frame's own pixels, 0 to 1.
        """
        work = self.start(pixels)
        shape = (pixels.shape[0], pixels.shape[1])
        return probability_to_frame(self.result(work), work.grid, shape)

    @property
    def slots(self) -> int:
        """How many frames may be in work at once."""
        return self.engine.slots

    def start(self, pixels: U8, region: Region | None = None) -> InWork:
        """Lay one frame, or a region of it, on the network's grid and begin to segment it.

        At most `slots` frames may be begun whose results were not taken.

        Parameters
        ----------
        pixels : ndarray of shape (H, W), uint8
            Grey levels.
        region : tuple of int, optional
            ``(x, y, width, height)`` of the scan area; the whole frame by default.

        Returns
        -------
        InWork
            What `result` is asked with.
        """
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise ValueError(f"expected (H, W) uint8, got {pixels.shape} {pixels.dtype}")
        slot = self._slot
        grid = self._lay(pixels, region, slot)
        laid = self.engine.buffer(slot)[0, 0]
        image_to_grid(pixels, grid, laid)
        self.engine.start(slot)
        self._slot = (slot + 1) % self.engine.slots
        x, y, width, height = grid.inner
        return InWork(slot, grid, laid[y : y + height, x : x + width])

    def ready(self, work: InWork) -> bool:
        """Whether the answer to a frame is there."""
        return self.engine.ready(work.slot)

    def result(self, work: InWork) -> F32:
        """Wait for the answer to a frame.

        Returns
        -------
        ndarray, float32
            Vessel probability on the network's grid. The engine's own buffer: valid until `slots`
            further frames were begun.
        """
        probability: F32 = self.engine.result(work.slot)[0, self._channel]
        return probability

    def _lay(self, pixels: U8, region: Region | None, slot: int) -> Grid:
        layout = self._layouts[slot]
        if layout is None or layout.shape != pixels.shape or layout.region != region:
            grid = fit((pixels.shape[0], pixels.shape[1]), self.model.input_shape, region)
            layout = self._layouts[slot] = _Layout(pixels.shape, region, grid)
            self.engine.buffer(slot).fill(0)  # what the new layout leaves free must be black
        return layout.grid

    def close(self) -> None:
        """Free the engine. Safe to call twice."""
        self.engine.close()


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the last frame in a slot lay on the grid."""

    shape: tuple[int, ...]
    region: Region | None
    grid: Grid


def channel_of(model: ModelInfo, class_name: str | None = None) -> int:
    """Find the output channel of a class; see `Segmenter`.

    Raises
    ------
    ValueError
        If the model has no such class.
    """
    if class_name is None:
        return next((model.classes.index(c) for c in _VESSEL if c in model.classes), 0)
    if class_name not in model.classes:
        raise ValueError(
            f"{model.path} has no class {class_name!r}; it has {', '.join(model.classes)}"
        )
    return model.classes.index(class_name)


def load_segmenter(
    model: str = DEFAULT_MODEL,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    class_name: str | None = None,
    slots: int | None = 1,
    limits: ParityLimits | None = DEFAULT_LIMITS,
) -> Segmenter:
    """Open a model, ready to segment frames.

    The first use of a model on a machine compiles it and holds its answers against ONNX Runtime's
    in FP32, on frames of the phantom: a precision that changes them too much is not taken.

    Parameters
    ----------
    model : str
        Name of a shipped model, or the path of a model file.
    engine : str
        ``auto``, ``tensorrt``, ``tensorrt-rtx``, ``openvino`` or ``onnxruntime``.
    precision : str
        ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``: what to begin with. ``auto`` takes the
        fastest.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    class_name : str, optional
        As for `Segmenter`.
    slots : int or None
        How many frames may be in work at once. 1: each is answered as soon as possible. None: as
        many as keep the device busy.
    limits : ParityLimits or None
        What the answers may differ by. None opens what is asked for unseen.

    Raises
    ------
    ModelFileError
        If there is no such model, or it lacks the metadata that veintrack needs.
    ValueError, EngineError
        If the engine or the class does not exist, or the engine does not offer what was asked for.
    """
    info = read_model_info(resolve_model(model))
    channel = channel_of(info, class_name)  # a wrong name should not leave an engine open
    calibration = calibration_pictures(info.input_shape)
    if limits is None:
        opened = open_form(
            info,
            engine,
            precision=precision,
            device=device,
            slots=slots,
            calibration=calibration,
        )
    else:
        proof = Proof(
            frames=judging_pictures(info.input_shape),
            calibration=calibration,
            channel=channel,
            limits=limits,
        )
        opened = open_proven(
            info, engine, precision=precision, device=device, slots=slots, proof=proof
        )
    return Segmenter(opened, info, class_name)
