"""Sizes, frames and checksums of PNG, TIFF, WebP and BMP files, from their own headers.

Reads a few hundred bytes and allocates nothing that the file asks for. Knows no pixels.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from carina.errors import NotAFilm, TruncatedImage, UnreadableImage, UnsupportedImage
from carina.images.jpeg import exif_orientation
from carina.images.limits import AGAIN

DRAWN = "Carina-Drawn"  # keyword of the PNG text that stands in every picture Carina draws over a film
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_ADAM7 = (  # column, row, and steps of each pass (PNG specification, section 8.2)
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
_BMP_PLAIN = (0, 3, 6)  # BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """What the header says before anything is decoded."""

    width: int
    height: int
    frames: int = 1
    orientation: int = 1  # EXIF's
    white_is_zero: bool = False


def raster_header(data: bytes, format_: str, name: str) -> RasterHeader:
    """The header of a ``png``, ``tiff``, ``webp`` or ``bmp`` file.

    Raises ``TruncatedImage`` where the file ends before what its header promises,
    ``UnreadableImage`` where the header makes no sense and ``NotAFilm`` for a heat map of ours.
    """
    try:
        return {"png": _png, "tiff": _tiff, "webp": _webp, "bmp": _bmp}[format_](data, name)
    except struct.error:
        raise TruncatedImage(name, f"the {format_.upper()} file ends inside its header", AGAIN) from None


def _png(data: bytes, name: str) -> RasterHeader:
    """Walk the chunks (PNG specification, section 5): every checksum is verified, the end must be there."""
    width = height = 0
    frames = orientation = 1
    at, ended, filled = 8, False, False
    view = memoryview(data)
    while not ended:
        if at + 12 > len(data):
            raise TruncatedImage(name, "the PNG ends before its last chunk", AGAIN)
        length, kind = struct.unpack_from(">I4s", data, at)
        body = view[at + 8 : at + 8 + length]
        if at + 12 + length > len(data):
            raise TruncatedImage(name, f"the PNG ends inside its {kind.decode('latin-1')} chunk", AGAIN)
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise UnreadableImage(
                name, f"the checksum of a PNG chunk ({kind.decode('latin-1')}) is wrong", AGAIN
            )
        if at == 8 and kind != b"IHDR":
            raise UnreadableImage(name, "the PNG does not begin with its header", AGAIN)
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", body)
        elif kind == b"acTL":
            frames = struct.unpack_from(">I", body)[0]
        elif kind == b"eXIf":
            orientation = exif_orientation(bytes(body))
        elif kind == b"tEXt" and bytes(body).startswith(DRAWN.encode() + b"\0"):
            raise NotAFilm(
                name, "Carina drew this picture over a film", "score the film, and keep heat maps elsewhere"
            )
        ended, filled = kind == b"IEND", filled or kind == b"IDAT"
        at += 12 + length
    if not filled:
        raise TruncatedImage(name, "the PNG ends before its pixels begin", AGAIN)
    return RasterHeader(width, height, frames, orientation)


def check_png_rows(data: bytes, name: str) -> None:
    """Refuse a PNG whose pixel stream ends properly, and before the last row: decoders fill what it lacks.

    ``data`` is known to have whole chunks (:func:`raster_header`). What the stream inflates to is counted and
    not kept. Raises ``TruncatedImage``, and ``UnreadableImage`` where the stream is damaged.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if colour not in _PNG_SAMPLES:
        raise UnreadableImage(name, f"the PNG names a colour type ({colour}) that there is not", AGAIN)
    bits = depth * _PNG_SAMPLES[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sides = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    expected = sum(down * (1 + (across * bits + 7) // 8) for across, down in sides if across > 0 < down)
    stream, found, at = zlib.decompressobj(), 0, 8
    try:
        while found < expected and at + 12 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            part = data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
            while part and found < expected and not stream.eof:
                found += len(stream.decompress(part, 1 << 20))
                part = stream.unconsumed_tail
            at += 12 + length
    except zlib.error:
        raise UnreadableImage(name, "the pixels of the PNG are damaged", AGAIN) from None
    if found < expected:
        share = max(1, round(100 * (1 - found / expected)))
        raise TruncatedImage(name, f"the PNG's pixels end {share} % before its last row", AGAIN)


def _bmp(data: bytes, name: str) -> RasterHeader:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        return RasterHeader(*struct.unpack_from("<HH", data, 18))
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in _BMP_PLAIN:  # Pillow fills what a run-length coded BMP lacks
        raise UnsupportedImage(name, "a compressed BMP, which is not read", "save it as PNG")
    return RasterHeader(abs(width), abs(height))  # a negative height: rows from the top


def _webp(data: bytes, name: str) -> RasterHeader:
    """The canvas of a RIFF container (WebP container specification)."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise TruncatedImage(name, "the WebP file is shorter than its header says", AGAIN)
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        exif = data.find(b"EXIF", 30) if flags & 8 else -1
        block = data[exif + 8 :].removeprefix(b"Exif\x00\x00") if exif > 0 else b""
        return RasterHeader(width, height, 2 if flags & 2 else 1, exif_orientation(block))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return RasterHeader((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return RasterHeader(width & 0x3FFF, height & 0x3FFF)
    raise UnreadableImage(name, "the WebP container holds no picture", AGAIN)


_TIFF_SIZES = {1: "B", 3: "H", 4: "I"}
_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _COUNTS = 256, 257, 259, 262, (273, 324), (279, 325)
_BITS, _SAMPLES = 258, 277
_TIFF_SOUND = {1, 5, 8, 32946, 32773}  # none, LZW, deflate (twice), PackBits: they refuse a short strip
_TIFF_TAGS = (_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _BITS, _SAMPLES, *_OFFSETS, *_COUNTS)


def _tiff(data: bytes, name: str) -> RasterHeader:
    """The first directory (TIFF 6.0, section 2), its strips or tiles, and how many directories follow."""
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", data, 4)
    tags, following = _tiff_directory(data, order, first, name)
    if not tags.get(_WIDTH) or not tags.get(_HEIGHT):
        raise UnreadableImage(name, "the TIFF directory states no size", AGAIN)
    compression = tags.get(_COMPRESSION, (1,))[0]
    if compression not in _TIFF_SOUND:
        what = f"a TIFF of compression {compression}, whose strips cannot be proven whole"
        raise UnsupportedImage(name, what, "save it as PNG, or as TIFF without compression")
    offsets = next((tags[tag] for tag in _OFFSETS if tag in tags), ())
    counts = next((tags[tag] for tag in _COUNTS if tag in tags), ())
    if any(offset + count > len(data) for offset, count in zip(offsets, counts, strict=False)):
        raise TruncatedImage(name, "the TIFF file ends before its pixels do", AGAIN)
    bits = sum(tags.get(_BITS, (1,)) * (1 if _BITS in tags else tags.get(_SAMPLES, (1,))[0]))
    needed = tags[_HEIGHT][0] * -(-tags[_WIDTH][0] * bits // 8) if compression == 1 else 0
    if 0 in counts or not counts or sum(counts) < needed:  # such strips come out black
        raise TruncatedImage(name, "strips of the TIFF are shorter than its pixels take", AGAIN)
    frames, seen = 1, {first}
    while following and following not in seen and frames < 1000:
        seen.add(following)
        _, following = _tiff_directory(data, order, following, name)
        frames += 1
    white_is_zero = tags.get(_PHOTOMETRIC, (1,))[:1] == (0,)
    return RasterHeader(tags[_WIDTH][0], tags[_HEIGHT][0], frames, 1, white_is_zero)


def _tiff_directory(data: bytes, order: str, at: int, name: str) -> tuple[dict[int, tuple[int, ...]], int]:
    """The whole-number tags of the directory at ``at``, and where the next one is (0: nowhere)."""
    if at + 2 > len(data):
        raise TruncatedImage(name, "the TIFF file ends before its directory", AGAIN)
    (entries,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        if kind not in _TIFF_SIZES or tag not in _TIFF_TAGS:
            continue
        code = f"{order}{count}{_TIFF_SIZES[kind]}"
        if count > len(data):
            raise UnreadableImage(name, "a TIFF tag claims more values than the file has bytes", AGAIN)
        place = entry + 8
        if struct.calcsize(code) > 4:
            (place,) = struct.unpack_from(order + "I", data, place)
        tags[tag] = struct.unpack_from(code, data, place)
    (following,) = struct.unpack_from(order + "I", data, at + 2 + 12 * entries)
    return tags, following
