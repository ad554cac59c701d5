"""Films of every format, written from scratch for the tests; no file of a real person is needed.

``chest`` draws the pixels, every other function turns pixels into a file's bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
LOSSLESS = (*NATIVE, RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
COMPRESSED = (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    RLELossless,
)
DX = "1.2.840.10008.5.1.4.1.1.1.1"


def chest(height: int = 160, width: int = 128, *, bits: int = 8, seed: int = 0) -> NDArray[Any]:
    """Two dark lungs in a bright body, grain, and a letter in the upper left; spans the whole range."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / height, x / width
    body = 0.75 - 0.5 * (np.abs(x - 0.5) > 0.46)
    for side in (0.3, 0.7):
        body -= 0.5 * np.exp(-(((x - side) / 0.13) ** 2) - ((y - 0.5) / 0.28) ** 2)
    body += np.random.default_rng(seed).normal(0, 0.02, body.shape)
    pixels = np.clip(body, 0.02, 0.98) * ((1 << bits) - 1)
    pixels[height // 16 : height // 8, width // 16 : width // 8] = (1 << bits) - 1
    pixels[0, 0] = 0
    return pixels.astype(np.uint8 if bits <= 8 else np.uint16)


def encode(image: Image.Image | NDArray[Any], format_: str, **options: Any) -> bytes:
    """A file's bytes, by Pillow."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, format_, **options)
    return stream.getvalue()


def dicom(
    pixels: NDArray[Any] | None,
    syntax: UID = ExplicitVRLittleEndian,
    *,
    bits: int | None = None,
    frame: bytes | None = None,
    meta: bool = True,
    preamble: bool = True,
    **elements: Any,
) -> bytes:
    """A DX file of (H, W) or (H, W, 3) ``pixels``; ``elements`` are added, and ``None`` removes one.

    ``frame`` is compressed pixel data to use as they are.
    """
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = DX, "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientAge = "P7", "Doe^Jane", "F", "045Y"
    ds.Manufacturer = "Carina"
    if pixels is not None:
        ds.Rows, ds.Columns = pixels.shape[:2]
        ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            ds.PlanarConfiguration = 0
        ds.BitsAllocated = 8 * pixels.dtype.itemsize
        ds.BitsStored = bits or ds.BitsAllocated
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in elements.items():
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            delattr(ds, keyword)
    if pixels is not None:
        _put_pixels(ds, pixels, syntax, frame)
    return _write(ds, syntax, meta=meta, preamble=preamble)


def _put_pixels(ds: Dataset, pixels: NDArray[Any], syntax: UID, frame: bytes | None) -> None:
    if frame is None and syntax in COMPRESSED:
        frame = compressed(pixels, ds.BitsStored, syntax)
    if frame is not None:
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        return
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ds.PixelData = raw + b"\x00" * (len(raw) % 2)
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"


def _write(ds: Dataset, syntax: UID, *, meta: bool, preamble: bool) -> bytes:
    stream = io.BytesIO()
    if meta:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(stream, enforce_file_format=True)
        return stream.getvalue() if preamble else stream.getvalue()[132:]
    ds.save_as(
        stream,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
    )
    return stream.getvalue()


def compressed(pixels: NDArray[Any], bits: int, syntax: UID) -> bytes:
    """One frame of ``pixels`` in the codec of ``syntax``."""
    if syntax == JPEGBaseline8Bit:
        return encode(pixels, "JPEG", quality=92)
    if syntax == JPEGExtended12Bit:
        return jpeg_12_bit(pixels)
    if syntax == JPEGLosslessSV1:
        return jpeg_lossless(pixels, bits)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = DX, "1.2.3.4"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    options = {"jls_error": 2} if syntax == JPEGLSNearLossless else {}
    ds.compress(syntax, pixels, generate_instance_uid=False, **options)
    from pydicom.encaps import get_frame

    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    return frame[:-1] if frame.endswith(b"\xff\xd9\x00") else frame


def jpeg_lossless(pixels: NDArray[Any], bits: int, *, restart_rows: int = 0) -> bytes:
    """JPEG lossless, process 14, predictor 1 (ITU-T T.81 annex H); every category has a 5-bit code."""
    height, width = pixels.shape
    values = pixels.astype(np.int64) & ((1 << bits) - 1)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    if restart_rows:
        predicted[::restart_rows, 1:] = values[::restart_rows, :-1]
        predicted[::restart_rows, 0] = 1 << (bits - 1)
    differences = ((values - predicted + 32768) & 0xFFFF) - 32768
    table = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    header = _segment(0xC3, struct.pack(">BHHB", bits, height, width, 1) + bytes([1, 0x11, 0]))
    header += _segment(0xC4, b"\x00" + table)
    if restart_rows:
        header += _segment(0xDD, struct.pack(">H", width * restart_rows))
    header += _segment(0xDA, bytes([1, 1, 0x00, 1, 0, 0]))
    rows = restart_rows or height
    intervals = [
        _pack([_coded(int(d)) for d in differences[i : i + rows].ravel()]) for i in range(0, height, rows)
    ]
    scan = (
        b"".join(part + bytes([0xFF, 0xD0 + i % 8]) for i, part in enumerate(intervals[:-1])) + intervals[-1]
    )
    return b"\xff\xd8" + header + scan + b"\xff\xd9"


def jpeg_12_bit(pixels: NDArray[Any]) -> bytes:
    """JPEG extended, process 4, 12 bits: every 8×8 block is its mean, written as a DC coefficient."""
    height, width = pixels.shape
    blocks = np.pad(pixels.astype(np.int64), ((0, -height % 8), (0, -width % 8)), mode="edge")
    means = (
        blocks.reshape(blocks.shape[0] // 8, 8, blocks.shape[1] // 8, 8).mean((1, 3)).round().astype(np.int64)
    )
    differences = np.diff(means.ravel() - 2048, prepend=0)
    header = _segment(0xDB, b"\x00" + bytes([8] * 64))
    header += _segment(0xC1, struct.pack(">BHHB", 12, height, width, 1) + bytes([1, 0x11, 0]))
    header += _segment(0xC4, bytes([0x00, 0, 0, 0, 0, 17, *[0] * 11, *range(17)]))
    header += _segment(0xC4, bytes([0x10, 1, *[0] * 15, 0x00]))  # the one AC code, 0, ends the block
    header += _segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0]))
    return b"\xff\xd8" + header + _pack([_coded(int(d)) + "0" for d in differences]) + b"\xff\xd9"


def _coded(difference: int) -> str:
    """A difference as bits: its category in five of them, then its value (T.81 F.1.2.1)."""
    category = abs(difference).bit_length()
    if category in (0, 16):
        return f"{category:05b}"
    value = difference if difference > 0 else difference + (1 << category) - 1
    return f"{category:05b}{value:0{category}b}"


def _pack(codes: list[str]) -> bytes:
    bits = "".join(codes)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def scan_start(stream: bytes) -> int:
    """Where the entropy-coded data of a JPEG stream begin (other streams: past their header)."""
    found = stream.find(b"\xff\xda")
    return found + 2 + int.from_bytes(stream[found + 2 : found + 4], "big") if found >= 0 else 200


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with a right checksum."""
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def forged_png(cut: bytes) -> bytes:
    """A PNG that was cut, its last chunk made to fit and an end chunk put behind it."""
    at, out = 8, cut[:8]
    while at + 8 < len(cut):
        length, kind = struct.unpack_from(">I4s", cut, at)
        out += png_chunk(kind, cut[at + 8 : at + 8 + length])
        at += 12 + length
    return out + png_chunk(b"IEND", b"")
