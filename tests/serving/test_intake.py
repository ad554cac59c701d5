"""Taking in: once, whole, beside what differs, and with the facts as DICOM has them."""

from __future__ import annotations

import io
import sqlite3
import threading
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import films
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from carina.errors import NotDicom, NotStored, StoreFault
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.header import derived_uid, read_header
from carina.serving.intake import Intake, Receipt
from carina.serving.schema import Event, Instance, Job, Rank, Series, Study, StudyState
from carina.serving.settings import Settings
from tests.serving.instances import ROOT, instance, keep, uid_of

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def archive(tmp_path: Path, settings: Settings) -> Archive:
    return Archive(tmp_path / "archive", settings)


@pytest.fixture
def intake(database: Database, archive: Archive, settings: Settings, clock: Clock) -> Intake:
    return Intake(database, archive, settings, clock)


def take(intake: Intake, content: bytes, **how: Any) -> Receipt:
    given = {"origin": "dicom", "sender": "MODALITY", "address": "127.0.0.1"} | how
    return intake.take(keep(intake.archive, content), **given)


def other_meta(content: bytes) -> bytes:
    """The same film as somebody else would write it."""
    ds = pydicom.dcmread(io.BytesIO(content))
    ds.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
    other = io.BytesIO()
    ds.save_as(other, enforce_file_format=True)
    return other.getvalue()


def rows(database: Database, table: Any) -> list[Any]:
    with database.read() as session:
        return list(session.scalars(select(table).order_by(table.id)))


def test_an_instance_is_a_study_a_series_a_job_and_an_event(intake: Intake, database: Database) -> None:
    receipt = take(intake, instance(7, PatientBirthDate="19700101", AccessionNumber="A-1"))
    (study,), (series,), (film,) = (rows(database, table) for table in (Study, Series, Instance))
    (job,), (event,) = rows(database, Job), rows(database, Event)
    assert (receipt.status, receipt.study_id, receipt.instance_id) == ("stored", study.id, film.id)
    assert (study.patient_id, study.patient_name, study.sex, study.age) == ("P7", "Doe^Jane", "F", 45.0)
    assert (study.accession, study.birth_date, study.origin) == ("A-1", "19700101", "dicom")
    assert (study.state, study.rank, study.version) == (StudyState.RECEIVING, Rank.NOT_ANALYSED, 1)
    assert (study.received_at, study.due_at) == (NOW, NOW + timedelta(minutes=120))
    assert (series.uid, series.modality, series.body_part) == (f"{ROOT}.2.7", "DX", "CHEST")
    assert (film.uid, film.view, film.number, film.sender) == (uid_of(7), "PA", 7, "MODALITY")
    assert film.path == f"{film.sha256[:2]}/{film.sha256}"
    assert film.problem is None
    assert (job.kind, job.instance_id, job.state, job.attempts) == ("score", film.id, "waiting", 0)
    assert (event.kind, event.study_id) == ("study", study.id)


def test_the_same_instance_again_changes_nothing(intake: Intake, database: Database) -> None:
    content = instance(7)
    first, again = take(intake, content), take(intake, content)
    assert (first.status, again.status) == ("stored", "known")
    assert again.instance_id == first.instance_id
    assert [len(rows(database, table)) for table in (Study, Series, Instance, Job, Event)] == [1, 1, 1, 1, 1]


def test_the_same_film_under_another_file_meta_is_the_same_film(intake: Intake, database: Database) -> None:
    content = instance(7)
    assert other_meta(content) != content
    take(intake, content)
    assert take(intake, other_meta(content)).status == "known"
    assert len(rows(database, Instance)) == 1
    assert sum(len(paths) for _, paths in intake.archive.files()) == 1


def test_other_bytes_under_a_known_uid_are_kept_beside(intake: Intake, database: Database) -> None:
    first, second = instance(7, seed=1), instance(7, seed=2)
    assert take(intake, first).status == "stored"
    assert take(intake, second).status == "conflict"
    assert take(intake, second).status == "known"
    films_kept = rows(database, Instance)
    assert [film.conflict for film in films_kept] == [False, True]
    for film, content in zip(films_kept, (first, second), strict=True):
        with intake.archive.open(film.path) as file:
            assert file.read() == content
    assert rows(database, Study)[0].conflict


