"""Broken, hostile and foreign files in one folder: each is a prediction or a refusal one can act on."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from carina.records import Prediction, Refusal
from carina.scoring.scorer import Scorer

FORMATS = ("png", "jpeg", "tiff", "webp", "bmp", "dcm")
CUTS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 0.97)  # of the file's length
GRAY = np.random.default_rng(0).integers(0, 256, (90, 80), dtype=np.uint8)

# What each foreign file must become: scored, or refused with one of these codes.
FOREIGN = {
    "empty.png": {"not_an_image", "unreadable", "truncated"},
    "text.png": {"not_an_image"},
    "page.html.jpg": {"not_an_image"},
    "bomb.png": {"too_large"},
    "one_pixel.png": {"scored", "unsupported", "unreadable"},
    "cmyk.jpg": {"scored"},
    "rgb.jpg": {"scored"},
    "sixteen_bits.png": {"scored"},
    "palette.png": {"scored"},
    "alpha.png": {"scored"},
    "turned.jpg": {"scored"},
    "two_pages.tiff": {"multi_frame"},
    "no_pixels.dcm": {"no_pixels"},
    "no_preamble.dcm": {"scored"},
    "cine.dcm": {"multi_frame"},
    "huge.dcm": {"too_large"},
}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def dicom(**changes: object) -> pydicom.Dataset:
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Modality, ds.PhotometricInterpretation, ds.SamplesPerPixel = "DX", "MONOCHROME2", 1
    ds.Rows, ds.Columns = GRAY.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = GRAY.tobytes()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def written(ds: pydicom.Dataset, *, preamble: bool = True) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()[0 if preamble else 128 + 4 :]


def bomb() -> bytes:
    """A PNG of a hundred bytes that says it has 40,000 × 40,000 pixels."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def foreign() -> dict[str, bytes]:
    gray = Image.fromarray(GRAY)
    exif = Image.Exif()
    exif[0x0112] = 6
    without = dicom()
    del without.PixelData
    return {
        "empty.png": b"",
        "text.png": b"Findings: none. Impression: normal chest.\n" * 9,
        "page.html.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "bomb.png": bomb(),
        "one_pixel.png": encoded(Image.new("L", (1, 1)), "png"),
        "cmyk.jpg": encoded(gray.convert("CMYK"), "jpeg"),
        "rgb.jpg": encoded(gray.convert("RGB"), "jpeg"),
        "sixteen_bits.png": encoded(Image.fromarray(GRAY.astype(np.uint16) * 257), "png"),
        "palette.png": encoded(gray.convert("P"), "png"),
        "alpha.png": encoded(gray.convert("LA"), "png"),
        "turned.jpg": encoded(gray, "jpeg", exif=exif.tobytes()),
        "two_pages.tiff": encoded(gray, "tiff", save_all=True, append_images=[gray]),
        "no_pixels.dcm": written(without),
        "no_preamble.dcm": written(dicom(), preamble=False),
        "cine.dcm": written(dicom(NumberOfFrames=2, PixelData=GRAY.tobytes() * 2)),
        "huge.dcm": written(dicom(Rows=65_535, Columns=65_535)),
    }


@pytest.fixture(scope="module")
def answers(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prediction | Refusal]:
    """The answer for every file of the folder, by name."""
    folder = tmp_path_factory.mktemp("hostile")
    for kind in FORMATS:
        whole = written(dicom()) if kind == "dcm" else encoded(Image.fromarray(GRAY), kind)
        (folder / f"whole.{kind}").write_bytes(whole)
        for number, share in enumerate(CUTS):
            (folder / f"cut_{number}.{kind}").write_bytes(whole[: int(len(whole) * share)])
    for name, content in foreign().items():
        (folder / name).write_bytes(content)
    found = {Path(answer.path).name: answer for answer in scorer.score(folder)}
    assert sorted(found) == sorted(path.name for path in folder.iterdir())
    return found


def test_whole_films_are_scored(answers: dict[str, Prediction | Refusal]) -> None:
    assert all(isinstance(answers[f"whole.{kind}"], Prediction) for kind in FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_half_of_a_film_is_never_scored(answers: dict[str, Prediction | Refusal], kind: str) -> None:
    cut = [answers[f"cut_{number}.{kind}"] for number in range(len(CUTS))]
    assert [type(answer) for answer in cut] == [Refusal] * len(CUTS)


@pytest.mark.parametrize(("name", "codes"), FOREIGN.items())
def test_a_foreign_file_is_scored_or_refused_for_what_it_is(
    answers: dict[str, Prediction | Refusal], name: str, codes: set[str]
) -> None:
    answer = answers[name]
    assert ("scored" if isinstance(answer, Prediction) else answer.code) in codes


def test_every_refusal_says_what_is_wrong_and_what_to_do(answers: dict[str, Prediction | Refusal]) -> None:
    refused = [answer for answer in answers.values() if isinstance(answer, Refusal)]
    assert len(refused) > 60
    for answer in refused:
        code, _, rest = answer.reason.partition(": ")
        fault, _, cure = rest.rpartition("; ")
        assert code == answer.code != "internal"
        assert len(fault) > 10
        assert len(cure) > 10
