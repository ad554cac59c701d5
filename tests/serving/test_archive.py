"""The archive keeps what it finished, forgets what it did not, and takes nothing when the disk fails."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from carina.errors import StoreFault, StoreFull
from carina.serving.archive import Archive, Stored
from carina.serving.settings import Settings

FILM = b"half a megabyte of film " * 20_000


@pytest.fixture
def archive(tmp_path: Path, settings: Settings) -> Archive:
    return Archive(tmp_path / "archive", settings)


def keep(archive: Archive, content: bytes) -> Stored:
    with archive.receive() as incoming:
        for start in range(0, len(content), 60_000):
            incoming.write(content[start : start + 60_000])
        return incoming.finish()


def files(archive: Archive) -> list[Path]:
    return [path for path in archive.root.rglob("*") if path.is_file()]


def test_a_film_is_kept_byte_for_byte_under_its_hash(archive: Archive) -> None:
    stored = keep(archive, FILM)
    assert stored.sha256 == hashlib.sha256(FILM).hexdigest()
    assert stored.path == f"{stored.sha256[:2]}/{stored.sha256}"
    assert stored.size == len(FILM)
    with archive.open(stored.path) as file:
        assert file.read() == FILM


def test_nobody_else_may_read_it(archive: Archive) -> None:
    stored = keep(archive, FILM)
    assert stat.S_IMODE((archive.root / stored.path).stat().st_mode) == 0o600
    assert stat.S_IMODE(archive.root.stat().st_mode) == 0o700


def test_the_same_film_again_is_one_file(archive: Archive) -> None:
    assert keep(archive, FILM) == keep(archive, FILM)
    assert len(files(archive)) == 1


def test_what_was_not_finished_is_gone(archive: Archive) -> None:
    with archive.receive() as incoming:
        incoming.write(FILM)
    assert files(archive) == []


def test_the_next_start_removes_what_a_crash_left_and_spares_a_living_writer(
    archive: Archive, settings: Settings
) -> None:
    (archive.root / "incoming" / "crashed.part").write_bytes(FILM[:1000])
    with archive.receive() as incoming:
        incoming.write(FILM)
        assert Archive(archive.root, settings).swept == 1
        stored = incoming.finish()
    assert files(archive) == [archive.root / stored.path]


def test_the_file_lasts_before_its_name_and_its_name_before_anybody_hears_of_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(handle: int) -> None:
        calls.append("fsync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", lambda *paths: (calls.append("rename"), rename(*paths)))
    keep(archive, FILM)
    assert calls == ["fsync file", "rename", "fsync folder"]


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_after_a_failed_fsync_nothing_is_taken_until_the_next_start(
    archive: Archive, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: fail(errno.EIO))
        with pytest.raises(StoreFault, match="Input/output error"):
            keep(archive, FILM)
    assert not archive.healthy
    with pytest.raises(StoreFault, match="start Carina again"):
        archive.receive()
    assert files(archive) == []
    assert keep(Archive(archive.root, settings), FILM).size == len(FILM)


def test_a_film_half_way_in_when_the_disk_fails_is_not_kept_either(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = archive.receive()
    other.write(FILM)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: fail(errno.EIO))
        with pytest.raises(StoreFault):
            keep(archive, FILM)
    with pytest.raises(StoreFault):
        other.finish()
    other.discard()


@pytest.mark.parametrize(
    ("call", "number", "error"),
    [
        ("write", errno.ENOSPC, StoreFull),
        ("write", errno.EDQUOT, StoreFull),
        ("write", errno.EIO, StoreFault),
        ("fsync", errno.ENOSPC, StoreFull),
        ("rename", errno.EIO, StoreFault),
        ("rename", errno.ENOSPC, StoreFull),
        ("open", errno.EMFILE, StoreFull),
        ("open", errno.EROFS, StoreFault),
        ("open", errno.EACCES, StoreFault),
    ],
)
def test_every_fault_is_told_leaves_nothing_and_passes(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[Exception]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *_, **__: fail(number))
        with pytest.raises(error):
            keep(archive, FILM)
    assert files(archive) == []
    assert archive.healthy
    assert keep(archive, FILM).size == len(FILM)


def test_below_the_watermark_nothing_is_taken(tmp_path: Path, settings: Settings) -> None:
    full = Archive(tmp_path / "full", settings.model_copy(update={"free_bytes": 2**62}))
    with pytest.raises(StoreFull, match="MB are kept free"):
        full.receive()


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "ab/../../x", "ab/" + "g" * 64, "ab/cd", ""]
)
def test_a_path_that_is_none_of_ours_is_not_there(archive: Archive, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        archive.open(path)


def test_a_folder_that_may_not_be_written_is_told_at_the_start(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreFault, match="the archive cannot be used"):
        Archive(tmp_path / "file", settings)


def test_the_condition_of_the_disk_is_known_before_a_film_comes(
    archive: Archive, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.probe()
    assert archive.condition()[0]
    full = Archive(archive.root, settings.model_copy(update={"free_bytes": 2**62}))
    assert "less than is kept free" in full.condition()[1]
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_, **__: fail(errno.EROFS))
        archive.probe()
    assert not archive.condition()[0]
    assert "(Read-only file system): films are refused" in archive.condition()[1]
    archive.probe()
    assert archive.condition()[0]
    archive.fault = "the disk failed"
    assert archive.condition() == (False, "the disk failed")
    assert files(archive) == []
