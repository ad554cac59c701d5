"""Which format a file's first bytes announce. The file's name is never asked.

Also names the formats that are recognised and not read, so that their refusal can say what they are.
"""

from __future__ import annotations

import struct

from carina.errors import ImageError, NotAnImage, UnsupportedImage

_ASCII_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW".split()
    + b"PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_FOREIGN = (
    (b"GIF8", "a GIF"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a bare JPEG 2000 stream"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"II+\x00", "a BigTIFF"),
    (b"MM\x00+", "a BigTIFF"),
    (b"8BPS", "a Photoshop document"),
    (b"\x5c\x01\x00\x00", "a NIfTI volume"),
    (b"NRRD", "an NRRD volume"),
)
_DOCUMENTS = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"<?xml", "an XML text"),
    (b"<svg", "an SVG drawing"),
    (b"<html", "a web page"),
    (b"<!DOCTYPE", "a web page"),
    (b"{", "a JSON text"),
)


def sniff(data: bytes) -> str | None:
    """``jpeg``, ``png``, ``tiff``, ``webp``, ``bmp`` or ``dicom`` by the content; ``None`` for all else."""
    if data[128:132] == b"DICM":  # first: the preamble may hold a TIFF header (DICOM PS3.10 section 7.1)
        return "dicom"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        return "tiff"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:2] == b"BM" and _is_bmp(data):
        return "bmp"
    return "dicom" if _is_bare_dicom(data) else None


def refusal(name: str, data: bytes) -> ImageError:
    """What to say of content that ``sniff`` does not know."""
    cure = "save the film as DICOM, PNG, JPEG or TIFF"
    if not data:
        return NotAnImage(name, "the file is empty", "fetch the file again from its source")
    if data[4:8] == b"ftyp":
        return UnsupportedImage(name, "a HEIF, AVIF or video file, which is not read", cure)
    for magic, what in _FOREIGN:
        if data.startswith(magic):
            return UnsupportedImage(name, f"{what}, which is not read", cure)
    for magic, what in _DOCUMENTS:
        if data.lstrip()[: len(magic)] == magic:
            return NotAnImage(name, f"{what}, not an image", "give the film itself")
    if _is_text(data):
        return NotAnImage(name, "a text, not an image", "give the film itself")
    return NotAnImage(name, "its content is no image format that is read", cure)


def _is_bmp(data: bytes) -> bool:
    """Whether the header behind ``BM`` has one of the sizes that exist."""
    return len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in (12, 16, 40, 52, 56, 64, 108, 124)


def _is_bare_dicom(data: bytes) -> bool:
    """Whether the file begins with a data element of group 2 or 8: DICOM without its preamble."""
    if len(data) < 16:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(order + "HHI", data)
        if group not in (0x0002, 0x0008) or element > 0x00FF:
            continue
        if data[4:6] in _ASCII_VRS:
            return True
        if order == "<" and length <= min(len(data), 1024):  # implicit VR; its first elements are short
            return True
    return False


def _is_text(data: bytes) -> bool:
    start = data[:512]
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
