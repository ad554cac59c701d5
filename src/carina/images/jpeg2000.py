"""JPEG 2000 streams inside DICOM: their size, and whether all tile-parts are there.

Only the main header and the tile-part headers are looked at (ITU-T T.800 annex A); decoding is
OpenJPEG's.
"""

from __future__ import annotations

import struct

from carina.errors import TruncatedImage, UnreadableImage
from carina.images.limits import AGAIN, EXPORT_AGAIN

_START = b"\xff\x4f\xff\x51"  # SOC, SIZ
_TILE_PART, _END = 0xFF90, 0xFFD9


def frame_size(frame: bytes, name: str) -> tuple[int, int]:
    """Width and height of the image area; raises ``UnreadableImage`` or ``TruncatedImage``."""
    at = _start(frame, name)
    try:
        right, bottom, left, top = struct.unpack_from(">IIII", frame, at + 8)
    except struct.error:
        raise TruncatedImage(name, "the JPEG 2000 stream ends inside its header", AGAIN) from None
    return right - left, bottom - top


def check_complete(frame: bytes, name: str) -> None:
    """Follow the tile-parts' lengths (``Psot``) to the end marker; raises ``TruncatedImage`` otherwise."""
    at = _start(frame, name) + 2
    try:
        while True:
            (marker,) = struct.unpack_from(">H", frame, at)
            if marker == _END:
                return
            if marker == _TILE_PART:
                (length,) = struct.unpack_from(">I", frame, at + 6)
                if length == 0:  # "to the end of the stream"; only the last one may say so
                    return
                at += max(length, 12)
            else:
                at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
            if marker < 0xFF00:
                raise TruncatedImage(name, "the JPEG 2000 stream ends inside a tile", AGAIN)
    except struct.error:
        raise TruncatedImage(name, "the JPEG 2000 stream ends inside a tile", AGAIN) from None


def _start(frame: bytes, name: str) -> int:
    """Where the code stream begins: at once, or inside the boxes of a JP2 file."""
    at = frame.find(_START)
    if at < 0:
        raise UnreadableImage(name, "its pixel data are no JPEG 2000 stream", EXPORT_AGAIN)
    return at
