"""Plain loops as contestants, as a user would write them: OpenCV around a network.

    peers_loop.py onnxruntime|torch ...

One frame at a time: `cv2.resize`, the network, a threshold, `cv2.connectedComponentsWithStats`.
"""

import platform
import sys
from collections.abc import Callable, Iterator
from itertools import cycle

import cv2
import numpy as np
from numpy.typing import NDArray
from peers_process import Brief, serve, timed

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Infer = Callable[[U8], F32]
"""(1, 1, H, W) grey levels to (1, C, H, W) probabilities."""


class Loop:
    """A loop around a network, over pictures of one size.

    Parameters
    ----------
    brief : dict
        With ``inner``, the place of the picture on the grid, as veintrack lays it: the mask can
        then be compared pixel by pixel.
    infer : callable
        The network.
    how : str
        What computes it, in words.
    versions : dict of str
        Its library's.
    """

    def __init__(self, brief: Brief, infer: Infer, how: str, versions: dict[str, str]) -> None:
        self._pictures = np.load(brief["pictures"])
        self._infer = infer
        self._grid = np.zeros((1, 1, *brief["input_px"]), np.uint8)
        x, y, self._width, self._height = brief["inner"]
        self._inner = np.s_[y : y + self._height, x : x + self._width]
        self._channel, self._threshold = brief["channel"], brief["threshold"]
        self.facts = {
            "does": f"cv2.resize, {how}, threshold, cv2.connectedComponentsWithStats; one frame at "
            "a time",
            "clock": "from a frame in memory to its components",
            "precision": "fp32",
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                **versions,
            },
        }

    def turn(self, frames: int, warm_up: int) -> tuple[float, float]:
        return timed(self._components(), frames, warm_up)

    def masks(self, count: int) -> U8:
        return np.stack([self._mask(picture) for picture in self._pictures[:count]])

    def _components(self) -> Iterator[object]:
        for picture in cycle(self._pictures):
            yield cv2.connectedComponentsWithStats(self._mask(picture), connectivity=4)

    def _mask(self, picture: U8) -> U8:
        size = (self._width, self._height)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self._grid[0, 0][self._inner] = small
        probability = self._infer(self._grid)[0, self._channel]
        mask: U8 = (probability[self._inner] >= self._threshold).astype(np.uint8)
        return mask


def onnxruntime_loop(brief: Brief) -> Loop:
    """Open the loop around ONNX Runtime, with its own defaults."""
    import onnxruntime

    session = onnxruntime.InferenceSession(brief["model"], providers=["CPUExecutionProvider"])

    def infer(grid: U8) -> F32:
        answer: F32 = session.run(["probability"], {"frame": grid})[0]
        return answer

    return Loop(brief, infer, "ONNX Runtime", {"onnxruntime": onnxruntime.__version__})


def torch_loop(brief: Brief) -> Loop:
    """Open the loop around eager PyTorch, channels last."""
    import torch
    from peers_torch import read_network

    network = read_network(brief["model"])

    @torch.inference_mode()
    def infer(grid: U8) -> F32:
        answer: F32 = network(torch.from_numpy(grid)).numpy()
        return answer

    return Loop(brief, infer, "eager PyTorch (channels last)", {"torch": torch.__version__})


if __name__ == "__main__":
    serve({"onnxruntime": onnxruntime_loop, "torch": torch_loop}[sys.argv.pop(1)])
