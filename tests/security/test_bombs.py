"""Small files that stand for gigabytes, through every way in: refused or "not analysed", and soon."""

from __future__ import annotations

import gzip
import io
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator

import films
import hostile
import pytest
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.security.figures import Tell
from tests.security.house import House, until
from tests.security.ways import doors

MOST_GROWTH = 100 * 2**20
NOT_ANALYSED = "not analysed: needs a reader"


def bombs(size: int) -> Iterator[tuple[str, bytes]]:
    """Name and file; those that inflate do so to ``size`` bytes."""
    pixels = films.chest()
    yield "deflated.dcm", hostile.deflated_bomb(size)
    literal = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * (size // 128)
    yield "rle.dcm", films.dicom(pixels, RLELossless, frame=literal[: 2**23], Rows=20_000, Columns=20_000)
    frame = films.compressed(pixels, 8, JPEG2000Lossless)
    for side in (6_000, 65_535):  # just below the limit of 40 megapixels, and far beyond
        wide = frame[:8] + struct.pack(">II", side, side) + frame[16:24]
        wide += struct.pack(">II", side, side) + frame[32:]
        yield f"j2k_{side}.dcm", films.dicom(pixels, JPEG2000Lossless, frame=wide, Rows=side, Columns=side)
    for syntax, marker in (
        (JPEGBaseline8Bit, b"\xff\xc0"),
        (JPEGLosslessSV1, b"\xff\xc3"),
        (JPEGLSLossless, b"\xff\xf7"),
    ):
        stream = bytearray(films.compressed(pixels, 8, syntax))
        at = stream.find(marker)
        stream[at + 5 : at + 9] = struct.pack(">HH", 6_000, 6_000)
        yield (
            f"{syntax.keyword}.dcm",
            films.dicom(pixels, syntax, frame=bytes(stream), Rows=6_000, Columns=6_000),
        )
    yield "frames.dcm", films.dicom(pixels, NumberOfFrames="2147483647")
    yield "forged_rows.dcm", films.dicom(pixels, Rows=65_535, Columns=65_535)
    yield "nested.dcm", hostile.nested_header(3_000)
    yield "deep.dcm", hostile.nested_header(200_000)
    yield "png_9000.png", _png(9_000)
    yield "png_text.png", _text(size)
    yield "progressive.jpg", _scans(films.encode(pixels, "JPEG", progressive=True))
    yield "jpeg_65500.jpg", _wide_jpeg()


def zips(size: int) -> Iterator[tuple[str, bytes]]:
    """Archives that inflate to ``size`` bytes, or hold each other."""
    inner = _zipped(("0.dcm", bytes(size // 8)))
    yield "flat.zip", _zipped(*((f"{number}.dcm", bytes(size // 8)) for number in range(8)))
    film = bytes(128) + b"DICM" + bytes(size // 8)
    yield "like_films.zip", _zipped(*((f"{number}.dcm", film) for number in range(8)))
    yield "nested.zip", _zipped(*((f"{number}.zip", inner) for number in range(8)))
    same = io.BytesIO()
    with zipfile.ZipFile(same, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.dcm", bytes(size // 8))
    yield "overlapping.zip", _overlapping(same.getvalue(), 50)


def test_no_bomb_goes_off(house: House, tell: Tell, soak: bool) -> None:
    size, patience = (2**30, 10.0) if soak else (2**26, 30.0)
    before, waits, refused = house.memory(), [], 0
    house.forget_peak()
    with doors(house) as ways:
        for number, (name, content) in enumerate(bombs(size)):
            dicom = name.endswith(".dcm")
            chosen = (
                ("C-STORE", "STOW", "upload")
                if soak and dicom
                else ((("C-STORE", "STOW", "upload")[number % 3],) if dicom else ("upload",))
            )
            for way in chosen:
                begin = time.monotonic()
                answer = ways.send(way, content, name)
                if answer.taken:
                    until(house.at_rest, 60)
                    said = house.outcomes().get(answer.sha256, [])
                    if said or way == chosen[0]:  # by the second way it is a film that is known
                        assert {outcome for outcome, _ in said} == {NOT_ANALYSED}, (name, way, said)
                else:
                    refused += 1
                waits.append((time.monotonic() - begin, name, way))
    growth = house.peak() - before
    tell(
        "bombs",
        f'{len(waits)} bombs: {refused} refused, {len(waits) - refused} "not analysed", the slowest '
        f"({max(waits)[1]} by {max(waits)[2]}) after {max(waits)[0]:.1f} s; main process "
        f"+{growth / 2**20:.0f} MB at its peak",
    )
    assert max(waits)[0] <= patience, sorted(waits)[-3:]
    assert growth < MOST_GROWTH


def test_no_archive_goes_off(house: House, tell: Tell, soak: bool) -> None:
    size, patience = (2**31, 10.0) if soak else (2**26, 30.0)
    before, slowest = house.memory(), 0.0
    house.forget_peak()
    with house.client() as reader:
        for name, content in zips(size):
            begin = time.monotonic()
            answer = reader.post("/api/v1/uploads", params={"name": name}, content=content)
            slowest = max(slowest, time.monotonic() - begin)
            assert answer.status_code in (413, 415), (name, answer.status_code, answer.text[:200])
        film = films.encode(films.chest(), "PNG")
        for coding in ("gzip", "deflate", "br", "x-gzip", "identity, gzip"):
            packed = gzip.compress(film) if "gzip" in coding else zlib.compress(film)
            headers = {"Content-Encoding": coding}
            assert reader.post("/api/v1/uploads", content=packed, headers=headers).status_code == 415, coding
    growth, left = house.peak() - before, list((house.data / "archive" / "incoming").iterdir())
    tell(
        "bombs",
        f"archives of {size / 2**20:.0f} MB once inflated: refused within {slowest:.1f} s, compressed bodies "
        f"refused (415); main process +{growth / 2**20:.0f} MB",
    )
    assert slowest <= patience
    assert growth < MOST_GROWTH
    assert left == []


@pytest.mark.parametrize("size", [64, 500])
def test_a_film_of_half_a_gigabyte_is_no_half_gigabyte_in_the_service(
    house: House, tell: Tell, soak: bool, size: int
) -> None:
    if size > 64 and not soak:
        pytest.skip("the full load: make soak")
    content = films.dicom(films.chest(), Rows=16_000, Columns=16_000) + bytes(size * 2**20)
    before = house.memory()
    house.forget_peak()
    with doors(house) as ways:
        answer = ways.send("C-STORE", content)
        until(house.at_rest, 120)
    growth = house.peak() - before
    tell("bombs", f"a file of {size} MB by C-STORE ({answer.status}): main process +{growth / 2**20:.0f} MB")
    assert {outcome for outcome, _ in house.outcomes().get(answer.sha256, [(NOT_ANALYSED, None)])} == {
        NOT_ANALYSED
    }
    assert growth < MOST_GROWTH


def _png(side: int) -> bytes:
    rows = zlib.compress(bytes((side + 1) * side), 9)
    header = films.png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + films.png_chunk(b"IDAT", rows) + films.png_chunk(b"IEND", b"")


def _text(size: int) -> bytes:
    small = films.encode(films.chest(), "PNG")
    text = films.png_chunk(b"zTXt", b"c\x00\x00" + zlib.compress(bytes(size), 9))
    return small[:33] + text + small[33:]


def _scans(stream: bytes) -> bytes:
    """The last scan a thousand times over: each costs a pass over all pixels."""
    at = stream.rfind(b"\xff\xda")
    return stream[:at] + stream[at:-2] * 1000 + b"\xff\xd9"


def _wide_jpeg() -> bytes:
    stream = bytearray(films.encode(films.chest(), "JPEG"))
    at = stream.find(b"\xff\xc0")
    stream[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(stream)


def _zipped(*files: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return stream.getvalue()


def _overlapping(archive: bytes, times: int) -> bytes:
    """One file listed many times (Fifield 2019, "A better zip bomb")."""
    at = archive.rfind(b"PK\x01\x02")
    end = archive.rfind(b"PK\x05\x06")
    entry = archive[at:end]
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, times, times, len(entry) * times, at, 0)
    return archive[:at] + entry * times + tail
