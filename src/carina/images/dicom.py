"""A DICOM file → Film: header, pixel data, brightness, square pixels.

The header is pydicom's to parse, ``pixeldata.py`` finds the stored values. Files without preamble or
meta header are read as well. Modality and view are reported, not judged: that is the gate's work.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from carina.errors import ImageTooLarge, NoPixels, TruncatedImage, UnreadableImage, UnsupportedImage
from carina.images import facts, jpeg2000
from carina.images.brightness import GrayScale, Lut, Window
from carina.images.codestream import JPEG_2000, decode_frame, frame_size
from carina.images.gray import luminance
from carina.images.limits import AGAIN, EXPORT_AGAIN, MAX_STRETCH, check_frames, check_size
from carina.images.patience import Patience
from carina.images.pixeldata import (
    DEFLATED,
    ELEMENTS,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    NATIVE,
    Layout,
    element_value,
    fragments,
    native_values,
    read_layout,
    stored_bits,
    within,
)
from carina.images.resize import Box, resize
from carina.records import Film, FilmFacts, Pixels

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_BENT = {4: 0.4, 2: 1.2}  # gray levels of ``GrayScale.bend`` up to which a film is within one gray level
_MOST = 4  # further down the full film is left by more than a gray level where it is all edges and grain


def read_dicom(data: bytes, name: str, max_pixels: int) -> Film:
    """Read a DICOM file of one frame; raises ``ImageError`` or what pydicom and its plug-ins raise."""
    ds, layout, source = _located(data, name, max_pixels)
    samples, photometric = source.values(layout, name, max_pixels)
    pixels = _gray(ds, samples, layout, photometric, name)
    pixels = _square(ds, pixels, max_pixels)
    return Film(pixels, _facts(ds, data, layout, pixels.shape, name))


def read_reduced(
    data: bytes, name: str, max_pixels: int, reduction: Callable[[int, int], int]
) -> tuple[Pixels, Box, FilmFacts]:
    """Gray pixels for whoever needs few of them, the part of them that is film, and the facts.

    ``reduction`` (width, height) says by how much both sides may be divided. Where the brightness is a
    linear window each pixel is the mean of a block, or what the wavelet of JPEG 2000 keeps of it. Otherwise
    the pixels are those of :func:`read_dicom`, whose errors are raised.
    """
    ds, layout, source = _located(data, name, max_pixels)
    width, height = layout.columns, layout.rows
    linear = layout.samples == 1 and layout.photometric in _GRAY and not _is_stretched(ds)
    allowed = min(reduction(width, height), _MOST) if linear else 1
    if allowed > 1 and layout.syntax in JPEG_2000:
        found = _by_wavelet(
            _gray_scale(ds, layout), layout, source.frame(layout, name, max_pixels), allowed, name
        )
        if found is not None:
            return *found, _facts(ds, data, layout, (height, width), name)
    samples, photometric = source.values(layout, name, max_pixels)
    if allowed > 1 and samples.ndim == 2:
        small = _gray_scale(ds, layout).apply_reduced(samples, allowed)
        if small is not None:
            part = (0.0, 0.0, width / allowed, height / allowed)
            return small, part, _facts(ds, data, layout, (height, width), name)
    pixels = _square(ds, _gray(ds, samples, layout, photometric, name), max_pixels)
    whole = (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
    return pixels, whole, _facts(ds, data, layout, pixels.shape, name)


def read_wide(data: bytes, name: str, max_pixels: int) -> tuple[Pixels, tuple[float, float], FilmFacts]:
    """All gray values of a DICOM film, for a person who sets the window: uint16 (H, W), dark = low.

    The header's window cuts off nothing here; it comes back as the values that it shows black and white.
    Where the header brings a curve instead of a window, its brightness is taken as it is.
    """
    ds, layout, source = _located(data, name, max_pixels)
    samples, photometric = source.values(layout, name, max_pixels)
    scale = _gray_scale(ds, layout) if samples.ndim == 2 and photometric in _GRAY else None
    found = scale.wide(samples) if scale is not None else None
    pixels, window = found or (_gray(ds, samples, layout, photometric, name), (0.0, 65535.0))
    deep = pixels.astype(np.uint16) * 257 if pixels.dtype == np.uint8 else pixels
    pixels = _square(ds, deep, max_pixels)
    return pixels, window, _facts(ds, data, layout, pixels.shape, name)


def _by_wavelet(
    scale: GrayScale, layout: Layout, frame: bytes, allowed: int, name: str
) -> tuple[Pixels, Box] | None:
    """A JPEG 2000 film at 1/4 or 1/2 and the part of it that is film; ``None`` where it must be read whole.

    Here the window comes after the averaging, which is the same only where it clips nothing. By how much
    it is not can be seen on the reduced film itself: averaged once more, before and after the window.
    """
    for reduce in (each for each in _BENT if each <= allowed):
        if not jpeg2000.reachable(layout.columns, layout.rows, reduce):
            continue
        few = jpeg2000.decode_reduced(frame, layout.stored, reduce, name)
        small = None if few is None else scale.apply_reduced(few, 1)
        if few is None or small is None:
            return None
        if scale.bend(few) < _BENT[reduce]:  # film reaches half a sample beyond the last
            return np.pad(small, ((0, 1), (0, 1)), mode="edge"), jpeg2000.extent(
                layout.columns, layout.rows, reduce
            )
    return None


@dataclass(frozen=True, slots=True)
class _Source:
    """Pixel data as they lie in the file, not decoded yet."""

    raw: memoryview
    order: str
    vr: bytes

    def values(self, layout: Layout, name: str, max_pixels: int) -> tuple[NDArray[Any], str]:
        """(H, W) or (H, W, 3) stored values and their photometric interpretation."""
        if layout.syntax in NATIVE:
            return native_values(self.raw, layout, self.order, self.vr, name), layout.photometric
        values, photometric = decode_frame(self.frame(layout, name, max_pixels), layout, name)
        return within(values, layout), photometric

    def frame(self, layout: Layout, name: str, max_pixels: int) -> bytes:
        """The one compressed frame; raises where the file and its stream contradict each other."""
        parts = fragments(self.raw, name)
        starts = sum(fragment.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51")) for fragment in parts)
        check_frames(name, starts)
        frame = b"".join(parts)
        found = frame_size(frame, layout.syntax, name)
        if found is not None:
            check_size(name, *found, max_pixels)
            if found != (layout.columns, layout.rows):
                fault = (
                    f"its header says {layout.columns}×{layout.rows}, its pixel stream {found[0]}×{found[1]}"
                )
                raise UnreadableImage(name, fault, EXPORT_AGAIN)
        return frame


def _located(data: bytes, name: str, max_pixels: int) -> tuple[Any, Layout, _Source]:
    """The header, the layout, and the pixel data that are still to be decoded."""
    ds, syntax, rest, order = _parse(data, name, max_pixels)
    if "DirectoryRecordSequence" in ds:
        raise NoPixels(name, "it is a DICOMDIR, a list of files", "give the files that it lists")
    layout = read_layout(ds, syntax, name)
    if layout is None or not rest:
        fault = "a DICOM file without pixel data, or cut before them"
        raise NoPixels(name, fault, "give the image itself, or fetch it again from its source")
    check_size(name, layout.columns, layout.rows, max_pixels)
    check_frames(name, facts.whole(ds, "NumberOfFrames") or 1)
    raw, vr = element_value(rest, order, syntax not in NATIVE, name)
    return ds, layout, _Source(raw, order, vr)


def _parse(data: bytes, name: str, max_pixels: int) -> tuple[Any, str, memoryview, str]:
    """The dataset before the pixel data, the transfer syntax, the bytes from the pixel data element on,
    and the byte order (``<`` or ``>``)."""
    import pydicom.filereader
    from pydicom.uid import UID

    stream: Any = Patience(io.BytesIO(data))
    pydicom.filereader.read_preamble(stream, force=True)
    meta = pydicom.filereader._read_file_meta_info(stream)
    syntax = str(facts.value(meta, "TransferSyntaxUID") or "").strip()
    if syntax == DEFLATED:
        stream = Patience(io.BytesIO(_inflate(data[stream.tell() :], name, 4 * max_pixels + 16_000_000)))
        ds = pydicom.filereader.read_dataset(stream, False, True, stop_when=_at_pixels)
        _check_whole(ds, name)
        return ds, syntax, memoryview(stream.read()), "<"
    stream.seek(0)
    ds = pydicom.filereader.read_partial(stream, stop_when=_at_pixels, force=True)
    _check_whole(ds, name)
    implicit, little = ds.original_encoding
    if not syntax:
        syntax = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG
    elif UID(syntax).is_private and syntax not in NATIVE:
        cure = "export it as Explicit VR Little Endian"
        raise UnsupportedImage(name, f"the private transfer syntax {syntax} is not read", cure)
    return ds, syntax, memoryview(data)[stream.tell() :], "<" if little else ">"


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return int(tag) in ELEMENTS


def _check_whole(ds: Any, name: str) -> None:
    """Refuse a header whose last element is shorter than it claims."""
    for element in ds._dict.values():
        content, length = getattr(element, "value", None), getattr(element, "length", None)
        if isinstance(content, bytes) and length != 0xFFFFFFFF and len(content) < (length or 0):
            raise TruncatedImage(name, "the file ends inside its DICOM header", AGAIN)


def _inflate(deflated: bytes, name: str, most: int) -> bytes:
    """Inflate a deflated dataset (PS3.5 section A.5), at most ``most`` bytes of it."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(deflated, most + 1)
    except zlib.error as error:
        raise UnreadableImage(name, f"its deflated content is damaged ({error})", AGAIN) from None
    if len(inflated) > most:
        fault = f"it inflates to more than {most / 1e6:.0f} MB"
        raise ImageTooLarge(name, fault, "export it as Explicit VR Little Endian")
    if not inflater.eof:
        raise TruncatedImage(name, "its deflated content ends early", AGAIN)
    return inflated


