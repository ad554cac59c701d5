"""Do a JPEG scan's entropy-coded data last for all of its pixels?

libjpeg and every decoder built on it fill what a cut lossless or 12-bit scan lacks, and say nothing.
This module counts instead: it follows the Huffman codes from the first pixel to the last, without
decoding one of them, and refuses a scan that ends before. 8-bit scans do not come here; the strict
decoder in ``jpeg.py`` refuses them itself.

How long a code is, and how many bits follow it, depends on the next 16 bits alone. So numpy works that
out for every bit position at once, and the walk is one addition per pixel (lossless) or per
coefficient. Terms are those of ITU-T T.81: DC and AC tables, categories, MCU, restart interval.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from carina.errors import TruncatedImage, UnreadableImage, UnsupportedImage
from carina.images.limits import AGAIN

_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_SEQUENTIAL, _LOSSLESS = (0xC0, 0xC1), (0xC3,)
_CHUNK = 1 << 18  # bytes whose bit positions are worked out at once: 16 MB of indices
_SURPLUS = 32  # bytes behind the last code; encoders leave a few
_MARGIN = 1 << 12  # bytes; no MCU is longer (10 blocks of 64 codes of at most 32 bits)


@dataclass(slots=True)
class Scan:
    """What the header says about the only scan."""

    process: int = 0
    mcus: int = 0
    restart: int = 0  # MCUs between restart markers; 0: none
    predictor: int = 0  # of a lossless scan, 1 to 7
    shift: int = 0  # the point transform of a lossless scan
    dc: list[int] = field(default_factory=list)  # the table of each unit of an MCU
    ac: list[int] = field(default_factory=list)
    tables: dict[int, NDArray[np.uint8]] = field(default_factory=dict)  # class << 4 | id → code lengths
    symbols: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    data: bytes = b""


def check_complete(stream: bytes, name: str) -> None:
    """Refuse a lossless or sequential JPEG stream whose scan ends before its last pixel.

    Exact to the last code: what may be missing is at most the filling bits of the last byte. A last segment
    that holds much more than its pixels take is refused as well: zeros that a download was filled with are
    codes, too, and shorter ones. Raises ``TruncatedImage``; ``UnreadableImage`` where a table is damaged;
    ``UnsupportedImage`` for progressive and arithmetic coding and for several scans, none of which DICOM
    allows.
    """
    scan = read_scan(stream, name)
    content = entropy_coded(scan.data)
    left = scan.mcus
    for segment in _RESTART.split(content):
        expected = min(left, scan.restart) if scan.restart else left
        held = np.frombuffer(segment.replace(b"\xff\x00", b"\xff"), np.uint8)
        found, taken = _count(held, scan, expected, name)
        left -= found
        if not left and len(held) - (taken >> 3) > _SURPLUS:
            raise TruncatedImage(name, "the JPEG stream goes on after its last pixel, filled up", AGAIN)
        if found < expected or not left:
            break
    if left:
        share = max(1, round(100 * left / scan.mcus))
        raise TruncatedImage(name, f"the JPEG stream ends {share} % before its last pixel", AGAIN)


def entropy_coded(data: bytes) -> bytes:
    """What of ``data`` comes before the first marker that is no restart marker."""
    values = np.frombuffer(data, np.uint8)
    at = np.flatnonzero(values[:-1] == 0xFF)
    after = values[at + 1]
    ends = at[(after != 0) & (after != 0xFF) & ((after < 0xD0) | (after > 0xD7))]
    return data[: int(ends[0])].rstrip(b"\xff") if len(ends) else data


def _count(data: NDArray[np.uint8], scan: Scan, most: int, name: str) -> tuple[int, int]:
    """How many whole MCUs, at most ``most``, the unstuffed bytes of a restart interval hold; its bits."""
    walk = _walk_samples if scan.process in _LOSSLESS else _walk_blocks
    found = at = 0  # at: in bits
    while found < most:
        base = at >> 3
        part = data[base : base + _CHUNK + _MARGIN]
        done, at_in_part = walk(part, scan, at & 7, most - found, name)
        found, at = found + done, 8 * base + at_in_part
        if at > 8 * len(data):
            return found - 1, at  # the end cuts through the last one
        if base + _CHUNK >= len(data):
            break
    return found, at


def _walk_samples(data: NDArray[np.uint8], scan: Scan, at: int, most: int, name: str) -> tuple[int, int]:
    """From bit ``at``: how many MCUs of a lossless scan begin in the chunk, and the bit behind the last."""
    steps = {table: _steps(data, scan, table, name).tobytes() for table in set(scan.dc)}
    cycle = [steps[table] for table in scan.dc]
    limit = 8 * _CHUNK
    done = 0
    try:
        if len(cycle) == 1:
            step = cycle[0][:limit]
            for done in range(most):  # noqa: B007
                at += step[at]
        else:
            for done in range(most):
                if at >= limit:
                    return done, at
                for step in cycle:
                    at += step[at]
    except IndexError:
        return (done, at) if len(cycle) == 1 else (done + 1, 8 * len(data) + 1)
    return most, at


def _walk_blocks(data: NDArray[np.uint8], scan: Scan, at: int, most: int, name: str) -> tuple[int, int]:
    """The same for a sequential DCT scan, whose MCUs are made of 8×8 blocks."""
    dc_steps = {table: _steps(data, scan, table, name).tobytes() for table in set(scan.dc)}
    ac_steps = {table: _steps(data, scan, table, name).tobytes() for table in set(scan.ac)}
    ac_runs = {table: _runs(data, scan, table).tobytes() for table in set(scan.ac)}
    cycle = [(dc_steps[dc], ac_steps[ac], ac_runs[ac]) for dc, ac in zip(scan.dc, scan.ac, strict=True)]
    limit = 8 * _CHUNK
    done = 0
    try:
        for done in range(most):
            if at >= limit:
                return done, at
            for dc_step, ac_step, ac_run in cycle:
                at += dc_step[at]
                index = 1
                while index < 64:
                    index += ac_run[at]
                    at += ac_step[at]
    except IndexError:
        return done + 1, 8 * len(data) + 1
    return most, at


def _steps(data: NDArray[np.uint8], scan: Scan, table: int, name: str) -> NDArray[np.uint8]:
    """For every bit position: how many bits the code that begins there takes, its value bits included.

    A position that no code fits takes 255 bits, which no code does.
    """
    lengths, symbols = scan.tables[table], scan.symbols[table]
    category = symbols & 15 if table >> 4 else symbols
    extra = np.where(category == 16, 0, category) if scan.process in _LOSSLESS else category
    if int(extra.max(initial=0)) > 16:
        raise UnreadableImage(name, "a Huffman table of the JPEG stream is damaged", AGAIN)
    steps = np.where(lengths > 0, lengths + extra, 255).astype(np.uint8)
    return steps[_words(data)]


def _runs(data: NDArray[np.uint8], scan: Scan, table: int) -> NDArray[np.uint8]:
    """For every bit position: by how many coefficients the AC code that begins there moves on."""
    symbols = scan.symbols[table]
    run, category = symbols >> 4, symbols & 15
    moves = np.where((category == 0) & (run < 15), 64, run + 1)  # 0x00 ends the block, 0xF0 skips 16
    return moves.astype(np.uint8)[_words(data)]


def _words(data: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The 16 bits from every bit position on, (8 × bytes,); ones follow the end, as T.81 F.1.2.3 pads."""
    padded = np.concatenate([data, np.full(2, 0xFF, np.uint8)]).astype(np.uint32)
    three = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
    shifts = np.arange(8, 0, -1, dtype=np.uint32)
    return (three[:, None] >> shifts & 0xFFFF).astype(np.uint16).ravel()


