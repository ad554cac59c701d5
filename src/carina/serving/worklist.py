"""The worklist: which studies are open, in order of need; found again by name, number or day; counted.

Only reads. What stands where was settled when the study was decided (:mod:`carina.serving.order`), so a page
of the list is one walk along an index, with 100,000 studies as with ten. Searching is for whole words from
their beginning (a patient's number, an accession number) or for a part of a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, tuple_, union
from sqlalchemy.orm import Session

from carina.serving.schema import Instance, Rank, Series, Study

PAGE = 50  # rows
MOST = 500  # rows of one page
_NEED = (Study.rank, Study.weight, Study.received_at, Study.id)  # the order of need
_SHORT = 3  # letters; a part of a name has at least so many


class State(StrEnum):
    """Which studies: those that nobody read, those that were, or all."""

    OPEN = "open"
    READ = "read"
    ALL = "all"


class Order(StrEnum):
    """By need; or by arrival, the first first (where Carina may not set the order), or the latest first."""

    NEED = "need"
    ARRIVAL = "arrival"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for. None: whatever it is."""

    state: State = State.OPEN
    order: Order = Order.NEED
    ranks: tuple[Rank, ...] = ()
    text: str | None = None  # of a patient's name or number, an accession number, a study UID
    since: datetime | None = None  # received at or after
    until: datetime | None = None  # received before
    second_reading: bool | None = None
    overdue: bool | None = None
    finding: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One study of the list. Patient facts as DICOM has them; see :class:`carina.serving.schema.Study`."""

    id: int
    uid: str
    patient_id: str | None
    patient_name: str | None
    birth_date: str | None
    sex: str | None
    age: float | None
    accession: str | None
    description: str | None
    study_date: str | None
    origin: str
    state: str
    version: int
    received_at: datetime
    last_received_at: datetime
    rank: int
    raised_at: datetime | None
    due_at: datetime | None
    outcome: str | None
    urgency: str | None
    finding: str | None
    because: str | None
    code: str | None
    p_disease: float | None
    threshold: float | None
    suggestion: str | None
    decided_at: datetime | None
    instance_id: int | None
    second_reading: bool
    conflict: bool
    flagged_by: str | None
    read_at: datetime | None
    read_by: str | None
    films: int = 0
    modalities: tuple[str, ...] = ()
    file: str | None = None  # what an uploaded file was called


_COLUMNS = tuple(name for name in Row.__slots__ if name not in ("films", "modalities", "file"))


def page(session: Session, wanted: Filter, offset: int = 0, limit: int = PAGE) -> list[Row]:
    """Rows of the list from ``offset`` on, at most ``limit`` (and ``MOST``)."""
    numbers = _ordered(_filtered(session, wanted), wanted).with_only_columns(Study.id)
    found = session.scalars(numbers.offset(max(0, offset)).limit(max(0, min(limit, MOST))))
    return rows(session, list(found))


def rows(session: Session, numbers: list[int]) -> list[Row]:
    """The rows of studies (by number), in the order of ``numbers``; what is not there is left out."""
    columns = [getattr(Study, name) for name in _COLUMNS]
    asked = session.execute(select(*columns).where(Study.id.in_(numbers)))
    found: dict[int, dict[str, Any]] = {row["id"]: dict(row) for row in asked.mappings()}
    counted = (
        select(Instance.study_id, func.count(), func.min(Instance.name))
        .where(Instance.study_id.in_(numbers))
        .group_by(Instance.study_id)
    )
    films = {study: (count, name) for study, count, name in session.execute(counted)}
    kinds: dict[int, dict[str, None]] = {}
    series = select(Series.study_id, Series.modality).where(Series.study_id.in_(numbers)).order_by(Series.id)
    for study, modality in session.execute(series):
        if modality:
            kinds.setdefault(study, {})[modality] = None
    return [
        Row(
            **found[number],
            films=films.get(number, (0, None))[0],
            modalities=tuple(kinds.get(number, ())),
            file=films.get(number, (0, None))[1],
        )
        for number in numbers
        if number in found
    ]


def total(session: Session, wanted: Filter) -> int:
    """How many studies the whole list has."""
    return session.scalar(_filtered(session, wanted).with_only_columns(func.count(Study.id))) or 0


def counts(session: Session, wanted: Filter | None = None) -> dict[Rank, int]:
    """How many studies of a filter (the open ones by default) stand at each rank."""
    every = _filtered(session, wanted or Filter()).with_only_columns(Study.rank, func.count(Study.id))
    found = {row[0]: row[1] for row in session.execute(every.group_by(Study.rank))}
    return {rank: found.get(int(rank), 0) for rank in Rank}


def prior(session: Session, study: Study, limit: int = 20) -> list[Row]:
    """Other studies of the same patient (number and issuer), the latest first."""
    if not study.patient_id:
        return []
    issuer = Study.issuer.is_(None) if study.issuer is None else Study.issuer == study.issuer
    others = select(Study.id).where(Study.patient_id == study.patient_id, issuer, Study.id != study.id)
    return rows(session, list(session.scalars(others.order_by(Study.received_at.desc()).limit(limit))))


def after(session: Session, study: Study) -> int | None:
    """The study that stands after this one on the open list, or the first of it."""
    here = [literal(getattr(study, column.key), column.type) for column in _NEED]
    others = select(Study.id).where(Study.read_at.is_(None), Study.id != study.id).order_by(*_NEED).limit(1)
    later = session.scalar(others.where(tuple_(*_NEED) > tuple_(*here))) if study.read_at is None else None
    return later if later is not None else session.scalar(others)


def _filtered(session: Session, wanted: Filter) -> Select[Any]:
    """The studies of a filter. What few studies have is looked up first, each by an index of its own."""
    words = (wanted.text or "").split()
    few: list[Select[Any]] = []
    if words:
        few = [select(Study.id).where(each) for each in _matches(session, words[0])]
    elif wanted.second_reading:
        few = [select(Study.id).where(Study.second_reading.is_(True))]
    elif wanted.overdue:
        few = [select(Study.id).where(Study.raised_at.is_not(None))]
    query: Select[Any] = select(Study.id)
    if few:  # an outer join, because SQLite begins one at its left side
        found = union(*few).subquery() if len(few) > 1 else few[0].subquery()
        query = query.select_from(found.outerjoin(Study, Study.id == found.c.id))
    for word in words[1:]:
        query = query.where(or_(*_matches(session, word)))
    return query.where(*_conditions(wanted))


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.state is not State.ALL:
        is_open = wanted.state is State.OPEN
        found.append(Study.read_at.is_(None) if is_open else Study.read_at.is_not(None))
    if wanted.ranks:
        found.append(Study.rank.in_([int(rank) for rank in wanted.ranks]))
    if wanted.since is not None:
        found.append(Study.received_at >= wanted.since)
    if wanted.until is not None:
        found.append(Study.received_at < wanted.until)
    if wanted.second_reading is not None:
        found.append(Study.second_reading.is_(wanted.second_reading))
    if wanted.overdue is not None:
        found.append(Study.raised_at.is_not(None) if wanted.overdue else Study.raised_at.is_(None))
    if wanted.finding is not None:
        found.append(Study.finding == wanted.finding)
    return found


def _matches(session: Session, word: str) -> list[ColumnElement[bool]]:
    """A study that has the word: one of its numbers begins with it, or its name has it anywhere.

    In capitals or small letters alike: numbers are typed from paper. No index folds the case; looking through
    those of 100,000 studies takes some milliseconds, as looking through their names does.
    """
    start = "%" if len(word) >= _SHORT or not word.isascii() else ""
    forms = {word}  # neither SQLite nor PostgreSQL with the locale C folds the case beyond ASCII
    if not word.isascii():
        forms |= {word.upper(), word.lower(), word.title()}
    folded = session.get_bind().dialect.name == "sqlite"  # whose LIKE folds ASCII by itself

    def like(column: Any, before: str) -> ColumnElement[bool]:
        patterns = [f"{before}{_plain(form)}%" for form in sorted(forms)]
        return or_(*((column.like if folded else column.ilike)(each, escape="\\") for each in patterns))

    return [
        _between(Study.uid, word),
        like(Study.patient_id, ""),
        like(Study.accession, ""),
        like(Study.patient_name, start),
    ]


def _between(column: Any, word: str) -> ColumnElement[bool]:
    """``column`` begins with ``word``, in a form that an index serves."""
    return and_(column >= word, column < word + "\U0010ffff")


def _plain(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _ordered(query: Select[Any], wanted: Filter) -> Select[Any]:
    if wanted.order is Order.ARRIVAL:
        return query.order_by(Study.received_at, Study.id)
    if wanted.order is Order.LATEST:
        return query.order_by(Study.received_at.desc(), Study.id.desc())
    if wanted.state is State.READ:
        return query.order_by(Study.read_at.desc(), Study.id.desc())
    if wanted.state is State.OPEN:  # read_at is the same in all
        return query.order_by(*_NEED)
    return query.order_by(Study.read_at.is_not(None), *_NEED)
