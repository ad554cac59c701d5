"""Mutated films of every format and transfer syntax, from a seed: what a run over them must survive.

Each mutant is a whole film with something done to it. Where its pixel stream was cut (``Mutant.cut``), and
perhaps closed again so that nothing outside it shows it, it must never be scored; otherwise it may be scored
or refused.
"""

from __future__ import annotations

import csv
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import films
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.bundles import tiny_bundle

HEIGHT, WIDTH = 96, 80
FILES = ("jpg", "progressive.jpg", "colour.jpg", "png", "deep.png", "tif", "lzw.tif", "webp", "bmp")
KINDS: tuple[str | UID, ...] = (*FILES, *films.NATIVE, *films.COMPRESSED)
_MARKED = tuple(kind for kind in films.COMPRESSED if kind != RLELossless)  # an end marker ends them
_FILLED = 256  # bytes that are zeros at least
_LEAST = 4  # bytes that a cut takes away: fewer could be filling bits alone


@dataclass(frozen=True, slots=True)
class Mutant:
    """One file: ``name`` tells the format and what was done to it."""

    name: str
    content: bytes
    cut: bool


def mutants(count: int, seed: int) -> Iterator[Mutant]:
    """``count`` files, every kind as often; the same for the same seed."""
    whole = {kind: _film(kind, seed) for kind in KINDS}
    for number in range(count):
        kind, chance = KINDS[number % len(KINDS)], Random(f"{seed}-{number}")
        ways = _CUTS if chance.random() < 0.3 else _DAMAGES
        way = chance.choice(ways)
        content = way(kind, whole[kind], chance)
        word = kind.replace(".", "_") if kind in FILES else UID(kind).keyword
        suffix = kind.rsplit(".", 1)[-1] if kind in FILES else "dcm"
        name = f"{number:05}_{word}_{way.__name__}.{suffix}"
        yield Mutant(name, content, cut=ways is _CUTS)


def _film(kind: str | UID, seed: int) -> bytes:
    eight = kind in (*FILES, JPEGBaseline8Bit) and kind != "deep.png"
    pixels = films.chest(HEIGHT, WIDTH, bits=8 if eight else 16 if kind == "deep.png" else 12, seed=seed)
    if kind not in FILES:
        return films.dicom(pixels, UID(kind), bits=8 if eight else 12)
    way = {
        "jpg": ("JPEG", {"quality": 92}),
        "progressive.jpg": ("JPEG", {"progressive": True}),
        "colour.jpg": ("JPEG", {"quality": 85}),
        "tif": ("TIFF", {}),
        "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
        "webp": ("WEBP", {"lossless": True}),
        "bmp": ("BMP", {}),
    }.get(kind, ("PNG", {}))
    picture = films.Image.fromarray(pixels)
    return films.encode(picture.convert("RGB") if kind == "colour.jpg" else picture, way[0], **way[1])


def _stream(kind: str | UID, content: bytes) -> tuple[int, int]:
    """Where the coded pixels begin and end in a file."""
    if kind in FILES:
        if kind.endswith("jpg"):
            return films.scan_start(content), len(content) - 2
        if kind.endswith("png"):
            return content.index(b"IDAT") + 4, len(content) - 16  # the last chunk and a checksum
        start = {"tif": 200, "lzw.tif": 200, "webp": 60, "bmp": 1100}[str(kind)]
        return start, len(content) - 20
    if kind == DeflatedExplicitVRLittleEndian:
        return 132 + 12 + struct.unpack_from("<I", content, 140)[0] + 600, len(content) - 4
    if kind in films.COMPRESSED:
        marker = content.rindex(b"\xfe\xff\x00\xe0")  # the item that holds the frame
        start, length = marker + 8, struct.unpack_from("<I", content, marker + 4)[0]
        frame = content[start : start + length]
        if kind == RLELossless:
            return start + 64, start + length - 1
        inside = films.scan_start(frame) if kind != JPEG2000Lossless else frame.index(b"\xff\x90") + 20
        return start + inside, start + frame.rindex(b"\xff\xd9")
    return len(content) - 2 * HEIGHT * WIDTH, len(content)


def _place(kind: str | UID, content: bytes, chance: Random) -> int:
    start, end = _stream(kind, content)
    return chance.randrange(start + 1, end - _LEAST)


# What is done to a film


