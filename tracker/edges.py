"""What happens at the edges of the scan area, where vessels come in, go out, and are cut."""

from collections.abc import Callable, Iterator

from veintrack.tracker.frame import F64, Detection, Region

__all__ = ["crosses", "holds", "lingers", "touches"]

_NEAR = 0.025  # of the scan area's width: what ends so close to its edge may be cut by it
_COMES_IN = 0.04  # of that width, by which the picture moves across the edge in a second at least


def lingers(found: Detection, area_px: Region, motion: Callable[[F64], F64] | None) -> bool:
    """Whether something may be cut by the left, right or lower edge, and does not come in there.

    Parameters
    ----------
    found : Detection
        What was found.
    area_px : tuple of int
        ``(x, y, width, height)`` of the scan area.
    motion : callable or None
        Velocity of the picture at a place, px/s; None where it is not known.
    """
    return any(inward < _COMES_IN for inward in _at_edges(found, area_px, motion))


def crosses(found: Detection, area_px: Region, motion: Callable[[F64], F64]) -> bool:
    """Whether something may be cut by one of these edges, and comes in there or goes out.

    Parameters
    ----------
    found, area_px, motion
        As in :func:`lingers`; the motion is known.
    """
    return any(abs(inward) >= _COMES_IN for inward in _at_edges(found, area_px, motion))


def _at_edges(
    found: Detection, area_px: Region, motion: Callable[[F64], F64] | None
) -> Iterator[float]:
    """Give, for each edge that may cut it, how fast it comes in from there, in widths a second."""
    left, top, width, height = area_px
    x, y, box_width, box_height = found.box_px
    gaps = (
        (x - left + 0.5, (1, 0)),
        (left + width - 0.5 - x - box_width, (-1, 0)),
        (top + height - 0.5 - y - box_height, (0, -1)),
    )
    for gap, inward in gaps:
        if gap < _NEAR * width:
            yield 0.0 if motion is None else float(motion(found.centroid_px) @ inward) / width


def holds(area_px: Region, xy_px: F64) -> bool:
    """Whether a place lies in the scan area."""
    x, y = xy_px.tolist()
    left, top, width, height = area_px
    return bool(left - 0.5 <= x <= left + width - 0.5 and top - 0.5 <= y <= top + height - 0.5)


def touches(box_px: tuple[float, float, float, float], area_px: Region) -> bool:
    """Whether a box is within a pixel of the edge of the scan area, or across it."""
    left, top, width, height = area_px
    return (
        box_px[0] <= left + 0.5
        or box_px[1] <= top + 0.5
        or box_px[0] + box_px[2] >= left + width - 1.5
        or box_px[1] + box_px[3] >= top + height - 1.5
    )