@pytest.mark.parametrize("length", [2000, 0xFFF0], ids=["into the data set", "past the end"])
def test_films_whose_file_meta_swallows_their_data_set_are_kept_each(
    intake: Intake, database: Database, length: int
) -> None:
    """A byte that was changed made what differs a part of the file meta; the little that is left is equal."""
    seen = [_swallowed(instance(7, seed=1, PatientID=name), length) for name in ("A1", "B2")]
    for number, content in enumerate(seen):
        assert take(intake, content).status == ("conflict" if number else "stored")
    kept = [(intake.archive.root / film.path).read_bytes() for film in rows(database, Instance)]
    assert kept == seen
    assert [take(intake, content).status for content in seen] == ["known", "known"]


def _swallowed(content: bytes, length: int) -> bytes:
    """``content`` with another length of its ImplementationClassUID."""
    at = content.index(b"\x02\x00\x12\x00UI") + 6
    return content[:at] + length.to_bytes(2, "little") + content[at + 2 :]


def test_a_late_film_reopens_its_study(intake: Intake, database: Database, clock: Clock) -> None:
    take(intake, instance(1, study=5))
    with database.write() as session:
        study = session.scalars(select(Study)).one()
        study.state, study.rank, study.weight = StudyState.COMPLETE, Rank.NOT_FLAGGED, -0.1
        study.read_at, study.read_by, study.due_at = NOW, "Dr Who", NOW + timedelta(days=1)
    clock.now = NOW + timedelta(hours=1)
    assert take(intake, instance(2, study=5)).status == "stored"
    (study,) = rows(database, Study)
    assert (study.state, study.version) == (StudyState.RECEIVING, 2)
    assert (study.received_at, study.last_received_at) == (NOW, clock.now)
    assert (study.rank, study.weight, study.read_at) == (Rank.NOT_ANALYSED, 0.0, None)
    assert study.due_at == clock.now + timedelta(minutes=120)
    assert len(rows(database, Series)) == 1


def test_a_flagged_study_stays_flagged_when_a_film_comes_late(intake: Intake, database: Database) -> None:
    take(intake, instance(1, study=5))
    with database.write() as session:
        session.scalars(select(Study)).one().rank = Rank.NOW
    take(intake, instance(2, study=5))
    assert rows(database, Study)[0].rank == Rank.NOW


def test_pressing_films_and_those_of_a_study_asked_for_go_before_others(
    intake: Intake, database: Database
) -> None:
    take(intake, instance(1, study=5))
    take(intake, instance(2, study=6), pressing=True)
    with database.write() as session:
        session.scalars(select(Study).where(Study.uid == f"{ROOT}.1.5")).one().flagged_by = "reader"
    take(intake, instance(3, study=5))
    assert [job.priority for job in rows(database, Job)] == [0, -1, -1]


def test_a_film_of_another_patient_in_a_study_is_told(intake: Intake, database: Database) -> None:
    take(intake, instance(1, study=5, PatientID="A", AccessionNumber=None))
    take(intake, instance(2, study=5, PatientID="B", AccessionNumber="of B"))
    (study,) = rows(database, Study)
    assert (study.patient_id, study.accession, study.conflict) == ("A", None, True)
    assert rows(database, Instance)[1].problem == "it names another patient than the rest of its study"


def test_facts_that_the_first_film_lacks_come_from_the_next(intake: Intake, database: Database) -> None:
    take(intake, instance(1, study=5, PatientName=None))
    take(intake, instance(2, study=5, PatientName="Roe^Richard"))
    assert rows(database, Study)[0].patient_name == "Roe^Richard"


