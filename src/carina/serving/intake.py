"""A stored file → the tables: study, series, instance, the job to score it, the event for the pages.

All of it in one transaction, or nothing. The file must be on the disk before :meth:`Intake.take` is called
(``archive.Incoming.finish``), and a sender may be told of success only after it returned. Taking the same
instance again changes nothing; other bytes under a known UID are kept beside the first and the study then
needs a reader. Knows nothing of how a film came here.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Literal

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from carina.errors import NotDicom, NotStored, StoreError, StoreFault, StoreFull
from carina.serving.archive import Archive, Stored
from carina.serving.database import Database
from carina.serving.header import Header, picture_header, read_header
from carina.serving.schema import Event, Instance, Job, JobState, Rank, Series, Study, StudyState
from carina.serving.settings import Settings

DICOM = "application/dicom"
LOGGER = logging.getLogger(__name__)
_TRIES = 5  # of a transaction that another one got in the way of
_BLOCK = 2**20
_FACTS = (
    "patient_id",
    "issuer",
    "patient_name",
    "birth_date",
    "sex",
    "age",
    "accession",
    "description",
    "study_date",
    "study_time",
    "referring",
    "institution",
    "study_id",
    "character_set",
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an instance: ``stored``, ``known`` (kept before, nothing changed) or ``conflict``
    (other bytes under a known UID: kept beside)."""

    instance_id: int
    study_id: int
    status: Literal["stored", "known", "conflict"]
    study_uid: str
    series_uid: str
    instance_uid: str