def flipped(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """One to eight bytes anywhere are others."""
    return _changed(content, chance, 0, len(content))


def flipped_header(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """The same before the pixels begin."""
    return _changed(content, chance, 0, _stream(kind, content)[0])


def flipped_stream(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """The same among the coded pixels."""
    return _changed(content, chance, *_stream(kind, content))


def zeroed(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """A run of bytes is zero."""
    at, length = chance.randrange(len(content)), chance.choice((4, 64, 1024))
    return content[:at] + bytes(min(length, len(content) - at)) + content[at + length :]


def inserted(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """Bytes stand where none stood."""
    at = chance.randrange(len(content))
    return content[:at] + chance.randbytes(chance.choice((1, 2, 64))) + content[at:]


def doubled(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """A part comes twice."""
    at, length = chance.randrange(len(content)), chance.choice((2, 64, 512))
    return content[: at + length] + content[at:]


def cut(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """The file ends among the coded pixels."""
    return content[: _place(kind, content, chance)]


def cut_and_closed(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """The pixel stream is cut, and all that stands around it says that it is whole."""
    at = _place(kind, content, chance)
    if kind == DeflatedExplicitVRLittleEndian:
        start = 132 + 12 + struct.unpack_from("<I", content, 140)[0]
        inside = zlib.decompress(content[start:], -zlib.MAX_WBITS)
        pixels = inside[: len(inside) - chance.randrange(_LEAST, HEIGHT * WIDTH)]
        deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        return content[:start] + deflater.compress(pixels) + deflater.flush()
    if kind in FILES:
        if kind.endswith("png"):
            return films.forged_png(content[:at])
        return content[:at] + (b"\xff\xd9" if kind.endswith("jpg") else b"")
    if kind in films.COMPRESSED:
        marker = content.rindex(b"\xfe\xff\x00\xe0")
        frame = content[marker + 8 : at] + (b"\xff\xd9" if kind in _MARKED else b"")
        frame += b"\x00" * (len(frame) % 2)
        return content[: marker + 4] + struct.pack("<I", len(frame)) + frame + content[-8:]
    order = ">" if kind == films.ExplicitVRBigEndian else "<"
    at -= at % 2
    start = len(content) - 2 * HEIGHT * WIDTH
    return content[: start - 4] + struct.pack(order + "I", at - start) + content[start:at]


def filled(kind: str | UID, content: bytes, chance: Random) -> bytes:
    """The rest of the coded pixels are zeros, as of a download that was begun and never ended.

    Where nothing codes the pixels zeros are pixels, and nobody can tell: there the file is cut.
    """
    coded = kind in films.COMPRESSED or str(kind).endswith((".jpg", "jpg", "png", "lzw.tif"))
    start, end = _stream(kind, content)
    if not coded or kind == DeflatedExplicitVRLittleEndian or end - start <= 2 * _FILLED:
        return cut(kind, content, chance)
    at = chance.randrange(start + 1, end - _FILLED)
    return content[:at] + bytes(end - at) + content[end:]


def _changed(content: bytes, chance: Random, start: int, end: int) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 2, 8))):
        damaged[chance.randrange(start, end)] = chance.randrange(256)
    return bytes(damaged)


Way = Callable[[str | UID, bytes, Random], bytes]
_DAMAGES: tuple[Way, ...] = (flipped, flipped_header, flipped_stream, zeroed, inserted, doubled)
_CUTS: tuple[Way, ...] = (cut, cut_and_closed, filled)


def laid_out(root: Path, made: Iterable[Mutant]) -> set[str]:
    """A tiny bundle and the mutants in ``root``; answers the names of those that were cut."""
    tiny_bundle(root / "m")
    (root / "films").mkdir()
    cut = set()
    for mutant in made:
        (root / "films" / mutant.name).write_bytes(mutant.content)
        cut |= {mutant.name} if mutant.cut else set()
    return cut


def scored(root: Path) -> dict[str, dict[str, str]]:
    """What was laid out through ``carina score``: the table's rows by the names of the files."""
    line = [
        sys.executable,
        "-m",
        "carina",
        "score",
        "films",
        "--model",
        "m",
        "--out",
        "out.csv",
        "--no-check",
    ]
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"carina score ended with {done.returncode}: {done.stderr[-2000:]}")
    with (root / "out.csv").open(newline="") as file:
        return {Path(row["path"]).name: row for row in csv.DictReader(file)}
