"""Streams that end as they should and lack a part of the film: decoders say nothing, and none is read."""

from __future__ import annotations

import io
import struct
import zlib
from itertools import pairwise

import films
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGExtended12Bit, JPEGLosslessSV1

from carina.errors import TruncatedImage, UnreadableImage
from carina.images.read import read

PIXELS = films.chest(height=200, width=232)
DEEP = (PIXELS.astype(np.uint16) << 4) + np.random.default_rng(4).integers(
    0, 16, PIXELS.shape, dtype=np.uint16
)
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(raw: bytes, depth: int, *, interlaced: bool = False) -> bytes:
    """A PNG of the size of ``PIXELS``; ``raw``: its rows with their filter bytes. Every checksum is right."""
    height, width = PIXELS.shape
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, interlaced)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(films.png_chunk(kind, body) for kind, body in chunks)


def rows(pixels: np.ndarray) -> bytes:
    big = pixels.astype(pixels.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in big)


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "interlaced"])
def test_a_png_whose_stream_ends_before_its_last_row_is_refused(kind: str) -> None:
    depth = 16 if kind == "16 bits" else 8
    pixels = DEEP if depth == 16 else PIXELS
    passes = ADAM7 if kind == "interlaced" else ((0, 0, 1, 1),)
    raw = b"".join(rows(pixels[y::dy, x::dx]) for x, y, dx, dy in passes)
    whole = read(png(raw, depth, interlaced=kind == "interlaced"))
    assert whole.pixels.shape == PIXELS.shape
    for held in (0, len(raw) // 3, len(raw) // 2, len(raw) - 1):
        with pytest.raises(TruncatedImage, match=r"ends? \d+ % before its last row"):
            read(png(raw[:held], depth, interlaced=kind == "interlaced"))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_jpeg_that_was_cut_between_two_scans_is_refused(mode: str) -> None:
    content = films.encode(Image.fromarray(PIXELS).convert(mode), "JPEG", quality=90, progressive=True)
    assert read(content).pixels.shape == PIXELS.shape
    scans = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 3
    for before, scan in pairwise(scans):
        tables = content.rfind(b"\xff\xc4", before, scan)
        with pytest.raises(TruncatedImage, match="before its last scan"):
            read(content[: tables if tables > 0 else scan] + b"\xff\xd9")


def tiled() -> tuple[bytes, list[int]]:
    """A JPEG 2000 stream of several tiles, and where each begins; the end comes last."""
    buffer = io.BytesIO()
    options = {"tile_size": (96, 96), "no_jp2": True, "irreversible": False}
    Image.fromarray(PIXELS).save(buffer, "JPEG2000", **options)
    stream, places = buffer.getvalue(), []
    at = stream.index(b"\xff\x90")
    while stream[at : at + 2] == b"\xff\x90":
        places.append(at)
        at += struct.unpack_from(">I", stream, at + 6)[0]
    return stream, [*places, at]


def test_a_jpeg_2000_stream_that_lacks_a_tile_is_refused() -> None:
    stream, places = tiled()
    assert len(places) == 3 * 3 + 1
    whole = films.dicom(PIXELS, JPEG2000Lossless, frame=stream, bits=8)
    np.testing.assert_array_equal(read(whole).pixels, PIXELS)
    for lost in (0, 4, 8):
        cut = stream[: places[lost]] + stream[places[lost + 1] :]
        with pytest.raises(TruncatedImage, match="8 of its 9 tiles"):
            read(films.dicom(PIXELS, JPEG2000Lossless, frame=cut, bits=8))


@pytest.mark.parametrize("syntax", [JPEGExtended12Bit, JPEGLosslessSV1, JPEG2000Lossless])
def test_a_stream_that_was_filled_up_with_zeros_is_refused(syntax: str) -> None:
    big = np.kron(DEEP, np.ones((3, 3), np.uint16)) ^ np.random.default_rng(5).integers(
        0, 8, (600, 696), dtype=np.uint16
    )
    stream = films.compressed(big, 12, syntax)
    assert read(films.dicom(big, syntax, frame=stream, bits=12)).pixels.shape == big.shape
    for share in (0.3, 0.6, 0.9):
        held = int(len(stream) * share)
        filled = stream[:held] + bytes(len(stream) - held - 2) + b"\xff\xd9"
        with pytest.raises(TruncatedImage):
            read(films.dicom(big, syntax, frame=filled, bits=12))


def test_a_tiff_whose_strips_are_shorter_than_its_rows_is_refused() -> None:
    content = bytearray(films.encode(PIXELS, "TIFF"))
    at = int.from_bytes(content[4:8], "little")
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(content[at : at + 2], "little"), 12):
        if content[entry : entry + 2] == (279).to_bytes(2, "little"):
            count, value = struct.unpack_from("<II", content, entry + 4)
            size = 2 if content[entry + 2] == 3 else 4
            place = entry + 8 if count * size <= 4 else value
            (held,) = struct.unpack_from("<H" if size == 2 else "<I", content, place)
            for lie in (0, held // 2, held - 1):
                struct.pack_into("<H" if size == 2 else "<I", content, place, lie)
                with pytest.raises(TruncatedImage, match="strips of the TIFF"):
                    read(bytes(content))


def test_native_pixels_of_more_rows_than_the_header_states_are_refused() -> None:
    whole = films.dicom(DEEP, bits=12)
    assert read(whole).pixels.shape == DEEP.shape
    with pytest.raises(
        UnreadableImage, match="the pixel data have 92800 bytes, and 232×100 pixels take 46400"
    ):
        read(films.dicom(DEEP, bits=12, Rows=100))
    assert read(films.dicom(DEEP, bits=12, Rows=199)).facts.height == 199, (
        "filling of less than 4 kB is believed"
    )
