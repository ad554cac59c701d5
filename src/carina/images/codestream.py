"""One compressed frame of DICOM pixel data → stored values.

The decoders are pydicom's plug-ins, each named: pydicom is never left to choose, because what else
may be installed beside us (GDCM, pylibjpeg-rle) dies on damaged streams instead of raising.
8-bit JPEG is decoded by the same strict decoder as JPEG files, JPEG lossless by a faster one where the
extra ``fast`` is installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import TruncatedImage, UnreadableImage, UnsupportedImage
from carina.images import huffman, jpeg, jpeg2000, lossless, rle
from carina.images.limits import AGAIN, EXPORT_AGAIN
from carina.images.pixeldata import Layout, stored_bits

_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = (
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
)
_RLE = "1.2.840.10008.1.2.5"
_PLUGINS = {
    **dict.fromkeys((*_JPEG, *_JPEG_LOSSLESS, *JPEG_2000), "pylibjpeg"),
    **dict.fromkeys(_JPEG_LS, "pyjpegls"),
    _RLE: "pydicom",
}


def frame_size(frame: bytes, syntax: str, name: str) -> tuple[int, int] | None:
    """Width and height that the stream itself states; ``None`` for RLE, which states none.

    Raises ``UnsupportedImage`` for a transfer syntax that is not read, ``TruncatedImage`` where the
    stream lacks its end marker.
    """
    if syntax not in _PLUGINS:
        cure = "export it as Explicit VR Little Endian"
        raise UnsupportedImage(name, f"the transfer syntax {syntax} is not read", cure)
    if syntax == _RLE:
        return None
    if not frame.rstrip(b"\x00").endswith(b"\xff\xd9"):
        raise TruncatedImage(name, "the compressed pixel stream has no end", AGAIN)
    if syntax in JPEG_2000:
        return jpeg2000.frame_size(frame, name)
    if not frame.startswith(b"\xff\xd8"):
        raise UnreadableImage(name, "its pixel data are no JPEG stream", EXPORT_AGAIN)
    header = jpeg.read_header(frame, name)
    return header.width, header.height


def decode_frame(frame: bytes, layout: Layout, name: str) -> tuple[NDArray[Any], str]:
    """(H, W) or (H, W, 3) values and their photometric interpretation after decoding.

    Every stream is proven whole, or decoded by what refuses a stream that is not: of the decoders only
    libjpeg-turbo (strict), OpenJPEG and CharLS do.
    """
    if layout.syntax in (*_JPEG, *_JPEG_LOSSLESS):
        header = jpeg.read_header(frame, name)
        if header.bits == 8 and not header.lossless:
            gray = jpeg.decode(frame, header, name)
            if layout.samples == 1:
                return stored_bits(gray.astype(np.int32), layout, layout.stored - 1), layout.photometric
        elif header.lossless:
            return _lossless(frame, header.bits, layout, name)
        else:
            huffman.check_complete(frame, name)
    elif layout.syntax in JPEG_2000:
        jpeg2000.check_complete(frame, name)
    elif layout.syntax == _RLE:
        rle.check_complete(frame, layout.rows * layout.columns, layout.samples * layout.allocated // 8, name)
    else:
        frame += b"\xff\xd9"  # CharLS never returns from a stream without an end marker
    return _by_plugin(frame, layout, name)


def _lossless(frame: bytes, bits: int, layout: Layout, name: str) -> tuple[NDArray[Any], str]:
    """Decoded first and proven whole by the result; where that leaves doubt, by the codes themselves."""
    plain = layout.samples == 1 and not layout.signed
    values, photometric = lossless.decode(frame) if plain else None, layout.photometric
    if values is None or values.shape != (layout.rows, layout.columns):
        values, photometric = _by_plugin(frame, layout, name)
    if not lossless.is_whole(frame, values, bits, name):
        huffman.check_complete(frame, name)
    return values, photometric


def _by_plugin(frame: bytes, layout: Layout, name: str) -> tuple[NDArray[Any], str]:
    try:
        return _decoded(frame, layout)
    except RuntimeError as error:  # "all plug-ins failed", with the reason of the only one
        reason = " ".join(str(error).split())[-160:]
        if layout.syntax in _JPEG_LS and "structural problem" in reason:
            raise TruncatedImage(name, "the JPEG-LS stream ends early or is damaged", AGAIN) from error
        raise UnreadableImage(name, f"its pixel stream cannot be decoded ({reason})", AGAIN) from error


def _decoded(frame: bytes, layout: Layout) -> tuple[NDArray[Any], str]:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    values, described = get_decoder(layout.syntax).as_array(
        encapsulate([frame]),
        decoding_plugin=_PLUGINS[layout.syntax],
        rows=layout.rows,
        columns=layout.columns,
        samples_per_pixel=layout.samples,
        bits_allocated=layout.allocated,
        bits_stored=layout.stored,
        number_of_frames=1,
        photometric_interpretation=layout.photometric,
        pixel_representation=int(layout.signed),
        planar_configuration=int(layout.planar),
        pixel_keyword="PixelData",
        allow_excess_frames=False,
    )
    return np.asarray(values), str(described["photometric_interpretation"])
