"""DICOM films that are averaged before the window: the same square within a gray level, or the full way."""

from __future__ import annotations

from typing import Any

import films
import numpy as np
import pytest
from pydicom.uid import JPEG2000, ExplicitVRBigEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from carina.errors import ImageError, TruncatedImage
from carina.images import dicom, jpeg2000
from carina.images.brightness import GrayScale, Window
from carina.images.prepare import Preparation, load, prepare
from carina.images.read import read

FITS = ("stretch", "letterbox", "center_crop")
WINDOW = {"WindowCenter": 2100, "WindowWidth": 2600}


def film(height: int = 411, width: int = 331, *, noise: float = 40) -> Any:
    """A 12-bit film with edges, noise and parts outside the window."""
    rng = np.random.default_rng(5)
    pixels = films.chest(height, width, bits=16).astype(float) / 16 + rng.normal(0, noise, (height, width))
    pixels[: height // 9] = 4095  # direct exposure
    pixels[30:34, 20:90] = 0  # a marker
    return pixels.clip(0, 4095).astype(np.uint16)


def apart(data: bytes, preparation: Preparation) -> np.ndarray:
    """How far ``load`` is from the full film at full depth, in gray levels."""
    return np.abs(load(data, preparation)[0].astype(int) - prepare(read(data).pixels, preparation))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [16, 24, 50])
@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"VOILUTFunction": "LINEAR_EXACT"},
        {"RescaleSlope": 2.5, "RescaleIntercept": -1000, "WindowCenter": 4000, "WindowWidth": 5000},
        {"RescaleSlope": -1, "RescaleIntercept": 4095},
        {"WindowCenter": 2000.25, "WindowWidth": 400.5},
    ],
    ids=["window", "inverse", "exact", "rescaled", "falling", "narrow"],
)
def test_averaging_before_the_window_differs_by_less_than_a_gray_level(
    fit: str, size: int, elements: dict[str, Any]
) -> None:
    preparation = Preparation(size, fit)  # type: ignore[arg-type]
    found = apart(films.dicom(film(), bits=12, **{**WINDOW, **elements}), preparation)
    assert found.mean() < 1


def test_a_smooth_film_differs_by_one_gray_level_at_most_anywhere() -> None:
    ramp = np.add.outer(np.linspace(0, 2000, 640), np.linspace(0, 2000, 512)).astype(np.uint16)
    found = apart(films.dicom(ramp, bits=12, **WINDOW), Preparation(48))
    assert found.max() <= 1
    assert found.mean() < 0.2


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, RLELossless, JPEGLosslessSV1])
def test_every_transfer_syntax_gives_the_square_of_the_plain_one(syntax: Any) -> None:
    plain, other = (films.dicom(film(), *way, bits=12, **WINDOW) for way in ((), (syntax,)))
    np.testing.assert_array_equal(load(plain, Preparation(24))[0], load(other, Preparation(24))[0])


def test_signed_values_are_averaged_too() -> None:
    signed = film().astype(np.int16) - 2048
    data = films.dicom(signed, bits=12, WindowCenter=50, WindowWidth=2600)
    assert apart(data, Preparation(24)).mean() < 1


@pytest.mark.parametrize(
    "elements",
    [
        {**WINDOW, "VOILUTFunction": "SIGMOID"},
        {},
        {"WindowCenter": 9000, "WindowWidth": 300},
        {**WINDOW, "PixelPaddingValue": 0},
        {**WINDOW, "PixelSpacing": [0.1, 0.2]},
        {"WindowCenter": 2000, "WindowWidth": 100},
    ],
    ids=["sigmoid", "no window", "a window that hides the film", "padding", "no squares", "few steps"],
)
def test_where_averaging_first_is_not_the_same_the_full_way_is_gone(elements: dict[str, Any]) -> None:
    data = films.dicom(film(), bits=12, **elements)
    assert apart(data, Preparation(24)).max() == 0


def test_the_facts_are_those_of_the_full_film() -> None:
    data = films.dicom(film(), bits=12, **WINDOW)
    assert load(data, Preparation(24), name="x")[1] == read(data, name="x").facts


def test_overlays_in_unused_bits_fall_away_before_averaging() -> None:
    with_overlay = film() | np.uint16(0x8000)
    one, other = (films.dicom(pixels, bits=12, **WINDOW) for pixels in (film(), with_overlay))
    np.testing.assert_array_equal(load(one, Preparation(24))[0], load(other, Preparation(24))[0])


def test_a_film_cut_in_its_pixels_is_refused_however_few_are_needed() -> None:
    with pytest.raises(TruncatedImage):
        load(films.dicom(film(), bits=12, **WINDOW)[:-1000], Preparation(16))