class Intake:
    """Enters stored files. Several threads and processes may do so at once."""

    def __init__(
        self,
        database: Database,
        archive: Archive,
        settings: Settings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.database, self.archive = database, archive
        self._wait = timedelta(minutes=settings.waits.not_analysed)
        self._clock = clock

    def take(
        self,
        stored: Stored,
        *,
        origin: str,
        sender: str | None,
        address: str | None,
        name: str | None = None,
        media_type: str = DICOM,
    ) -> Receipt:
        """Enter ``stored``; when this returns the row is on the disk as the file is.

        ``origin`` is ``dicom``, ``stow`` or ``upload``. Raises ``NotDicom`` or ``NotStored`` for what is not
        taken (the file is then removed), ``StoreFull`` or ``StoreFault`` where the database fails (the file
        stays, and is entered when it is sent again or at the next start).
        """
        try:
            header = self._header(stored, media_type)
        except (NotDicom, NotStored):
            self.archive.remove(stored.path)
            raise
        how = {
            "media_type": media_type,
            "name": name,
            "sender": sender,
            "address": address,
        }
        try:
            known = self._same_content(header, stored)
            if known is not None:
                return known
            return self._tried(lambda session: self._enter(session, header, stored, origin, how))
        except SQLAlchemyError as error:
            raise _failure(error) from error

    def adopt(self) -> int:
        """Enter the files that were kept and never entered, as a crash between the two leaves them.

        Their senders were told nothing, and may send them again: that changes nothing then. Answers how
        many were entered.
        """
        adopted = 0
        for folder, paths in self.archive.files():
            with self.database.read() as session:
                entered = set(session.scalars(select(Instance.path).where(Instance.path.like(f"{folder}/%"))))
            for path in paths:
                if path not in entered:
                    adopted += self._adopted(path)
        return adopted

    def _adopted(self, path: str) -> bool:
        try:
            with self.archive.open(path) as file:
                start, size = file.read(16), file.seek(0, 2)
            media_type = picture_type(start) or DICOM
            stored = Stored(path.rpartition("/")[2], size, path)
            origin = "dicom" if media_type == DICOM else "upload"
            self.take(stored, origin=origin, sender=None, address=None, media_type=media_type)
        except (StoreError, OSError) as error:
            LOGGER.warning("a stored file was not entered: %s", error)
            return False
        return True

    def _header(self, stored: Stored, media_type: str) -> Header:
        if media_type != DICOM:
            return picture_header(stored.sha256)
        try:
            with self.archive.open(stored.path) as file:
                return read_header(file, stored.sha256)
        except OSError as error:
            raise StoreFault(
                f"a stored film cannot be read again ({error.strerror}); send it again"
            ) from error

    def _same_content(self, header: Header, stored: Stored) -> Receipt | None:
        """The receipt of the instance whose data set these bytes hold already, under other file meta
        information: the same film by C-STORE and by STOW differs there. The new file is then removed."""
        with self.database.read() as session:
            rows = session.execute(_instances(header.instance_uid)).all()
        for row in rows:
            differs = row.sha256 != stored.sha256 and row.transfer_syntax == header.transfer_syntax
            if differs and self._equal(header, stored, row):
                self.archive.remove(stored.path)
                return _receipt(row, "known")
        return None

    def _equal(self, header: Header, stored: Stored, row: Row[Any]) -> bool:
        try:
            with self.archive.open(stored.path) as new, self.archive.open(row.path) as old:
                if header.transfer_syntax is None or not header.content_at:
                    return False
                there = read_header(old, row.sha256).content_at
                if stored.size - header.content_at != row.size - there:
                    return False
                new.seek(header.content_at)
                old.seek(there)
                return _same_bytes(new, old)
        except (OSError, StoreError):  # gone by the retention rules, or damaged: then it is not the same
            return False

    def _tried(self, work: Callable[[Session], Receipt]) -> Receipt:
        """``work`` in a transaction; again where another transaction was first."""
        for left in reversed(range(_TRIES)):
            try:
                with self.database.write() as session:
                    return work(session)
            except (IntegrityError, OperationalError) as error:
                if not left or _is_full(error):
                    raise
        raise AssertionError("unreachable")

    def _enter(
        self, session: Session, header: Header, stored: Stored, origin: str, how: dict[str, Any]
    ) -> Receipt:
        rows = session.execute(_instances(header.instance_uid)).all()
        for row in rows:
            if row.sha256 == stored.sha256:
                return _receipt(row, "known")
        now = self._clock()
        conflict = bool(rows)
        study, problem = self._study(session, header, origin, conflict, now)
        series = _series(session, header, study)
        instance = session.scalar(
            insert(Instance)
            .values(
                study_id=study,
                series_id=series,
                uid=header.instance_uid,
                sop_class=header.sop_class,
                transfer_syntax=header.transfer_syntax,
                number=header.number,
                view=header.view,
                sha256=stored.sha256,
                size=stored.size,
                path=stored.path,
                received_at=now,
                conflict=conflict,
                problem=header.problem or problem,
                **how,
            )
            .returning(Instance.id)
        )
        assert instance is not None
        session.execute(
            insert(Job).values(
                kind="score", instance_id=instance, state=JobState.WAITING, priority=0, attempts=0,
                created_at=now, not_before=now,
            )
        )  # fmt: skip
        session.execute(insert(Event).values(at=now, kind="study", study_id=study))
        status: Literal["stored", "conflict"] = "conflict" if conflict else "stored"
        return Receipt(instance, study, status, header.study_uid, header.series_uid, header.instance_uid)

    def _study(
        self, session: Session, header: Header, origin: str, conflict: bool, now: datetime
    ) -> tuple[int, str | None]:
        """The row of the study, made or brought up to date; and what is wrong with this instance in it.

        A film that comes late reopens its study. Until it has been looked at, the study stands where films
        stand that nobody looked at, and it counts as unread.
        """
        found = session.execute(
            select(Study).where(Study.uid == header.study_uid).with_for_update()
        ).scalar_one_or_none()
        facts = {name: getattr(header, name) for name in _FACTS}
        if found is None:
            values = facts | {
                "uid": header.study_uid, "origin": origin, "state": StudyState.RECEIVING, "version": 1,
                "received_at": now, "last_received_at": now, "rank": int(Rank.NOT_ANALYSED), "weight": 0.0,
                "due_at": now + self._wait, "second_reading": False, "conflict": conflict,
            }  # fmt: skip
            made = session.scalar(insert(Study).values(values).returning(Study.id))
            assert made is not None
            return made, None
        stranger = bool(header.patient_id and found.patient_id and header.patient_id != found.patient_id)
        changes: dict[str, Any] = {
            "last_received_at": now,
            "conflict": found.conflict or conflict or stranger,
        }
        if not stranger:
            changes |= {
                name: value
                for name, value in facts.items()
                if value is not None and getattr(found, name) is None
            }
        if found.state == StudyState.COMPLETE:
            changes |= {"state": StudyState.RECEIVING, "version": found.version + 1}
        if found.rank > Rank.NOT_ANALYSED:
            changes |= {"rank": int(Rank.NOT_ANALYSED), "weight": 0.0, "due_at": now + self._wait}
        if found.read_at is not None:
            changes |= {"read_at": None, "read_by": None}
        session.execute(update(Study).where(Study.id == found.id).values(changes))
        return found.id, "it names another patient than the rest of its study" if stranger else None


def picture_type(start: bytes) -> str | None:
    """The media type of a picture that is taken, by its first bytes: JPEG or PNG."""
    if start.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/png" if start.startswith(b"\x89PNG\r\n\x1a\n") else None


def _instances(uid: str) -> Any:
    wanted = Instance.id, Instance.study_id, Instance.uid, Instance.sha256, Instance.path, Instance.size
    return (
        select(*wanted, Instance.transfer_syntax, Study.uid.label("study"), Series.uid.label("series"))
        .join(Study, Study.id == Instance.study_id)
        .join(Series, Series.id == Instance.series_id)
        .where(Instance.uid == uid)
        .order_by(Instance.id)
    )


def _receipt(row: Row[Any], status: Literal["stored", "known", "conflict"]) -> Receipt:
    return Receipt(row.id, row.study_id, status, row.study, row.series, row.uid)


def _series(session: Session, header: Header, study: int) -> int:
    found = session.scalar(select(Series.id).where(Series.study_id == study, Series.uid == header.series_uid))
    if found is not None:
        return found
    values = {
        "study_id": study, "uid": header.series_uid, "modality": header.modality,
        "number": header.series_number, "description": header.series_description,
        "body_part": header.body_part, "laterality": header.laterality,
    }  # fmt: skip
    made = session.scalar(insert(Series).values(values).returning(Series.id))
    assert made is not None
    return made


def _same_bytes(one: BinaryIO, other: BinaryIO) -> bool:
    while True:
        here, there = one.read(_BLOCK), other.read(_BLOCK)
        if here != there:
            return False
        if not here:
            return True


def _is_full(error: SQLAlchemyError) -> bool:
    """Whether the database has no room left (SQLITE_FULL; PostgreSQL class 53, insufficient resources)."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return str(getattr(cause, "sqlstate", None) or "").startswith("53")


def _failure(error: SQLAlchemyError) -> StoreFull | StoreFault:
    if _is_full(error):
        return StoreFull("the database has no room left; make room, then send it again")
    kind = type(error.orig).__name__ if isinstance(error, DBAPIError) else type(error).__name__
    return StoreFault(f"the database did not take it ({kind}); send it again later")
