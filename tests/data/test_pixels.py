"""The pixel cache: complete, verified, and unharmed by whoever dies or gets in the way."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from carina.data.packed import INDEX, PIXELS
from carina.data.pixels import PixelCache
from carina.errors import CacheError
from carina.images.prepare import Preparation, load
from carina.records import Progress

SMALL = Preparation(size=32, fit="stretch")


@dataclass(frozen=True)
class Films:
    """What the cache asks of a catalogue."""

    root: Path
    paths: tuple[Path, ...]

    def table(self, split: str | None = None) -> pa.Table:
        sha256s = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.paths]
        return pa.table({"path": [str(path) for path in self.paths], "sha256": sha256s})


class Listed(Films):
    """A catalogue that knows its films' hashes even when the files are gone."""

    def __init__(self, films: Films) -> None:
        super().__init__(films.root, films.paths)
        object.__setattr__(self, "_table", films.table())

    def table(self, split: str | None = None) -> pa.Table:
        return self.__dict__["_table"]


def films(folder: Path, count: int = 12, side: int = 90, seed: int = 0) -> Listed:
    """A catalogue of ``count`` small films."""
    draw = np.random.default_rng(seed)
    (folder / "films").mkdir(parents=True)
    paths = []
    for i in range(count):
        path = folder / "films" / f"{i:04}.png"
        Image.fromarray(draw.integers(0, 256, (side, side), np.uint8)).save(path)
        paths.append(path)
    (folder / "catalogue").mkdir()
    return Listed(Films(folder / "catalogue", tuple(paths)))


def sha256s(catalogue: Films) -> list[str]:
    return list(catalogue.table()["sha256"].to_pylist())


def expected(catalogue: Films, preparation: Preparation = SMALL) -> np.ndarray:
    return np.stack([load(path, preparation)[0] for path in catalogue.paths])


def build(catalogue: Films, **options: object) -> PixelCache:
    return PixelCache.build(catalogue, SMALL, **{"workers": 0, **options})  # type: ignore[arg-type]


def test_the_cache_holds_what_load_would_give(tmp_path: Path) -> None:
    catalogue = films(tmp_path)
    cache = PixelCache.build(catalogue, SMALL, workers=2)
    assert cache.folder == catalogue.root / "pixels" / SMALL.fingerprint()
    np.testing.assert_array_equal(cache.array(sha256s(catalogue)), expected(catalogue))
    np.testing.assert_array_equal(cache.pixels[cache.rows(sha256s(catalogue)[3:5])], expected(catalogue)[3:5])


def test_the_pixels_are_mapped_read_only(tmp_path: Path) -> None:
    cache = build(films(tmp_path))
    assert isinstance(cache.pixels, np.memmap)
    with pytest.raises(ValueError):
        cache.pixels[0] = 0


def test_progress_is_told_from_what_is_there_to_all(tmp_path: Path) -> None:
    catalogue, told = films(tmp_path, 5), list[Progress]()
    build(catalogue, progress=told.append)
    assert [(step.stage, step.done, step.total) for step in told] == [("pixels", i, 5) for i in range(6)]
    told.clear()
    build(catalogue, progress=told.append)
    assert [(step.done, step.total) for step in told] == [(5, 5)]


def test_a_complete_cache_needs_no_film_and_may_be_copied(tmp_path: Path) -> None:
    catalogue = films(tmp_path)
    want = expected(catalogue)
    build(catalogue)
    shutil.rmtree(tmp_path / "films")
    shutil.copytree(catalogue.root, tmp_path / "elsewhere")
    moved = Listed(catalogue)
    object.__setattr__(moved, "root", tmp_path / "elsewhere")
    np.testing.assert_array_equal(build(moved).array(sha256s(catalogue)), want)


