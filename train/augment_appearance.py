"""How a scan looks: what lies in the beam's way, the grain, the scanner's filters and its knobs.

Each effect is a function of the chosen frames (K, 1, H, W), 0 to 1, and of each one's amount
(K, 1, 1, 1); it returns frames that may leave that range. `vary_appearance` chooses and joins them.
"""

import math
from collections.abc import Callable

import torch
from kornia.enhance import adjust_contrast, adjust_gamma
from kornia.filters import gaussian_blur2d, unsharp_mask
from torch import Tensor
from torch.nn import functional

from veintrack.train.augment_geometry import draw_amounts, draw_signs, smooth_fields
from veintrack.train.augment_presets import Augmentation, Effect

__all__ = ["scan_area", "vary_appearance"]

_BLOCK_PX = 8
_REACH = 4
_KNOTS = 4
"""Of the fields that gain and haze follow: slower than the elastic one."""
_BLACK = 2.5 / 255  # below, a grey level is what a lossy codec leaves of black


def vary_appearance(image: Tensor, how: Augmentation) -> Tensor:
    """Vary grey levels only; what is black outside the scan area stays black.

    Parameters
    ----------
    image : Tensor of shape (N, 1, H, W), float
        From 0 to 1.
    how : Augmentation
        Odds and strengths.

    Returns
    -------
    Tensor of the same shape
        From 0 to 1.
    """
    # The order of the world: tissue and beam, receiver, the scanner's filters, its knobs, its text.
    effects: list[tuple[Effect, Callable[[Tensor, Tensor], Tensor]]] = [
        (how.haze, _haze),
        (how.attenuation, _attenuate),
        (how.shadow, _shadow),
        (how.gain_field, _gain_field),
        (how.speckle, _speckle),
        (how.noise, _noise),
        (how.blur_px, _blur),
        (how.coarsen, _coarsen),
        (how.sharpen, _sharpen),
        (how.gain, _gain),
        (how.depth_gain, _depth_gain),
        (how.contrast, _contrast),
        (how.gamma, _gamma),
        (how.marks, _write),
    ]
    if not any(effect for effect, _ in effects):
        return image
    varied, area = image.clone(), scan_area(image)
    for effect, change in effects:
        _change_some(varied, area, effect, change)
    return varied


