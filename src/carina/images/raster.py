"""PNG, TIFF, WebP and BMP → Film, through Pillow.

Sizes, frames and checksums are checked in the file's own header (``headers.py``) before Pillow sees
it, so a decompression bomb costs nothing. 16-bit gray stays 16-bit; colour of any depth comes out as
8-bit gray, which is what Pillow keeps of it.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from carina.errors import UnsupportedImage
from carina.images.gray import full_range, luminance, over_black, significant_bits, upright
from carina.images.headers import RasterHeader, check_png_rows, raster_header
from carina.images.limits import check_frames, check_size
from carina.records import Film, FilmFacts, Pixels

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def read_raster(data: bytes, format_: str, name: str, max_pixels: int) -> Film:
    """Decode a PNG, TIFF, WebP or BMP file; raises ``ImageError`` or Pillow's own errors."""
    header = raster_header(data, format_, name)
    check_size(name, header.width, header.height, max_pixels)
    check_frames(name, header.frames)
    if format_ == "png":
        check_png_rows(data, name)
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # if anybody in this process allowed half films, we do not
    with Image.open(io.BytesIO(data), formats=[format_]) as image:
        check_size(name, image.width, image.height, max_pixels)
        check_frames(name, getattr(image, "n_frames", 1))
        mode = image.mode
        image.load()
        pixels = _gray(image, header, name)
    if format_ != "tiff":  # Pillow turns TIFF itself
        pixels = upright(pixels, header.orientation)
    bits = 8
    if pixels.dtype == np.uint16:
        bits = significant_bits(pixels)
        pixels = full_range(pixels, bits)
    facts = FilmFacts(
        name=name,
        format=format_,
        sha256=hashlib.sha256(data).hexdigest(),
        width=pixels.shape[1],
        height=pixels.shape[0],
        bits=bits,
        photometric=_photometric(mode, header),
    )
    return Film(pixels, facts)


def _gray(image: Any, header: RasterHeader, name: str) -> Pixels:
    """The image's pixels as one plane, transparency laid over black; (H, W) uint8 or uint16."""
    clear = image.info.get("transparency")
    if image.mode in _DEEP:
        deep = np.asarray(image)
        if deep.min(initial=0) < 0 or deep.max(initial=0) > 65535:
            raise UnsupportedImage(
                name, "its gray values do not fit into 16 bits", "save it with at most 16 bits"
            )
        deep = deep.astype(np.uint16)
        if isinstance(clear, int):
            deep[deep == clear] = 0
        return np.uint16(65535) - deep if header.white_is_zero else deep
    if image.mode in ("1", "L") and clear is None:
        return np.asarray(image.convert("L"))
    if image.mode in ("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB"):
        if clear is None and image.mode not in ("PA", "LA", "La", "RGBA", "RGBa"):
            return luminance(np.asarray(image.convert("RGB")))
        rgba = np.asarray(image.convert("RGBA"))
        return over_black(luminance(rgba[..., :3]), rgba[..., 3])
    raise UnsupportedImage(
        name, f"gray values of the kind {image.mode!r} are not read", "save it as 8- or 16-bit PNG"
    )


def _photometric(mode: str, header: RasterHeader) -> str:
    """DICOM's word for how the file stores its pixels."""
    if header.white_is_zero:
        return "MONOCHROME1"
    if mode in ("1", "L", "LA", "La", *_DEEP):
        return "MONOCHROME2"
    return {"P": "PALETTE COLOR", "PA": "PALETTE COLOR", "CMYK": "CMYK", "YCbCr": "YBR_FULL"}.get(mode, "RGB")
