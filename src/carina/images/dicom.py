"""A DICOM file → Film: header, pixel data, brightness, square pixels.

The header is pydicom's to parse; the pixel data element is walked here, so that a file that was cut
is told from one that never had pixels. Files without preamble or meta header are read as well.
Modality and view are reported, not judged: that is the gate's work.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import ImageTooLarge, NoPixels, TruncatedImage, UnreadableImage, UnsupportedImage
from carina.images import facts
from carina.images.brightness import GrayScale, Lut, Window
from carina.images.codestream import decode_frame, frame_size
from carina.images.gray import luminance
from carina.images.limits import AGAIN, EXPORT_AGAIN, MAX_STRETCH, check_frames, check_size
from carina.images.resize import resize
from carina.records import Film, FilmFacts, Pixels

_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN, _DEFLATED)
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_PIXEL_DATA = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_LONG_VRS = (b"OB", b"OW", b"UN", b"OF", b"OD", b"OL", b"OV")
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


def read_dicom(data: bytes, name: str, max_pixels: int) -> Film:
    """Read a DICOM file of one frame; raises ``ImageError`` or what pydicom and its plug-ins raise."""
    ds, syntax, rest, explicit, order = _parse(data, name, max_pixels)
    if facts.text(ds, "MediaStorageSOPClassUID") or "DirectoryRecordSequence" in ds:
        raise NoPixels(name, "it is a DICOMDIR, a list of files", "give the files that it lists")
    layout = _layout(ds, syntax, name)
    if layout is None or not rest:
        raise NoPixels(
            name, "a DICOM file without pixel data", "give the image itself, not a report about it"
        )
    check_size(name, layout.columns, layout.rows, max_pixels)
    check_frames(name, facts.whole(ds, "NumberOfFrames") or 1)
    raw, vr = _pixel_data(rest, explicit, order, name)
    if syntax in _NATIVE:
        samples = _native(raw, layout, order, vr, name)
        photometric = layout.photometric
    else:
        fragments = _fragments(raw, name)
        samples, photometric = _compressed(fragments, layout, name, max_pixels)
    pixels = _gray(ds, samples, layout, photometric, name)
    pixels = _square(ds, pixels, max_pixels)
    return Film(pixels, _facts(ds, data, layout, pixels, name))


def _parse(data: bytes, name: str, max_pixels: int) -> tuple[Any, str, bytes, bool, str]:
    """The dataset before the pixel data, the transfer syntax, the bytes from the pixel data element on,
    whether VRs are explicit, and the byte order (``<`` or ``>``)."""
    import pydicom.filereader
    from pydicom.uid import UID

    stream = io.BytesIO(data)
    preamble = pydicom.filereader.read_preamble(stream, force=True)
    meta = pydicom.filereader._read_file_meta_info(stream)
    syntax = str(facts.value(meta, "TransferSyntaxUID") or "").strip()
    if syntax == _DEFLATED:
        head = (preamble or b"") + b"DICM" if preamble is not None else b""
        del head
        stream = io.BytesIO(_inflate(data[stream.tell() :], name, 4 * max_pixels + 16_000_000))
        ds = pydicom.filereader.read_dataset(stream, False, True, stop_when=_at_pixels)
        return ds, syntax, stream.read(), True, "<"
    stream.seek(0)
    ds = pydicom.filereader.read_partial(stream, stop_when=_at_pixels, force=True)
    _check_whole(ds, stream, len(data), name)
    implicit, little = ds.original_encoding
    if not syntax:
        syntax = "1.2.840.10008.1.2" if implicit else _EXPLICIT_LITTLE if little else _BIG_ENDIAN
    elif UID(syntax).is_private and syntax not in _NATIVE:
        raise UnsupportedImage(
            name, f"the private transfer syntax {syntax}", "export it as Explicit VR Little Endian"
        )
    return ds, syntax, stream.read(), not implicit, "<" if little else ">"


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return int(tag) in _PIXEL_DATA


def _check_whole(ds: Any, stream: Any, size: int, name: str) -> None:
    """Refuse a header whose last element is shorter than it claims."""
    for element in ds._dict.values():
        length, content = getattr(element, "length", None), getattr(element, "value", None)
        if (
            isinstance(length, int)
            and isinstance(content, bytes)
            and length != _UNDEFINED
            and len(content) < length
        ):
            raise TruncatedImage(name, "the file ends inside its DICOM header", AGAIN)


def _inflate(deflated: bytes, name: str, most: int) -> bytes:
    """Inflate a deflated dataset (PS3.5 section A.5), at most ``most`` bytes of it."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(deflated, most + 1)
    except zlib.error as error:
        raise UnreadableImage(name, f"its deflated content is damaged ({error})", AGAIN) from None
    if len(inflated) > most:
        raise ImageTooLarge(
            name, f"it inflates to more than {most / 1e6:.0f} MB", "export it without compression"
        )
    if not inflater.eof:
        raise TruncatedImage(name, "its deflated content ends early", AGAIN)
    return inflated


