"""Decoding of one video stream, by FFmpeg's libraries, without what was damaged."""

import av

from veintrack.errors import SourceUnreadableError

__all__ = ["MAX_PIXELS", "SIZE_LIMIT", "Decoder", "has_holes", "silence"]

#: Pixels of the largest picture that is decoded. A damaged or hostile header may claim a picture
#: that fills the memory, and a decoder holds up to 16 of them for reference, 1.5 bytes a pixel.
MAX_PIXELS = 4096 * 4096
SIZE_LIMIT = f"pictures of up to {MAX_PIXELS / 1e6:.1f} million pixels are read"
_TAIL_BYTES = 8  # of a unit of H.264, in which zeros prove nothing


def silence() -> None:
    """Keep FFmpeg's chatter off stderr; what matters of it comes as an exception."""
    av.logging.set_level(None)


class Decoder:
    """Decodes one video stream packet by packet, and leaves out what is not as it was sent.

    After a damaged picture these are all those that are built on it: FFmpeg hands them out without
    a word. They end with the next picture that stands for itself.

    Parameters
    ----------
    stream : VideoStream
        Of an open container.
    name : str
        The source, for messages.
    from_key : bool
        True to begin with a picture that stands for itself, for a stream that is joined anywhere.

    Raises
    ------
    SourceUnreadableError
        If there is no decoder for it here, or its pictures are larger than `MAX_PIXELS`.
    """

    def __init__(self, stream: av.VideoStream, name: str, *, from_key: bool = False) -> None:
        context: av.VideoCodecContext | None = stream.codec_context
        if context is None:
            raise SourceUnreadableError(f"{name}: there is no decoder for its video")
        if context.width * context.height > MAX_PIXELS:
            raise SourceUnreadableError(
                f"{name} declares pictures of {context.width}x{context.height} px; {SIZE_LIMIT}"
            )
        context.options = {**context.options, "max_pixels": str(MAX_PIXELS)}
        if context.name == "mjpeg":  # it would hand out half a picture as a whole one
            context.options = {**context.options, "err_detect": "explode"}
        self._context, self._prefix_bytes = context, _length_prefix_bytes(context)
        self._sound = not from_key
        self.left_out = 0

    def pictures(self, packet: "av.Packet[av.VideoStream] | None") -> list[av.VideoFrame]:
        """Give the pictures that `packet` completes; None asks for those held back."""
        if packet is not None and (packet.is_corrupt or self._has_holes(packet)):
            # It is not decoded, and what came before it is given.
            sound = self._sound_ones(None)
            self._context.flush_buffers()
            self._lose()
            return sound
        return self._sound_ones(packet)

    def _has_holes(self, packet: "av.Packet[av.VideoStream]") -> bool:
        return bool(self._prefix_bytes and packet.size) and has_holes(
            bytes(packet), self._prefix_bytes
        )

    def _sound_ones(self, packet: "av.Packet[av.VideoStream] | None") -> list[av.VideoFrame]:
        try:
            decoded = self._context.decode(packet)
        except (av.FFmpegError, ValueError):
            self._lose()
            return []
        sound = []
        for picture in decoded:
            if picture.is_corrupt:
                self._lose()
            elif self._sound or picture.key_frame:
                self._sound = True
                sound.append(picture)
            else:
                self.left_out += 1
        return sound

    def _lose(self) -> None:
        self._sound = False
        self.left_out += 1


def _length_prefix_bytes(context: av.VideoCodecContext) -> int:
    """Size of the lengths before the units of H.264 and HEVC in files; 0 for all else.

    It stands in the configuration record (ISO/IEC 14496-15, 5.3.3.1.2 and 8.3.3.1.2), whose first
    byte is 1; streams have start codes instead, and begin with 0.
    """
    at, record = {"h264": 4, "hevc": 21}.get(context.name), context.extradata
    if at is None or record is None or len(record) <= at or record[0] != 1:
        return 0
    return (record[at] & 3) + 1


def has_holes(packet: bytes, prefix_bytes: int) -> bool:
    """Look for zeros where H.264 and HEVC cannot have them; decoders take them for a picture.

    Within a unit, three zeros never follow each other (ITU-T H.264, 7.4.1). A few at its end are
    let pass, since some programs leave them there.

    Parameters
    ----------
    packet : bytes
        Units, each after its length.
    prefix_bytes : int
        Size of these lengths.
    """
    at = 0
    while at + prefix_bytes <= len(packet):
        begin = at + prefix_bytes
        at = begin + int.from_bytes(packet[at:begin], "big")
        if at == begin or packet.find(b"\0\0\0", begin, max(begin, at - _TAIL_BYTES)) >= 0:
            return True
    return False