def test_opening_a_complete_cache_loads_no_image_library(tmp_path: Path) -> None:
    catalogue = films(tmp_path)
    build(catalogue)
    code = f"""
        import sys
        from pathlib import Path
        import pyarrow as pa
        from carina.data.pixels import PixelCache

        class Preparation:
            size = {SMALL.size}
            def fingerprint(self): return {SMALL.fingerprint()!r}

        class Catalogue:
            root = Path({str(catalogue.root)!r})
            def table(self): return pa.table({catalogue.table().to_pydict()!r})

        cache = PixelCache.build(Catalogue(), Preparation())
        assert len(cache.pixels) == 12
        print([name for name in sys.modules if name.split(".")[0] in ("PIL", "pydicom", "torch")])
    """
    assert python(code).stdout.strip() == "[]"


def test_two_catalogues_share_a_folder(tmp_path: Path) -> None:
    one, two = films(tmp_path / "one"), films(tmp_path / "two", seed=1)
    build(one, folder=tmp_path / "shared")
    cache = build(two, folder=tmp_path / "shared")
    assert len(cache.pixels) == 24
    np.testing.assert_array_equal(cache.array(sha256s(two)), expected(two))
    with pytest.raises(CacheError, match="build the cache for its catalogue"):
        cache.rows(sha256s(one)[:1])


@pytest.mark.parametrize("name", [PIXELS, INDEX])
def test_a_damaged_row_is_rebuilt_and_never_used(tmp_path: Path, name: str) -> None:
    catalogue = films(tmp_path)
    cache = build(catalogue)
    step = 32 * 32 if name == PIXELS else 48
    for at in (5 * step + 7, 9 * step + step - 1):  # a pixel or a sha256; a pixel or a digest
        data = bytearray((cache.folder / name).read_bytes())
        data[at] ^= 1
        (cache.folder / name).write_bytes(data)
    again = build(catalogue)
    assert len(again.pixels) == 14
    np.testing.assert_array_equal(again.array(sha256s(catalogue)), expected(catalogue))
    assert len(build(catalogue).pixels) == 14  # and stays so


@pytest.mark.parametrize("keep", [0, 1, 1023, 1024, 5000, 12 * 1024 - 1])
def test_pixels_that_were_cut_off_are_prepared_again(tmp_path: Path, keep: int) -> None:
    catalogue = films(tmp_path)
    os.truncate(build(catalogue).folder / PIXELS, keep)
    np.testing.assert_array_equal(build(catalogue).array(sha256s(catalogue)), expected(catalogue))


@pytest.mark.parametrize("keep", [0, 1, 47, 48, 500])
def test_an_index_that_was_cut_off_is_completed(tmp_path: Path, keep: int) -> None:
    catalogue = films(tmp_path)
    os.truncate(build(catalogue).folder / INDEX, keep)
    cache = build(catalogue)
    np.testing.assert_array_equal(cache.array(sha256s(catalogue)), expected(catalogue))
    assert (cache.folder / PIXELS).stat().st_size == 12 * 32 * 32


def test_a_row_of_another_preparation_is_not_believed(tmp_path: Path) -> None:
    catalogue = films(tmp_path)
    stretched = PixelCache.build(catalogue, Preparation(32, "stretch"), folder=tmp_path / "c", workers=0)
    other = Preparation(32, "center_crop")
    cropped = PixelCache.build(catalogue, other, folder=tmp_path / "c", workers=0)
    assert len(stretched.pixels) == 12
    assert len(cropped.pixels) == 24
    np.testing.assert_array_equal(cropped.array(sha256s(catalogue)), expected(catalogue, other))


def test_a_film_that_is_gone_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    catalogue = films(tmp_path)
    content = catalogue.paths[4].read_bytes()
    catalogue.paths[4].unlink()
    with pytest.raises(CacheError, match=r"0004\.png: the film is gone; put it back"):
        build(catalogue)
    catalogue.paths[4].write_bytes(content)
    told = list[Progress]()
    build(catalogue, progress=told.append)
    assert [step.done for step in told] == [11, 12]


def test_a_film_that_changed_is_not_taken(tmp_path: Path) -> None:
    catalogue = films(tmp_path)
    shutil.copy(catalogue.paths[0], catalogue.paths[7])
    with pytest.raises(CacheError, match=r"0007\.png: not the file that was compiled; put that file back"):
        PixelCache.build(catalogue, SMALL, workers=1)


