"""JPEG lossless: whichever decoder is there, the same pixels; and never a stream that was cut."""

from __future__ import annotations

import sys
from typing import Any

import films
import numpy as np
import pytest
from pydicom.uid import JPEGLosslessSV1

from carina.errors import TruncatedImage
from carina.images import huffman, lossless
from carina.images.read import read


@pytest.fixture(params=["fast", "plain"], autouse=True)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the extra ``fast``, and without it."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    else:
        pytest.importorskip("imagecodecs", reason="the extra 'fast' is not installed")
    return str(request.param)


def grain(height: int = 70, width: int = 53, *, bits: int = 12, loud: int = 200) -> np.ndarray[Any, Any]:
    """Noise that takes codes of many lengths, in all of the gray values."""
    rng = np.random.default_rng(bits)
    top = (1 << bits) - 1
    pixels = np.linspace(0, top, height * width).reshape(height, width)
    pixels += rng.normal(0, loud, pixels.shape) * (rng.random(pixels.shape) < 0.5)
    pixels[0, 0], pixels[-1, -1] = 0, top
    return pixels.clip(0, top).astype(np.uint8 if bits == 8 else np.uint16)


def film(pixels: np.ndarray[Any, Any], bits: int, stream: bytes | None = None) -> bytes:
    return films.dicom(pixels, JPEGLosslessSV1, bits=bits, frame=stream)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_pixels_are_those_of_the_plain_file(bits: int) -> None:
    pixels = grain(bits=bits, loud=1 << bits)
    plain = films.dicom(pixels, bits=bits)
    np.testing.assert_array_equal(read(film(pixels, bits)).pixels, read(plain).pixels)


def test_signed_pixels_are_those_of_the_plain_file() -> None:
    pixels = grain().astype(np.int16) - 2048
    np.testing.assert_array_equal(read(film(pixels, 12)).pixels, read(films.dicom(pixels, bits=12)).pixels)


def test_a_whole_stream_is_proven_whole_by_its_pixels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(frame: bytes, name: str) -> None:
        raise AssertionError("the codes were followed one by one")

    monkeypatch.setattr(huffman, "check_complete", never)
    for bits in (8, 12, 16):
        assert read(film(grain(bits=bits), bits)).pixels.shape == (70, 53)


@pytest.mark.parametrize("loud", [0, 3, 4000])
def test_a_cut_and_closed_stream_is_refused_wherever_it_was_cut(loud: int) -> None:
    pixels = grain(loud=loud)
    stream = films.jpeg_lossless(pixels, 12)
    start = films.scan_start(stream)
    for at in {*range(start, len(stream) - 2, 397), *range(len(stream) - 100, len(stream) - 3)}:
        if stream[at - 1] == 0xFF:
            continue  # between the two bytes of a stuffed 0xFF the end marker would be another
        with pytest.raises(TruncatedImage):
            read(film(pixels, 12, stream[:at] + b"\xff\xd9"))


def test_streams_with_restart_markers_are_followed_code_by_code() -> None:
    pixels = grain()
    stream = films.jpeg_lossless(pixels, 12, restart_rows=7)
    np.testing.assert_array_equal(
        read(film(pixels, 12, stream)).pixels, read(films.dicom(pixels, bits=12)).pixels
    )
    marker = stream.rfind(b"\xff\xd0")
    assert not lossless.is_whole(stream, pixels, 12, "x")
    with pytest.raises(TruncatedImage):
        read(film(pixels, 12, stream[:marker] + b"\xff\xd9"))


def test_the_count_of_bits_is_that_of_the_codes() -> None:
    pixels = grain()
    scan = huffman.read_scan(films.jpeg_lossless(pixels, 12), "x")
    counts = lossless._categories(pixels, 12)
    assert counts.sum() == pixels.size
    held = 8 * len(huffman.entropy_coded(scan.data).replace(b"\xff\x00", b"\xff"))
    needed = lossless._coded_bits(pixels, scan, 12)
    assert needed is not None
    assert 0 <= held - needed < 8


def test_what_stands_behind_the_scan_is_no_part_of_it() -> None:
    for tail in (b"", b"\xff\xd9", b"\xff\xff\xff\xd9", b"\xff\xda\x12"):
        assert (
            huffman.entropy_coded(b"\x01\xff\x00\x02\xff\xd3\x04" + tail) == b"\x01\xff\x00\x02\xff\xd3\x04"
        )
