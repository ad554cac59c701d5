"""A file in, honest pixels out: ``read`` is the only way by which a film enters Carina.

The content decides what a file is, never its name. What cannot be read whole is refused with an
``ImageError`` that says what is wrong and what to do; nothing is guessed and nothing is filled in.
pydicom is loaded for DICOM files only.
"""

from __future__ import annotations

import hashlib

from carina.images import jpeg
from carina.images.files import Source, boundary, file_bytes
from carina.images.formats import refusal, sniff
from carina.images.gray import upright
from carina.images.limits import MAX_PIXELS, check_size
from carina.records import Film, FilmFacts


def read(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Film:
    """Read one radiograph from a path or from a file's bytes.

    ``name`` is what errors and facts call it (the path where left out). Returns gray pixels (H, W),
    uint8 or uint16, upright, with square pixels, dark = low. Raises subclasses of ``ImageError`` and
    nothing else.
    """
    with boundary(source, name) as called:
        return read_bytes(file_bytes(source, called, max_pixels), called, max_pixels)


def read_bytes(data: bytes, name: str, max_pixels: int) -> Film:
    """``read`` without the boundary: libraries' own errors come through."""
    format_ = sniff(data)
    if format_ is None:
        raise refusal(name, data)
    if format_ == "jpeg":
        header, facts = jpeg_facts(data, name, max_pixels)
        return Film(upright(jpeg.decode(data, header, name), header.orientation), facts)
    if format_ == "dicom":
        from carina.images.dicom import read_dicom

        return read_dicom(data, name, max_pixels)
    from carina.images.raster import read_raster

    return read_raster(data, format_, name, max_pixels)


def jpeg_facts(data: bytes, name: str, max_pixels: int) -> tuple[jpeg.JpegHeader, FilmFacts]:
    """The header and the facts of a JPEG file, its size checked; nothing is decoded."""
    header = jpeg.read_header(data, name)
    check_size(name, header.width, header.height, max_pixels)
    turned = header.orientation > 4
    facts = FilmFacts(
        name=name,
        format="jpeg",
        sha256=hashlib.sha256(data).hexdigest(),
        width=header.height if turned else header.width,
        height=header.width if turned else header.height,
        bits=header.bits,
        photometric={1: "MONOCHROME2", 3: "YBR_FULL", 4: "CMYK"}.get(header.components, "UNKNOWN"),
    )
    return header, facts