def _layout(ds: Any, syntax: str, name: str) -> Layout | None:
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


def _pixel_data(rest: bytes, explicit: bool, order: str, name: str) -> tuple[bytes, bytes]:
    """The value of the pixel data element that ``rest`` begins with, and its VR."""
    try:
        group, element = struct.unpack_from(order + "HH", rest)
        tag, vr, at = group << 16 | element, b"OW", 4
        if explicit and rest[4:6] in _LONG_VRS:
            vr, at = rest[4:6], 8
        (length,) = struct.unpack_from(order + "I", rest, at)
    except struct.error:
        raise TruncatedImage(name, "the file ends where its pixel data begin", AGAIN) from None
    if tag != 0x7FE00010:
        raise UnsupportedImage(
            name, "floating-point pixels are not read", "export the film with whole gray values"
        )
    value = rest[at + 4 :]
    if length == _UNDEFINED:
        return value, vr
    if len(value) < length:
        fault = f"the pixel data end after {len(value)} of {length} bytes"
        raise TruncatedImage(name, fault, AGAIN)
    return value[:length], vr


def _native(raw: bytes, layout: Layout, order: str, vr: bytes, name: str) -> NDArray[np.int32]:
    """Uncompressed pixel data → (H, W) or (H, W, 3) stored values (PS3.5 section 8.1.1)."""
    shape = (layout.rows, layout.columns, layout.samples)
    count = int(np.prod(shape))
    if layout.photometric == "YBR_FULL_422" and layout.samples == 3:
        raise UnsupportedImage(name, "uncompressed YBR_FULL_422", "export the film as MONOCHROME2 or RGB")
    expected = count * layout.allocated // 8
    if len(raw) < expected:
        fault = f"{len(raw)} bytes of pixel data are fewer than the {expected} that {layout.columns}×{layout.rows} need"
        raise TruncatedImage(name, fault, AGAIN)
    if layout.allocated == 8 and order == ">" and vr == b"OW":  # bytes travel in swapped pairs
        padded = raw[: expected + expected % 2].ljust(expected + expected % 2, b"\x00")
        raw = np.frombuffer(padded, np.uint16).byteswap().tobytes()
    dtype = np.dtype(np.uint8) if layout.allocated == 8 else np.dtype(order + "u2")
    values = np.frombuffer(raw, dtype, count).astype(np.int32)
    values = _clean(values, layout, layout.high_bit)
    if layout.planar and layout.samples > 1:
        return values.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)
    return values.reshape(shape) if layout.samples > 1 else values.reshape(shape[:2])


def _clean(values: NDArray[np.int32], layout: Layout, high_bit: int) -> NDArray[np.int32]:
    """Only the stored bits, with their sign; overlays in the unused bits fall away."""
    shift = high_bit + 1 - layout.stored
    values = (values >> shift) & ((1 << layout.stored) - 1)
    if layout.signed:
        sign = 1 << (layout.stored - 1)
        values = (values ^ sign) - sign
    return values


