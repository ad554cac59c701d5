"""The REST interface of results: what was sent where, what could not be, and figures over time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import APIRouter, Body, HTTPException, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session, defer
from starlette.concurrency import run_in_threadpool

from carina.errors import ReportError, StepError
from carina.serving import auditlog, feedback, ladder
from carina.serving.feedback import ReportRow
from carina.serving.people import Person
from carina.serving.schema import Delivery, Event, JobState, Step
from carina.serving.settings import Ladder
from carina.serving.web import dashboard, facts
from carina.serving.web.forms import DeliveryFacts, Finding, Number
from carina.serving.web.site import Here, Site
from carina.serving.web.who import Admin, Reader, Viewer

_Form = TypeVar("_Form", bound=BaseModel)
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


class DriftFigures(BaseModel):
    """How far one number has moved (PSI); null where there are too few films."""

    name: str
    reference: str
    index: float | None
    alarm: bool
    films_then: int
    films_now: int


class WatchFigures(BaseModel):
    """The sequential test of missed cases."""

    promised: float | None
    cases: int
    missed: int
    evidence: float
    peak: float
    limit: float
    alarm: str | None


class NpvFigures(BaseModel):
    """Of unflagged studies that were looked at twice those without disease, with a 95 % interval."""

    place: str | None
    read: int
    clear: int
    low: float
    high: float


class Statistics(BaseModel):
    """Figures of some days; ``arrivals`` are, for each kind, those of each label."""

    since: datetime
    until: datetime
    studies: int
    labels: list[str]
    arrivals: dict[str, list[int]]
    waits: list[WaitFigures]
    agreement: list[AgreementFigures]
    drift: list[DriftFigures]
    watch: WatchFigures
    npv: list[NpvFigures]
    alarms: list[str]


@router.get("/statistics")
def statistics(site: Here, person: Viewer, days: dashboard.Days = 7) -> Statistics:
    """Arrivals, waits, shares and agreement of the last days."""
    with site.database.read() as session:
        told = dashboard.figures(session, site.settings, site.clock(), days)
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
        drift=[_same(DriftFigures, each) for each in told.drift],
        watch=_same(WatchFigures, told.watch),
        npv=[_same(NpvFigures, each) for each in told.npv],
        alarms=told.alarms,
    )  # fmt: skip


def _same(form: type[_Form], found: object) -> _Form:
    """A form of the fields of the same names."""
    return form(**{name: getattr(found, name) for name in form.model_fields})


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
        found.state, found.attempts, found.lease_until = JobState.WAITING, 0, None
        found.created_at = found.not_before = (
            now  # and all its patience again, as `carina deliveries --again`
        )
        session.add(Event(at=now, kind="delivery", study_id=found.study_id))
        detail = {"delivery": found.id, "destination": found.destination}
        auditlog.append(
            session, person.name, "delivery tried again", f"study {found.study_id}", detail, now=now
        )
        return facts.delivery(found)


class ReportIn(BaseModel):
    """One finding of a report; ``study_uid`` or ``accession`` says whose."""

    model_config = ConfigDict(extra="forbid")

    disease: bool
    study_uid: Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")] | None = None
    accession: Finding | None = None
    finding: Finding | None = None

    @model_validator(mode="after")
    def _of_somebody(self) -> ReportIn:
        if self.study_uid is None and self.accession is None:
            raise ValueError("give study_uid or accession")
        return self


class ReportsTaken(BaseModel):
    """What became of reports."""

    new: int
    matched: int
    known: int
    faults: list[str]


@router.post("/reports", status_code=201, responses={400: {"description": "no table of reports"}})
def reports(
    given: Annotated[list[ReportIn], Body(max_length=10_000)], site: Here, person: Reader
) -> ReportsTaken:
    """Findings of the hospital's own reports: matched to studies now or when these come."""
    rows = [ReportRow(**each.model_dump()) for each in given]
    return _reported(site, person, lambda session, now: feedback.add_reports(session, rows, now))


@router.post(
    "/reports.csv",
    status_code=201,
    responses={400: {"description": "no table of reports"}},
    openapi_extra={"requestBody": {"content": {"text/csv": {}}, "required": True}},
)
async def reports_csv(request: Request, site: Here, person: Reader) -> ReportsTaken:
    """The same as a CSV table: study_uid or accession, disease (yes/no), finding."""
    table = await request.body()

    def take(session: Session, now: datetime) -> feedback.Imported:
        return feedback.import_reports(session, table, now)

    try:
        return await run_in_threadpool(_reported, site, person, take)
    except ReportError as error:
        raise HTTPException(400, str(error)) from None


def _reported(
    site: Site, person: Person, take: Callable[[Session, datetime], feedback.Imported]
) -> ReportsTaken:
    now = site.clock()
    with site.database.write() as session:
        found = take(session, now)
        detail = {"new": found.new, "matched": found.matched, "known": found.known}
        auditlog.append(session, person.name, "reports taken", None, detail, now=now)
    return _same(ReportsTaken, found)


class StepFacts(BaseModel):
    """The step of the roll-out, and what the next one asks for."""

    step: Ladder
    since: datetime | None
    by: str | None
    next: Ladder | None
    demands: list[DemandFacts]


class DemandFacts(BaseModel):
    """One thing that a step asks for."""

    asks: str
    met: bool
    found: str
    states: tuple[str, ...]  # the names of `evidence` under which a person states it; none: it is measured


class StepWanted(BaseModel):
    """The step to go to, and what a person states for it: name → value."""

    model_config = ConfigDict(extra="forbid")

    step: Ladder
    evidence: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=1000)]] = {}


StepFacts.model_rebuild()


@router.get("/step")
def step(site: Here, person: Viewer) -> StepFacts:
    """The step of the roll-out, and what the next one asks for."""
    with site.database.read() as session:
        return step_facts(site, session)


@router.post("/step", responses={409: {"description": "not yet, and what is missing"}})
def take_step(wanted: StepWanted, site: Here, person: Admin) -> StepFacts:
    """Go one step up, when everything it asks for is there; or down, with a reason."""
    try:
        with site.database.write() as session:
            ladder.take(session, site.settings, wanted.step, person.name, wanted.evidence, site.clock())
            return step_facts(site, session)
    except StepError as error:
        raise HTTPException(409, str(error)) from None


def step_facts(site: Site, session: Session) -> StepFacts:
    """Where the site stands, and what the next step asks for while nothing has been stated."""
    here = ladder.current(session)
    newest = session.scalar(select(Step).order_by(Step.id.desc()).limit(1))
    place = ladder.STEPS.index(here) + 1
    after = ladder.STEPS[place] if place < len(ladder.STEPS) else None
    asked = ladder.demands(session, site.settings, after, {}, site.clock()) if after else []
    return StepFacts(
        step=here,
        since=newest.at if newest else None,
        by=newest.by if newest else None,
        next=after,
        demands=[_same(DemandFacts, each) for each in asked],
    )
