"""JPEG lossless (ITU-T T.81 annex H): a fast decoder where one is installed, and a cheap proof of wholeness.

No decoder says that a lossless stream was cut: each fills what is missing. But whoever has the pixels can
count how many bits their codes take, all pixels at once, without following the codes one by one as
``huffman.py`` does: of a whole stream they take just what the stream holds. Of a cut one they take more, as
every pixel that was filled in takes at least one bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.images.huffman import Scan, entropy_coded, read_scan

_BAND = 64  # rows that are counted at once: they stay in the processor's cache
_SLACK = 16  # bits between the last code and the end: filling bits, and a byte that some encoders add


def decode(frame: bytes) -> NDArray[Any] | None:
    """(H, W) uint8 or uint16, or ``None`` where the extra ``fast`` is missing or its decoder refuses.

    The decoder is libjpeg-turbo 3 through imagecodecs; it fills what is missing of a cut stream.
    """
    try:
        import imagecodecs

        return np.asarray(imagecodecs.jpeg8_decode(frame))
    except (ImportError, RuntimeError, ValueError):
        return None


def is_whole(frame: bytes, values: NDArray[Any], bits: int, name: str) -> bool:
    """Whether the codes of the decoded ``values`` (H, W) take just the bits that the stream holds.

    ``bits`` is the stream's precision. ``False`` also where that cannot be said so simply (restart markers,
    other predictors than the left neighbour, several components): ``huffman.check_complete`` can.
    """
    scan = read_scan(frame, name)
    if values.ndim != 2 or len(scan.dc) != 1 or scan.restart or (scan.predictor, scan.shift) != (1, 0):
        return False
    content = entropy_coded(scan.data)
    held = 8 * (len(content) - content.count(b"\xff\x00"))
    needed = _coded_bits(values, scan, bits)
    return needed is not None and 0 <= held - needed < _SLACK


def _coded_bits(values: NDArray[Any], scan: Scan, bits: int) -> int | None:
    """How many bits the differences take in the scan's Huffman table; ``None`` where one has no code."""
    counts = _categories(values, bits)
    lengths, symbols = scan.tables[scan.dc[0]], scan.symbols[scan.dc[0]]
    total = 0
    for category in np.flatnonzero(counts):
        codes = lengths[(symbols == category) & (lengths > 0)]
        if not len(codes):
            return None
        total += int(counts[category]) * (int(codes[0]) + (int(category) if category < 16 else 0))
    return total


def _categories(values: NDArray[Any], bits: int) -> NDArray[np.int64]:
    """How many differences have each category (T.81 table H.2), (17,); predictor 1, modulo 2^16."""
    mask = np.uint16((1 << bits) - 1)
    least = np.zeros(18, np.int64)  # how many have at least that category
    above = np.uint16(1 << (bits - 1))
    for top in range(0, len(values), _BAND):
        band = values[top : top + _BAND].astype(np.uint16) & mask
        differences = np.empty_like(band)
        np.subtract(band[:, 1:], band[:, :-1], out=differences[:, 1:])
        differences[1:, 0] = band[1:, 0] - band[:-1, 0]
        differences[0, 0] = int(band[0, 0]) - int(above) & 0xFFFF
        above = band[-1, 0] if band.shape[1] else above
        sizes = np.abs(differences.view(np.int16)).view(np.uint16)  # -32768 stays, as 32768
        most = int(sizes.max()).bit_length()
        least[0] += sizes.size
        for category in range(1, most + 1):
            least[category] += np.count_nonzero(sizes >= np.uint16(1 << (category - 1)))
    counts: NDArray[np.int64] = least[:17] - least[1:]
    return counts