def test_a_film_that_was_damaged_is_named_with_its_fault(tmp_path: Path) -> None:
    catalogue = films(tmp_path)
    for i in (2, 3):
        os.truncate(catalogue.paths[i], 200)
    with pytest.raises(CacheError, match=r"0002\.png: .*; put back the file .* \(and 1 more films\)"):
        build(catalogue)


def test_a_folder_that_cannot_be_written_serves_what_it_has(tmp_path: Path) -> None:
    catalogue = films(tmp_path)
    cache = build(catalogue)
    (cache.folder / "lock").unlink()
    (cache.folder / "lock").mkdir()  # opening it for writing fails, for root too
    np.testing.assert_array_equal(build(catalogue).array(sha256s(catalogue)), expected(catalogue))
    os.truncate(cache.folder / INDEX, 480)
    with pytest.raises(CacheError, match="2 of 12 films are missing and the folder cannot be written"):
        build(catalogue)
    assert (cache.folder / PIXELS).stat().st_size == 12 * 32 * 32


def test_a_full_disk_loses_nothing_that_was_prepared(tmp_path: Path) -> None:
    catalogue = films(tmp_path, 300)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200 * 1024, 200 * 1024))"
    ended = builder(catalogue, before=limit)
    message = ended.communicate()[1].splitlines()[-1]
    assert ended.returncode == 1
    assert "cannot be written (File too large); make room for 0 MB and run again" in message
    assert "the 128 films prepared so far are kept" in message
    told = list[Progress]()
    cache = build(catalogue, progress=told.append)
    assert told[0].done == 128
    np.testing.assert_array_equal(cache.array(sha256s(catalogue)), expected(catalogue))


def test_killed_at_any_moment_the_next_build_completes(tmp_path: Path) -> None:
    catalogue, draw = films(tmp_path, 200, side=300), random.Random(0)
    want, left_over = expected(catalogue), set[int]()
    for _ in range(6):
        process = builder(
            catalogue, before="import carina.data.packed as p; import carina.data.pixels as x; x._BATCH = 8"
        )
        index = catalogue.root / "pixels" / SMALL.fingerprint() / INDEX
        start = index.stat().st_size if index.exists() else 0
        until = time.monotonic() + 20
        while (index.stat().st_size if index.exists() else 0) <= start and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.03))
        process.kill()
        process.communicate()
        left_over.add(index.stat().st_size // 48)
    assert any(0 < rows < 200 for rows in left_over), "no kill came half-way"
    told = list[Progress]()
    cache = build(catalogue, progress=told.append)
    assert told[0].done >= max(left_over)
    np.testing.assert_array_equal(cache.array(sha256s(catalogue)), want)


def test_two_builders_at_once_prepare_each_film_once(tmp_path: Path) -> None:
    catalogue = films(tmp_path, 200)
    both = [builder(catalogue), builder(catalogue)]
    assert [process.communicate()[1] for process in both] == ["", ""]
    cache = build(catalogue)
    assert len(cache.pixels) == 200
    np.testing.assert_array_equal(cache.array(sha256s(catalogue)), expected(catalogue))


def builder(catalogue: Films, before: str = "") -> subprocess.Popen[str]:
    """Another process that builds the cache of ``catalogue``."""
    listed = catalogue.root / "films.json"
    listed.write_text(json.dumps(catalogue.table().to_pydict()))
    code = f"""
        import json
        from pathlib import Path
        from carina.data.pixels import PixelCache
        from carina.images.prepare import Preparation

        class Column(list):
            to_pylist = list.copy

        class Catalogue:
            root = Path({str(catalogue.root)!r})
            def table(self):
                listed = json.loads(Path({str(listed)!r}).read_text())
                return {{name: Column(column) for name, column in listed.items()}}

        {before}
        PixelCache.build(Catalogue(), Preparation.from_dict({SMALL.to_dict()!r}), workers=0)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment(), stderr=subprocess.PIPE, text=True
    )


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
