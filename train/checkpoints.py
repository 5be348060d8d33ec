"""Checkpoints of a run: written whole or not at all, and read again as networks."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from veintrack.errors import OutputError
from veintrack.train.networks import make_network
from veintrack.train.resnet34_unet import SegmentationNetwork

__all__ = ["WholeFiles", "load_network", "start_from"]

_log = logging.getLogger(__name__)


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside the old one and then puts it in its place.

    Lightning's own way goes over the system's folder for temporary files: from another file system
    it copies, and whoever is killed meanwhile has neither the old checkpoint nor the new one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        del storage_options  # of file systems in a network
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer raises its own on a full disk
            part.unlink(missing_ok=True)
            raise OutputError(f"checkpoint {path} cannot be written: {error}") from error


def load_network(checkpoint: Path, classes: int, arch: str) -> SegmentationNetwork:
    """Read the averaged weights out of a checkpoint of a run.

    Parameters
    ----------
    checkpoint : Path
        ``best.ckpt`` or ``last.ckpt``.
    classes, arch : int, str
        What that run trained, see `veintrack.train.networks.make_network`.

    Raises
    ------
    ValueError
        If it is no checkpoint of this network with so many classes.
    """
    network = make_network(arch, classes)
    try:
        network.load_state_dict(_averaged_weights(checkpoint))
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} holds no {arch} with {classes} class(es)") from error
    return network


def start_from(network: SegmentationNetwork, checkpoint: Path) -> None:
    """Start a network from a checkpoint; layers of other classes than its own keep their weights.

    Raises
    ------
    ValueError
        If it is no checkpoint of such a network.
    """
    own, weights = network.state_dict(), _averaged_weights(checkpoint)
    fresh = {k for k, v in own.items() if k in weights and weights[k].shape != v.shape}
    if weights.keys() != own.keys() or not fresh <= _of_classes(network):
        raise ValueError(f"{checkpoint} holds another network than {type(network).__name__}")
    network.load_state_dict({k: own[k] if k in fresh else v for k, v in weights.items()})
    if fresh:
        _log.info("%s has another number of classes: the layers that mark them are new", checkpoint)


def _of_classes(network: SegmentationNetwork) -> set[str]:
    """Name the weights whose shape depends on the number of classes."""
    with torch.device("meta"):
        other = type(network)(network.classes + 1).state_dict()
    return {
        name for name, value in network.state_dict().items() if value.shape != other[name].shape
    }


def _averaged_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{checkpoint} cannot be read as a checkpoint of a training run"
        ) from error
    prefix = "averaged."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
