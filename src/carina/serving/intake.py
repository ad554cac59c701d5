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
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Literal

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from carina.errors import NotDicom, NotStored, StoreError, StoreFault, StoreFull
from carina.serving.archive import Archive, Stored
from carina.serving.database import Database
from carina.serving.header import Header, picture_header, read_header
from carina.serving.jobs import PRESSING
from carina.serving.schema import Base, Instance, Rank, StudyState
from carina.serving.settings import Settings

DICOM = "application/dicom"
LOGGER = logging.getLogger(__name__)
_TRIES = 5  # of a transaction that another one got in the way of
_BLOCK = 2**20
_END = 4096  # bytes
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


# The statements of the way in are built once: building them anew costs more than the database does.
_studies, _series, _instances = (Base.metadata.tables[name] for name in ("studies", "series", "instances"))
_KNOWN = (
    select(_instances, _studies.c.uid.label("study_uid"), _series.c.uid.label("series_uid"))
    .join(_studies, _studies.c.id == _instances.c.study_id)
    .join(_series, _series.c.id == _instances.c.series_id)
    .where(_instances.c.uid == bindparam("instance"), _instances.c.sha256 == bindparam("content"))
)
_OTHERS = select(
    _instances.c.sha256, _instances.c.path, _instances.c.size, _instances.c.transfer_syntax
).where(_instances.c.uid == bindparam("instance"))
_STUDY = select(_studies).where(_studies.c.uid == bindparam("study")).with_for_update()
_OLD_SERIES = select(_series.c.id).where(
    _series.c.study_id == bindparam("of"), _series.c.uid == bindparam("series")
)
_NEW_STUDY, _SERIES, _INSTANCE = insert(_studies), insert(_series), insert(_instances)
_JOB, _EVENT = insert(Base.metadata.tables["jobs"]), insert(Base.metadata.tables["events"])

