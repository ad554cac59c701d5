"""The square that a network sees, and the one resize behind it."""

from __future__ import annotations

from pathlib import Path

import films
import numpy as np
import pytest
from PIL import Image

from carina.errors import ImageError, TruncatedImage
from carina.images.prepare import Preparation, load, prepare
from carina.images.read import read
from carina.images.resize import resize

FITS = ("stretch", "letterbox", "center_crop")


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (40, 64), (64, 64)])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_film_becomes_the_square_that_was_asked_for(
    fit: str, shape: tuple[int, int], bits: int
) -> None:
    square = prepare(films.chest(*shape, bits=bits), Preparation(64, fit))  # type: ignore[arg-type]
    assert square.shape == (64, 64)
    assert square.dtype == np.uint8
    assert np.ptp(square) > 80


def test_letterbox_keeps_the_whole_film_between_black_bars() -> None:
    square = prepare(np.full((200, 100), 180, np.uint8), Preparation(64, "letterbox"))
    assert (square[:, :16] == 0).all()
    assert (square[:, 48:] == 0).all()
    assert (square[:, 16:48] == 180).all()


def test_center_crop_takes_the_square_in_the_middle() -> None:
    pixels = np.zeros((300, 100), np.uint8)
    pixels[100:200] = 200
    assert (prepare(pixels, Preparation(64, "center_crop"))[2:-2] == 200).all()


def test_stretch_keeps_everything_and_distorts() -> None:
    pixels = np.zeros((300, 100), np.uint8)
    pixels[150:] = 200
    square = prepare(pixels, Preparation(64, "stretch"))
    assert (square[:30] == 0).all()
    assert (square[34:] == 200).all()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("size", [(64, 50), (300, 400)])
def test_the_resize_is_that_of_exact_arithmetic(bits: int, size: tuple[int, int]) -> None:
    pixels = films.chest(230, 190, bits=bits)
    exact = Image.fromarray(pixels.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    assert np.abs(resize(pixels, *size).astype(float) - np.asarray(exact)).max() <= 1
    assert resize(pixels, *size).dtype == pixels.dtype


def test_the_resize_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (256, 128))
    assert np.ptp(resize(stripes, 32, 32)) < 10


