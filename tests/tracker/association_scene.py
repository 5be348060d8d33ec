"""Detections and tracks for tests of who is who."""

import math

import numpy as np

from tests.tracker.vessel_maps import Vessel
from veintrack.tracker import kalman
from veintrack.tracker.association import Expected
from veintrack.tracker.frame import Detection, Shape

__all__ = ["GATE", "expected", "found", "track_of"]

GATE = 13.8


def found(x: float, y: float, *, size: float = 20.0, sigma_px: float = 1.0) -> Detection:
    return Detection(
        centroid_px=np.array([x, y]),
        covariance_px2=sigma_px**2 * np.eye(2),
        area_px2=math.pi * size**2 / 4,
        axes_px=(size, size),
        angle_rad=0.0,
        score=0.9,
        box_px=(x - size / 2, y - size / 2, size, size),
    )


def expected(x: float, y: float, *, size: float = 20.0, sigma_px: float = 1.0) -> Expected:
    state = kalman.birth(np.array([x, y]), sigma_px**2 * np.eye(2), 10.0)
    return Expected(state, Shape(math.pi * size**2 / 4, size, size, 0.0, 0.1), 0.1)


def track_of(vessel: Vessel, sigma_px: float = 1.0) -> Expected:
    shape = vessel.place.shape
    return Expected(kalman.birth(vessel.xy_px, sigma_px**2 * np.eye(2), 10.0), shape, shape.area_sd)
