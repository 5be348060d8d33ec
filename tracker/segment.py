"""Frame in, probability out: the network's grid around an engine."""

from typing import Protocol

import numpy as np

from veintrack.engines.base import Engine, open_engine
from veintrack.engines.model import DEFAULT_MODEL, ModelInfo, read_model_info, resolve_model
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import F32, U8, Region
from veintrack.tracker.grid import Grid, fit, image_to_grid, probability_to_frame

__all__ = ["GridSegmenter", "Segmenter", "load_segmenter"]

_VESSEL = ("vessel", "vein")  # the class to follow, where a model has several


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

    def on_grid(self, pixels: U8, region: Region | None = None) -> tuple[F32, Grid]:
        """Vessel probability of a frame on the grid, and where the grid lies in the frame."""
        ...


class Segmenter(Closing):
    """A model in an engine, for frames of any size.

    Owns the buffer on the network's grid; one thread uses it. Close it, or use it in a ``with``
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
        self._channel = _channel(model, class_name)
        self._input = np.zeros((1, 1, *model.input_shape), np.uint8)
        self._grid: Grid | None = None
        self._laid: tuple[tuple[int, ...], Region | None] | None = None

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
        probability, grid = self.on_grid(pixels)
        return probability_to_frame(probability, grid, (pixels.shape[0], pixels.shape[1]))

    def on_grid(self, pixels: U8, region: Region | None = None) -> tuple[F32, Grid]:
        """Segment one frame, or a region of it, and leave the answer on the network's grid.

        Parameters
        ----------
        pixels : ndarray of shape (H, W), uint8
            Grey levels.
        region : tuple of int, optional
            ``(x, y, width, height)`` of the scan area; the whole frame by default.

        Returns
        -------
        probability : ndarray, float32
            Vessel probability on the network's grid. The engine's own buffer: valid until the
            next call.
        grid : Grid
            Where that grid lies in the frame.
        """
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise ValueError(f"expected (H, W) uint8, got {pixels.shape} {pixels.dtype}")
        grid = self._lay(pixels, region)
        image_to_grid(pixels, grid, self._input[0, 0])
        return self.engine.infer(self._input)[0, self._channel], grid

    def _lay(self, pixels: U8, region: Region | None) -> Grid:
        if self._grid is None or self._laid != (pixels.shape, region):
            self._grid = fit((pixels.shape[0], pixels.shape[1]), self.model.input_shape, region)
            self._laid = (pixels.shape, region)
            self._input.fill(0)  # what the new layout leaves free must be black
        return self._grid

    def close(self) -> None:
        """Free the engine. Safe to call twice."""
        self.engine.close()


def _channel(model: ModelInfo, class_name: str | None) -> int:
    """Find the output channel of a class."""
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
) -> Segmenter:
    """Open a model, ready to segment frames.

    Parameters
    ----------
    model : str
        Name of a shipped model, or the path of a model file.
    engine : str
        ``auto``, ``openvino`` or ``onnxruntime``.
    precision : str
        ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``.
    device : str
        ``auto`` or ``cpu``.
    class_name : str, optional
        As for `Segmenter`.

    Raises
    ------
    ModelFileError
        If there is no such model, or it lacks the metadata that veintrack needs.
    ValueError, EngineError
        If the engine or the class does not exist, or the engine does not offer what was asked for.
    """
    info = read_model_info(resolve_model(model))
    _channel(info, class_name)  # a wrong name should not leave an engine open
    return Segmenter(
        open_engine(info, engine, precision=precision, device=device), info, class_name
    )
