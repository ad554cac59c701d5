"""JPEG 2000 streams inside DICOM: their size, whether all tile-parts are there, and few pixels fast.

Only the main header and the tile-part headers are looked at (ITU-T T.800 annex A); decoding is
OpenJPEG's, at full size through pydicom's plug-in (``codestream.py``), reduced through Pillow.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carina.errors import TruncatedImage, UnreadableImage
from carina.images.limits import AGAIN, EXPORT_AGAIN
from carina.images.resize import Box

_START = b"\xff\x4f\xff\x51"  # SOC, SIZ
_ZEROS = 64, 4096  # bytes at the end of a tile, beside its packets and where these are not counted
_TILE_PART, _END = 0xFF90, 0xFFD9
_STYLE, _COMPONENT_STYLE = 0xFF52, 0xFF53  # COD, COC


def frame_size(frame: bytes, name: str) -> tuple[int, int]:
    """Width and height of the image area; raises ``UnreadableImage`` or ``TruncatedImage``."""
    at = _start(frame, name)
    try:
        right, bottom, left, top = struct.unpack_from(">IIII", frame, at + 8)
    except struct.error:
        raise TruncatedImage(name, "the JPEG 2000 stream ends inside its header", AGAIN) from None
    return right - left, bottom - top


def check_complete(frame: bytes, name: str) -> None:
    """Follow the tile-parts' lengths (``Psot``) to the end marker; raises ``TruncatedImage`` otherwise.

    Every tile of the image must have all of its parts (T.800 A.4.2), and no tile-part end in a long run of
    zeros, which is what a download was filled with: decoders show what is missing as black or as blur.
    """
    at = _start(frame, name) + 2
    parts: dict[int, set[int]] = {}
    counts: dict[int, int] = {}
    try:
        tiles, zeros = _tiles(frame, at), _most_zeros(frame, at)
        while True:
            (marker,) = struct.unpack_from(">H", frame, at)
            if marker == _END:
                break
            if marker == _TILE_PART:
                tile, length, part, count = struct.unpack_from(">HIBB", frame, at + 4)
                parts.setdefault(tile, set()).add(part)
                counts[tile] = max(count, counts.get(tile, 0))
                end = at + max(length, 12) if length else len(frame.rstrip(b"\x00")) - 2
                if frame[max(at, end - zeros) : end] == bytes(zeros):
                    raise TruncatedImage(
                        name, "a tile of the JPEG 2000 stream ends in nothing but zeros", AGAIN
                    )
                if length == 0:  # "to the end of the stream"; only the last one may say so
                    break
                at = end
            else:
                at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
            if marker < 0xFF00:
                raise TruncatedImage(name, "the JPEG 2000 stream ends inside a tile", AGAIN)
    except struct.error:
        raise TruncatedImage(name, "the JPEG 2000 stream ends inside a tile", AGAIN) from None
    whole = sum(parts.get(tile, set()) >= set(range(max(1, counts.get(tile, 0)))) for tile in range(tiles))
    if whole < tiles:
        raise TruncatedImage(name, f"the JPEG 2000 stream has {whole:,} of its {tiles:,} tiles", AGAIN)


def _tiles(frame: bytes, at: int) -> int:
    """How many tiles the image has, by the SIZ marker at ``at`` (T.800 B.3)."""
    right, bottom, _, _, width, height, left, top = struct.unpack_from(">8I", frame, at + 6)
    if not width or not height:
        return 0
    return int(-(-(right - left) // width) * -(-(bottom - top) // height))


def _most_zeros(frame: bytes, at: int) -> int:
    """So many zero bytes no tile ends in: an empty packet is one, and a tile has so many of them (B.9)."""
    (components,) = struct.unpack_from(">H", frame, at + 38)
    while True:
        marker, length = struct.unpack_from(">HH", frame, at)
        if marker in (_TILE_PART, _END):
            return _ZEROS[1]
        if marker == _STYLE:
            precincts, layers, levels = struct.unpack_from(">BxHxB", frame, at + 4)
            return _ZEROS[1] if precincts & 1 else _ZEROS[0] + layers * (levels + 1) * components
        at += 2 + length


def _start(frame: bytes, name: str) -> int:
    """Where the code stream begins: at once, or inside the boxes of a JP2 file."""
    at = frame.find(_START)
    if at < 0:
        raise UnreadableImage(name, "its pixel data are no JPEG 2000 stream", EXPORT_AGAIN)
    return at


def decode_reduced(frame: bytes, bits: int, reduce: int, name: str) -> NDArray[np.uint16] | None:
    """The film at 1/2, 1/4 or 1/8 (``reduce`` 2, 4, 8): (ceil(H / reduce), ceil(W / reduce)), stored values.

    The wavelet keeps the film at half its sides as it goes (T.800 annex F), so the finer parts are not
    decoded. Its samples lie where every ``reduce``-th pixel lay, not in the middle of a block:
    :func:`extent` says so. ``None`` where the stream is not one gray plane of ``bits`` unsigned bits whose
    first sample is the film's first pixel, or lacks such a level, or cannot be decoded at all: the full way
    decides what is wrong with it.
    """
    levels = reduce.bit_length() - 1
    if not frame.startswith(_START) or not _is_plain(frame, bits, levels):
        return None
    check_complete(frame, name)
    try:
        with Image.open(io.BytesIO(frame), formats=["JPEG2000"]) as image:
            image.reduce = levels  # type: ignore[assignment,method-assign,unused-ignore]
            image.load()
            values = np.asarray(image)
    except (OSError, ValueError, SyntaxError):
        return None
    depth = {"L": 8, "I;16": 16}.get(image.mode)
    width, height = frame_size(frame, name)
    if depth is None or values.shape != (-(-height // reduce), -(-width // reduce)):
        return None
    return values.astype(np.uint16) >> np.uint16(depth - bits)  # Pillow fills the upper bits


def reachable(width: int, height: int, reduce: int) -> bool:
    """Whether Pillow can reduce so: it rounds the sides to the nearest number, T.800 rounds them up."""
    return all((side + reduce // 2) // reduce == -(-side // reduce) for side in (width, height))


def extent(width: int, height: int, reduce: int) -> Box:
    """The part (left, top, right, bottom) of a reduced array that is film, in its own pixels.

    Sample ``k`` is centred on pixel ``reduce * k``, half a pixel from that pixel's edge.
    """
    offset = 0.5 - 0.5 / reduce
    return offset, offset, width / reduce + offset, height / reduce + offset


def _is_plain(frame: bytes, bits: int, levels: int) -> bool:
    """Whether the main header (T.800 A.5, A.6.1) speaks of one gray plane that can be reduced so."""
    try:
        left, top, _, _, across, down, components = struct.unpack_from(">6IH", frame, 16)
        depth, dx, dy = struct.unpack_from(">3B", frame, 42)
        at = 4 + struct.unpack_from(">H", frame, 4)[0]
        found = -1
        while True:
            marker, length = struct.unpack_from(">HH", frame, at)
            if marker == _TILE_PART:
                break
            if marker == _COMPONENT_STYLE:
                return False
            if marker == _STYLE:
                found = frame[at + 9]
            at += 2 + length
    except (struct.error, IndexError):
        return False
    gray = (components, depth, dx, dy) == (1, bits - 1, 1, 1)  # the highest bit of depth: signed
    return gray and (left, top, across, down) == (0, 0, 0, 0) and found >= levels
