"""JPEG files and JPEG streams: what their markers say, and a decoding that forgives nothing.

libjpeg fills what is missing of a cut stream with gray and calls that a warning. Here a warning
about missing data is a refusal: half of a film is not a film. The decoder is libjpeg-turbo through
simplejpeg, which stops at the first warning; a stream that was cut and closed again with a forged
end marker is caught the same way, at no cost beyond the decoding itself.

Does not know what a film is, nor what DICOM wraps around the stream.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import TruncatedImage, UnreadableImage, UnsupportedImage
from carina.images.gray import luminance
from carina.images.huffman import check_complete
from carina.images.limits import AGAIN, MAX_SCANS

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 … SOF15
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
JPEG_LS = 0xF7
_AFTER_SCAN = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # a marker that ends entropy-coded data
_HARMLESS = ("bytes before marker 0xd9", "JFIF revision", "SOS parameters", "Adobe color transform")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What the markers before the first scan say."""

    width: int
    height: int
    bits: int
    components: int
    process: int  # the second byte of the SOF marker
    orientation: int  # EXIF's, 1 where there is none

    @property
    def lossless(self) -> bool:
        """Whether the process is one of the lossless ones of ITU-T T.81 annex H."""
        return self.process in _LOSSLESS


def read_header(data: bytes, name: str) -> JpegHeader:
    """The header of a JPEG or JPEG-LS stream.

    Raises ``TruncatedImage`` where the stream ends before its first scan, ``UnreadableImage`` where
    its markers make no sense, ``UnsupportedImage`` for a hierarchical file or one of far too many scans.
    """
    frame: tuple[int, int, int, int, int] | None = None
    orientation = 1
    at = 2
    while True:
        marker, at = _next_marker(data, at, name)
        if marker in _BARE:
            continue
        if marker == 0xD9:
            raise TruncatedImage(name, "the JPEG stream ends before its pixels begin", AGAIN)
        if at + 2 > len(data):
            raise TruncatedImage(name, "the JPEG stream ends inside its header", AGAIN)
        (length,) = struct.unpack_from(">H", data, at)
        body = data[at + 2 : at + length]
        if length < 2:
            raise UnreadableImage(name, "a JPEG marker has an impossible length", AGAIN)
        if len(body) < length - 2:
            raise TruncatedImage(name, "the JPEG stream ends inside its header", AGAIN)
        if marker in _FRAMES or marker == JPEG_LS:
            frame = (marker, *_frame(body, name))
        elif marker == 0xE1 and body.startswith(b"Exif\x00\x00"):
            orientation = exif_orientation(body[6:])
        elif marker == 0xDA:
            break
        at += length
    if frame is None:
        raise UnreadableImage(name, "the JPEG stream has no frame header", AGAIN)
    if frame[0] in _PROGRESSIVE and data.count(b"\xff\xda") > MAX_SCANS:
        raise UnsupportedImage(
            name, f"a JPEG of more than {MAX_SCANS} scans", "save it again as an ordinary JPEG"
        )
    process, bits, height, width, components = frame
    if height == 0:
        raise UnsupportedImage(
            name, "a JPEG that states its height only at its end", "save it again as an ordinary JPEG"
        )
    return JpegHeader(width, height, bits, components, process, orientation)


