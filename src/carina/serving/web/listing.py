"""The worklist and one study, as the page and the REST interface ask for them.

Reads only. What stands where was decided when a study was decided (``rank``, ``weight``, ``received_at``);
here it is only sorted by, through the index ``studies_open``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session, defer

from carina.serving.schema import (
    Delivery,
    Feedback,
    Instance,
    Job,
    JobState,
    PredictionRow,
    Rank,
    Series,
    Study,
)

View = Literal["open", "read", "all"]
MOST = 200  # rows in one page
RANKS = {rank.name.lower().replace("_", "-"): rank for rank in Rank}  # "now", "not-analysed", …


@dataclass(frozen=True, slots=True)
class Filter:
    """What the list is narrowed to. ``text`` is looked for in patient, accession, description and UID."""

    view: View = "open"
    rank: Rank | None = None
    text: str = ""
    second_reading: bool = False

    def where(self) -> list[ColumnElement[bool]]:
        """The conditions; those of the rank come last."""
        found: list[ColumnElement[bool]] = []
        if self.view == "open":
            found.append(Study.read_at.is_(None))
        elif self.view == "read":
            found.append(Study.read_at.is_not(None))
        for word in self.text.split()[:6]:
            pattern = "%" + word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
            columns = (Study.patient_name, Study.patient_id, Study.accession, Study.description, Study.uid)
            found.append(or_(*(column.ilike(pattern, escape="\\") for column in columns)))
        if self.second_reading:
            found.append(Study.second_reading.is_(True))
        return found

    def whole(self) -> list[ColumnElement[bool]]:
        """All conditions."""
        return self.where() + ([Study.rank == int(self.rank)] if self.rank is not None else [])


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of the list; ``counts`` are of all ranks under the filter, ``total`` of the one asked for."""

    rows: Sequence[Study]
    total: int
    counts: dict[Rank, int]


def page(session: Session, filter_: Filter, offset: int, limit: int) -> Page:
    """The rows ``offset`` … ``offset + limit`` in the order of need; what was read: the newest first."""
    limit = min(limit, MOST)
    counts = dict.fromkeys(Rank, 0)
    for rank, count in session.execute(
        select(Study.rank, func.count()).where(*filter_.where()).group_by(Study.rank)
    ):
        counts[Rank(rank)] = count
    total = sum(counts.values()) if filter_.rank is None else counts[filter_.rank]
    ids = list(session.scalars(_ordered(select(Study.id), filter_).offset(offset).limit(limit)))  # index only
    found = {study.id: study for study in session.scalars(select(Study).where(Study.id.in_(ids)))}
    return Page([found[each] for each in ids], total, counts)


def _ordered(query: Select[Any], filter_: Filter) -> Select[Any]:
    query = query.where(*filter_.whole())
    if filter_.view == "open":
        return query.order_by(Study.rank, Study.weight, Study.received_at, Study.id)
    if filter_.view == "read":
        return query.order_by(Study.read_at.desc(), Study.id.desc())
    return query.order_by(Study.received_at.desc(), Study.id.desc())


@dataclass(frozen=True, slots=True)
class Whole:
    """One study with everything that is known of it. ``said`` is the newest answer for each instance."""

    study: Study
    instances: Sequence[Instance]
    series: dict[int, Series]
    said: dict[int, PredictionRow]
    feedback: Sequence[Feedback]
    deliveries: Sequence[Delivery]
    priors: Sequence[Study]
    waiting_jobs: int


def whole(session: Session, study_id: int) -> Whole | None:
    """Everything of one study; None where there is none of this number."""
    study = session.get(Study, study_id)
    if study is None:
        return None
    instances = session.scalars(
        select(Instance).where(Instance.study_id == study_id).order_by(Instance.series_id, Instance.id)
    ).all()
    said: dict[int, PredictionRow] = {}
    for row in session.scalars(
        select(PredictionRow)
        .join(Instance, Instance.id == PredictionRow.instance_id)
        .where(Instance.study_id == study_id)
        .options(defer(PredictionRow.thumbnail), defer(PredictionRow.cam))
        .order_by(PredictionRow.id)
    ):
        said[row.instance_id] = row
    return Whole(
        study=study,
        instances=instances,
        series={each.id: each for each in session.scalars(select(Series).where(Series.study_id == study_id))},
        said=said,
        feedback=session.scalars(
            select(Feedback).where(Feedback.study_id == study_id).order_by(Feedback.id)
        ).all(),
        deliveries=session.scalars(
            select(Delivery)
            .where(Delivery.study_id == study_id)
            .options(defer(Delivery.payload))
            .order_by(Delivery.id)
        ).all(),
        priors=priors(session, study),
        waiting_jobs=session.scalar(
            select(func.count())
            .select_from(Job)
            .join(Instance, Instance.id == Job.instance_id)
            .where(Instance.study_id == study_id, Job.state.in_((JobState.WAITING, JobState.TAKEN)))
        )
        or 0,
    )


def priors(session: Session, study: Study, most: int = 20) -> Sequence[Study]:
    """Other studies of the same patient: the same PatientID of the same issuer, the newest first.

    A study without a PatientID has none. An unknown issuer is only the same as an unknown issuer.
    """
    if not study.patient_id:
        return ()
    same_issuer = Study.issuer == study.issuer if study.issuer is not None else Study.issuer.is_(None)
    return session.scalars(
        select(Study)
        .where(Study.patient_id == study.patient_id, same_issuer, Study.id != study.id)
        .order_by(Study.study_date.desc(), Study.received_at.desc())
        .limit(most)
    ).all()


def thumbnail(session: Session, study_id: int) -> bytes | None:
    """The small picture of the film that speaks loudest, else of any film that has one."""
    loudest = session.scalar(select(Study.instance_id).where(Study.id == study_id))
    pictures = (
        select(PredictionRow.thumbnail)
        .join(Instance, Instance.id == PredictionRow.instance_id)
        .where(Instance.study_id == study_id, PredictionRow.thumbnail.is_not(None))
        .order_by((PredictionRow.instance_id == loudest).desc(), PredictionRow.id.desc())
        .limit(1)
    )
    return session.scalar(pictures)


def pictures(session: Session, studies: Sequence[int]) -> dict[int, int]:
    """For each study that has a small picture the prediction it comes from: the address changes with it."""
    rows = session.execute(
        select(Instance.study_id, func.max(PredictionRow.id))
        .join(Instance, Instance.id == PredictionRow.instance_id)
        .where(Instance.study_id.in_(studies), PredictionRow.thumbnail.is_not(None))
        .group_by(Instance.study_id)
    )
    return {row[0]: row[1] for row in rows}


def next_open(session: Session, study: Study) -> int | None:
    """The study that stands after this one on the open list, or the first of it."""
    columns = (Study.rank, Study.weight, Study.received_at, Study.id)
    here = [literal(getattr(study, column.key), column.type) for column in columns]
    others = select(Study.id).where(Study.read_at.is_(None), Study.id != study.id).order_by(*columns).limit(1)
    after = session.scalar(others.where(tuple_(*columns) > tuple_(*here))) if study.read_at is None else None
    return after if after is not None else session.scalar(others)