def _gray(ds: Any, samples: NDArray[Any], layout: Layout, photometric: str, name: str) -> Pixels:
    """Stored values → brightness, whatever the photometric interpretation."""
    if photometric == "PALETTE COLOR":
        return _palette(ds, samples, layout)
    if samples.ndim == 3:
        dtype = np.uint8 if layout.stored <= 8 else np.uint16
        top = (1 << layout.stored) - 1
        scaled = samples.clip(0, top).astype(np.float64) * (np.iinfo(dtype).max / top)
        colour = np.floor(scaled + 0.5).astype(dtype)
        return cast("Pixels", colour[..., 0].copy()) if photometric.startswith("YBR") else luminance(colour)
    if photometric not in _GRAY:
        raise UnsupportedImage(
            name, f"PhotometricInterpretation {photometric!r} with one sample", EXPORT_AGAIN
        )
    return _gray_scale(ds, layout).apply(samples)


def _palette(ds: Any, samples: NDArray[Any], layout: Layout) -> Pixels:
    """PALETTE COLOR (PS3.3 C.7.6.3.1.5): pydicom expands the palette; clipping first keeps it in bounds."""
    from pydicom.pixels.processing import apply_color_lut

    descriptor = facts.numbers(ds, "RedPaletteColorLookupTableDescriptor")
    entries, first = int(descriptor[0]) or 65536, int(descriptor[1])
    index = np.arange(layout.low, layout.high + 1)
    table = apply_color_lut(np.clip(index, first, first + entries - 1).astype(np.int64)[None], ds)[0, :, :3]
    gray = luminance(table[None])[0]
    return cast("Pixels", gray[samples - layout.low])


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
        int(stored_bits(np.array([end], np.int32), layout, layout.stored - 1)[0])
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
    if layout.signed and first > 32767:
        first -= 65536
    return Lut(first, values[:entries].astype(np.float64))


