"""The worklist and one study, as the page and the REST interface ask for them.

Reads only; what the list holds and in which order is :mod:`carina.serving.worklist`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from carina.serving import worklist
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
from carina.serving.web.drawn import Drawn
from carina.serving.worklist import Filter, Order, Row, State

View = Literal["open", "read", "all"]
Counted = Drawn[dict[Rank, int]]
MOST = 200  # rows in one page
MANY = 5000  # studies whose counting takes longer than a page should
COUNTED = 0.4  # seconds that such a count holds: an open page asks no sooner after a change (worklist.js)
RANKS = {rank.name.lower().replace("_", "-"): rank for rank in Rank}  # "now", "not-analysed", …


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of the list; ``counts`` are of all ranks under the filter, ``total`` of the one asked for."""

    rows: Sequence[Row]
    total: int
    counts: dict[Rank, int]


def asked(view: View, urgency: str | None, text: str, second_reading: bool) -> Filter:
    """The filter of a page's address. What was read stands by when it was read, everything by arrival."""
    return Filter(
        state=State(view),
        order=Order.LATEST if view == "all" else Order.NEED,
        ranks=(RANKS[urgency],) if urgency else (),
        text=text or None,
        second_reading=True if second_reading else None,
    )


def counted() -> Counted:
    """Keeps the counts of long lists; short ones are counted anew each time."""
    return Drawn(COUNTED, lambda counts: sum(counts.values()) > MANY)


def page(session: Session, wanted: Filter, offset: int, limit: int, kept: Counted) -> Page:
    """The rows from ``offset`` on, and how many there are of each rank."""
    every = replace(wanted, ranks=())
    counts = kept.get(every, 0, lambda: worklist.counts(session, every))
    total = sum(counts[rank] for rank in wanted.ranks or Rank)
    return Page(worklist.page(session, wanted, offset, min(limit, MOST)), total, counts)


@dataclass(frozen=True, slots=True)
class Whole:
    """One study with everything that is known of it. ``said`` is the newest answer for each instance."""

    study: Study
    instances: Sequence[Instance]
    series: dict[int, Series]
    said: dict[int, PredictionRow]
    feedback: Sequence[Feedback]
    deliveries: Sequence[Delivery]
    priors: Sequence[Row]
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
        priors=worklist.prior(session, study),
        waiting_jobs=session.scalar(
            select(func.count())
            .select_from(Job)
            .join(Instance, Instance.id == Job.instance_id)
            .where(Instance.study_id == study_id, Job.state.in_((JobState.WAITING, JobState.TAKEN)))
        )
        or 0,
    )


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
