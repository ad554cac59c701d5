"""Uploads: the content decides, names are for people only, and an archive is counted as it inflates."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import films
import pytest
from sqlalchemy import select

from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.intake import Intake
from carina.serving.schema import Instance, Study
from carina.serving.settings import Settings
from carina.serving.uploads import Outcome, shown, take
from tests.serving.instances import instance, uid_of

PNG, JPEG = films.encode(films.chest(), "png"), films.encode(films.chest(), "jpeg")


@pytest.fixture
def intake(sqlite: Database, tmp_path: Path, settings: Settings) -> Intake:
    return Intake(sqlite, Archive(tmp_path / "archive", settings), settings)


def give(intake: Intake, content: bytes, name: str = "film.dcm", **how: Any) -> list[Outcome]:
    given = {"sender": "reader", "address": "127.0.0.1", "largest": 2**24, "most": 2**26} | how
    return list(take(io.BytesIO(content), name, intake, **given))


def zipped(*files: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return stream.getvalue()


def rows(intake: Intake, table: Any) -> list[Any]:
    with intake.database.read() as session:
        return list(session.scalars(select(table).order_by(table.id)))


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(instance(7), "application/dicom"), (PNG, "image/png"), (JPEG, "image/jpeg")],
)
def test_the_content_decides_what_a_file_is(intake: Intake, content: bytes, media_type: str) -> None:
    (outcome,) = give(intake, content, "whatever.txt")
    assert outcome.receipt is not None
    assert outcome.receipt.status == "stored"
    (film,) = rows(intake, Instance)
    assert (film.media_type, film.name, film.sender) == (media_type, "whatever.txt", "reader")
    assert (intake.archive.root / film.path).read_bytes() == content
    assert rows(intake, Study)[0].origin == "upload"


def test_a_zip_is_each_of_its_films(intake: Intake) -> None:
    content = zipped(
        ("a/one.dcm", instance(1)), ("a/", b""), ("b/thorax.png", PNG), ("__MACOSX/a/._one.dcm", b"chaff"),
        ("report.txt", b"words"), ("inner.zip", zipped(("x", b"y"))),
    )  # fmt: skip
    outcomes = {outcome.name: outcome for outcome in give(intake, content, "films.zip")}
    assert set(outcomes) == {"one.dcm", "thorax.png", "report.txt", "inner.zip"}
    assert (
        outcomes["report.txt"].reason == "neither DICOM nor JPEG nor PNG; give one of these, or a zip of them"
    )
    assert "archive within an archive" in str(outcomes["inner.zip"].reason)
    assert sorted(film.name for film in rows(intake, Instance)) == ["one.dcm", "thorax.png"]


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/cron.d/x",
        "/etc/passwd",
        "..\\..\\x.dcm",
        "C:\\Windows\\x",
        "a\x00b\r\n.dcm",
        "x" * 5000,
        "",
    ],
)
def test_no_name_reaches_the_disk(intake: Intake, tmp_path: Path, name: str) -> None:
    before = {path for path in tmp_path.rglob("*") if "archive" not in path.parts}
    give(intake, instance(1), name)
    give(intake, zipped((name or "x", instance(2))), name)
    assert {path for path in tmp_path.rglob("*") if "archive" not in path.parts} == before
    for film in rows(intake, Instance):
        assert film.path == f"{film.sha256[:2]}/{film.sha256}"
        assert not set(film.name) & set("/\\\r\n\0")
        assert len(film.name) <= 200


def test_a_bomb_is_counted_while_it_inflates(intake: Intake) -> None:
    film = bytes(128) + b"DICM" + bytes(2**22)
    content = zipped(*((f"{number}.dcm", film) for number in range(8)))
    assert len(content) < 2**16
    outcomes = give(intake, content, "bomb.zip", largest=2**20, most=2**21)
    assert all(outcome.receipt is None for outcome in outcomes)
    assert outcomes[-1].status == 413
    assert len(outcomes) <= 4
    assert not list((intake.archive.root / "incoming").iterdir())


def test_a_forged_size_changes_nothing(intake: Intake) -> None:
    content = bytearray(zipped(("film.dcm", instance(1, side=128))))
    at = content.rfind(b"PK\x01\x02")
    content[at + 24 : at + 28] = (10).to_bytes(4, "little")  # the uncompressed size that the list claims
    (outcome,) = give(intake, bytes(content), "forged.zip")
    assert outcome.receipt is None
    assert rows(intake, Instance) == []


@pytest.mark.parametrize("cut", [10, 500, -1, -30])
def test_a_damaged_zip_is_told(intake: Intake, cut: int) -> None:
    content = zipped(("film.dcm", instance(1)))
    (outcome,) = give(intake, content[:cut], "films.zip")
    assert outcome.receipt is None
    assert "zip" in str(outcome.reason)


def test_a_zip_of_too_many_files_is_refused_before_its_list_is_read(intake: Intake) -> None:
    content = zipped(*((f"{number}", b"") for number in range(20_001)), packing=zipfile.ZIP_STORED)
    (outcome,) = give(intake, content, "many.zip")
    assert "more than 20000 files" in str(outcome.reason)


def test_a_full_store_is_told_for_each_file(intake: Intake) -> None:
    intake.archive.fault = "the disk failed"
    (outcome,) = give(intake, PNG, "thorax.png")
    assert (outcome.receipt, outcome.reason, outcome.status) == (None, "the disk failed", 500)


def test_a_name_is_shown_without_its_folders() -> None:
    assert [shown(name) for name in ("a/b/c.dcm", "a\\b.png", "", "../..", "x\x1b[31m")] == [
        "c.dcm", "b.png", "film", "..", "x[31m",
    ]  # fmt: skip


def test_what_was_sent_by_modality_and_uploaded_again_is_one_film(intake: Intake) -> None:
    first, again = (give(intake, instance(7))[0] for _ in range(2))
    assert first.receipt is not None
    assert again.receipt is not None
    assert (first.receipt.status, again.receipt.status) == ("stored", "known")
    assert [film.uid for film in rows(intake, Instance)] == [uid_of(7)]