def test_many_at_once_into_one_study_are_all_there_once(intake: Intake, database: Database) -> None:
    contents = [instance(number, study=5) for number in range(1, 9)]
    statuses: list[str] = []

    def send() -> None:
        statuses.extend(take(intake, content).status for content in contents)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == ["known"] * 24 + ["stored"] * 8
    assert len(rows(database, Study)) == 1
    assert sorted(film.number for film in rows(database, Instance)) == list(range(1, 9))


CHARSETS = Path(pydicom.__file__).parent / "data" / "charset_files"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("chrH31.dcm", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32.dcm", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrI2.dcm", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrRuss.dcm", "Люкceмбypг"),
        ("chrX2.dcm", "Wang^XiaoDong=王^小东"),
        ("chrArab.dcm", "قباني^لنزار"),
        ("chrGreek.dcm", "Διονυσιος"),
        ("chrFren.dcm", "Buc^Jérôme"),
    ],
)
def test_names_come_out_of_the_tables_as_they_are_written(
    intake: Intake, database: Database, file: str, name: str
) -> None:
    ds = pydicom.dcmread(CHARSETS / file)
    sent = bytes(ds.get_item("PatientName").value)
    take(intake, (CHARSETS / file).read_bytes())
    (study,) = rows(database, Study)
    assert study.patient_name == name
    assert sent.isascii() == name.isascii() or "ISO 2022" in str(study.character_set)


@pytest.mark.parametrize("sent", ["../../etc/passwd", "1.2.3/4", "1." * 40, "abc", "1.2\r\n3", "１.２.３"])
def test_a_uid_that_is_none_is_replaced_always_by_the_same(
    intake: Intake, database: Database, sent: str
) -> None:
    ds = pydicom.dcmread(io.BytesIO(instance(7)))
    ds["StudyInstanceUID"]._value = sent.encode("utf-8")
    ds["StudyInstanceUID"].VR = "UN"
    odd = io.BytesIO()
    ds.save_as(odd, enforce_file_format=True)
    first, again = take(intake, odd.getvalue()), take(intake, odd.getvalue())
    assert first.study_uid.startswith("2.25.")
    assert len(first.study_uid) <= 64
    assert (again.study_uid, again.status) == (first.study_uid, "known")
    (film,) = rows(database, Instance)
    assert film.problem == "its StudyInstanceUID is no UID"
    assert {path.parent.parent for path in intake.archive.root.rglob("*") if path.is_file()} == {
        intake.archive.root
    }


def test_a_missing_study_uid_makes_a_study_of_its_own(intake: Intake, database: Database) -> None:
    receipts = [take(intake, instance(number, StudyInstanceUID=None)) for number in (1, 2)]
    assert len({receipt.study_uid for receipt in receipts}) == 2
    assert rows(database, Instance)[0].problem == "its StudyInstanceUID is missing"


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_encoding_of_a_header_is_read(intake: Intake, database: Database, syntax: Any) -> None:
    take(intake, instance(7, syntax=syntax))
    (film,) = rows(database, Instance)
    assert (film.transfer_syntax, film.view, film.problem) == (syntax, "PA", None)


def test_a_deflated_bomb_is_not_inflated(intake: Intake) -> None:
    plain = instance(7, syntax=DeflatedExplicitVRLittleEndian)
    at = read_header(io.BytesIO(plain), "").content_at
    body = zlib.decompressobj(-15).decompress(plain[at:])
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = plain[:at] + packer.compress(body) + packer.compress(bytes(2**28)) + packer.flush()
    assert len(bomb) < 2**20
    assert take(intake, bomb).status == "stored"


def test_a_header_that_ends_in_the_middle_is_kept_and_told(intake: Intake, database: Database) -> None:
    content = instance(7)
    take(intake, content[:420])
    (film,) = rows(database, Instance)
    assert film.uid == uid_of(7)
    assert film.problem is not None


@pytest.mark.parametrize("depth", [50, 5000])
def test_nesting_without_end_is_kept_and_crashes_nothing(
    intake: Intake, database: Database, depth: int
) -> None:
    content = instance(7)
    at = content.index(b"\x10\x00\x10\x00PN")
    opened = b"\x08\x00\x10\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    take(intake, content[:at] + opened * depth + closed * depth + content[at:])
    (film,) = rows(database, Instance)
    assert film.uid == uid_of(7)
    assert (film.problem is None) == (depth == 50)