def test_blocks_at_the_edges_repeat_the_edge() -> None:
    gray = GrayScale(0, 4095, voi=Window(2048, 4096, "LINEAR_EXACT"))
    small = gray.apply_reduced(np.array([[0, 4095, 2048]] * 3, np.uint16), 2)
    assert small is not None
    assert small.shape == (2, 2)
    assert abs(int(small[0, 0]) - 32760) < 20
    assert (small[:, 1] == small[0, 1]).all()


@pytest.mark.parametrize("bits", [13, 16])
def test_sums_of_deep_films_do_not_overflow(bits: int) -> None:
    top = (1 << bits) - 1
    gray = GrayScale(0, top, voi=Window(top / 2, top, "LINEAR_EXACT"))
    small = gray.apply_reduced(np.full((64, 64), top, np.uint16) - np.eye(64, dtype=np.uint16), 8)
    assert small is not None
    assert small.min() > 65000


def lossy(pixels: np.ndarray[Any, Any], ratio: int) -> bytes:
    """A JPEG 2000 stream of the irreversible kind (9/7 wavelet)."""
    from openjpeg.utils import encode_array

    return bytes(
        encode_array(pixels, bits_stored=12, photometric_interpretation=2, compression_ratios=[ratio])
    )


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [16, 24, 50])
@pytest.mark.parametrize(
    "elements", [{}, {"PhotometricInterpretation": "MONOCHROME1"}, {"WindowWidth": 1500}]
)
@pytest.mark.parametrize("kind", ["reversible", "irreversible"])
def test_what_the_wavelet_keeps_differs_by_less_than_a_gray_level(
    fit: str, size: int, elements: dict[str, Any], kind: str
) -> None:
    pixels = film(height=411, width=330)
    stream = lossy(pixels, 8) if kind == "irreversible" else None
    syntax = JPEG2000 if kind == "irreversible" else JPEG2000Lossless
    data = films.dicom(pixels, syntax, bits=12, frame=stream, **{**WINDOW, **elements})
    assert apart(data, Preparation(size, fit)).mean() < 1  # type: ignore[arg-type]


@pytest.mark.parametrize("sides", [(411, 331), (640, 512), (641, 513), (323, 322), (400, 333)])
def test_a_smooth_film_of_any_size_lies_where_the_exact_one_lies(sides: tuple[int, int]) -> None:
    height, width = sides
    ramp = np.add.outer(np.linspace(0, 2000, height), np.linspace(0, 2000, width)).astype(np.uint16)
    found = apart(films.dicom(ramp, JPEG2000Lossless, bits=12, **WINDOW), Preparation(40))
    assert found.max() <= 1
    assert found.mean() < 0.2


def test_the_finer_parts_of_jpeg_2000_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("the whole film was decoded")

    monkeypatch.setattr(dicom, "decode_frame", never)
    data = films.dicom(film(height=400, width=330), JPEG2000Lossless, bits=12, **WINDOW)
    assert load(data, Preparation(24))[0].shape == (24, 24)


def test_a_stream_that_is_no_plain_gray_plane_goes_the_full_way() -> None:
    pixels = film()
    stream = films.compressed(pixels, 12, JPEG2000Lossless)
    assert jpeg2000.decode_reduced(stream, 12, 4, "x") is not None
    assert jpeg2000.decode_reduced(stream, 11, 4, "x") is None  # the header says another depth
    assert jpeg2000.decode_reduced(stream, 12, 64, "x") is None  # the stream has five levels
    assert jpeg2000.decode_reduced(b"box" + stream, 12, 4, "x") is None
    signed = pixels.astype(np.int16) - 2048
    data = films.dicom(signed, JPEG2000Lossless, bits=12, WindowCenter=50, WindowWidth=2600)
    plain = films.dicom(signed, bits=12, WindowCenter=50, WindowWidth=2600)
    np.testing.assert_array_equal(load(data, Preparation(24))[0], load(plain, Preparation(24))[0])


@pytest.mark.parametrize("open_end", [False, True])
def test_a_cut_and_closed_jpeg_2000_stream_is_refused_at_any_reduction(open_end: bool) -> None:
    pixels = film()
    stream = films.compressed(pixels, 12, JPEG2000Lossless)
    tile = stream.index(b"\xff\x90")
    if open_end:  # the tile-part says that it reaches to the end of the stream, wherever that is
        stream = stream[: tile + 6] + bytes(4) + stream[tile + 10 :]
    for at in np.linspace(tile + 30, len(stream) - 8, 12).astype(int):
        data = films.dicom(pixels, JPEG2000Lossless, bits=12, frame=stream[:at] + b"\xff\xd9", **WINDOW)
        for size in (16, 50, 100, 224):
            with pytest.raises(ImageError):
                load(data, Preparation(size))
