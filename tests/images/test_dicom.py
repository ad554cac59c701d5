"""DICOM: every transfer syntax, the order of the gray scale, header facts, and cut streams."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import films
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
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
    RLELossless,
)

from carina.errors import ImageError, MultiFrame, NoPixels, TruncatedImage, UnreadableImage
from carina.images.read import read

PIXELS = films.chest(bits=12)
FULL = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}  # 0…4096 → all of uint16


def shown(content: bytes) -> Any:
    """Brightness in [0, 1]."""
    pixels = read(content).pixels
    return pixels.astype(float) / np.iinfo(pixels.dtype).max


@pytest.mark.parametrize("syntax", films.LOSSLESS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_lossless_transfer_syntax_shows_the_same_film(syntax: UID, bits: int) -> None:
    pixels = films.chest(bits=bits)
    film = read(films.dicom(pixels, syntax, bits=bits))
    np.testing.assert_array_equal(film.pixels, read(films.dicom(pixels, bits=bits)).pixels)
    assert film.facts.transfer_syntax == syntax
    assert film.facts.bits == bits
    assert film.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("syntax", films.COMPRESSED, ids=lambda syntax: syntax.keyword)
def test_every_compressed_transfer_syntax_looks_like_the_film(syntax: UID) -> None:
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    content = films.dicom(films.chest(bits=bits), syntax, bits=bits, **(FULL if bits == 12 else {}))
    top = (1 << bits) - 1
    tolerance = 0.05 if syntax == JPEGExtended12Bit else 0.01  # the test's 12-bit encoder writes blocks
    assert np.abs(shown(content) - films.chest(bits=bits) / top).mean() < tolerance


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_files_without_meta_header_or_preamble_are_read(syntax: UID) -> None:
    expected = read(films.dicom(PIXELS, bits=12)).pixels
    np.testing.assert_array_equal(read(films.dicom(PIXELS, syntax, bits=12, meta=False)).pixels, expected)
    np.testing.assert_array_equal(read(films.dicom(PIXELS, syntax, bits=12, preamble=False)).pixels, expected)


def test_eight_bits_without_a_window_stay_as_they_are() -> None:
    np.testing.assert_array_equal(read(films.dicom(films.chest())).pixels, films.chest())


def test_twelve_bits_without_a_window_fill_the_range_but_for_dead_pixels() -> None:
    pixels = films.chest(bits=12).clip(0, 3000) // 4 + 500  # a film that uses a quarter of its range
    pixels[5, 5], pixels[6, 6] = 0, 4095
    out = shown(films.dicom(pixels, bits=12))
    assert out[100:, :].std() > 0.1
    assert np.percentile(out, 1) < 0.1
    assert np.percentile(out, 99.5) > 0.9


def test_monochrome1_comes_out_inverted() -> None:
    plain = shown(films.dicom(PIXELS, bits=12, **FULL))
    inverted = shown(films.dicom(PIXELS, bits=12, PhotometricInterpretation="MONOCHROME1", **FULL))
    assert np.abs(plain + inverted - 1).max() < 1e-4


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),  # the standard asks for both together; once is enough
        ("MONOCHROME1", "IDENTITY", True),
    ],
)
def test_the_presentation_lut_shape_inverts_once(photometric: str, shape: str, inverted: bool) -> None:
    out = shown(films.dicom(films.chest(), PhotometricInterpretation=photometric, PresentationLUTShape=shape))
    expected = films.chest() / 255
    assert np.abs(out - (1 - expected if inverted else expected)).max() < 1e-6


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(function: str) -> None:
    content = films.dicom(
        PIXELS, bits=12, WindowCenter=[1800, 40], WindowWidth=[1500, 400], VOILUTFunction=function,
        RescaleSlope=1.5, RescaleIntercept=-100, RescaleType="US",
    )  # fmt: skip
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    ds = pydicom.dcmread(io.BytesIO(content))
    theirs = apply_windowing(apply_modality_lut(ds.pixel_array, ds), ds)
    low, high = -100, 4095 * 1.5 - 100
    assert np.abs(shown(content) - (theirs - low) / (high - low)).max() < 1e-4


def lut(first: int, values: Any, depth: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(values), first, depth]
    item.add_new("LUTData", "OW", np.asarray(values, "<u2").tobytes())
    item["LUTDescriptor"].VR = "US"
    return Sequence([item])


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_a_voi_lut_is_preferred_to_the_window(depth: int) -> None:
    values = (np.sqrt(np.linspace(0, 1, 4096)) * ((1 << depth) - 1)).round()
    content = films.dicom(
        PIXELS, bits=12, VOILUTSequence=lut(0, values, depth), WindowCenter=10, WindowWidth=20
    )
    assert np.abs(shown(content) - np.sqrt(PIXELS / 4095)).max() < 1 / ((1 << depth) - 1) + 1e-4


def test_the_modality_lut_comes_before_the_window() -> None:
    values = np.linspace(4095, 0, 4096).round()  # the modality turns the film, the window cuts its lower half
    content = films.dicom(
        PIXELS, bits=12, ModalityLUTSequence=lut(0, values, 12), WindowCenter=1024, WindowWidth=2048,
        VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    assert np.abs(shown(content) - np.clip((4095 - PIXELS.astype(float)) / 2048, 0, 1)).max() < 1e-3


def test_values_outside_a_lut_take_its_first_and_last_entry() -> None:
    content = films.dicom(PIXELS, bits=12, VOILUTSequence=lut(1000, np.linspace(0, 1023, 1024).round(), 10))
    assert np.abs(shown(content) - np.clip((PIXELS.astype(float) - 1000) / 1023, 0, 1)).max() < 1e-3


def test_a_negative_rescale_slope_turns_the_film() -> None:
    out = shown(films.dicom(films.chest(), RescaleSlope=-1, RescaleIntercept=255, RescaleType="US"))
    assert np.abs(out - (1 - films.chest() / 255)).max() < 1e-6


@pytest.mark.parametrize("window", [("0", "0"), ("100", "-5"), ("-90000", "10")])
def test_a_window_without_meaning_is_not_believed(window: tuple[str, str]) -> None:
    content = films.dicom(PIXELS, bits=12, WindowCenter=window[0], WindowWidth=window[1])
    np.testing.assert_array_equal(read(content).pixels, read(films.dicom(PIXELS, bits=12)).pixels)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]
)
def test_signed_pixels_keep_their_sign(syntax: UID) -> None:
    signed = (PIXELS.astype(np.int32) - 2048).astype(np.int16)
    window = {"WindowCenter": 0, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}
    content = films.dicom(signed, syntax, bits=12, **window)
    assert np.abs(shown(content) - (signed + 2048) / 4096).max() < 1e-3


def test_bits_above_and_below_the_stored_ones_are_ignored() -> None:
    high = (PIXELS << 4) | 9  # HighBit 15: twelve bits at the top, noise below
    content = films.dicom(high.astype(np.uint16), bits=12, HighBit=15, **FULL)
    np.testing.assert_array_equal(read(content).pixels, read(films.dicom(PIXELS, bits=12, **FULL)).pixels)
    overlaid = PIXELS | 0x8000  # an overlay in an unused bit
    content = films.dicom(overlaid.astype(np.uint16), bits=12, **FULL)
    np.testing.assert_array_equal(read(content).pixels, read(films.dicom(PIXELS, bits=12, **FULL)).pixels)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(photometric: str) -> None:
    pixels = PIXELS // 4 + 1000
    pixels[:, :20] = 4095
    pixels[:, 20:30] = 4090
    padded = films.dicom(
        pixels,
        bits=12,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=4095,
        PixelPaddingRangeLimit=4090,
    )
    out = shown(padded)
    assert out[:, :30].max() == 0
    assert out[:, 30:].max() > 0.95
    assert out[:, 30:].min() < 0.05


@pytest.mark.parametrize(
    ("elements", "shape"),
    [
        ({"PixelSpacing": ["0.2", "0.1"]}, (320, 128)),
        ({"ImagerPixelSpacing": ["0.1", "0.2"]}, (160, 256)),
        ({"PixelAspectRatio": [2, 1]}, (320, 128)),
        ({"PixelSpacing": ["0.143", "0.143"]}, (160, 128)),
        ({"PixelSpacing": ["0", "0"]}, (160, 128)),
        ({"PixelSpacing": ["0.0001", "10"]}, (160, 128)),  # nobody has such a detector
    ],
)
def test_pixels_come_out_square(elements: dict[str, Any], shape: tuple[int, int]) -> None:
    film = read(films.dicom(PIXELS, bits=12, **elements))
    assert film.pixels.shape == shape
    assert (film.facts.height, film.facts.width) == shape


def test_colour_comes_out_gray() -> None:
    colour = np.dstack([films.chest()] * 3)
    np.testing.assert_array_equal(read(films.dicom(colour)).pixels, films.chest())
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1)).reshape(colour.shape)
    np.testing.assert_array_equal(read(films.dicom(planes, PlanarConfiguration=1)).pixels, films.chest())
    luma = np.dstack([films.chest(), np.full((160, 128, 2), 128, np.uint8)])
    film = read(films.dicom(luma, PhotometricInterpretation="YBR_FULL"))
    np.testing.assert_array_equal(film.pixels, films.chest())


def test_a_palette_is_looked_up() -> None:
    ramp = np.arange(255, -1, -1).astype("<u2") * 257
    palette = {}
    for channel in ("Red", "Green", "Blue"):
        palette[f"{channel}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{channel}PaletteColorLookupTableData"] = ramp.tobytes()
    out = shown(films.dicom(films.chest(), PhotometricInterpretation="PALETTE COLOR", **palette))
    assert np.abs(out - (1 - films.chest() / 255)).max() < 1e-4


def test_the_facts_come_from_the_header() -> None:
    facts = read(films.dicom(PIXELS, bits=12, Laterality="L", ManufacturerModelName="X1")).facts
    assert (facts.modality, facts.view, facts.body_part, facts.laterality) == ("DX", "PA", "CHEST", "L")
    assert (facts.patient, facts.study, facts.series, facts.instance) == ("P7", "1.2.3", "1.2.3.1", "1.2.3.4")
    assert (facts.age, facts.sex, facts.manufacturer, facts.model_name) == (45.0, "F", "Carina", "X1")


@pytest.mark.parametrize(
    ("elements", "age"),
    [
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientAge": "052W"}, 52 * 7 / 365.25),
        ({"PatientAge": None, "PatientBirthDate": "19500101", "StudyDate": "20000101"}, 50.0),
        ({"PatientAge": None, "PatientBirthDate": "20500101", "StudyDate": "20000101"}, None),
        ({"PatientAge": None}, None),
    ],
)
def test_the_age_is_in_years(elements: dict[str, Any], age: float | None) -> None:
    found = read(films.dicom(PIXELS, bits=12, **elements)).facts.age
    assert found == (None if age is None else pytest.approx(age, abs=0.01))


def test_broken_header_values_become_none() -> None:
    content = films.dicom(
        PIXELS, bits=12, WindowCenter="2048", WindowWidth="4096", PixelSpacing=["0.1", "0.1"]
    )
    for value, wrong in ((b"045Y", b"old "), (b"2048", b"high"), (b"0.1\\0.1", b"a.b\\c.d")):
        content = content.replace(value, wrong)
    film = read(content)
    assert film.facts.age is None
    np.testing.assert_array_equal(film.pixels, read(films.dicom(PIXELS, bits=12)).pixels)


def test_names_in_other_scripts_do_no_harm() -> None:
    content = films.dicom(PIXELS, bits=12, SpecificCharacterSet="ISO_IR 192", PatientID="Größe 山田")
    assert read(content).facts.patient == "Größe 山田"
    assert read(content.replace(b"ISO_IR 192", b"ISO_IR 999")).facts.modality == "DX"


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (films.dicom(None, Modality="SR"), NoPixels, "without pixel data"),
        (films.dicom(PIXELS, bits=12, NumberOfFrames=2), MultiFrame, "several frames"),
        (films.dicom(PIXELS, bits=12, Columns=200), TruncatedImage, "40960 of the 64000 bytes"),
        (
            films.dicom(PIXELS, JPEGLSLossless, bits=12, Columns=100),
            UnreadableImage,
            "its pixel stream 128×160",
        ),
        (films.dicom(PIXELS, bits=13, HighBit=2), UnreadableImage, "do not fit"),
    ],
)
def test_what_is_no_film_is_refused_with_a_reason(
    content: bytes, error: type[ImageError], words: str
) -> None:
    with pytest.raises(error, match=words):
        read(content)


def test_another_modality_is_read_and_reported() -> None:
    assert read(films.dicom(PIXELS, bits=12, Modality="CT")).facts.modality == "CT"


def places(frame: bytes, count: int = 12) -> list[int]:
    """Where to cut: spread over the coded data, and just before its end."""
    start = films.scan_start(frame)
    return [start + (len(frame) - start - 8) * k // count for k in range(1, count + 1)]


@pytest.mark.parametrize("syntax", films.COMPRESSED, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("forged", [False, True], ids=["plain", "forged end"])
def test_a_cut_stream_is_never_read(syntax: UID, forged: bool) -> None:
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    pixels = films.chest(bits=bits)
    frame = films.compressed(pixels, bits, syntax)
    tail = b"\xff\xd9" if forged and syntax != RLELossless else b""
    for place in places(frame):
        cut = frame[:place] + tail
        with pytest.raises(TruncatedImage):
            read(films.dicom(pixels, syntax, bits=bits, frame=cut + b"\x00" * (len(cut) % 2)))


@pytest.mark.parametrize("restart_rows", [1, 7])
def test_restart_markers_of_lossless_jpeg_are_followed(restart_rows: int) -> None:
    frame = films.jpeg_lossless(PIXELS, 12, restart_rows=restart_rows)
    film = read(films.dicom(PIXELS, JPEGLosslessSV1, bits=12, frame=frame))
    np.testing.assert_array_equal(film.pixels, read(films.dicom(PIXELS, bits=12)).pixels)
    for place in places(frame):
        with pytest.raises(TruncatedImage):
            read(films.dicom(PIXELS, JPEGLosslessSV1, bits=12, frame=frame[:place] + b"\xff\xd9"))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_a_cut_file_is_never_read(syntax: UID) -> None:
    content = films.dicom(PIXELS, syntax, bits=12)
    for place in range(140, len(content) - 1, len(content) // 23):
        with pytest.raises(ImageError) as caught:
            read(content[:place])
        assert caught.value.code in ("truncated", "no_pixels")


@pytest.mark.parametrize(("option", "bits"), [("+ee", 12), ("+el", 12), ("+e1", 16), ("+e1", 8)])
def test_streams_of_another_encoder_are_read_and_refused_when_cut(
    tmp_path: Path, option: str, bits: int
) -> None:
    if not shutil.which("dcmcjpeg"):
        if os.environ.get("CI") == "true":
            pytest.fail("dcmcjpeg (dcmtk) is missing; run: make system-deps")
        pytest.skip("needs dcmcjpeg (dcmtk)")
    pixels = films.chest(bits=bits)
    plain, coded = tmp_path / "plain.dcm", tmp_path / "coded.dcm"
    plain.write_bytes(films.dicom(pixels, bits=bits, **(FULL if bits == 12 else {})))
    subprocess.run(["dcmcjpeg", option, plain, coded], check=True)
    assert np.abs(shown(coded.read_bytes()) - shown(plain.read_bytes())).max() < 0.01
    ds = pydicom.dcmread(coded)
    frame = pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
    for place in places(frame):
        content = films.dicom(
            pixels, ds.file_meta.TransferSyntaxUID, bits=bits, frame=frame[:place] + b"\xff\xd9"
        )
        with pytest.raises(TruncatedImage):
            read(content)


def test_gdcm_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import Decoder

    asked: list[str] = []
    plain = Decoder.as_array

    def watch(self: Any, source: Any, **options: Any) -> Any:
        asked.append(options.get("decoding_plugin", "any"))
        return plain(self, source, **options)

    monkeypatch.setattr(Decoder, "as_array", watch)
    for syntax in films.COMPRESSED:
        bits = 8 if syntax == JPEGBaseline8Bit else 12
        read(films.dicom(films.chest(bits=bits), syntax, bits=bits))
    assert set(asked) == {"pylibjpeg", "pyjpegls", "pydicom"}


def test_threads_read_silently_and_leave_the_warning_filters_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    odd = films.dicom(PIXELS, bits=12, PatientAge="045Y").replace(b"045Y", b"old ") + b"\x00\x00"
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(8) as pool:
            ages = [film.facts.age for film in pool.map(read, [odd] * 64)]
    assert ages == [None] * 64
    assert list(warnings.filters) == before


@pytest.mark.real
@pytest.mark.parametrize("name", ["WG04_RG1_J2KI", "WG04_RG1_JLSN", "nih_test1"])
def test_lungs_are_dark_and_the_spine_is_bright(real_data: Path, name: str) -> None:
    film = read(real_data / "dicom" / f"{name}.dcm")
    height, width = film.pixels.shape
    assert min(height, width) > 1000

    def mean(top: float, left: float) -> float:
        rows, columns = int(top * height), int(left * width)
        return float(film.pixels[rows : rows + height // 12, columns : columns + width // 12].mean())

    lung = min(mean(0.25, 0.33), mean(0.25, 0.62))
    spine = mean(0.6, 0.47)
    assert lung < 0.8 * spine


@pytest.mark.real
def test_two_codecs_of_one_film_agree(real_data: Path) -> None:
    first, second = (
        read(real_data / "dicom" / f"WG04_RG1_{codec}.dcm").pixels.astype(float) for codec in ("J2KI", "JLSN")
    )
    assert np.abs(first - second).mean() < 65535 * 0.005


def code(meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "SCT", meaning
    return [item]


@pytest.mark.parametrize(
    ("elements", "view", "part"),
    [
        ({"ViewPosition": "", "ViewCodeSequence": code("left lateral")}, "LATERAL", "CHEST"),
        ({"ViewPosition": None, "ViewCodeSequence": code("Right anterior oblique")}, "OBLIQUE", "CHEST"),
        ({"ViewPosition": "", "ViewCodeSequence": code("postero-anterior")}, None, "CHEST"),
        ({"ViewPosition": "PA", "ViewCodeSequence": code("lateral")}, "PA", "CHEST"),
        ({"ViewPosition": "", "PatientOrientation": ["P", "F"]}, "LATERAL", "CHEST"),
        ({"ViewPosition": "", "PatientOrientation": ["L", "F"]}, None, "CHEST"),
        ({"ViewPosition": "", "SeriesDescription": "CHEST LATERAL"}, "LATERAL", "CHEST"),
        ({"ViewPosition": "", "SeriesDescription": "Chest PA/LAT"}, None, "CHEST"),
        ({"BodyPartExamined": "", "AnatomicRegionSequence": code("Hand")}, "PA", "HAND"),
        ({"BodyPartExamined": "", "AnatomicRegionSequence": code("Chest, ribs and shoulder")}, "PA", None),
        ({"PatientSpeciesDescription": "Canine"}, "PA", "CANINE"),
        ({"PatientSpeciesDescription": "homo sapiens"}, "PA", "CHEST"),
        ({"ViewPosition": "", "ViewCodeSequence": []}, None, "CHEST"),
    ],
)
def test_what_a_header_says_elsewhere_of_view_and_part_counts(
    elements: dict[str, Any], view: str | None, part: str | None
) -> None:
    found = read(films.dicom(films.chest(), bits=8, **elements)).facts
    assert (found.view, found.body_part) == (view, part)