OTHER_PATIENT = "it names another patient than the rest of its study"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an instance: ``stored``, ``known`` (kept before, nothing changed), ``conflict`` (other
    bytes under a known UID: kept beside) or ``ours`` (a result of Carina's on its way back: not kept)."""

    instance_id: int
    study_id: int
    status: Literal["stored", "known", "conflict", "ours"]
    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class: str | None = None


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
        pressing: bool = False,
    ) -> Receipt:
        """Enter ``stored``; when this returns the row is on the disk as the file is.

        ``origin`` is ``dicom``, ``stow`` or ``upload``; a ``pressing`` film is scored before others. Our own
        results are not kept. Raises ``NotDicom`` or ``NotStored`` for what is not taken (the file is then
        removed), ``StoreFull`` or ``StoreFault`` where the database fails (the file stays, and is entered
        when it is sent again or at the next start).
        """
        if self.database.fault is not None:
            raise StoreFault(self.database.fault)
        try:
            header = self._header(stored, media_type)
        except (NotDicom, NotStored):
            self.reject(stored, picture_header(stored.sha256).instance_uid)
            raise
        if header.ours:  # scoring it would reopen its study, and make a new result, for ever
            self.archive.remove(stored.path)
            uids = (header.study_uid, header.series_uid, header.instance_uid)
            return Receipt(0, 0, "ours", *uids, header.sop_class)
        how: dict[str, Any] = {"origin": origin, "media_type": media_type, "name": name}
        how |= {"sender": sender, "address": address, "priority": PRESSING if pressing else 0}
        try:
            done = self._tried(header, stored, how, compared=False)
            if done is None:
                same = self._same(header, stored)
                if same is not None:
                    self.archive.remove(stored.path)
                    return same
                done = self._tried(header, stored, how, compared=True)
                assert done is not None
            if done.status == "known":
                self.reject(stored, header.instance_uid)
            return done
        except SQLAlchemyError as error:
            raise _failure(error) from error

    def reject(self, stored: Stored, uid: str) -> None:
        """Remove a file that is not taken in, unless the same bytes are kept already as instance ``uid``.

        Those of a film whose pixels were let go are not: it does not come back by being sent again.
        """
        kept = select(Instance.id).where(
            Instance.uid == uid, Instance.sha256 == stored.sha256, Instance.path == stored.path
        )
        with suppress(SQLAlchemyError), self.database.read() as session:  # not known: then it stays
            if session.scalar(kept.limit(1)) is None:
                self.archive.remove(stored.path)

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

    def _same(self, header: Header, stored: Stored) -> Receipt | None:
        """The kept instance that holds the same data set in the same encoding, under whatever file meta
        information: the same film by C-STORE and by STOW differs there.

        There may be thousands of others, where a machine gives all its films one UID: a look at the end of
        a file tells most of them apart.
        """
        if header.transfer_syntax is None or header.problem is not None:
            return None  # where it is broken, what was taken for file meta may be the film itself
        with self.database.read() as session:
            others = session.execute(_OTHERS, {"instance": header.instance_uid}).all()
        try:
            with self.archive.open(stored.path) as new:
                for row in others:
                    if row.transfer_syntax == header.transfer_syntax and self._equal(
                        header, stored, new, row
                    ):
                        with self.database.read() as session:
                            known = session.execute(
                                _KNOWN, {"instance": header.instance_uid, "content": row.sha256}
                            ).one()
                        return _receipt(known, "known")
        except OSError:  # adopted and found out meanwhile: nothing is known
            return None
        return None

    def _equal(self, header: Header, stored: Stored, new: BinaryIO, row: Any) -> bool:
        length = stored.size - header.content_at
        if row.size < length:
            return False
        end = min(length, _END)
        try:
            with self.archive.open(row.path) as old:
                new.seek(stored.size - end)
                old.seek(row.size - end)
                if new.read(end) != old.read(end):
                    return False
                old.seek(0)
                if read_header(old, row.sha256).content_at != row.size - length:
                    return False
                new.seek(header.content_at)
                old.seek(row.size - length)
                return _same_bytes(new, old)
        except (OSError, StoreError):  # gone by the retention rules, or damaged: then it is not the same
            return False

    def _tried(
        self, header: Header, stored: Stored, how: dict[str, Any], *, compared: bool
    ) -> Receipt | None:
        """:meth:`_enter` in a transaction; again where another transaction was first."""
        for left in reversed(range(_TRIES)):
            try:
                return self.database.together(
                    lambda connection: self._enter(connection, header, stored, how, compared=compared)
                )
            except (IntegrityError, OperationalError) as error:
                if not left or _is_full(error) or self.database.fault is not None:
                    raise
        raise AssertionError("unreachable")

    def _enter(
        self, connection: Connection, header: Header, stored: Stored, how: dict[str, Any], *, compared: bool
    ) -> Receipt | None:
        """Write all rows. Where other bytes are known under this UID and were not ``compared``, nothing is
        written and the answer is None."""
        known = connection.execute(_KNOWN, {"instance": header.instance_uid, "content": stored.sha256})
        if (row := known.one_or_none()) is not None:
            return _receipt(row, "known")
        conflict = connection.execute(_OTHERS.limit(1), {"instance": header.instance_uid}).first() is not None
        if conflict and not compared:
            return None
        now = self._clock()
        study, series, problem, asked = self._study(connection, header, how["origin"], conflict, now)
        if series is None:
            series = _inserted(connection, _SERIES, _series_values(header, study))
        values = {name: value for name, value in how.items() if name not in ("origin", "priority")} | {
            "study_id": study, "series_id": series, "uid": header.instance_uid, "sop_class": header.sop_class,
            "transfer_syntax": header.transfer_syntax, "number": header.number, "view": header.view,
            "sha256": stored.sha256, "size": stored.size, "path": stored.path, "received_at": now,
            "conflict": conflict, "problem": header.problem or problem,
        }  # fmt: skip
        instance = _inserted(connection, _INSTANCE, values)
        job = {"kind": "score", "instance_id": instance, "created_at": now, "not_before": now}
        job["priority"] = PRESSING if asked else how["priority"]
        connection.execute(_JOB, job)
        connection.execute(_EVENT, {"at": now, "kind": "study", "study_id": study})
        status: Literal["stored", "conflict"] = "conflict" if conflict else "stored"
        return Receipt(
            instance,
            study,
            status,
            header.study_uid,
            header.series_uid,
            header.instance_uid,
            header.sop_class,
        )

    def _study(
        self, connection: Connection, header: Header, origin: str, conflict: bool, now: datetime
    ) -> tuple[int, int | None, str | None, bool]:
        """The row of the study, made or brought up to date; that of the series, if there is one; what is
        wrong with this instance in it; and whether somebody asked for the study to be read now.

        A film that comes late reopens its study. Until it has been looked at, the study stands where films
        stand that nobody looked at, and it counts as unread.
        """
        found = connection.execute(_STUDY, {"study": header.study_uid}).one_or_none()
        facts = {name: getattr(header, name) for name in _FACTS}
        if found is None:
            values = facts | {
                "uid": header.study_uid, "origin": origin, "received_at": now, "last_received_at": now,
                "due_at": now + self._wait, "conflict": conflict,
            }  # fmt: skip
            return _inserted(connection, _NEW_STUDY, values), None, None, False
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
            changes |= {
                "rank": int(Rank.NOT_ANALYSED), "weight": 0.0, "due_at": now + self._wait, "outcome": None,
                "p_disease": None, "suggestion": None, "because": "a film that came later waits",
            }  # fmt: skip
        if found.read_at is not None:
            changes |= {"read_at": None, "read_by": None, "raised_at": None, "flagged_by": None}
        connection.execute(update(_studies).where(_studies.c.id == found.id).values(changes))
        series = connection.scalar(_OLD_SERIES, {"of": found.id, "series": header.series_uid})
        problem = OTHER_PATIENT if stranger else None
        return int(found.id), series, problem, found.flagged_by is not None and found.read_at is None


def picture_type(start: bytes) -> str | None:
    """The media type of a picture that is taken, by its first bytes: JPEG or PNG."""
    if start.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/png" if start.startswith(b"\x89PNG\r\n\x1a\n") else None


def _receipt(row: Row[Any], status: Literal["stored", "known", "conflict"]) -> Receipt:
    return Receipt(row.id, row.study_id, status, row.study_uid, row.series_uid, row.uid, row.sop_class)


def _series_values(header: Header, study: int) -> dict[str, Any]:
    return {
        "study_id": study, "uid": header.series_uid, "modality": header.modality,
        "number": header.series_number, "description": header.series_description,
        "body_part": header.body_part, "laterality": header.laterality,
    }  # fmt: skip


def _inserted(connection: Connection, statement: Any, values: dict[str, Any]) -> int:
    """The number of the row that was made."""
    made = connection.execute(statement, values).inserted_primary_key
    assert made is not None
    return int(made[0])


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
