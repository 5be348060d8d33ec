"""A synthetic B-mode scanner whose truth is known exactly.

Tissue is rendered once, at rest; a frame looks it up through the displacement that sliding,
pressing and the vessels' own motion cause, so speckle moves with the tissue. Lumen, walls and
what they do to the echoes behind them are drawn over it, then come gain, electronic noise that
is fresh in every frame, and log compression.

Powers are incoherent sums: where tissue outweighs noise, the envelope before compression is
Rayleigh distributed (see :mod:`veintrack.tracker.phantom_tissue`).
"""

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F32, F64, U8, Spacing
from veintrack.tracker.phantom_cases import demo_settings, random_settings
from veintrack.tracker.phantom_field import white_noise
from veintrack.tracker.phantom_lumen import Lumen, lumen_at
from veintrack.tracker.phantom_settings import (
    BoneSettings,
    MotionSettings,
    PassingShadow,
    PhantomSettings,
    SheathSettings,
    TissueSettings,
    VesselSettings,
)
from veintrack.tracker.phantom_tissue import spread_points, tissue_power
from veintrack.tracker.phantom_vessel import Profiles, displace, draw, window

__all__ = [
    "BoneSettings",
    "MotionSettings",
    "PassingShadow",
    "Phantom",
    "PhantomFrame",
    "PhantomSettings",
    "SheathSettings",
    "TissueSettings",
    "VesselSettings",
    "VesselTruth",
    "demo_settings",
    "random_settings",
    "random_still",
]

_STRAIN = 0.15  # how much of the depth in view full pressure takes away
_POOL_EXTRA_PX = (96, 160)  # room for the noise window to jump, rows and columns
_POOL_STEP_PX = 256  # pools come in few sizes, so that phantoms can share them
_LOST = 0.5  # contact below which nothing is seen
_RIM_MM = 0.15  # softness of a passing shadow's borders
_AROUND = 1.5  # relative radius up to which tissue surrounds a vessel
_SEEN_GREY, _SEEN_CONTRAST = 2.0, 0.06  # the least by which a lumen shows: levels, and relative


@dataclass(frozen=True, slots=True, eq=False)
class VesselTruth:
    """Where a vessel is in one frame.

    Attributes
    ----------
    id : int
        1 for the first vessel of the settings, and so on.
    kind : str
        ``vein`` or ``artery``.
    visible : bool
        False while it is out of view or in a shadow, pressed flat, or the probe is off the skin.
    centroid_px : ndarray of shape (2,), float64
        ``(x, y)`` of the lumen: exact where all of it is in view, of its labelled pixels where
        the border or a shadow cuts it, or another vessel lies over it. NaN while it is not
        visible.
    area_px2 : float
        Area of the part in view; 0 while it is not visible.
    axes_px : tuple of float
        Full ``(major, minor)`` axes of the whole lumen.
    place_px : tuple of float
        ``(x, y)`` of the whole lumen's centroid, also while it is not visible.
    box_px : tuple of float
        ``(left, top, width, height)`` of its labelled pixels' outer edges; 0 while there are none.
    """

    id: int
    kind: str
    visible: bool
    centroid_px: F64
    area_px2: float
    axes_px: tuple[float, float]
    place_px: tuple[float, float]
    box_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class PhantomFrame:
    """A picture and its truth.

    Attributes
    ----------
    pixels : ndarray of shape (H, W), uint8
        Grey levels.
    labels : ndarray of shape (H, W), uint8
        0, or the id of the vessel inside whose lumen the pixel's centre lies.
    vessels : tuple of VesselTruth
        One for each vessel of the settings, in their order.
    time_s : float
        Time since the first frame.
    """

    pixels: U8
    labels: U8
    vessels: tuple[VesselTruth, ...]
    time_s: float


@dataclass(frozen=True, slots=True)
class _Pose:
    """What the probe does in one frame."""

    time_s: float
    slide_mm: float
    turn_rad: float
    press: float
    lift: float


