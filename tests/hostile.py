"""A folder of broken, hostile and foreign files, and what must become of each.

``build`` writes it; the rooms above read it: every file is scored or refused with a reason, and
nothing else happens.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import films
import numpy as np
from PIL import Image
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

SCORED = "scored"
PLACES = tuple(round(0.05 + 0.1 * place, 2) for place in range(10))  # where streams are cut, as shares


def build(folder: Path) -> dict[str, str]:
    """Write the files into ``folder``; returns each one's name and ``scored`` or the code of its refusal."""
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, str] = {}
    for name, content, outcome in (*_truncated(), *_bombs(), *_foreign(), *_unusual(), *_odd_dicom()):
        (folder / name).write_bytes(content)
        expected[name] = outcome
    return expected


def _truncated() -> Iterator[tuple[str, bytes, str]]:
    """Each format cut at ten places; streams with an end marker cut once more with a forged one."""
    pixels = films.chest()
    whole = {
        "png": films.encode(pixels, "PNG"),
        "tif": films.encode(pixels, "TIFF"),
        "webp": films.encode(pixels, "WEBP", lossless=True),
        "bmp": films.encode(pixels, "BMP"),
    }
    for place in PLACES:
        for suffix, content in whole.items():
            start = 180 if suffix != "png" else 60
            at = start + int((len(content) - start - 20) * place)
            yield f"cut_{place:.2f}.{suffix}", content[:at], "truncated"
        jpeg = films.encode(pixels, "JPEG", quality=92)
        at = _within_scan(jpeg, place)
        yield f"cut_{place:.2f}.jpg", jpeg[:at], "truncated"
        yield f"forged_{place:.2f}.jpg", jpeg[:at] + b"\xff\xd9", "truncated"
    yield "forged_0.50.png", films.forged_png(whole["png"][: len(whole["png"]) // 2]), "truncated"
    yield "forged_progressive.jpg", _halved(films.encode(pixels, "JPEG", progressive=True)), "truncated"
    for syntax in (JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless):
        frame = films.compressed(pixels, 8, syntax)
        content = films.dicom(pixels, syntax, frame=_halved(frame))
        yield f"forged_{syntax.keyword}.dcm", content, "truncated"
    for syntax in (ExplicitVRLittleEndian, JPEGLSLossless, RLELossless, DeflatedExplicitVRLittleEndian):
        content = films.dicom(pixels, syntax)
        yield f"cut_{syntax.keyword}.dcm", content[: len(content) * 2 // 3], "truncated"


def _within_scan(stream: bytes, share: float) -> int:
    start = films.scan_start(stream)
    return start + int((len(stream) - start - 2) * share)


def _halved(stream: bytes) -> bytes:
    """The first half of a stream, closed with a forged end marker."""
    return stream[: _within_scan(stream, 0.5)] + b"\xff\xd9"


def _bombs() -> Iterator[tuple[str, bytes, str]]:
    """Small files that stand for gigabytes."""
    rows = zlib.compress(bytes(6_250_001), 9)
    header = films.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0))
    end = films.png_chunk(b"IEND", b"")
    yield "bomb.png", b"\x89PNG\r\n\x1a\n" + header + films.png_chunk(b"IDAT", rows) + end, "too_large"
    small = films.encode(films.chest(), "PNG")
    text = films.png_chunk(b"zTXt", b"c\x00\x00" + zlib.compress(b"a" * 20_000_000, 9))
    yield "bomb_text.png", small[:33] + text + small[33:], "too_large"
    jpeg = bytearray(films.encode(films.chest(), "JPEG"))
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    yield "bomb.jpg", bytes(jpeg), "too_large"
    yield "bomb.tif", _resized_tiff(60_000), "too_large"
    bmp = bytearray(films.encode(films.chest(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, -100_000)
    yield "bomb.bmp", bytes(bmp), "too_large"
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_382).to_bytes(3, "little") * 2
    yield "bomb.webp", b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas, "too_large"
    yield "bomb_size.dcm", films.dicom(films.chest(), Rows=60_000, Columns=60_000), "too_large"
    yield "bomb_deflated.dcm", deflated_bomb(1_000_000_000), "too_large"
    frame = films.compressed(films.chest(), 8, JPEG2000Lossless)
    wide = frame[:8] + struct.pack(">II", 60_000, 60_000) + frame[16:]
    yield "bomb_stream.dcm", films.dicom(films.chest(), JPEG2000Lossless, frame=wide), "too_large"
    rle = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 1_000_000
    yield "bomb_rle.dcm", films.dicom(films.chest(), RLELossless, frame=rle), "unreadable"


def deflated_bomb(size: int) -> bytes:
    """A deflated DICOM file of about a thousandth of ``size`` that inflates to ``size`` bytes."""
    content = films.dicom(films.chest(), DeflatedExplicitVRLittleEndian)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = deflater.compress(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, size))
    head += deflater.flush(zlib.Z_FULL_FLUSH)
    zeros = deflater.compress(bytes(10_000_000)) + deflater.flush(zlib.Z_FULL_FLUSH)  # stands for itself
    body = head + zeros * (size // 10_000_000)
    start = 132 + 12 + struct.unpack_from("<I", content, 140)[0]
    return content[:start] + body + deflater.flush()


def _resized_tiff(side: int) -> bytes:
    tiff = bytearray(films.encode(films.chest(), "TIFF", compression="tiff_deflate"))
    (at,) = struct.unpack_from("<I", tiff, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", tiff, at)[0], 12):
        if struct.unpack_from("<H", tiff, entry)[0] in (256, 257):
            tiff[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, side)
    return bytes(tiff)


def _foreign() -> Iterator[tuple[str, bytes, str]]:
    """What lies about in real folders."""
    frames = [Image.fromarray(films.chest(seed=seed)) for seed in range(3)]
    yield "notes.png", b"dear colleague,\nplease find the film attached\n", "not_an_image"
    yield "empty.jpg", b"", "not_an_image"
    yield "empty.dcm", b"", "not_an_image"
    yield "Thumbs.db", bytes(range(256)) * 8, "not_an_image"
    yield "report.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not_an_image"
    yield "archive.dcm", b"PK\x03\x04" + bytes(60), "not_an_image"
    yield "zeros.dcm", bytes(4096), "not_an_image"
    yield "cine.gif", films.encode(frames[0], "GIF"), "unsupported"
    yield "one_pixel.png", films.encode(films.chest()[:1, :1], "PNG"), "unsupported"
    yield "one_pixel.jpg", films.encode(films.chest()[:1, :1], "JPEG"), "unsupported"
    yield "one_pixel.dcm", films.dicom(films.chest()[:1, :1].copy()), "unsupported"
    yield "pages.tif", films.encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]), "multi_frame"
    yield "moving.png", films.encode(frames[0], "PNG", save_all=True, append_images=frames[1:]), "multi_frame"
    moving = films.encode(frames[0].convert("RGB"), "WEBP", save_all=True, append_images=frames[1:])
    yield "moving.webp", moving, "multi_frame"
    yield "float.tif", films.encode(films.chest().astype(np.float32), "TIFF"), "unsupported"
    yield "jpeg_inside.tif", films.encode(frames[0], "TIFF", compression="jpeg"), "unsupported"
    damaged = bytearray(films.encode(films.chest(), "PNG"))
    damaged[len(damaged) // 2] ^= 0xFF
    yield "flipped_bit.png", bytes(damaged), "unreadable"


def _unusual() -> Iterator[tuple[str, bytes, str]]:
    """Rare, and sound: each must be read."""
    pixels, deep = films.chest(), films.chest(bits=16)
    gray = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "gray.jpg", films.encode(gray, "JPEG"), SCORED
    yield "colour.jpg", films.encode(gray.convert("RGB"), "JPEG"), SCORED
    yield "cmyk.jpg", films.encode(gray.convert("CMYK"), "JPEG"), SCORED
    yield "progressive.jpg", films.encode(gray, "JPEG", progressive=True), SCORED
    yield "rotated.jpg", films.encode(gray, "JPEG", exif=exif), SCORED
    yield "trailing.jpg", films.encode(gray, "JPEG") + b"\x00" * 100, SCORED
    yield "png_called.jpg", films.encode(gray, "PNG"), SCORED
    yield "sixteen.png", films.encode(deep, "PNG"), SCORED
    yield "palette.png", films.encode(gray.convert("P"), "PNG"), SCORED
    yield "alpha.png", films.encode(gray.convert("RGBA"), "PNG"), SCORED
    yield "bilevel.png", films.encode(gray.convert("1"), "PNG"), SCORED
    yield "sixteen.tif", films.encode(deep, "TIFF"), SCORED
    yield "lzw.tif", films.encode(gray, "TIFF", compression="tiff_lzw"), SCORED
    yield "lossy.webp", films.encode(gray.convert("RGB"), "WEBP"), SCORED
    yield "gray.bmp", films.encode(gray, "BMP"), SCORED


def _odd_dicom() -> Iterator[tuple[str, bytes, str]]:
    pixels = films.chest(bits=12)
    yield "plain", films.dicom(pixels, bits=12), SCORED
    yield "no_preamble.dcm", films.dicom(pixels, bits=12, preamble=False), SCORED
    yield "no_meta.dcm", films.dicom(pixels, bits=12, meta=False), SCORED
    nonsense = films.dicom(pixels, bits=12, WindowCenter="2048", WindowWidth="4096")
    for value, wrong in ((b"045Y", b"old "), (b"2048", b"high"), (b"P7", b"\xff\xfe")):
        nonsense = nonsense.replace(value, wrong)
    yield "nonsense_values.dcm", nonsense, SCORED
    yield "no_pixels.dcm", films.dicom(None, Modality="SR"), "no_pixels"
    yield "removed_pixels.dcm", _without_pixels(), "no_pixels"
    yield "frames.dcm", films.dicom(pixels, bits=12, NumberOfFrames=12), "multi_frame"
    yield "too_few_bytes.dcm", films.dicom(pixels, bits=12, Rows=400), "truncated"
    yield "no_rows.dcm", films.dicom(pixels, bits=12, Rows=0), "unreadable"
    yield "unknown_syntax.dcm", films.dicom(pixels, MPEG2MPML, frame=bytes(64)), "unsupported"
    yield "wide_stream.dcm", films.dicom(films.chest(), JPEGLSLossless, Columns=100), "unreadable"
    yield "nested.dcm", nested_header(3000), "unreadable"
    yield "endless.dcm", endless_header(2**23), "unreadable"
    yield "endless_sequence.dcm", endless_header(2**23, within=True), "unreadable"


def _without_pixels() -> bytes:
    content = films.dicom(films.chest(bits=12), bits=12)
    return content[: content.rfind(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))]


def nested_header(depth: int) -> bytes:
    """A DICOM file whose sequences hold each other ``depth`` times."""
    content = films.dicom(films.chest())
    at = content.rfind(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OB"))
    item = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return content[:at] + item * depth + content[at:]


def endless_header(size: int, *, within: bool = False) -> bytes:
    """``size`` bytes of zeros after the mark: empty elements without end, ``within`` a sequence or not."""
    film = films.dicom(films.chest())
    at = film.rfind(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OB"))
    item = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return film[:at] + (item if within else b"") + bytes(size) + film[at:]
