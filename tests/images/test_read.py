"""JPEG, PNG, TIFF, WebP and BMP: what comes out, and what is said when nothing does."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import films
import numpy as np
import pytest
from PIL import Image

from carina.errors import ImageError, ImageTooLarge, NotAnImage, TruncatedImage, UnreadableImage
from carina.images.read import read

PIXELS = films.chest()
DEEP = films.chest(bits=16)
GRAY = Image.fromarray(PIXELS)


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP"])
def test_a_lossless_gray_film_comes_out_as_it_went_in(format_: str) -> None:
    film = read(films.encode(PIXELS, format_))
    assert film.pixels.dtype == np.uint8
    np.testing.assert_array_equal(film.pixels, PIXELS)
    assert (film.facts.width, film.facts.height, film.facts.bits) == (128, 160, 8)
    assert film.facts.photometric == "MONOCHROME2"


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bits_stay_sixteen_bits(format_: str) -> None:
    film = read(films.encode(DEEP, format_))
    assert film.pixels.dtype == np.uint16
    np.testing.assert_array_equal(film.pixels, DEEP)
    assert film.facts.bits == 16


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_twelve_bits_in_a_sixteen_bit_png_fill_the_whole_range(bits: int) -> None:
    pixels = films.chest(bits=bits)
    film = read(films.encode(pixels, "PNG"))
    assert film.facts.bits == bits
    assert film.pixels.max() == 65535
    shown = film.pixels.astype(float) / 65535
    assert np.abs(shown - pixels / ((1 << bits) - 1)).max() < 1e-4


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_shows_the_same_film(mode: str, options: dict[str, Any]) -> None:
    film = read(films.encode(GRAY.convert(mode), "JPEG", quality=95, subsampling=0, **options))
    assert np.abs(film.pixels.astype(float) - PIXELS).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_turns_the_film_as_pillow_would(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_ == "WEBP" else {}
    content = films.encode(GRAY.convert("RGB") if format_ == "WEBP" else GRAY, format_, exif=exif, **options)
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("L"))
    film = read(content)
    assert (film.facts.height, film.facts.width) == film.pixels.shape == expected.shape
    assert np.abs(film.pixels.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_every_mode_of_png_is_read(mode: str) -> None:
    film = read(films.encode(GRAY.convert(mode), "PNG"))
    expected = np.asarray(GRAY.convert(mode).convert("RGB").convert("L"))
    np.testing.assert_array_equal(film.pixels, expected)


def test_what_is_transparent_is_black() -> None:
    alpha = np.full_like(PIXELS, 255)
    alpha[:, :64] = 0
    film = read(films.encode(Image.fromarray(np.dstack([PIXELS, alpha]), "LA"), "PNG"))
    assert film.pixels[:, :64].max() == 0
    np.testing.assert_array_equal(film.pixels[:, 64:], PIXELS[:, 64:])


@pytest.mark.parametrize("pixels", [PIXELS, DEEP], ids=["8 bits", "16 bits"])
def test_white_is_zero_in_tiff_comes_out_inverted(pixels: Any) -> None:
    content = bytearray(films.encode(pixels, "TIFF"))
    at = int.from_bytes(content[4:8], "little")
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(content[at : at + 2], "little"), 12):
        if content[entry : entry + 2] == (262).to_bytes(2, "little"):
            content[entry + 8] = 0
    film = read(bytes(content))
    np.testing.assert_array_equal(film.pixels, np.iinfo(pixels.dtype).max - pixels)
    assert film.facts.photometric == "MONOCHROME1"


def test_facts_name_the_file_and_its_content(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(films.encode(PIXELS, "PNG"))
    facts = read(path).facts
    assert facts.name == str(path)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts.format == "png"
    assert facts.age is facts.sex is facts.view is None
    assert read(path.read_bytes(), name="member of a zip").facts.name == "member of a zip"


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(films.encode(PIXELS, "JPEG"))
    assert read(path).facts.format == "jpeg"


@pytest.mark.parametrize("tail", [b"", b"\xff\xd9"], ids=["plain", "forged end"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_cut_jpeg_is_never_read(mode: str, options: dict[str, Any], tail: bytes) -> None:
    content = films.encode(GRAY.convert(mode), "JPEG", quality=90, **options)
    start = films.scan_start(content)
    places = {start + (len(content) - start - 3) * k // 12 for k in range(1, 13)}
    for place in sorted(places):
        with pytest.raises((TruncatedImage, UnreadableImage), match=r"ends early|inside its header|damaged"):
            read(content[:place] + tail)  # "damaged": the cut went through a table between two scans


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_a_cut_png_is_never_read(mode: str) -> None:
    content = films.encode(Image.fromarray(DEEP) if mode == "I;16" else GRAY.convert(mode), "PNG")
    for place in range(60, len(content) - 16, max(1, len(content) // 20)):
        for cut in (content[:place], films.forged_png(content[:place])):
            with pytest.raises(TruncatedImage):
                read(cut)


def test_a_jpeg_with_bytes_too_many_before_its_end_is_read() -> None:
    content = films.encode(PIXELS, "JPEG", quality=90)
    film = read(content[:-2] + b"\x00\x00\x00" + content[-2:])
    np.testing.assert_array_equal(film.pixels, read(content).pixels)


def test_half_films_stay_refused_when_somebody_allowed_them_to_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = films.encode(PIXELS, "PNG")
    with pytest.raises(TruncatedImage):
        read(films.forged_png(content[: len(content) // 2]))


def test_the_limit_of_pixels_is_checked_before_decoding() -> None:
    content = films.encode(PIXELS, "PNG")
    with pytest.raises(ImageTooLarge, match=r"128×160 pixels are more than the 0\.01 megapixels"):
        read(content, max_pixels=10_000)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder, "it is a folder"),
        (lambda folder: folder / "nothing.png", "there is no such file"),
        (lambda folder: Path("/dev/null"), "a device or a pipe"),
        (lambda folder: str(folder) + "\x00.png", "cannot be opened"),
    ],
)
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, make: Any, words: str) -> None:
    with pytest.raises(UnreadableImage, match=words):
        read(make(tmp_path))


def test_a_refusal_names_the_file_the_fault_and_the_cure() -> None:
    with pytest.raises(NotAnImage) as caught:
        read(b"hello, this is no film", name="film.png")
    assert str(caught.value) == "film.png: a text, not an image; give the film itself"
    assert caught.value.reason == "not_an_image: a text, not an image; give the film itself"


class _Panic(BaseException):
    """What a panic of a compiled extension looks like: no ``Exception``."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (_Panic("index out of bounds"), "unreadable"),
        (MemoryError(), "too_large"),
        (RecursionError(), "unreadable"),
        (OSError("image file is truncated"), "truncated"),
        (KeyError("x"), "unreadable"),
    ],
)
def test_whatever_a_library_raises_becomes_a_refusal(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageError) as caught:
        read(films.encode(PIXELS, "PNG"))
    assert caught.value.code == code
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_the_user_can_still_interrupt(
    monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]
) -> None:
    content = films.encode(PIXELS, "PNG")

    def fail(*_: object, **__: object) -> None:
        raise interrupt

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(interrupt):
        read(content)


def test_pydicom_is_loaded_for_dicom_only() -> None:
    code = "import sys, carina.images.read, carina.images.prepare; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.real
def test_every_real_film_is_read(real_data: Path) -> None:
    folders = ("chest_xray_originals", "figure1", "hannover", "shenzhen", "darkcovidnet", "covid_cxnet")
    paths = [p for f in folders for p in (real_data / f).rglob("*") if p.suffix in (".png", ".jpg", ".jpeg")]
    assert len(paths) > 1000
    for path in paths:
        film = read(path)
        assert film.pixels.max() > film.pixels.min(), path


def test_a_film_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film.bin"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000))
    fstat, asked = os.fstat, []

    def appended_to(handle: int) -> os.stat_result:
        facts = fstat(handle)
        if os.path.samestat(facts, path.stat()) and not asked:
            asked.append(handle)
            with path.open("ab") as file:
                file.write(b"more")
        return facts

    monkeypatch.setattr(os, "fstat", appended_to)
    with pytest.raises(
        UnreadableImage, match="changed while it was read; score it again when it is complete"
    ):
        read(path)