class Phantom:
    """Renders frames of one examination.

    A frame depends on nothing but the settings and its index. Instances hold no state between
    frames and may be shared between threads.

    Parameters
    ----------
    settings : PhantomSettings
        What to show.
    """

    def __init__(self, settings: PhantomSettings) -> None:
        self.settings = settings
        tissue = settings.tissue
        self._mm = settings.mm_per_px
        height, width = settings.scan_shape_px
        (texture_seed,) = np.random.SeedSequence(settings.seed).spawn(1)
        reserve = math.ceil(settings.motion.slide_amplitude_mm / self._mm) + 2
        strain = _STRAIN * max(
            settings.motion.press_amplitude, float(bool(settings.motion.press_windows_s))
        )
        self._texture = tissue_power(
            tissue,
            settings.bone,
            (math.ceil(height * (1 + strain)) + 2, width + 2 * reserve),
            self._mm,
            np.random.default_rng(texture_seed),
            settings.sheaths,
        )
        self._rows = np.arange(height, dtype=np.float32)[:, None]
        self._columns = np.arange(width, dtype=np.float32)
        self._reserve_px = reserve
        depth_mm = (self._rows + 0.5) * self._mm
        self._gain = _gain(tissue, depth_mm, self._columns)
        self._noise = _noise_pool(height, width)
        self._noise_level = np.ascontiguousarray(
            np.broadcast_to(
                10 ** ((tissue.noise_db + tissue.noise_db_mm * depth_mm) / 10), (height, width)
            ),
            np.float32,
        )
        self._face = _probe_face(depth_mm)
        self._grey = _grey_map(settings.gamma)
        self._profiles = tuple(Profiles.of(v, *self._echoes_db(v)) for v in settings.vessels)

    @property
    def spacing_mm(self) -> Spacing:
        """``(row_mm, col_mm)``, millimetres per pixel."""
        return self._mm, self._mm

    def render(self, index: int) -> PhantomFrame:
        """Render one frame.

        Raises
        ------
        ValueError
            If `index` is negative.
        """
        if index < 0:
            raise ValueError(f"index must not be negative, got {index}")
        time_s = index / self.settings.rate_hz
        pose = self._pose(time_s)
        lumens = [self._lumen(v, pose) for v in self.settings.vessels]
        contact = self._contact(pose)

        rng = np.random.default_rng((self.settings.seed, index))
        power = self._tissue(pose, lumens)
        for number, lumen in enumerate(lumens):
            if lumen.open:
                blood = self._noise_window(rng)
                draw(power, self.settings.vessels[number], self._profiles[number], lumen, blood)
        cv2.multiply(power, self._gain, dst=power)
        if contact.min() < 1:
            power *= contact
        power += self._face * (1 + 3 * (1 - contact))
        grain = self.settings.tissue.noise_grain
        noise = self._noise_window(rng)
        if grain < 1:
            noise = noise * np.float32(grain) + np.float32(1 - grain)
        power += cv2.multiply(noise, self._noise_level)
        labels = self._labels(lumens, contact)
        return PhantomFrame(
            self._in_margins(self._compress(power, self.settings.gain_db_at(time_s))),
            labels,
            tuple(self._truth(i, lumen, labels) for i, lumen in enumerate(lumens)),
            time_s,
        )

    def _echoes_db(self, vessel: VesselSettings) -> tuple[float, float]:
        """Mean echo of the tissue around a vessel at rest, and the weakest echo that is seen."""
        middle = (
            vessel.x_mm / self._mm + self._reserve_px + len(self._columns) / 2 - 0.5,
            vessel.depth_mm / self._mm - 0.5,
        )
        rest = vessel.major_mm / self._mm / 2, vessel.minor_mm / self._mm / 2
        lumen = Lumen(middle, rest, vessel.angle_rad, vessel.bend, open=True)
        at = window(self._texture.shape, middle, lumen.extent_px(_AROUND))
        rows, columns = (np.arange(s.start, s.stop, dtype=np.float32) for s in at)
        p, q = lumen.to_disc(columns, rows[:, None])
        square = p * p + q * q
        ring = self._texture[at][(square > 1) & (square <= _AROUND**2)]
        tissue, shown = self.settings.tissue, self.settings
        noise_db = tissue.noise_db + tissue.noise_db_mm * vessel.depth_mm
        floor_db = max(noise_db, -shown.dynamic_range_db - shown.gain_db)
        return (
            10 * float(np.log10(ring + 1e-20).mean()) if ring.size else floor_db,
            floor_db + tissue.attenuation_db_mm * vessel.depth_mm,
        )

    def _pose(self, time_s: float) -> _Pose:
        move = self.settings.motion
        return _Pose(
            time_s,
            move.slide_mm(time_s),
            move.turn_rad(time_s),
            move.press(time_s),
            move.lift(time_s),
        )

    def _contact(self, pose: _Pose) -> F32:
        """Part of the power that gets through, column by column."""
        contact, shadow = _contact(pose.lift, self._columns), self.settings.shadow
        if shadow is not None:
            x_mm = (self._columns + 0.5 - len(self._columns) / 2) * np.float32(self._mm)
            away_mm = np.abs(x_mm - (shadow.x_mm + shadow.speed_mm_s * pose.time_s))
            contact /= 1 + np.exp(np.minimum((shadow.half_width_mm - away_mm) / _RIM_MM, 40))
        return contact

    def _rest_px(self, vessel: VesselSettings, pose: _Pose) -> tuple[float, float]:
        """Where a vessel's centroid is but for its sway, in scan area px."""
        width = self.settings.scan_shape_px[1]
        right_mm, down_mm = vessel.off_mm(pose.time_s)
        x_mm, y_mm = vessel.x_mm + right_mm - pose.slide_mm, vessel.depth_mm + down_mm
        cos, sin = math.cos(pose.turn_rad), math.sin(pose.turn_rad)
        x_mm, y_mm = cos * x_mm + sin * y_mm, cos * y_mm - sin * x_mm
        y_mm /= 1 + _STRAIN * pose.press
        return width / 2 + x_mm / self._mm - 0.5, y_mm / self._mm - 0.5

    def _lumen(self, vessel: VesselSettings, pose: _Pose) -> Lumen:
        turn = 2 * math.pi * vessel.sway_hz * pose.time_s
        sway_px = vessel.sway_mm / self._mm
        x, y = self._rest_px(vessel, pose)
        centroid_px = x + sway_px * math.sin(turn), y + sway_px / 2 * math.sin(0.7 * turn + 1)
        return lumen_at(vessel, pose.time_s, pose.press, centroid_px, 1 / self._mm, pose.turn_rad)

    def _tissue(self, pose: _Pose, lumens: list[Lumen]) -> F32:
        """Look the tissue up where its parts were at rest."""
        shape = self.settings.scan_shape_px
        strain = np.float32(1 + _STRAIN * pose.press)
        offset = np.float32(self._reserve_px + pose.slide_mm / self._mm)
        x = np.ascontiguousarray(np.broadcast_to(self._columns + offset, shape))
        y = np.ascontiguousarray(np.broadcast_to((self._rows + 0.5) * strain - 0.5, shape))
        for vessel, lumen in zip(self.settings.vessels, lumens, strict=True):
            semi_px = vessel.major_mm / self._mm / 2, vessel.minor_mm / self._mm / 2
            displace(x, y, lumen, self._rest_px(vessel, pose), semi_px)
        if pose.turn_rad:
            x, y = _turned(x, y, (shape[1] / 2 - 0.5 + float(offset), -0.5), pose.turn_rad)
        power = cv2.remap(self._texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(power, np.float32)

    def _noise_window(self, rng: np.random.Generator) -> F32:
        """Noise that is new in every frame: the pool, seen through a window that jumps."""
        height, width = self.settings.scan_shape_px
        rooms = self._noise.shape[0] - height, self._noise.shape[1] - width
        y, x = (int(rng.integers(room)) for room in rooms)
        return self._noise[y : y + height, x : x + width]

    def _compress(self, power: F32, gain_db: float) -> U8:
        """Log compression: `dynamic_range_db` below white is black."""
        per_db = 255 / self.settings.dynamic_range_db
        offset = 255 + per_db * gain_db
        log = cv2.log(power)
        pixels = cv2.addWeighted(log, per_db * 10 / math.log(10), log, 0, offset, dtype=cv2.CV_8U)
        sigma = self.settings.tissue.smoothing_px
        if sigma > 0.2:
            pixels = cv2.GaussianBlur(pixels, (11, 7), 1.7 * sigma, sigmaY=sigma)
        return np.asarray(cv2.LUT(pixels, self._grey), np.uint8)

    def _in_margins(self, pixels: U8) -> U8:
        left, top, right, bottom = self.settings.margins_px
        return np.pad(pixels, ((top, bottom), (left, right)))

    def _labels(self, lumens: list[Lumen], contact: F32) -> U8:
        """Give each pixel the number of the lumen that holds its centre, margins included."""
        labels = np.zeros(self.settings.scan_shape_px, np.uint8)
        for number, lumen in enumerate(lumens, start=1):
            if lumen.open:
                at = window(labels.shape, lumen.centroid_px, lumen.extent_px())
                p, q = lumen.to_disc(self._columns[at[1]], self._rows[at[0]])
                part = labels[at]
                part[(p * p + q * q <= 1) & (part == 0)] = number
        labels *= contact >= _LOST
        return self._in_margins(labels)

    def _truth(self, number: int, lumen: Lumen, labels: U8) -> VesselTruth:
        left, top = self.settings.margins_px[:2]
        height, width = self.settings.scan_shape_px
        at = window((height, width), lumen.centroid_px, lumen.extent_px())
        rows, columns = np.nonzero(
            labels[top : top + height, left : left + width][at] == number + 1
        )
        visible, centroid_px, area_px2 = len(rows) > 0, np.full(2, np.nan), float(len(rows))
        box_px = (0.0, 0.0, 0.0, 0.0)
        if visible:
            corner = left + at[1].start + columns.min(), top + at[0].start + rows.min()
            size = np.ptp(columns) + 1, np.ptp(rows) + 1
            box_px = (corner[0] - 0.5, corner[1] - 0.5, float(size[0]), float(size[1]))
            inside = lumen.outline_px() + 0.5  # from the scan area's outer corner
            whole = bool(((inside >= 0) & (inside <= (width, height))).all())
            if whole and area_px2 > 0.9 * lumen.area_px2:
                centroid_px, area_px2 = np.array(lumen.centroid_px), lumen.area_px2
            else:
                centroid_px = np.array([at[1].start + columns.mean(), at[0].start + rows.mean()])
            centroid_px += np.array([left, top])
        return VesselTruth(
            id=number + 1,
            kind=self.settings.vessels[number].kind,
            visible=visible,
            centroid_px=centroid_px,
            area_px2=area_px2,
            axes_px=(2 * lumen.semi_px[0], 2 * lumen.semi_px[1]),
            place_px=(lumen.centroid_px[0] + left, lumen.centroid_px[1] + top),
            box_px=box_px,
        )


def random_still(seed: int, height_px: int = 480, width_px: int = 640) -> tuple[U8, U8]:
    """Render one random picture to learn from.

    Returns
    -------
    pixels : ndarray of shape (H, W), uint8
        Grey levels.
    mask : ndarray of shape (H, W), uint8
        1 inside a vessel that shows, 0 elsewhere.
    """
    rng = np.random.default_rng(seed)
    settings = random_settings(rng, height_px, width_px)
    frame = Phantom(settings).render(int(rng.integers(300)))
    left, top = settings.margins_px[:2]
    height, width = settings.scan_shape_px
    scan = slice(top, top + height), slice(left, left + width)
    pixels, labels = frame.pixels[scan], frame.labels[scan]
    mask = np.zeros_like(frame.labels)
    for number in range(1, len(settings.vessels) + 1):
        inside = labels == number
        if inside.any() and _stands_out(pixels, inside, labels > 0):
            mask[scan][inside] = 1
    return frame.pixels, mask


def _stands_out(pixels: U8, inside: NDArray[np.bool_], vessels: NDArray[np.bool_]) -> bool:
    """Whether a vessel is darker than its surroundings, so that one could mark it."""
    reach = max(2, round(0.2 * math.sqrt(np.count_nonzero(inside))))
    rows, columns = np.nonzero(inside)
    at = (
        slice(max(0, rows.min() - reach), rows.max() + reach + 1),
        slice(max(0, columns.min() - reach), columns.max() + reach + 1),
    )
    grown = cv2.dilate(inside[at].astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1)))
    ring = (grown > 0) & ~vessels[at]
    if not ring.any():
        return False
    lumen, around = float(pixels[at][inside[at]].mean()), float(pixels[at][ring].mean())
    return around - lumen > max(_SEEN_GREY, _SEEN_CONTRAST * (around + lumen))