def test_sixteen_bits_are_rounded_once_at_the_end() -> None:
    ramp = np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (256, 1))
    square = prepare(ramp, Preparation(256, "stretch"))
    np.testing.assert_array_equal(square, (ramp.astype(int) + 128) // 257)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("shape", [(1000, 1203), (1411, 900), (60, 50)])
def test_scaled_decoding_differs_by_less_than_a_gray_level(
    fit: str, size: int, shape: tuple[int, int]
) -> None:
    content = films.encode(films.chest(*shape), "JPEG", quality=90)
    preparation = Preparation(size, fit)  # type: ignore[arg-type]
    fast, facts = load(content, preparation)
    exact = prepare(read(content).pixels, preparation)
    assert np.abs(fast.astype(int) - exact).mean() < 1
    assert facts == read(content).facts


@pytest.mark.parametrize("orientation", range(1, 9))
def test_scaled_decoding_turns_the_film_too(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = films.encode(films.chest(1001, 703), "JPEG", quality=90, exif=exif)
    for fit in FITS:
        fast, _ = load(content, Preparation(32, fit))  # type: ignore[arg-type]
        exact = prepare(read(content).pixels, Preparation(32, fit))  # type: ignore[arg-type]
        assert np.abs(fast.astype(int) - exact).mean() < 1


def test_load_takes_every_format(tmp_path: Path) -> None:
    for name, content in {
        "film.png": films.encode(films.chest(), "PNG"),
        "film.dcm": films.dicom(films.chest(bits=12), bits=12),
        "film.jpg": films.encode(films.chest(), "JPEG"),
    }.items():
        (tmp_path / name).write_bytes(content)
        square, facts = load(tmp_path / name, Preparation(64))
        assert square.shape == (64, 64)
        assert facts.name.endswith(name)


def test_load_refuses_what_read_refuses(hostile_folder: tuple[Path, dict[str, str]]) -> None:
    folder, expected = hostile_folder
    for name in (name for name in expected if name.endswith(".jpg")):
        outcome = "scored"
        try:
            load(folder / name, Preparation(32))
        except ImageError as error:
            outcome = error.code
        assert outcome == expected[name], name


@pytest.mark.parametrize("tail", [b"", b"\xff\xd9"])
def test_a_cut_jpeg_is_refused_by_scaled_decoding(tail: bytes) -> None:
    content = films.encode(films.chest(900, 800), "JPEG", quality=90)
    start = films.scan_start(content)
    for tenth in range(1, 11):
        with pytest.raises(TruncatedImage):
            load(content[: start + (len(content) - start - 3) * tenth // 10] + tail, Preparation(32))


def test_a_share_of_each_side_is_cut_off() -> None:
    pixels = np.full((200, 100), 180, np.uint8)
    pixels[20:180, 10:90] = 90
    square = prepare(pixels, Preparation(64, "stretch", crop=0.1))
    assert (square == 90).all()
    assert (prepare(pixels, Preparation(64, "letterbox", crop=0.1))[:, 16:48] == 90).all()
    assert (prepare(pixels, Preparation(64, "center_crop", crop=0.1)) == 90).all()


@pytest.mark.parametrize("size", [32, 224])
def test_scaled_decoding_leaves_pixels_enough_for_what_is_cut_off(size: int) -> None:
    content = films.encode(films.chest(1000, 1203), "JPEG", quality=90)
    asked = Preparation(size, "center_crop", crop=0.2)
    fast, _ = load(content, asked)
    assert np.abs(fast.astype(int) - prepare(read(content).pixels, asked)).mean() < 1


@pytest.mark.parametrize(
    "preparation",
    [Preparation(128, "stretch"), Preparation(64, trim=True, crop=0.07, mask_letters=True, tone="clahe")],
)
def test_a_preparation_survives_json(preparation: Preparation) -> None:
    assert Preparation.from_dict(preparation.to_dict()) == preparation


def test_what_earlier_versions_wrote_is_the_same_preparation_with_the_same_pixels() -> None:
    """Bundles and pixel caches from before the further steps existed stay good."""
    assert Preparation.from_dict({"size": 224, "fit": "letterbox"}) == Preparation()
    assert Preparation().to_dict() == {"size": 224, "fit": "letterbox"}
    assert Preparation().fingerprint() == "82fedf5eb551d92e"
    assert Preparation(64, "stretch").fingerprint() == "ec672792b6ffc40b"


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(300, 200), (31, 40)])
@pytest.mark.parametrize("bits", [8, 16])
def test_all_steps_together_give_a_square(fit: str, shape: tuple[int, int], bits: int) -> None:
    every = Preparation(48, fit, trim=True, crop=0.1, mask_letters=True, tone="clahe")  # type: ignore[arg-type]
    square = prepare(films.chest(*shape, bits=bits), every)
    assert (square.shape, square.dtype) == ((48, 48), np.uint8)
    assert np.ptp(square) > 60


def test_the_fingerprint_tells_preparations_apart() -> None:
    several = {Preparation(size, fit).fingerprint() for size in (64, 224) for fit in FITS}  # type: ignore[arg-type]
    steps = ({"trim": True}, {"crop": 0.07}, {"mask_letters": True}, {"tone": "equalised"}, {"tone": "clahe"})
    several |= {Preparation(64, **step).fingerprint() for step in steps}  # type: ignore[arg-type]
    assert len(several) == 11
    assert all(len(fingerprint) == 16 for fingerprint in several)
    assert Preparation().fingerprint() == Preparation(224, "letterbox").fingerprint()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 224, "colour": True}, "unknown key 'colour'; this version knows size, fit, trim"),
        ({"size": 0}, "size is 0; give a whole number from 8 to 4096"),
        ({"fit": "crop"}, "fit is 'crop'; give one of stretch, letterbox, center_crop"),
        ({"crop": 0.3}, "crop is 0.3; give a share of each side from 0 to 0.25"),
        ({"crop": True}, "crop is True; give a share"),
        ({"trim": "yes"}, "trim is 'yes'; give true or false"),
        ({"tone": "flat"}, "tone is 'flat'; give one of plain, equalised, clahe"),
    ],
)
def test_a_wrong_preparation_names_the_key(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Preparation.from_dict(values)


@pytest.mark.real
@pytest.mark.parametrize("size", [64, 224])
def test_scaled_decoding_of_real_films_differs_by_less_than_half_a_gray_level(
    real_data: Path, size: int
) -> None:
    paths = sorted((real_data / "chest_xray_originals").rglob("*.jpeg"))[::4]
    assert paths
    for path in paths:
        fast, _ = load(path, Preparation(size))
        exact = prepare(read(path).pixels, Preparation(size))
        assert np.abs(fast.astype(int) - exact).mean() < 0.5, path
