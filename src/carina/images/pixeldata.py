"""The pixel data of a DICOM file → stored values: what the header says of them, and getting them out.

The element is walked here rather than by pydicom, so that a file that was cut is told from one that
never had pixels. Knows nothing of brightness.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import NoPixels, TruncatedImage, UnreadableImage, UnsupportedImage
from carina.images import facts
from carina.images.limits import AGAIN, EXPORT_AGAIN

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG)
ELEMENTS = (0x7FE00010, 0x7FE00008, 0x7FE00009)  # PixelData, FloatPixelData, DoubleFloatPixelData
_LONG_VRS = (b"OB", b"OW", b"UN", b"OF", b"OD", b"OL", b"OV")
_PADDING = 4096  # bytes behind the last pixel that are believed to be filling, if they are no whole row
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Layout:
    """How the header says that pixels are stored (DICOM PS3.5 section 8)."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: bool
    photometric: str
    syntax: str

    @property
    def low(self) -> int:
        """The least stored value."""
        return -(1 << (self.stored - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest stored value."""
        return (1 << (self.stored - self.signed)) - 1


def read_layout(ds: Any, syntax: str, name: str) -> Layout | None:
    """The pixel description; ``None`` where there is none at all."""
    rows, columns = facts.whole(ds, "Rows"), facts.whole(ds, "Columns")
    allocated = facts.whole(ds, "BitsAllocated")
    if rows is None or columns is None or allocated is None:
        return None
    stored = facts.whole(ds, "BitsStored") or allocated
    high_bit = facts.whole(ds, "HighBit")
    layout = Layout(
        rows=rows,
        columns=columns,
        samples=facts.whole(ds, "SamplesPerPixel") or 1,
        allocated=allocated,
        stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        signed=facts.whole(ds, "PixelRepresentation") == 1,
        planar=facts.whole(ds, "PlanarConfiguration") == 1,
        photometric=(facts.text(ds, "PhotometricInterpretation") or "MONOCHROME2").upper(),
        syntax=syntax,
    )
    if allocated not in (8, 16) or layout.samples not in (1, 3):
        what = f"pixels of {layout.samples} × {allocated} bits are not read"
        raise UnsupportedImage(name, what, "export the film with 8 or 16 bits allocated")
    if not 1 <= stored <= allocated or not stored - 1 <= layout.high_bit < allocated:
        what = f"BitsStored {stored} and HighBit {layout.high_bit} do not fit into BitsAllocated {allocated}"
        raise UnreadableImage(name, what, EXPORT_AGAIN)
    return layout


def element_value(rest: memoryview, order: str, compressed: bool, name: str) -> tuple[memoryview, bytes]:
    """The value of the pixel data element that ``rest`` begins with, and its VR; nothing is copied.

    Raises ``TruncatedImage`` where the file ends inside it, ``UnreadableImage`` where its form is not
    that of the transfer syntax.
    """
    try:
        group, element = struct.unpack_from(order + "HH", rest)
        tag, vr, at = group << 16 | element, b"OW", 4
        if bytes(rest[4:6]) in _LONG_VRS:  # as a length these letters would be odd, and no length is
            vr, at = bytes(rest[4:6]), 8
        (length,) = struct.unpack_from(order + "I", rest, at)
    except struct.error:
        raise TruncatedImage(name, "the file ends where its pixel data begin", AGAIN) from None
    if tag != 0x7FE00010:
        raise UnsupportedImage(
            name, "floating-point pixels are not read", "export the film with whole gray values"
        )
    value = rest[at + 4 :]
    if (length == _UNDEFINED) != compressed:
        said, found = ("compressed", "plain") if compressed else ("plain", "compressed")
        fault = f"its transfer syntax says that its pixel data are {said}, and they are {found}"
        raise UnreadableImage(name, fault, EXPORT_AGAIN)
    if compressed:
        return value, vr
    if len(value) < length:
        fault = f"the pixel data end after {len(value)} of {length} bytes"
        raise TruncatedImage(name, fault, AGAIN)
    return value[:length], vr


def native_values(raw: memoryview, layout: Layout, order: str, vr: bytes, name: str) -> NDArray[Any]:
    """Uncompressed pixel data → (H, W) or (H, W, 3) stored values (PS3.5 section 8.1.1).

    ``int32``; where nothing is to be done to unsigned gray values they come as they lie in ``raw``.
    """
    shape = (layout.rows, layout.columns, layout.samples)
    count = int(np.prod(shape))
    if layout.photometric == "YBR_FULL_422" and layout.samples == 3:
        raise UnsupportedImage(name, "uncompressed YBR_FULL_422", "export the film as MONOCHROME2 or RGB")
    expected = count * layout.allocated // 8
    if len(raw) < expected:
        fault = (
            f"the pixel data have {len(raw)} of the {expected} bytes of {layout.columns}×{layout.rows} pixels"
        )
        raise TruncatedImage(name, fault, AGAIN)
    if len(raw) - expected >= max(_PADDING, expected // layout.rows):
        fault = (
            f"the pixel data have {len(raw)} bytes, and {layout.columns}×{layout.rows} pixels take {expected}"
        )
        raise UnreadableImage(name, fault, EXPORT_AGAIN)
    if layout.allocated == 8 and order == ">" and vr == b"OW":  # bytes travel in swapped pairs
        padded = bytes(raw[: expected + expected % 2]).ljust(expected + expected % 2, b"\x00")
        raw = memoryview(np.frombuffer(padded, np.uint16).byteswap().tobytes())
    dtype = np.dtype(np.uint8) if layout.allocated == 8 else np.dtype(order + "u2")
    plain = np.frombuffer(raw, dtype, count)
    untouched = not layout.signed and layout.samples == 1 and layout.high_bit == layout.stored - 1
    full = layout.stored == layout.allocated
    if untouched and dtype.isnative and (full or int(plain.max(initial=0)) <= layout.high):
        return plain.reshape(shape[:2])
    values = stored_bits(plain.astype(np.int32), layout, layout.high_bit)
    if layout.planar and layout.samples > 1:
        return values.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)
    return values.reshape(shape) if layout.samples > 1 else values.reshape(shape[:2])


def stored_bits(values: NDArray[np.int32], layout: Layout, high_bit: int) -> NDArray[np.int32]:
    """Only the stored bits, with their sign; overlays in the unused bits fall away."""
    shift = high_bit + 1 - layout.stored
    values = (values >> shift) & ((1 << layout.stored) - 1)
    if layout.signed:
        sign = 1 << (layout.stored - 1)
        values = (values ^ sign) - sign
    return values


def within(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Decoded values, clipped to what BitsStored allows; untouched where they are within it."""
    if values.dtype.kind == "u" and layout.low == 0 and int(values.max(initial=0)) <= layout.high:
        return values
    return np.clip(values.astype(np.int32), layout.low, layout.high)


def fragments(value: memoryview, name: str) -> list[bytes]:
    """The fragments of encapsulated pixel data (PS3.5 section A.4), without the offset table."""
    items: list[bytes] = []
    at = 0
    while True:
        if at + 8 > len(value):
            raise TruncatedImage(name, "the compressed pixel data end before their last item", AGAIN)
        group, element, length = struct.unpack_from("<HHI", value, at)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            raise UnreadableImage(name, "the compressed pixel data are not divided into items", EXPORT_AGAIN)
        content = bytes(value[at + 8 : at + 8 + length])
        if len(content) < length:
            raise TruncatedImage(name, "the compressed pixel data end inside an item", AGAIN)
        items.append(content)
        at += 8 + length
    if len(items) < 2 or not any(items[1:]):
        raise NoPixels(name, "its compressed pixel data are empty", AGAIN)
    return items[1:]
