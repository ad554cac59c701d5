"""The REST interface of results: what was sent where, what could not be, and figures over time."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import defer

from carina.serving import auditlog
from carina.serving.schema import Delivery, Event, JobState
from carina.serving.web import dashboard, facts
from carina.serving.web.forms import DeliveryFacts, Number
from carina.serving.web.site import Here
from carina.serving.web.who import Admin, Viewer

router = APIRouter(prefix="/api/v1", tags=["results"])


class WaitFigures(BaseModel):
    """Waits of one urgency in seconds; ``open`` are not read yet."""

    urgency: str
    read: int
    mean: float | None
    p95: float | None
    most: float | None
    open: int
    oldest: float | None


class AgreementFigures(BaseModel):
    """What readers said of the studies of one outcome."""

    outcome: str
    agreed: int
    disagreed: int
    priority: int
    share: float | None


class Statistics(BaseModel):
    """Figures of some days; ``arrivals`` are, for each kind, those of each label."""

    since: datetime
    until: datetime
    studies: int
    labels: list[str]
    arrivals: dict[str, list[int]]
    waits: list[WaitFigures]
    agreement: list[AgreementFigures]


@router.get("/statistics")
def statistics(site: Here, person: Viewer, days: dashboard.Days = 7) -> Statistics:
    """Arrivals, waits, shares and agreement of the last days."""
    with site.database.read() as session:
        told = dashboard.figures(session, site.clock(), days)
    return Statistics(
        since=told.since,
        until=told.until,
        studies=told.studies,
        labels=list(told.labels),
        arrivals={kind: list(row) for kind, row in zip(told.kinds, told.arrivals, strict=True)},
        waits=[
            WaitFigures(
                urgency=each.urgency, read=each.read, mean=each.mean, p95=each.p95, most=each.most,
                open=each.open_, oldest=each.oldest,
            )
            for each in told.waits
        ],
        agreement=[
            AgreementFigures(
                outcome=each.outcome, agreed=each.agreed, disagreed=each.disagreed, priority=each.priority,
                share=each.share,
            )
            for each in told.agreement
        ],
    )  # fmt: skip


@router.get("/deliveries")
def deliveries(
    site: Here,
    person: Viewer,
    state: Annotated[str | None, Query(pattern="^(waiting|taken|done|dead)$")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[DeliveryFacts]:
    """Results on their way, the newest first; ``dead`` ones were given up."""
    wanted = select(Delivery).options(defer(Delivery.payload)).order_by(Delivery.id.desc()).limit(limit)
    if state is not None:
        wanted = wanted.where(Delivery.state == state)
    with site.database.read() as session:
        return [facts.delivery(each) for each in session.scalars(wanted)]


@router.post("/deliveries/{delivery_id}/retry", responses={404: {"description": "no such delivery"}})
def retry(
    delivery_id: Annotated[Number, Path(description="our own number of the delivery")],
    site: Here,
    person: Admin,
) -> DeliveryFacts:
    """Try a result again that was given up: the same object, under the same UID. 409 for any other."""
    now = site.clock()
    with site.database.write() as session:
        found = session.get(Delivery, delivery_id, with_for_update=True)
        if found is None:
            raise HTTPException(404, "there is no delivery of this number")
        if found.state != JobState.DEAD:
            raise HTTPException(
                409, f"this delivery is {found.state}; only one that was given up is tried again"
            )
        found.state, found.attempts, found.not_before, found.lease_until = JobState.WAITING, 0, now, None
        session.add(Event(at=now, kind="delivery", study_id=found.study_id))
        detail = {"delivery": found.id, "destination": found.destination}
        auditlog.append(
            session, person.name, "delivery tried again", f"study {found.study_id}", detail, now=now
        )
        return facts.delivery(found)
