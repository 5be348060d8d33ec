"""What a capture device puts into its buffers, and the grey picture in there."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import U8
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.grey import FULL_RANGE, choose_shift, describe, to_grey

__all__ = ["GreyPictures", "PictureFormat", "picture_format"]

#: Bytes of a row's pixel in the plane that is read; 0 for compressed pictures.
_PIXEL_BYTES = {
    **dict.fromkeys(("GREY", "NV12", "YU12"), 1),
    **dict.fromkeys(("YUYV", "UYVY", "Y16", "Y12", "Y10"), 2),
    **dict.fromkeys(("RGB3", "BGR3"), 3),
    "MJPG": 0,
}
_LUMA_AND_CHROMA = ("NV12", "YU12", "YUYV", "UYVY")
_HALF_SIZE_CHROMA = ("NV12", "YU12")  # behind the luma, half as many bytes
_DEPTH_BITS = {"Y10": 10, "Y12": 12}  # Y16 does not say how many of its bits are in use
_JPEG_END = b"\xff\xd9"  # ITU-T T.81, table B.1: no compressed byte looks like it
_JPEG_TAIL_BYTES = 4096  # cards pad what they send


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """What the device delivers.

    Attributes
    ----------
    name : str
        Four letters, as in :data:`~veintrack.tracker.sources.v4l2_modes.READABLE`.
    width_px, height_px : int
        Size of a picture.
    stride_bytes : int
        From one row to the next; 0 for compressed pictures.
    limited : bool
        True where luma lies at 16 to 235.
    rate_hz : float or None
        Frames per second that the driver says it delivers.
    """

    name: str
    width_px: int
    height_px: int
    stride_bytes: int
    limited: bool
    rate_hz: float | None


def picture_format(form: abi.Format, rate_hz: float | None) -> PictureFormat:
    """Put the driver's answer to VIDIOC_S_FMT in our words."""
    name = abi.fourcc_name(form.pixelformat)
    row_bytes = form.width * _PIXEL_BYTES[name]
    stride_bytes = max(form.bytesperline, row_bytes) if row_bytes else 0
    return PictureFormat(
        name, form.width, form.height, stride_bytes, _is_limited(name, form), rate_hz
    )


def _is_limited(name: str, form: abi.Format) -> bool:
    """Tell whether luma lies at 16 to 235, by the rule of V4L2_MAP_QUANTIZATION_DEFAULT."""
    if name == "MJPG":
        return False
    if form.quantization in (abi.QUANTIZATION_FULL, abi.QUANTIZATION_LIMITED):
        return bool(form.quantization == abi.QUANTIZATION_LIMITED)
    return name in _LUMA_AND_CHROMA and form.colorspace != abi.COLORSPACE_JPEG


class GreyPictures:
    """Turns a run's buffers into grey pictures, all in the same way.

    Parameters
    ----------
    form : PictureFormat
        What is in the buffers.
    earlier : GreyPictures, optional
        Those of the same run before the device was lost: brightness stays as it was.
    """

    def __init__(self, form: PictureFormat, earlier: "GreyPictures | None" = None) -> None:
        self._form = form
        bits = _DEPTH_BITS.get(form.name)
        self._shift = bits - 8 if bits else None
        if earlier and earlier._form.name == form.name:
            self._shift = earlier._shift

    def look_at(self, raw: U8) -> tuple[str, ...] | None:
        """Settle by a run's first picture how deep its grey is; to be called before the others.

        Returns
        -------
        tuple of str or None
            What is done to pictures like this one, one sentence each; None if it is no whole one.
        """
        form = self._form
        stored = _stored(raw, form)
        if stored is None or stored.shape[:2] != (form.height_px, form.width_px):
            return None
        if self._shift is None:
            self._shift = choose_shift(stored)
        note = f"{form.name} pictures"
        if form.name in _LUMA_AND_CHROMA:
            note += ": luma taken"
        if form.limited:
            note += ", 16 to 235 expanded to 0 to 255"
        return (note,) if _has_luma(stored) else (note, *describe(stored, self._shift))

    def grey(self, raw: U8) -> U8 | None:
        """Copy the grey levels out of a buffer.

        Parameters
        ----------
        raw : ndarray of shape (N,), uint8
            The filled part of it.

        Returns
        -------
        ndarray of shape (H, W), uint8, or None
            In memory of its own; None if the buffer holds no whole picture. A compressed picture
            has the size that it says, which may be another than the device's.
        """
        form = self._form
        stored = _stored(raw, form)
        if stored is None or form.name == "MJPG":
            return stored
        grey: Any = stored
        if form.name in ("YUYV", "UYVY"):
            # The quickest way to every other byte: as the low one of a number of two.
            pairs = stored.view("<u2" if form.name == "YUYV" else ">u2")
            grey = pairs[..., 0].astype(np.uint8)
        elif form.name == "RGB3":
            grey = cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)
        elif stored.ndim == 3 or stored.dtype == np.uint16:
            grey = to_grey(stored, self._shift or 0)
        if form.limited:  # in place where it can be: a second picture costs more than the table
            grey = cv2.LUT(grey, FULL_RANGE, dst=None if grey is stored else grey)
        return grey.copy() if grey is stored else grey  # type: ignore[no-any-return]


def _stored(raw: U8, form: PictureFormat) -> NDArray[Any] | None:
    """View the picture in a buffer; None if it holds too little. Compressed ones are decoded.

    Its shape is (H, W), or (H, W, 2) of luma and chroma, or (H, W, 3) of colours.
    """
    if form.name == "MJPG":
        if _JPEG_END not in raw[-_JPEG_TAIL_BYTES:].tobytes():
            return None  # cut off: some versions of the decoder would fill the rest with grey
        try:
            return cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE)
        except cv2.error:
            return None
    height, width, stride = form.height_px, form.width_px, form.stride_bytes
    luma_bytes = stride * height
    whole_bytes = luma_bytes * 3 // 2 if form.name in _HALF_SIZE_CHROMA else luma_bytes
    if raw.size < whole_bytes:
        return None
    pixel_bytes = _PIXEL_BYTES[form.name]
    rows = raw[:luma_bytes].reshape(height, stride)[:, : width * pixel_bytes]
    if form.name in ("Y16", "Y12", "Y10"):
        return rows.view("<u2")
    return rows if pixel_bytes == 1 else rows.reshape(height, width, pixel_bytes)


def _has_luma(stored: NDArray[Any]) -> bool:
    """Whether grey levels of 8 bits are there as they are."""
    return stored.dtype == np.uint8 and stored.shape[2:] in ((), (2,))
