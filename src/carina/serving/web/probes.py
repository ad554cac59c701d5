"""What machines ask: is the process there, does it work, and how much has it done.

``/health`` and ``/ready`` are open to all and say one word each; figures need a key. None holds anything of a
patient.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from carina import __version__
from carina.serving.schema import Delivery, Feedback, Instance, Job, JobState, PredictionRow, Study
from carina.serving.web.site import NEEDED, Here, faults
from carina.serving.web.who import Viewer
from carina.serving.web.words import RANK_WORDS

router = APIRouter(tags=["machines"])


class _Plain(Response):
    media_type = "text/plain"


@router.get("/health", response_class=_Plain)
def health() -> Response:
    """200 while the process answers at all."""
    return _Plain("here\n")


@router.get("/ready", response_class=_Plain, responses={503: {"description": "not ready"}})
def ready(site: Here) -> Response:
    """200 when films are taken in and scored; 503 names the parts of that which are not well.

    A destination that is away, or an alarm of the monitoring, is told on the page and in the figures: taking
    this service out of the way of films would mend neither.
    """
    try:
        with site.database.read() as session:
            parts = sorted({fault.part for fault in faults(site, session)} & set(NEEDED))
    except SQLAlchemyError:
        parts = ["database"]
    return _Plain(f"not ready: {', '.join(parts)}\n", 503) if parts else _Plain("ready\n")


@router.get("/metrics", response_class=_Plain)
def metrics(site: Here, person: Viewer) -> Response:
    """Figures for Prometheus, counted in the database: the same from every web process."""
    registry = CollectorRegistry()

    def gauge(name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"carina_{name}", says, labels, registry=registry)

    with site.database.read() as session:
        gauge("build_info", "Version.", "version").labels(__version__).set(1)
        unwell = {fault.part for fault in faults(site, session)}
        well = gauge("well", "1 where a part of the service is well.", "part")
        for part in sorted({*NEEDED, *unwell}):
            well.labels(part).set(part not in unwell)
        studies = gauge("studies_open", "Studies that nobody has read yet.", "urgency")
        oldest = gauge("oldest_open_seconds", "How long the oldest of them has waited.", "urgency")
        found = {
            row[0]: (row[1], row[2])
            for row in session.execute(
                select(Study.rank, func.count(), func.min(Study.received_at))
                .where(Study.read_at.is_(None))
                .group_by(Study.rank)
            )
        }
        for word in dict.fromkeys(RANK_WORDS.values()):
            rows = [found[rank] for rank, said in RANK_WORDS.items() if said == word and rank in found]
            studies.labels(word).set(sum(row[0] for row in rows))
            first = min((row[1] for row in rows), default=None)
            oldest.labels(word).set((site.clock() - first).total_seconds() if first else 0)
        jobs = gauge("jobs", "Films to score.", "state")
        deliveries = gauge("deliveries", "Results to deliver.", "destination", "state")
        for state, number in session.execute(select(Job.state, func.count()).group_by(Job.state)):
            jobs.labels(str(state)).set(number)
        counted = select(Delivery.destination, Delivery.state, func.count())
        for place, state, number in session.execute(counted.group_by(Delivery.destination, Delivery.state)):
            deliveries.labels(place, str(state)).set(number)
        said = gauge("predictions", "Films that were looked at.", "outcome")
        for outcome, number in session.execute(
            select(PredictionRow.outcome, func.count()).group_by(PredictionRow.outcome)
        ):
            said.labels(outcome).set(number)
        answers = gauge("feedback", "What readers said.", "kind")
        for kind, number in session.execute(select(Feedback.kind, func.count()).group_by(Feedback.kind)):
            answers.labels(kind).set(number)
        gauge("instances", "Stored files.").set(session.scalar(select(func.count(Instance.id))) or 0)
        gauge("jobs_dead", "Films that were given up.").set(
            session.scalar(select(func.count()).where(Job.state == JobState.DEAD)) or 0
        )
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
