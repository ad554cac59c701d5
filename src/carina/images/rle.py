"""RLE pixel data (DICOM PS3.5 annex G): whether each segment yields exactly its share of the bytes.

Counts without expanding: a few megabytes of PackBits can stand for hundreds, and the decoder expands
before it compares.
"""

from __future__ import annotations

import struct

from carina.errors import TruncatedImage, UnreadableImage
from carina.images.limits import AGAIN, EXPORT_AGAIN

_HEADER = 64


def check_complete(frame: bytes, pixels: int, segments: int, name: str) -> None:
    """Refuse a frame whose segments hold less than ``pixels`` bytes each, or far more.

    Raises ``TruncatedImage`` or ``UnreadableImage``.
    """
    if len(frame) < _HEADER:
        raise TruncatedImage(name, "the RLE data end inside their header", AGAIN)
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != segments:
        raise UnreadableImage(name, f"{count} RLE segments where {segments} belong", EXPORT_AGAIN)
    ends = [*offsets[1:count], len(frame)]
    for start, end in zip(offsets[:count], ends, strict=True):
        if not _HEADER <= start <= end or end > len(frame):
            raise TruncatedImage(name, "the RLE data end before their last segment", AGAIN)
        yielded = _yield(frame[start:end], pixels)
        if yielded < pixels:
            raise TruncatedImage(name, f"an RLE segment ends after {yielded} of {pixels} bytes", AGAIN)
        if yielded > pixels + 1:  # one byte may pad the segment to an even length
            raise UnreadableImage(name, "an RLE segment holds more bytes than the film has", EXPORT_AGAIN)


def _yield(segment: bytes, enough: int) -> int:
    """How many bytes the segment expands to; counting stops beyond ``enough``."""
    at = total = 0
    end = len(segment)
    while at < end and total <= enough + 1:
        control = segment[at]
        if control < 128:  # that many and one bytes as they are
            total += min(control + 1, end - at - 1)
            at += control + 2
        else:
            if control > 128 and at + 1 < end:  # the next byte, 257 − control times
                total += 257 - control
            at += 2 if control > 128 else 1
    return total