def test_text_that_no_table_takes_is_made_one_that_it_takes(intake: Intake, database: Database) -> None:
    take(intake, instance(7, PatientName="Doe\x00^J\x1bane\r\n", PatientID=" P7 \x00"))
    (study,) = rows(database, Study)
    assert "\x00" not in study.patient_name
    assert "\n" not in study.patient_name
    assert study.patient_id == "P7"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", NotDicom),
        (b"%PDF-1.7 this is no DICOM file" * 100, NotDicom),
        (bytes(4096), NotDicom),
        (instance(7, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22"), NotStored),  # a report
        (instance(7, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"), NotStored),  # a PDF
        (instance(7, SOPClassUID="1.2.840.10008.1.3.10"), NotStored),  # a DICOMDIR
    ],
)
def test_what_is_not_taken_leaves_nothing(
    intake: Intake, database: Database, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        take(intake, content)
    assert rows(database, Study) == []
    assert sum(len(paths) for _, paths in intake.archive.files()) == 0


def test_bytes_that_were_kept_survive_being_refused_on_another_way(
    intake: Intake, database: Database
) -> None:
    picture = films.encode(films.chest(), "PNG")
    take(intake, picture, origin="upload", media_type="image/png")
    with pytest.raises(NotDicom):
        take(intake, picture, origin="stow")
    (kept,) = rows(database, Instance)
    with intake.archive.open(kept.path) as file:
        assert file.read() == picture


def test_a_picture_is_a_study_of_its_own_and_the_same_one_again(intake: Intake, database: Database) -> None:
    picture = films.encode(films.chest(), "png")
    how = {"origin": "upload", "name": "thorax.png", "media_type": "image/png"}
    first, again = take(intake, picture, **how), take(intake, picture, **how)
    assert (first.status, again.status) == ("stored", "known")
    (film,) = rows(database, Instance)
    assert first.study_uid == derived_uid("StudyInstanceUID", film.sha256)
    assert (film.media_type, film.name, film.problem) == ("image/png", "thorax.png", None)


def test_files_kept_and_never_entered_are_entered_at_the_next_start(
    intake: Intake, database: Database
) -> None:
    take(intake, instance(1))
    keep(intake.archive, instance(2))
    keep(intake.archive, films.encode(films.chest(), "png"))
    keep(intake.archive, b"nothing that anybody would take")
    assert intake.adopt() == 2
    assert intake.adopt() == 0
    assert [film.media_type for film in rows(database, Instance)].count("image/png") == 1
    assert uid_of(2) in [film.uid for film in rows(database, Instance)]


def test_a_database_that_fails_is_a_fault_and_nothing_half_written(
    intake: Intake, database: Database
) -> None:
    Event.__table__.drop(database.engine)
    with pytest.raises(StoreFault, match="send it again later"):
        take(intake, instance(7))
    assert rows(database, Instance) == []
    Event.__table__.create(database.engine)
    assert intake.adopt() == 1


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"PatientName": " Doe^Jane ", "OtherPatientIDs": ["1", "2"], "PatientAge": "007M"},
        {"StudyDescription": "Thorax\\pa", "SeriesNumber": "12", "SpecificCharacterSet": "ISO_IR 100"},
        {"PatientName": "M\u00fcller^J\u00f6rg", "SpecificCharacterSet": "ISO_IR 192"},
        {"PatientAge": None, "PatientBirthDate": "19700101", "StudyDate": "20260101", "StudyID": ""},
    ],
)
def test_the_short_way_through_a_header_finds_what_the_long_one_finds(
    monkeypatch: pytest.MonkeyPatch, syntax: Any, elements: dict[str, Any]
) -> None:
    content = instance(7, syntax=syntax, **elements)
    short = read_header(io.BytesIO(content), "sha")
    monkeypatch.setattr("carina.serving.header._plain", lambda _: None)
    assert short == read_header(io.BytesIO(content), "sha")