def _gain(tissue: TissueSettings, depth_mm: F32, columns: F32) -> F32:
    """Gain left by attenuation and its compensation, lower towards the array's ends."""
    side = 2 * columns / len(columns) - 1
    down, across = -tissue.attenuation_db_mm * depth_mm, -3 * side**8
    return np.asarray(10 ** (down / 10) * 10 ** (across / 10), np.float32)


def _noise_pool(height: int, width: int) -> F32:
    """Power of receiver noise, larger than the picture by at least `_POOL_EXTRA_PX`."""
    step = _POOL_STEP_PX
    tall, wide = (n + extra for n, extra in zip((height, width), _POOL_EXTRA_PX, strict=True))
    return _make_noise(math.ceil(tall / step) * step, math.ceil(wide / step) * step)


@functools.lru_cache(maxsize=4)
def _make_noise(height: int, width: int) -> F32:
    """Power of band-limited noise, mean 1; shared, so it is not to be written to."""
    rng = np.random.default_rng((height, width))
    white = white_noise((height, width, 2), math.sqrt(0.5), rng)
    field = spread_points(white, 0.9, np.full(height, 1.8, np.float32))
    power: F32 = np.einsum("ijk,ijk->ij", field, field)
    power.flags.writeable = False
    return power


def _probe_face(depth_mm: F32) -> F32:
    """Ringing at the probe's face: lines that stay while everything else moves, (H, 1)."""
    ring = np.cos(2 * math.pi * depth_mm / 0.45) ** 4
    db = -14 - 12 * depth_mm / 0.6
    return np.asarray(10 ** (db / 10) * (0.15 + ring), np.float32)


def _turned(x: F32, y: F32, about: tuple[float, float], angle_rad: float) -> tuple[F32, F32]:
    """Turn points about a pivot, from +x towards +y."""
    cos, sin = np.float32(math.cos(angle_rad)), np.float32(math.sin(angle_rad))
    dx, dy = x - np.float32(about[0]), y - np.float32(about[1])
    return (
        cos * dx - sin * dy + np.float32(about[0]),
        sin * dx + cos * dy + np.float32(about[1]),
    )


def _contact(lift: float, columns: F32) -> F32:
    """Part of the power that gets through, column by column: a probe comes off side first."""
    if lift <= 0:
        return np.ones_like(columns)
    side = columns / len(columns)
    return np.asarray(1 / (1 + np.exp((side + 2.6 * lift - 1.6) * 12)), np.float32)


def _grey_map(gamma: float) -> U8:
    return np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
