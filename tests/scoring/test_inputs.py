from __future__ import annotations

import inspect
import os
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from carina.errors import SourceError
from carina.records import Refusal
from carina.scoring import inputs
from carina.scoring.inputs import Input, Skipped, films


def touch(path: Path, content: bytes = b"film") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def names(*paths: str | Path) -> list[str]:
    return [item.name if isinstance(item, Input) else f"REFUSED {item.path}" for item in films(paths)]


def test_a_folder_gives_all_below_it_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.dcm", "c.jpg", "b/deep/er/0.png"):
        touch(tmp_path / name)
    expected = ["a.dcm", "b/1.png", "b/2.png", "b/deep/er/0.png", "c.jpg"]
    assert names(tmp_path) == [str(tmp_path / name) for name in expected]


def test_arguments_keep_their_order(tmp_path: Path) -> None:
    b, a = touch(tmp_path / "b.png"), touch(tmp_path / "a.png")
    assert names(b, a, b) == [str(b), str(a), str(b)]


def test_what_nobody_means_as_a_film_is_skipped_and_counted(tmp_path: Path) -> None:
    for name in (
        "film.png",
        ".DS_Store",
        "Thumbs.db",
        "DICOMDIR",
        "README.txt",
        "labels.CSV",
        "__MACOSX/x.png",
        ".git/x",
    ):
        touch(tmp_path / name)
    skipped = Skipped()
    found = [item.name for item in films([tmp_path], skipped) if isinstance(item, Input)]
    assert found == [str(tmp_path / "film.png")]
    assert skipped.kinds == {"hidden": 2, "system": 3, ".txt": 1, ".csv": 1}
    assert skipped.total == 7


def test_the_folder_of_the_heat_maps_is_left_out_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a.png", "maps/a.1.png", "ward/maps/b.png"):
        touch(tmp_path / name)
    skipped = Skipped()
    found = [
        item.name
        for item in films([tmp_path], skipped, without=tmp_path / "ward" / ".." / "maps")
        if isinstance(item, Input)
    ]
    assert found == [str(tmp_path / name) for name in ("a.png", "ward/maps/b.png")]
    assert skipped.kinds == {"heat maps": 1}
    assert len(list(films([tmp_path / "maps"], without=tmp_path / "maps"))) == 1  # named itself


def test_a_file_that_is_named_itself_is_always_tried(tmp_path: Path) -> None:
    note = touch(tmp_path / "film.txt")
    assert names(note) == [str(note)]


def test_everything_else_in_a_folder_is_tried_whatever_it_is_called(tmp_path: Path) -> None:
    for name in ("IM0001", "film.xyz", "film"):
        touch(tmp_path / name)
    assert len(names(tmp_path)) == 3


def test_patterns_reach_into_folders_and_give_each_film_once(tmp_path: Path) -> None:
    for name in ("x/1.png", "x/y/2.png", "x/y/3.jpg"):
        touch(tmp_path / name)
    assert names(f"{tmp_path}/**/*.png") == [str(tmp_path / "x/1.png"), str(tmp_path / "x/y/2.png")]
    assert names(f"{tmp_path}/x/**") == [
        str(tmp_path / name) for name in ("x/1.png", "x/y/2.png", "x/y/3.jpg")
    ]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    film = touch(tmp_path / "film[1].png")
    assert names(film) == [str(film)]


@pytest.mark.parametrize(("name", "fault"), [("nowhere.png", "no such file"), ("*.png", "nothing matches")])
def test_a_mistyped_path_is_an_error_at_once(tmp_path: Path, name: str, fault: str) -> None:
    with pytest.raises(SourceError, match=fault):
        films([tmp_path, f"{tmp_path}/{name}"])


def test_an_empty_folder_gives_nothing(tmp_path: Path) -> None:
    assert names(tmp_path) == []


def test_links_to_folders_are_not_followed_round_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "film.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    skipped = Skipped()
    assert len(list(films([tmp_path], skipped))) == 1
    assert skipped.kinds == {"link to a folder": 1}


