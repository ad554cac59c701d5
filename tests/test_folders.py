"""Folders: a wrong place is said at once; what was made for nothing goes again, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carina.errors import OutputError
from carina.folders import beside, check_can_write, check_outside_bundles, claimed, whole


class Failed(Exception):
    pass


def fail(file: Path | None = None) -> None:
    """The work that fails, after it wrote ``file``."""
    if file:
        file.touch()
    raise Failed


def test_what_was_made_for_a_work_that_failed_goes_again(tmp_path: Path) -> None:
    with pytest.raises(Failed), claimed(tmp_path / "a" / "b") as folder:
        fail(None if folder.is_dir() else folder)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_or_holds_anything_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(Failed), claimed(tmp_path / "a" / "b" / "c") as folder:
        fail(folder.parent / "half.txt")
    assert (tmp_path / "a" / "b" / "half.txt").exists()
    assert not (tmp_path / "a" / "b" / "c").exists()


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("film.png", "film.png: is a file; name a folder with --there"),
        ("film.png/a/b", "film.png: is a file; name a folder with --there"),
        ("/proc/a/b", "/proc/a/b: cannot be made (No such file or directory); name another folder"),
        ("x" * 300, "cannot be made (File name too long)"),
    ],
)
def test_a_place_that_cannot_be_a_folder_is_said_and_nothing_is_left(
    tmp_path: Path, place: str, says: str
) -> None:
    (tmp_path / "film.png").touch()
    for check in (
        lambda path: claimed(path, "--there").__enter__(),
        lambda path: check_can_write(path, "--there"),
    ):
        with pytest.raises(OutputError) as error:
            check(tmp_path / place)
        assert says in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["film.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"may not be written \(Permission denied\)"):
        check_can_write(tmp_path / "closed")


def test_nothing_goes_into_a_bundle_but_a_bundle_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "a1").mkdir()
    (tmp_path / "a1" / "bundle.json").touch()
    for place in ("a1", "a1/x", "a1/x/y.csv"):
        with pytest.raises(OutputError, match=f"lies in the bundle {tmp_path / 'a1'}"):
            check_outside_bundles(tmp_path / place)
    check_can_write(tmp_path / "a1")
    with pytest.raises(OutputError):
        check_can_write(tmp_path / "a1" / "x")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(Failed), whole(tmp_path / "out") as folder:
        fail(folder / "half.txt")
    assert list(tmp_path.iterdir()) == []
    with whole(tmp_path / "out") as folder:
        (folder / "all.txt").touch()
        assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["all.txt"]


def test_a_folder_with_anything_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("all of it")
    with pytest.raises(OSError, match="not empty"), whole(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "thesis.txt").read_text() == "all of it"


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    (tmp_path / ".out.dead.partial").mkdir()
    with beside(tmp_path / "out") as living, beside(tmp_path / "out") as other:
        assert {path.name for path in tmp_path.iterdir()} == {living.name, other.name}
    assert list(tmp_path.iterdir()) == []