def _square(ds: Any, pixels: Pixels, max_pixels: int) -> Pixels:
    """Square pixels: the coarser direction is stretched, or the finer one reduced where that is too large."""
    ratio = _aspect(ds)
    if ratio is None or not _is_stretched(ds):
        return pixels
    height, width = pixels.shape
    tall, wide = max(1.0, ratio), max(1.0, 1 / ratio)
    if height * tall * width * wide > max_pixels:
        tall, wide = min(1.0, ratio), min(1.0, 1 / ratio)
    return resize(pixels, max(1, round(width * wide)), max(1, round(height * tall)))


def _is_stretched(ds: Any) -> bool:
    """Whether the pixels are no squares, and not so far from it that the header is not believed."""
    ratio = _aspect(ds)
    return ratio is not None and abs(ratio - 1) >= 0.01 and 1 / MAX_STRETCH <= ratio <= MAX_STRETCH


def _aspect(ds: Any) -> float | None:
    """Height over width of one pixel; ``PixelAspectRatio`` and the spacings state the vertical first."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        pair = facts.numbers(ds, keyword)
        if len(pair) == 2 and min(pair) > 0:
            return pair[0] / pair[1]
    return None


def _facts(ds: Any, data: bytes, layout: Layout, shape: tuple[int, ...], name: str) -> FilmFacts:
    return FilmFacts(
        name=name,
        format="dicom",
        sha256=hashlib.sha256(data).hexdigest(),
        width=shape[1],
        height=shape[0],
        bits=layout.stored,
        photometric=layout.photometric,
        modality=facts.text(ds, "Modality"),
        view=facts.view(ds),
        body_part=facts.body_part(ds),
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