def test_a_link_to_a_film_is_a_film_and_a_broken_link_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "good").symlink_to(touch(tmp_path / "film.png"))
    (tmp_path / "lost").symlink_to(tmp_path / "gone.png")
    found = names(tmp_path)
    assert found == [str(tmp_path / "film.png"), str(tmp_path / "good"), f"REFUSED {tmp_path / 'lost'}"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (answer,) = films([tmp_path])
    assert isinstance(answer, Refusal)
    assert "pipe or a device" in answer.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_refusal(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "film.png")
    touch(tmp_path / "b.png")
    (tmp_path / "a").chmod(0)
    assert names(tmp_path) == [f"REFUSED {tmp_path / 'a'}", str(tmp_path / "b.png")]
    (tmp_path / "a").chmod(0o700)


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Path]:
    """Folders 400 deep and a stack of 150 calls, so that hundreds stand for thousands."""
    deep = tmp_path.joinpath(*"d" * 400)
    deep.mkdir(parents=True)
    touch(deep / "film.png")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    yield tmp_path
    sys.setrecursionlimit(before)


def test_folders_in_folders_are_read_however_deep(deep_folder: Path) -> None:
    assert len(names(deep_folder)) == 1


def test_names_with_newlines_emoji_and_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    for name in (b"two\nlines.png", "🫁.png".encode(), b"caf\xe9.png"):
        touch(tmp_path / os.fsdecode(name))
    found = [item for item in films([tmp_path]) if isinstance(item, Input)]
    expected = {"caf\\xe9.png", "two\nlines.png", "🫁.png"}
    assert {item.name.removeprefix(f"{tmp_path}/") for item in found} == expected
    assert all(isinstance(item.source, Path) and item.source.read_bytes() == b"film" for item in found)


def test_films_in_an_archive_are_read_in_memory_under_a_name_that_says_where(tmp_path: Path) -> None:
    archive = pack(
        tmp_path / "night.zip", {"b/2.png": b"two", "a.png": b"one", "b/notes.txt": b"", "__MACOSX/a": b""}
    )
    skipped = Skipped()
    found = {item.name: item.data for item in films([archive], skipped) if isinstance(item, Input)}
    assert found == {f"{archive}!/a.png": b"one", f"{archive}!/b/2.png": b"two"}
    assert skipped.kinds == {".txt": 1, "system": 1}


def test_an_archive_in_a_folder_is_opened_too(tmp_path: Path) -> None:
    archive = pack(touch(tmp_path / "films" / "a.zip"), {"x.png": b""})
    assert names(tmp_path) == [f"{archive}!/x.png"]


def test_members_that_climb_out_are_only_called_so(tmp_path: Path) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    archive = pack(inner / "a.zip", {"../../evil.png": b"x", "/etc/evil.png": b"y"})
    assert len(names(archive)) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "in"]


def test_ten_thousand_members_come_one_by_one(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", {f"../{number}.png": b"x" for number in range(10_000)})
    assert sum(1 for _ in films([archive])) == 10_000


def test_a_bomb_is_refused_by_what_it_inflates_to_not_by_what_it_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MAX_MEMBER", 1 << 20)
    archive = pack(tmp_path / "a.zip", {"bomb.png": b"\0" * (3 << 20), "film.png": b"fine"})
    bomb, film = films([archive])
    assert isinstance(bomb, Refusal)
    assert bomb.code == "too_large"
    assert isinstance(film, Input)
    assert film.data == b"fine"


def test_too_many_members_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_MEMBERS", 3)
    (answer,) = films([pack(tmp_path / "a.zip", dict.fromkeys("abcd", b""))])
    assert isinstance(answer, Refusal)
    assert "4 files, more than 3" in answer.reason


def test_a_damaged_member_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", {"a.png": b"first " * 50, "b.png": b"second " * 50})
    content = bytearray(archive.read_bytes())
    content[content.index(b"a.png") + 9] ^= 0xFF
    archive.write_bytes(content)
    first, second = films([archive])
    assert isinstance(first, Refusal)
    assert first.path == f"{archive}!/a.png"
    assert "damaged in the archive" in first.reason
    assert isinstance(second, Input)


def test_an_encrypted_member_is_refused_with_the_cure(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", {"a.png": b"film"})
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\x01\x02") + 8
    content[at : at + 2] = struct.pack("<H", 1)
    archive.write_bytes(content)
    (answer,) = films([archive])
    assert isinstance(answer, Refusal)
    assert answer.reason.endswith("pack it without a password")


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    (answer,) = films([tmp_path / "a.zip"])
    assert isinstance(answer, Refusal)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_an_archive_that_is_none_is_one_refusal(tmp_path: Path, content: bytes) -> None:
    (answer,) = films([touch(tmp_path / "a.zip", content)])
    assert isinstance(answer, Refusal)
    assert "not a readable zip archive" in answer.reason