def decode(data: bytes, header: JpegHeader, name: str, *, reduce: int = 1) -> NDArray[np.uint8]:
    """Decode an 8-bit JPEG to gray, (ceil(H / reduce), ceil(W / reduce)); ``reduce`` is 1, 2, 4 or 8.

    CMYK follows Adobe's convention (inverted), as every program that writes such JPEGs does.
    Raises ``TruncatedImage``, ``UnreadableImage`` or ``UnsupportedImage``.
    """
    import simplejpeg  # type: ignore[import-untyped]

    check_scans(data, name)
    if header.bits != 8 or header.lossless or header.components not in (1, 3, 4):
        what = f"a {'lossless ' if header.lossless else ''}JPEG of {header.components} × {header.bits} bits"
        raise UnsupportedImage(name, f"{what} outside DICOM", "save it as PNG or as DICOM")
    options: dict[str, Any] = {"strict": True}
    if reduce > 1:  # the least reduced decoding that still reaches these sides is the one asked for
        options.update(
            min_width=-(-header.width // reduce), min_height=-(-header.height // reduce), min_factor=reduce
        )
    colours = "CMYK" if header.components == 4 else "GRAY"
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, **options)
    except ValueError as error:
        if not any(words in str(error) for words in _HARMLESS):
            raise _refusal(name, str(error)) from None
        check_complete(data, name)  # the decoder stopped at its first warning, and others may follow
        pixels = simplejpeg.decode_jpeg(data, colours, **{**options, "strict": False})
    if header.components == 4:
        inks = pixels.astype(np.uint16)
        return luminance(((inks[..., :3] * inks[..., 3:] + 127) // 255).astype(np.uint8)).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., 0], np.uint8)


def check_scans(data: bytes, name: str) -> None:
    """Refuse a stream that was cut between two scans and closed again: decoders draw what is there.

    Every component must stand in a scan, and in a progressive stream every coefficient of it be coded to its
    last bit (T.81 G.1.1.1). Raises ``TruncatedImage`` or ``UnreadableImage``.
    """
    lowest: dict[int, bytearray] = {}  # component → of each coefficient the lowest bit that came
    progressive, at = False, 2
    while True:
        marker, at = _next_marker(data, at, name)
        if marker in _BARE:
            continue
        if marker == 0xD9:
            break
        if at + 2 > len(data):
            raise TruncatedImage(name, "the JPEG stream ends early (between its scans)", AGAIN)
        (length,) = struct.unpack_from(">H", data, at)
        body = data[at + 2 : at + length]
        if marker in _FRAMES and len(body) >= 6:
            progressive = marker in _PROGRESSIVE
            lowest = {body[i]: bytearray(b"\xff" * 64) for i in range(6, len(body) - 2, 3)}
        elif marker == 0xDA:
            _note_scan(body, lowest, progressive, name)
            if not progressive and not any(any(each) for each in lowest.values()):
                return  # the scan brings all there is; the decoder sees whether it is whole
            after = _AFTER_SCAN.search(data, at + length)
            if after is None:
                raise TruncatedImage(name, "the JPEG stream ends early (it has no end marker)", AGAIN)
            at = after.start()
            continue
        at += max(2, length)
    if any(any(each) for each in lowest.values()):
        raise TruncatedImage(name, "the JPEG stream ends early (before its last scan)", AGAIN)


def _note_scan(body: bytes, lowest: dict[int, bytearray], progressive: bool, name: str) -> None:
    """What a scan header (T.81 B.2.3) says that the scan brings."""
    if not body or len(body) < 4 + 2 * body[0]:
        raise UnreadableImage(name, "a scan header of the JPEG stream is too short", AGAIN)
    first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
    if not progressive:
        first, last, bits = 0, 63, 0
    for component in body[1 : 1 + 2 * body[0] : 2]:
        if component in lowest and first <= last < 64:
            lowest[component][first : last + 1] = bytes([bits & 15]) * (last + 1 - first)


def quantisation(data: bytes) -> bytes:
    """The first quantisation table before the first scan (T.81 B.2.4.1); empty where none can be read.

    It is that of luminance, and tells how strongly the encoder compressed.
    """
    at = 2
    try:
        while True:
            marker, at = _next_marker(data, at, "")
            if marker in _BARE:
                continue
            if marker in (0xD9, 0xDA) or at + 2 > len(data):
                return b""
            (length,) = struct.unpack_from(">H", data, at)
            if marker == 0xDB:
                wide = data[at + 2] >> 4  # 0: values of 8 bits, 1: of 16
                return data[at + 3 : min(at + length, at + 3 + (128 if wide else 64))]
            at += max(2, length)
    except (TruncatedImage, UnreadableImage, IndexError):
        return b""


def exif_orientation(tiff: bytes) -> int:
    """``Orientation`` (tag 0x0112) of an EXIF block, 1 where it is missing or makes no sense."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 10:
        return 1
    (at,) = struct.unpack_from(order + "I", tiff, 4)
    if at + 2 > len(tiff):
        return 1
    (entries,) = struct.unpack_from(order + "H", tiff, at)
    for entry in range(at + 2, min(at + 2 + 12 * entries, len(tiff) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", tiff, entry)
        if tag == 0x0112 and kind == 3:
            (value,) = struct.unpack_from(order + "H", tiff, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def _next_marker(data: bytes, at: int, name: str) -> tuple[int, int]:
    """The next marker's second byte, and where its body begins; fill bytes are skipped."""
    if at >= len(data):
        raise TruncatedImage(name, "the JPEG stream ends inside its header", AGAIN)
    if data[at] != 0xFF:
        raise UnreadableImage(name, "its JPEG header is damaged (no marker where one belongs)", AGAIN)
    while at < len(data) and data[at] == 0xFF:
        at += 1
    if at >= len(data):
        raise TruncatedImage(name, "the JPEG stream ends inside its header", AGAIN)
    return data[at], at + 1


def _frame(body: bytes, name: str) -> tuple[int, int, int, int]:
    """Bits, height, width and number of components of a SOF segment."""
    if len(body) < 6:
        raise UnreadableImage(name, "its JPEG frame header is too short", AGAIN)
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    return bits, height, width, components


def _refusal(name: str, message: str) -> TruncatedImage | UnreadableImage:
    low = message.lower()
    if "premature end" in low or "truncated" in low:
        return TruncatedImage(name, "the JPEG stream ends early", AGAIN)
    return UnreadableImage(name, f"the JPEG stream is damaged ({message})", AGAIN)