def _fragments(value: bytes, name: str) -> list[bytes]:
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
        content = value[at + 8 : at + 8 + length]
        if len(content) < length:
            raise TruncatedImage(name, "the compressed pixel data end inside an item", AGAIN)
        items.append(content)
        at += 8 + length
    if len(items) < 2 or not any(items[1:]):
        raise NoPixels(name, "its compressed pixel data are empty", AGAIN)
    return items[1:]


def _compressed(
    fragments: list[bytes], layout: Layout, name: str, max_pixels: int
) -> tuple[NDArray[np.int32], str]:
    """Compressed pixel data → (H, W) or (H, W, 3) stored values and their photometric interpretation."""
    starts = sum(fragment.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51")) for fragment in fragments)
    check_frames(name, starts)
    frame = b"".join(fragments)
    found = frame_size(frame, layout.syntax, name)
    if found is not None:
        check_size(name, *found, max_pixels)
        if found != (layout.columns, layout.rows):
            fault = f"its header says {layout.columns}×{layout.rows}, its pixel stream {found[0]}×{found[1]}"
            raise UnreadableImage(name, fault, EXPORT_AGAIN)
    values, photometric = decode_frame(frame, layout, name)
    return _clean(values.astype(np.int32), layout, layout.stored - 1), photometric


def _gray(ds: Any, samples: NDArray[np.int32], layout: Layout, photometric: str, name: str) -> Pixels:
    """Stored values → brightness, whatever the photometric interpretation."""
    if photometric == "PALETTE COLOR":
        return _palette(ds, samples, layout)
    if samples.ndim == 3:
        dtype = np.uint8 if layout.stored <= 8 else np.uint16
        top = (1 << layout.stored) - 1
        scaled = samples.clip(0, top).astype(np.float64) * (np.iinfo(dtype).max / top)
        colour = np.floor(scaled + 0.5).astype(dtype)
        return colour[..., 0].copy() if photometric.startswith("YBR") else luminance(colour)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedImage(
            name, f"PhotometricInterpretation {photometric!r} with one sample", EXPORT_AGAIN
        )
    return _gray_scale(ds, layout).apply(samples)


def _palette(ds: Any, samples: NDArray[np.int32], layout: Layout) -> Pixels:
    """PALETTE COLOR (PS3.3 C.7.6.3.1.5): pydicom expands the palette; clipping first keeps it in bounds."""
    from pydicom.pixels.processing import apply_color_lut

    descriptor = facts.numbers(ds, "RedPaletteColorLookupTableDescriptor")
    entries, first = int(descriptor[0]) or 65536, int(descriptor[1])
    index = np.arange(layout.low, layout.high + 1)
    table = apply_color_lut(np.clip(index, first, first + entries - 1).astype(np.int64)[None], ds)[0, :, :3]
    gray = luminance(table[None])[0]
    return gray[samples - layout.low]


def _gray_scale(ds: Any, layout: Layout) -> GrayScale:
    """The brightness chain of the header."""
    slope, intercept = facts.number(ds, "RescaleSlope"), facts.number(ds, "RescaleIntercept")
    modality = _lut(ds, "ModalityLUTSequence", layout)
    voi: Lut | Window | None = _lut(ds, "VOILUTSequence", layout)
    if voi is None:
        center, width = facts.number(ds, "WindowCenter"), facts.number(ds, "WindowWidth")
        function = (facts.text(ds, "VOILUTFunction") or "LINEAR").upper()
        if center is not None and width is not None:
            window = Window(center, width, function if function in ("SIGMOID", "LINEAR_EXACT") else "LINEAR")
            voi = window if window.valid else None
    return GrayScale(
        low=layout.low,
        high=layout.high,
        slope=slope if slope else 1.0,
        intercept=intercept or 0.0,
        modality=modality,
        voi=voi,
        inverse=layout.photometric == "MONOCHROME1" or facts.text(ds, "PresentationLUTShape") == "INVERSE",
        padding=_padding(ds, layout),
    )


def _padding(ds: Any, layout: Layout) -> tuple[int, int] | None:
    """The stored values that mean "no film here" (PS3.3 C.7.5.1.1.2)."""
    value, limit = facts.whole(ds, "PixelPaddingValue"), facts.whole(ds, "PixelPaddingRangeLimit")
    if value is None:
        return None
    ends = [
        int(_clean(np.array([end], np.int32), layout, layout.stored - 1)[0])
        for end in (value, limit if limit is not None else value)
    ]
    return min(ends), max(ends)


def _lut(ds: Any, keyword: str, layout: Layout) -> Lut | None:
    """The first table of a LUT sequence; ``None`` where there is none or it makes no sense."""
    sequence = facts.value(ds, keyword)
    try:
        item = sequence[0]
        entries, first, depth = (int(number) for number in item.LUTDescriptor)
        content = item.LUTData
    except Exception:  # missing, empty or broken: all the same to the film
        return None
    entries = entries or 65536
    if isinstance(content, bytes):
        order = "<" if ds.original_encoding[1] is not False else ">"
        packed = depth <= 8 and len(content) < 2 * entries
        values = np.frombuffer(content, np.uint8 if packed else np.dtype(order + "u2"))
    else:
        values = np.atleast_1d(np.asarray(content)).astype(np.int64) & 0xFFFF
    if len(values) < entries or entries < 2:
        return None
    if layout.signed and first > 32767 and keyword == "VOILUTSequence":
        first -= 65536
    return Lut(first, values[:entries].astype(np.float64))


def _square(ds: Any, pixels: Pixels, max_pixels: int) -> Pixels:
    """Square pixels: the coarser direction is stretched, or the finer one reduced where that is too large."""
    ratio = _aspect(ds)
    if ratio is None or abs(ratio - 1) < 0.01 or not 1 / MAX_STRETCH <= ratio <= MAX_STRETCH:
        return pixels
    height, width = pixels.shape
    tall, wide = max(1.0, ratio), max(1.0, 1 / ratio)
    if height * tall * width * wide > max_pixels:
        tall, wide = min(1.0, ratio), min(1.0, 1 / ratio)
    return resize(pixels, max(1, round(width * wide)), max(1, round(height * tall)))


def _aspect(ds: Any) -> float | None:
    """Height over width of one pixel; ``PixelAspectRatio`` and the spacings state the vertical first."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        pair = facts.numbers(ds, keyword)
        if len(pair) == 2 and min(pair) > 0:
            return pair[0] / pair[1]
    return None


def _facts(ds: Any, data: bytes, layout: Layout, pixels: Pixels, name: str) -> FilmFacts:
    return FilmFacts(
        name=name,
        format="dicom",
        sha256=hashlib.sha256(data).hexdigest(),
        width=pixels.shape[1],
        height=pixels.shape[0],
        bits=layout.stored,
        photometric=layout.photometric,
        modality=facts.text(ds, "Modality"),
        view=facts.text(ds, "ViewPosition"),
        body_part=facts.text(ds, "BodyPartExamined"),
        laterality=facts.text(ds, "ImageLaterality") or facts.text(ds, "Laterality"),
        patient=facts.text(ds, "PatientID"),
        study=facts.text(ds, "StudyInstanceUID"),
        series=facts.text(ds, "SeriesInstanceUID"),
        instance=facts.text(ds, "SOPInstanceUID"),
        age=facts.age(ds),
        sex=facts.sex(ds),
        manufacturer=facts.text(ds, "Manufacturer"),
        model_name=facts.text(ds, "ManufacturerModelName"),
        transfer_syntax=layout.syntax,
    )
