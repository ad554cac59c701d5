"""A folder of broken, hostile and foreign files: each is read or refused, and nothing else happens."""

from __future__ import annotations

import contextlib
import random
import resource
import subprocess
import sys
from pathlib import Path

import films
import hostile
import pytest

from carina.errors import ImageError, UnreadableImage
from carina.images.read import read


def test_every_hostile_file_is_read_or_refused_with_a_reason(
    hostile_folder: tuple[Path, dict[str, str]],
) -> None:
    folder, expected = hostile_folder
    assert len(expected) >= 60
    outcomes: dict[str, str] = {}
    reasons: dict[str, ImageError] = {}
    for name in expected:
        try:
            film = read(folder / name)
        except ImageError as error:
            outcomes[name] = error.code
            reasons[name] = error
        else:
            outcomes[name] = hostile.SCORED
            assert film.pixels.ndim == 2
            assert film.pixels.max() > film.pixels.min(), name
    assert outcomes == expected
    for name, reason in reasons.items():
        assert str(reason) == f"{folder / name}: {reason.fault}; {reason.cure}"
        assert len(reason.fault) > 10, name
        assert len(reason.cure) > 10, name
        assert "\n" not in str(reason)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "name", ["bomb_deflated.dcm", "bomb.png", "bomb_rle.dcm", "bomb.tif", "bomb_stream.dcm"]
)
def test_a_bomb_costs_no_gigabyte(hostile_folder: tuple[Path, dict[str, str]], name: str) -> None:
    path = hostile_folder[0] / name
    assert path.stat().st_size < 3_000_000
    code = (
        "import sys\n"
        "from carina.errors import ImageError\n"
        "from carina.images.read import read\n"
        "try:\n    read(sys.argv[1])\nexcept ImageError:\n"
        "    # not ru_maxrss: a child inherits that of the process that started it\n"
        "    peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "    sys.exit(int(peak.split()[1]) > 700_000)\n"
        "sys.exit(2)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


def test_reading_hostile_files_leaves_no_open_files(hostile_folder: tuple[Path, dict[str, str]]) -> None:
    folder, expected = hostile_folder
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit[0], 128), limit[1]))
    try:
        for name in [name for name in expected if name.startswith("cut_")] * 3:
            with pytest.raises(ImageError):
                read(folder / name)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


@pytest.mark.parametrize("name", ["endless.dcm", "endless_sequence.dcm"])
def test_a_header_without_end_is_left_early(hostile_folder: tuple[Path, dict[str, str]], name: str) -> None:
    with pytest.raises(UnreadableImage, match="more elements than any film"):
        read(hostile_folder[0] / name)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", *films.COMPRESSED, *films.NATIVE])
def test_damaged_bytes_never_escape_as_another_error(format_: str) -> None:
    eight = format_ == films.JPEGBaseline8Bit
    if isinstance(format_, films.UID):
        content = films.dicom(films.chest(64, 48, bits=8 if eight else 12), format_, bits=8 if eight else 12)
    else:
        content = films.encode(films.chest(64, 48), format_)
    chance = random.Random(7)
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 2, 8))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with contextlib.suppress(ImageError):
            read(bytes(damaged))
