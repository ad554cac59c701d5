"""What the page works with, in one value: settings, database, archive, and how well the service is.

Knows the parts, not what is done with them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from carina.serving import ladder, monitoring
from carina.serving.database import Database
from carina.serving.schema import Health, Model
from carina.serving.settings import Settings
from carina.serving.web import listing
from carina.serving.web.drawn import Drawn

if TYPE_CHECKING:
    from carina.serving.archive import Archive
    from carina.serving.intake import Intake
    from carina.serving.web.darkroom import Darkroom
    from carina.serving.web.live import Feed

SILENT_AFTER = timedelta(seconds=90)  # without a word a part of the service counts as gone
NEEDED = ("model", "worker", "store")  # without them nothing is analysed
_GONE = {
    "model": "no model is on duty",
    "worker": "nothing works on the films",
    "store": "nobody says whether films are kept",
}


class DutyStatus(Protocol):
    """What the model on duty says of itself, where it runs in this process."""

    @property
    def ready(self) -> bool:
        """Whether it passed its self-test and scores films."""

    @property
    def why_not(self) -> str | None:
        """Why it does not."""


@dataclass(frozen=True)
class Site:
    """Everything a request needs. ``token`` stands in for a session where nobody signs in."""

    settings: Settings
    database: Database
    archive: Archive
    duty_status: Callable[[], DutyStatus] | None
    feed: Feed
    darkroom: Darkroom
    intake: Intake
    clock: Callable[[], datetime]
    drawn: Drawn[str] = field(default_factory=Drawn)
    counted: listing.Counted = field(default_factory=listing.counted)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of the service that is not well, in a sentence for people."""

    part: str
    says: str


def utc_now() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


async def site_of(request: Request) -> Site:  # async: FastAPI gives a plain function a thread of its own
    """The site of the application that a request came to."""
    site: Site = request.app.state.site
    return site


Here = Annotated[Site, Depends(site_of)]


def faults(site: Site, session: Session) -> list[Fault]:
    """What is not well at present: said by the parts themselves, or by their silence.

    Of several workers the freshest words count; one that is gone while others work is no fault. The disk is
    also looked at from here: where it is full or can only be read, nobody's words reach the database.
    """
    now = site.clock()
    parts: dict[str, list[Health]] = {name: [] for name in NEEDED}
    for row in session.scalars(select(Health).order_by(Health.part)):
        parts.setdefault(row.part.split()[0], []).append(row)
    found = []
    status = site.duty_status() if site.duty_status is not None else None
    if status is not None and not status.ready:
        found.append(Fault("model", status.why_not or "it is not ready"))
    well, says = site.archive.condition()
    if fault := site.database.fault or (None if well else says):
        found.append(Fault("store", fault))
        parts["store"] = [row for row in parts["store"] if row.well]
    for name, rows in parts.items():
        fresh = [
            row for row in rows if abs(now - row.at) <= SILENT_AFTER
        ]  # not ahead: the clock was set back
        if not fresh and (name in NEEDED or rows):
            last = max((row.at for row in rows), default=None)
            since = f", nothing heard since {last:%H:%M} UTC" if last else ""
            found.append(Fault(name, f"{_GONE.get(name, 'it is silent')}{since}"))
        found += [Fault(name, row.says) for row in fresh if not row.well]
    return list({(each.part, each.says): each for each in found}.values())


def step(session: Session) -> str:
    """The step of the roll-out; a site that never took one stands on the first."""
    return str(ladder.current(session))


def unproven(session: Session, settings: Settings) -> bool:
    """Whether the model on duty flags by a threshold that nobody has shown to hold at this site."""
    model = monitoring.on_duty(session)
    return model is not None and monitoring.point(model, settings) is None


def model_card(session: Session, model_id: int | None = None) -> dict[str, Any] | None:
    """What is known of a model that has been on duty; the newest where none is named."""
    newest = select(Model).order_by(Model.first_on_duty.desc(), Model.id.desc()).limit(1)
    model = session.get(Model, model_id) if model_id is not None else session.scalar(newest)
    if model is None:
        return None
    data = model.manifest.get("data") or {}
    return {
        "id": model.id,
        "name": model.name,
        "fingerprint": model.fingerprint,
        "created": model.manifest.get("created"),
        "since": model.first_on_duty,
        "diseases": [name for name in model.classes if name not in model.healthy],
        "healthy": list(model.healthy),
        "films": data.get("images"),
        "sources": sorted(data.get("counts") or {}),
        "points": _points(model.manifest),
        "intended_use": (model.manifest.get("sections") or {}).get("intended_use") or {},
        "preparation": model.manifest.get("preparation") or {},
    }


def _points(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The operating points of all sites, each with its proof, flat."""
    sections = (manifest.get("sections") or {}).get("operating_points") or {}
    rows = []
    for name, site in sections.items():
        for point in site.get("points", ()):
            shown = point.get("sensitivity", {})
            spared = point.get("specificity", {})
            rows.append(
                {
                    "site": name,
                    "target": point.get("target"),
                    "threshold": point.get("threshold"),
                    "confidence": point.get("confidence"),
                    "found": shown.get("found"),
                    "people": shown.get("people"),
                    "limit": shown.get("limit"),
                    "spared": spared.get("spared"),
                    "others": spared.get("people"),
                    "created": site.get("created"),
                    "believed": (site.get("verdict") or {}).get("sentence"),
                }
            )
    return rows