def read_scan(stream: bytes, name: str) -> Scan:
    """Parse the markers up to the scan; ``stream`` is known to have a sound header (``jpeg.read_header``)."""
    scan, at = Scan(), 2
    frame: dict[int, tuple[int, int]] = {}
    size = (0, 0)
    while True:
        while stream[at] == 0xFF:
            at += 1
        marker, at = stream[at], at + 1
        (length,) = struct.unpack_from(">H", stream, at)
        body = stream[at + 2 : at + length]
        if marker in (*_SEQUENTIAL, *_LOSSLESS):
            scan.process = marker
            size = struct.unpack_from(">HH", body, 1)
            frame = {body[i]: (body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, len(body) - 2, 3)}
        elif marker == 0xC4:
            _read_tables(body, scan, name)
        elif marker == 0xDD:
            (scan.restart,) = struct.unpack_from(">H", body)
        elif marker == 0xDA:
            _read_components(body, frame, size, scan, name)
            scan.data = stream[at + length :]
            return scan
        at += length


def _read_components(
    body: bytes, frame: dict[int, tuple[int, int]], size: Sequence[int], scan: Scan, name: str
) -> None:
    """The units of an MCU and their tables, from the scan header (T.81 B.2.3)."""
    chosen = {body[i]: body[i + 1] for i in range(1, 2 * body[0], 2)}
    scan.predictor, scan.shift = body[1 + 2 * body[0]], body[3 + 2 * body[0]] & 15
    if not scan.process or set(chosen) != set(frame):
        raise UnsupportedImage(
            name, "a JPEG coding that DICOM does not allow", "export it as Explicit VR Little Endian"
        )
    alone = len(frame) == 1
    for component, (across, down) in frame.items():
        units = 1 if alone else across * down
        scan.dc += [chosen[component] >> 4] * units
        scan.ac += [0x10 | chosen[component] & 15] * units
    needed = {*scan.dc, *(scan.ac if scan.process in _SEQUENTIAL else ())}
    if not needed <= set(scan.tables):
        raise UnreadableImage(name, "the JPEG stream lacks a Huffman table", AGAIN)
    side = 1 if scan.process in _LOSSLESS else 8
    widest = 1 if alone else max(across for across, _ in frame.values())
    tallest = 1 if alone else max(down for _, down in frame.values())
    height, width = size
    scan.mcus = -(-width // (side * widest)) * -(-height // (side * tallest))


def _read_tables(body: bytes, scan: Scan, name: str) -> None:
    """Huffman tables (T.81 B.2.4.2) as answers to every possible 16 bits: code length and symbol."""
    at = 0
    while at + 17 <= len(body):
        table, counts = body[at], body[at + 1 : at + 17]
        found = body[at + 17 : at + 17 + sum(counts)]
        lengths, symbols = np.zeros(65536, np.uint8), np.zeros(65536, np.uint8)
        code, taken = 0, 0
        for length, count in enumerate(counts, start=1):
            for symbol in found[taken : taken + count]:
                first = code << (16 - length)
                if first >= 65536:
                    raise UnreadableImage(name, "a Huffman table of the JPEG stream is damaged", AGAIN)
                lengths[first : first + (1 << (16 - length))] = length
                symbols[first : first + (1 << (16 - length))] = symbol
                code += 1
            taken += count
            code <<= 1
        scan.tables[table], scan.symbols[table] = lengths, symbols
        at += 17 + sum(counts)