def _change_some(
    image: Tensor, area: Tensor, effect: Effect, change: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Change the frames that are drawn for an effect, in place."""
    amounts = draw_amounts(len(image), effect)
    (chosen,) = torch.nonzero(amounts, as_tuple=True)
    if not len(chosen):
        return
    amount = amounts[chosen].view(-1, 1, 1, 1).to(image)
    chosen = chosen.to(image.device)
    frames = image[chosen]
    changed = change(frames, amount).clamp_(0, 1)
    image.index_copy_(0, chosen, torch.lerp(frames, changed, area[chosen]))


def scan_area(image: Tensor) -> Tensor:
    """Tell the scan area, dark lumens included, from the black around it.

    Morphological closing of what is lit (Serra, "Image Analysis and Mathematical Morphology",
    1982), on coarse blocks: holes of some 64 px close, convex outlines stay as they are.

    Parameters
    ----------
    image : Tensor of shape (N, 1, H, W), float
        From 0 to 1.

    Returns
    -------
    Tensor of the same shape
        0 where black lies outside, 1 inside, and a slope of some 24 px between them, so that no
        effect ends in an edge; lit pixels count by their own brightness at least.
    """
    height, width = image.shape[-2:]
    lit = (image > _BLACK).to(image)
    # What touches the frame's border goes on beyond it, for a few blocks and a part.
    ring, cut = 4 * _BLOCK_PX, _REACH + 3
    right, below = ring + -width % _BLOCK_PX, ring + -height % _BLOCK_PX
    lit = functional.pad(lit, (ring, right, ring, below), "replicate")
    blocks = (functional.avg_pool2d(lit, _BLOCK_PX) > 0).to(image)
    # Three blocks more off than on: the outermost may lie almost wholly outside, and the next two
    # are the slope. Pooling, because kornia's closing is slower.
    blocks = _spread(functional.pad(blocks, [_REACH] * 4), _REACH)
    blocks = 1 - _spread(1 - blocks, _REACH + 3)
    blocks = functional.avg_pool2d(blocks[..., cut:-cut, cut:-cut], 3, 1)
    inside = functional.interpolate(blocks, None, _BLOCK_PX, "bilinear")
    return torch.maximum(inside[..., :height, :width], _lit(image))


def _spread(blocks: Tensor, reach: int) -> Tensor:
    """Take the largest value within reach, along columns and then along rows."""
    size = 2 * reach + 1
    blocks = functional.max_pool2d(blocks, (size, 1), 1, (reach, 0))
    return functional.max_pool2d(blocks, (1, size), 1, (0, reach))


def _rows(image: Tensor) -> Tensor:
    """Depth of each row, 0 to 1, shape (1, 1, H, 1)."""
    return torch.linspace(0, 1, image.shape[2], device=image.device).view(1, 1, -1, 1)


def _columns(image: Tensor) -> Tensor:
    return torch.linspace(0, 1, image.shape[3], device=image.device).view(1, 1, 1, -1)


def _uniform(image: Tensor, low: float, high: float) -> Tensor:
    """One number a frame, shape (K, 1, 1, 1)."""
    return (low + (high - low) * torch.rand(len(image), 1, 1, 1)).to(image)


def _signed(amount: Tensor) -> Tensor:
    return amount * draw_signs(len(amount)).view(-1, 1, 1, 1).to(amount)


def _field(image: Tensor) -> Tensor:
    return smooth_fields(len(image), 1, (image.shape[2], image.shape[3]), _KNOTS).to(image)


def _lit(image: Tensor) -> Tensor:
    """How much an offset acts: fully from a tenth of full scale on, so that dark stays dark."""
    return (image * 10).clamp(0, 1)


def _haze(image: Tensor, amount: Tensor) -> Tensor:
    """Add a veil that fades with depth, banded as echoes between probe and skin are."""
    depth = _rows(image)
    fall = torch.exp(-depth * _uniform(image, 0, 4))
    turns = depth * _uniform(image, 3, 10) + _uniform(image, 0, 1)
    bands = 1 + _uniform(image, 0, 0.5) * torch.cos(2 * math.pi * turns)
    cloud = (0.7 + 0.5 * _field(image)).clamp(0, 1)
    veil = amount * fall * bands * cloud
    return image + veil * (1 - image)


def _attenuate(image: Tensor, amount: Tensor) -> Tensor:
    """Lose the same share per unit of depth, as a beam in even tissue does."""
    return image * (1 - amount) ** _rows(image)


def _shadow(image: Tensor, amount: Tensor) -> Tensor:
    """Darken what lies behind an obstacle: a strip that widens a little, soft at its edges."""
    depth = _rows(image) - _uniform(image, -0.1, 0.6)
    middle = _uniform(image, 0, 1) + depth * _uniform(image, -0.25, 0.25)
    half_width = _uniform(image, 0.03, 0.15) * (1 + depth.clamp(min=0) * _uniform(image, 0, 0.8))
    softness = _uniform(image, 0.008, 0.03)
    across = torch.sigmoid((half_width - (_columns(image) - middle).abs()) / softness)
    behind = torch.sigmoid(depth / softness)
    return image * (1 - amount * across * behind)


def _gain_field(image: Tensor, amount: Tensor) -> Tensor:
    return image + amount * _field(image) * _lit(image)


def _speckle(image: Tensor, amount: Tensor) -> Tensor:
    """Add grain whose deviation grows with the root of the grey level.

    f + sqrt(f) n, for log-compressed pictures: Loupas, McDicken and Allan, IEEE Trans. Circuits
    and Systems 36, 1989. A grain is wider than it is high, as a beam is wider than a pulse is long.
    """
    grain_px = _uniform(image, 0.4, 1.5).view(-1, 1) * image.new_tensor([[1.0, 1.5]])
    grain = gaussian_blur2d(torch.randn_like(image), (9, 9), grain_px)
    grain = grain / grain.std(dim=(2, 3), keepdim=True)
    return image + amount * image.sqrt() * grain


def _noise(image: Tensor, amount: Tensor) -> Tensor:
    return image + amount * torch.randn_like(image)


def _blur(image: Tensor, amount: Tensor) -> Tensor:
    sigma = amount.view(-1, 1).expand(-1, 2).clamp(min=0.1)
    return gaussian_blur2d(image, (9, 9), sigma)


def _coarsen(image: Tensor, amount: Tensor) -> Tensor:
    """Resample to fewer pixels and back, each frame by its own factor."""
    shape = image.shape[-2:]
    frames = []
    for frame, factor in zip(image, (1 + amount).flatten().tolist(), strict=True):
        small = [max(1, round(size / factor)) for size in shape]
        frame = functional.interpolate(frame[None], small, mode="bilinear", antialias=True)
        frames.append(functional.interpolate(frame, shape, mode="bilinear"))
    return torch.cat(frames)


def _sharpen(image: Tensor, amount: Tensor) -> Tensor:
    sharp: Tensor = unsharp_mask(image, (7, 7), (1.5, 1.5))
    return image + amount * (sharp - image)


def _gain(image: Tensor, amount: Tensor) -> Tensor:
    return image + _signed(amount) * _lit(image)


def _depth_gain(image: Tensor, amount: Tensor) -> Tensor:
    return image + _signed(amount) * (1 - 2 * _rows(image)) * _lit(image)


def _contrast(image: Tensor, amount: Tensor) -> Tensor:
    factor = (1 + amount.flatten()) ** draw_signs(len(amount)).to(amount)
    varied: Tensor = adjust_contrast(image, factor)
    return varied


def _gamma(image: Tensor, amount: Tensor) -> Tensor:
    exponent = (1 + amount.flatten()) ** draw_signs(len(amount)).to(amount)
    varied: Tensor = adjust_gamma(image, exponent)
    return varied


def _write(image: Tensor, amount: Tensor) -> Tensor:
    """Lay one line of small random letters over each frame, as scanners do."""
    written = image.clone()
    height, width = image.shape[-2:]
    for frame, level in zip(written, amount.flatten(), strict=True):
        letters = functional.pad(torch.rand(int(torch.randint(2, 9, ())), 5, 3) < 0.6, [0, 1])
        line = letters.movedim(0, 1).reshape(5, -1)
        line = line[:height, :width].to(image.device)
        top = int(torch.randint(height - line.shape[0] + 1, ()))
        left = int(torch.randint(width - line.shape[1] + 1, ()))
        place = frame[0, top : top + line.shape[0], left : left + line.shape[1]]
        place.copy_(torch.where(line, level, place))
    return written
