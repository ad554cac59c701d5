"""One compressed frame of DICOM pixel data → stored values.

The decoders are pydicom's plug-ins, each named: pydicom is never left to choose, because what else
may be installed beside us (GDCM, pylibjpeg-rle) dies on damaged streams instead of raising.
8-bit JPEG is decoded by the same strict decoder as JPEG files.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import TruncatedImage, UnreadableImage, UnsupportedImage
from carina.images import jpeg
from carina.images.limits import AGAIN, EXPORT_AGAIN

if TYPE_CHECKING:
    from carina.images.dicom import Layout

_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = (
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
)
_RLE = "1.2.840.10008.1.2.5"
_PLUGINS = {
    **dict.fromkeys((*_JPEG, *_JPEG_LOSSLESS, *_JPEG_2000), "pylibjpeg"),
    **dict.fromkeys(_JPEG_LS, "pyjpegls"),
    _RLE: "pydicom",
}


def frame_size(frame: bytes, syntax: str, name: str) -> tuple[int, int] | None:
    """Width and height that the stream itself states; ``None`` for RLE, which states none.

    Raises ``UnsupportedImage`` for a transfer syntax that is not read, ``TruncatedImage`` where the
    stream lacks its end marker.
    """
    if syntax not in _PLUGINS:
        raise UnsupportedImage(
            name, f"the transfer syntax {syntax} is not read", "export it as Explicit VR Little Endian"
        )
    if syntax == _RLE:
        return None
    if b"\xff\xd9" not in frame[-64:]:
        raise TruncatedImage(name, "the compressed pixel stream has no end", AGAIN)
    if syntax in _JPEG_2000:
        at = frame.find(b"\xff\x4f\xff\x51")
        try:
            right, bottom, left, top = struct.unpack_from(">IIII", frame, at + 8)
        except struct.error:
            raise TruncatedImage(name, "the JPEG 2000 stream ends inside its header", AGAIN) from None
        if at < 0:
            raise UnreadableImage(name, "its pixel data are no JPEG 2000 stream", EXPORT_AGAIN)
        return right - left, bottom - top
    if not frame.startswith(b"\xff\xd8"):
        raise UnreadableImage(name, "its pixel data are no JPEG stream", EXPORT_AGAIN)
    header = jpeg.read_header(frame, name)
    return header.width, header.height


def decode_frame(frame: bytes, layout: Layout, name: str) -> tuple[NDArray[Any], str]:
    """(H, W) or (H, W, 3) values and their photometric interpretation after decoding."""
    if layout.syntax in _JPEG:
        header = jpeg.read_header(frame, name)
        if header.bits == 8 and not header.lossless:
            gray = jpeg.decode(frame, header, name)
            if layout.samples == 1:
                return gray, layout.photometric
    return _by_plugin(frame, layout)


def _by_plugin(frame: bytes, layout: Layout) -> tuple[NDArray[Any], str]:
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