def test_once_the_disk_has_failed_under_the_database_nothing_is_taken(
    sqlite: Database, tmp_path: Path, settings: Settings
) -> None:
    archive = Archive(tmp_path / "archive", settings)
    stored = keep(archive, instance(1))
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    def fails(*_: object) -> None:
        raise failed

    event.listen(sqlite.engine, "do_execute", fails)
    with pytest.raises(OperationalError), sqlite.read() as session:
        session.execute(select(Instance))
    event.remove(sqlite.engine, "do_execute", fails)
    assert sqlite.fault is not None
    with pytest.raises(StoreFault, match="could not make the database last"):
        Intake(sqlite, archive, settings).take(stored, origin="dicom", sender=None, address=None)


def test_a_thousand_films_under_one_uid_are_not_read_again_for_the_next(
    intake: Intake, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that gives all its films one SOP Instance UID: each is kept, and none costs more."""
    films_ = [instance(7, PatientID=f"P{number:03}", seed=number) for number in range(30)]
    read = list[str]()

    def counted(file: Any, sha256: str) -> Any:
        read.append(sha256)
        return read_header(file, sha256)

    monkeypatch.setattr("carina.serving.intake.read_header", counted)
    costs = []
    for each in films_:
        before = len(read)
        take(intake, each)
        costs.append(len(read) - before)
    assert len(rows(database, Instance)) == 30
    assert max(costs) <= 2
    assert take(intake, films_[11]).status == "known"
    assert take(intake, other_meta(films_[12])).status == "known"
    assert len(rows(database, Instance)) == 30


def test_pixels_that_were_let_go_do_not_come_back_by_being_sent_again(
    intake: Intake, database: Database
) -> None:
    take(intake, instance(7))
    (film,) = rows(database, Instance)
    intake.archive.remove(film.path)
    with database.write() as session:
        session.get_one(Instance, film.id).path = ""
    assert take(intake, instance(7)).status == "known"
    assert [paths for _, paths in intake.archive.files() if paths] == []
    assert intake.adopt() == 0


def test_a_film_is_kept_whichever_element_of_its_header_has_a_broken_vr(
    intake: Intake, database: Database
) -> None:
    """A flipped byte in the VR of Manufacturer was answered with 0x0110 for ever (mutant 1,274 of 10,000)."""
    facts = {
        "SpecificCharacterSet": "ISO_IR 192", "PatientName": "Mün^Jo", "Manufacturer": "M",
        "PatientAge": "045Y", "ManufacturerModelName": "N", "StudyDate": "20260101",
        "SeriesNumber": 3, "InstitutionName": "I",
        "ReferringPhysicianName": "R", "Laterality": "L", "ViewPosition": "PA", "AccessionNumber": "A",
    }  # fmt: skip
    whole = instance(7, **facts)
    kinds = (b"UI", b"LO", b"CS", b"PN", b"DA", b"SH", b"AS")
    groups = (b"\x08\0", b"\x10\0", b"\x18\0", b"\x20\0")
    at_all = range(132, 900)
    places = [at for at in at_all if whole[at : at + 2] in groups and whole[at + 4 : at + 6] in kinds]
    assert len(places) > 15
    for place in places:
        broken = whole[: place + 4] + b"\x4c\xbe" + whole[place + 6 :]
        assert take(intake, broken).status in ("stored", "conflict"), whole[place : place + 4].hex()
    assert len(rows(database, Instance)) == len(places)
    assert intake.adopt() == 0


def test_a_header_that_nobody_foresaw_stops_neither_its_film_nor_the_next_start(
    intake: Intake, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise NotImplementedError("Unknown Value Representation")

    monkeypatch.setattr("carina.serving.header._text", failing)
    kept = keep(intake.archive, instance(7))
    assert intake.adopt() == 1
    (film,) = rows(database, Instance)
    assert (film.sha256, film.problem) == (
        kept.sha256, "its header cannot be understood (NotImplementedError)"
    )  # fmt: skip
    assert intake.adopt() == 0
