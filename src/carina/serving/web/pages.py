"""The pages: what a browser is shown. Everything they change goes through the REST interface."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from carina import __version__
from carina.serving import ladder, people, worklist
from carina.serving.intake import OTHER_PATIENT
from carina.serving.people import Person, Role
from carina.serving.schema import AuditEntry, Delivery, Event, JobState, Rank, Step
from carina.serving.web import dashboard, facts, listing, words
from carina.serving.web.api import healthy_classes
from carina.serving.web.api_results import step_facts
from carina.serving.web.forms import NOTICE, Number, StudyFacts
from carina.serving.web.plots import meter
from carina.serving.web.site import Here, Site, faults, model_card, step, unproven
from carina.serving.web.who import Admin, Reader, Viewer

router = APIRouter(include_in_schema=False)

ROWS = 50  # of one page of the worklist
LOG_ROWS = 200


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("carina.serving.web", "templates"),
        autoescape=True,  # everything, whatever the template is called
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        person=words.person_name,
        date=words.date,
        time=words.time,
        wait=words.wait,
        share=words.share,
        score=words.score,
        size=words.size,
        state=words.state,
        years=words.years,
        detail=words.detail,
    )
    made.globals.update(
        notice=NOTICE,
        version=__version__,
        rank_word=lambda rank: words.RANK_WORDS[rank],
        rank_mark=lambda rank: words.RANK_MARKS[rank],
        rank_key=lambda rank: Rank(rank).name.lower().replace("_", "-"),
        meter=meter,
        built=files("carina.serving.web").joinpath("static").is_dir() and __version__,
    )
    return made


templates = Jinja2Templates(env=_environment())


@router.get("/")
def home(person: Viewer) -> Response:
    """The worklist."""
    return RedirectResponse("/worklist", status_code=303)


Text = Annotated[str, Query(max_length=200)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Urgency = Annotated[str | None, Query(pattern="^(now|soon|not-analysed|not-flagged|likely-clear)?$")]


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of the list that an address asks for."""

    view: listing.View = "open"
    urgency: Urgency = None
    q: Text = ""
    second: bool = False
    offset: Offset = 0

    def address(self, **change: object) -> str:
        """This list with something changed, as a query; what is as by default is left out."""
        asked, usual = {**asdict(self), **change}, asdict(Asked())
        return urlencode({key: value for key, value in asked.items() if value and value != usual[key]})


async def _asked(
    view: listing.View = "open",
    urgency: Urgency = None,
    q: Text = "",
    second: bool = False,
    offset: Offset = 0,
) -> Asked:
    return Asked(view, urgency, q, second, offset)


Wanted = Annotated[Asked, Depends(_asked)]


def _list(site: Site, session: Session, asked: Asked) -> dict[str, Any]:
    wanted = listing.asked(asked.view, asked.urgency, asked.q, asked.second)
    found = listing.page(session, wanted, asked.offset, ROWS, site.counted)
    now = site.clock()
    return {
        "rows": [(study, facts.row(study, now)) for study in found.rows],
        "found": found,
        "text": asked.q,
        "second": asked.second,
        "view": asked.view,
        "urgency": asked.urgency,
        "offset": asked.offset,
        "limit": ROWS,
        "address": asked.address,
        "now": now,
        "pictures": listing.pictures(session, [study.id for study in found.rows]),
    }


def _drawn(site: Site, session: Session, asked: Asked) -> str:
    """The list that is asked for, as HTML: drawn for all that ask for the same."""

    def draw() -> str:
        context = _list(site, session, asked)
        return templates.get_template("_list.html").render(**context, faults=faults(site, session))

    newest = session.scalar(select(func.max(Event.id))) or 0
    return site.drawn.get(asked, newest, draw)


@router.get("/worklist")
def the_list(request: Request, site: Here, person: Viewer, asked: Wanted) -> Response:
    """Studies in order of need."""
    with site.database.read() as session:
        drawn = Markup(_drawn(site, session, asked))  # nosec B704 - escaped as it was drawn
        return _page(
            request, site, session, person, "worklist.html",
            drawn=drawn, address=asked.address, view=asked.view, urgency=asked.urgency, text=asked.q,
            second=asked.second, unproven=unproven(session, site.settings),
        )  # fmt: skip


@router.get("/worklist/rows")
def rows(site: Here, person: Viewer, asked: Wanted) -> Response:
    """The list alone, for a page that is open: it takes what has changed."""
    with site.database.read() as session:
        return HTMLResponse(_drawn(site, session, asked))


@router.get("/studies/{study_id}")
def study(request: Request, study_id: Annotated[Number, Path()], site: Here, person: Viewer) -> Response:
    """One study: the film, what was said of it, and what a reader says."""
    from carina.serving import auditlog

    with site.database.read() as session:
        found = listing.whole(session, study_id)
        if found is None:
            raise HTTPException(404, "there is no study of this number")
        told = facts.whole(found, healthy_classes(session), site.settings.heat_maps, site.clock())
        after = worklist.after(session, found.study)
        card = model_card(session, found.study.model_id)
        response = _page(
            request, site, session, person, "study.html",
            study=found.study, told=told, after=after, card=card, waiting_jobs=found.waiting_jobs,
            point=_point(card, found.study.threshold), warnings=_warnings(told),
        )  # fmt: skip
    with site.database.write() as session:
        auditlog.append(session, person.name, "study opened", f"study {study_id}", now=site.clock())
    return response


def _warnings(told: StudyFacts) -> list[str]:
    """What must be seen before any film: files that contradict each other, with the films' places."""
    known = [place for place, each in enumerate(told.instances, 1) if each.conflict]
    other = [place for place, each in enumerate(told.instances, 1) if each.problem == OTHER_PATIENT]
    said = []
    if known:
        where = ", ".join(map(str, known))
        said.append(f"Two files with other bytes came under one UID (film {where}): look at both.")
    if other:
        said.append(f"Film {', '.join(map(str, other))} names another patient than the rest of this study.")
    if told.conflict and not said:  # what contradicted the others is kept no more
        said.append("Films of this study contradict each other: look at all of them.")
    return said


def _point(card: dict[str, Any] | None, threshold: float | None) -> dict[str, Any] | None:
    """The operating point that a threshold belongs to, with its proof."""
    if card is None or threshold is None:
        return None
    near = (point for point in card["points"] if abs((point["threshold"] or 0) - threshold) < 1e-9)
    found: dict[str, Any] | None = next(near, None)
    return found


@router.get("/upload")
def upload(request: Request, site: Here, person: Reader) -> Response:
    """Films from a folder: drag and drop."""
    with site.database.read() as session:
        return _page(request, site, session, person, "upload.html")


@router.get("/dashboard")
def figures(request: Request, site: Here, person: Viewer, days: dashboard.Days = 7) -> Response:
    """How the department does: arrivals, waits, shares, agreement, drift."""
    with site.database.read() as session:
        told = dashboard.figures(session, site.settings, site.clock(), days)
        return _page(
            request, site, session, person, "dashboard.html", told=told, days=days,
            drift_plot=dashboard.drift_plot,
        )  # fmt: skip


@router.get("/deliveries")
def deliveries(
    request: Request, site: Here, person: Viewer, everything: Annotated[bool, Query(alias="all")] = False
) -> Response:
    """Where results go, and which could not be delivered."""
    with site.database.read() as session:
        newest = select(Delivery).order_by(Delivery.id.desc()).limit(LOG_ROWS)
        if not everything:
            newest = newest.where(Delivery.state != JobState.DONE)
        counts: dict[tuple[str, str], int] = {
            (row[0], row[1]): row[2]
            for row in session.execute(
                select(Delivery.destination, Delivery.state, func.count()).group_by(
                    Delivery.destination, Delivery.state
                )
            )
        }
        return _page(
            request, site, session, person, "deliveries.html",
            deliveries=[facts.delivery(each) for each in session.scalars(newest)],
            counts=counts, destinations=site.settings.destinations, everything=everything,
        )  # fmt: skip


@router.get("/people")
def people_(request: Request, site: Here, person: Admin) -> Response:
    """Who may do what."""
    with site.database.read() as session:
        return _page(
            request, site, session, person, "people.html",
            users=people.users(session), keys=people.keys(session), roles=list(Role),
        )  # fmt: skip


@router.get("/roll-out")
def roll_out(request: Request, site: Here, person: Viewer) -> Response:
    """Which step the site is on, what the next one asks for, and how each was reached."""
    with site.database.read() as session:
        told = step_facts(site, session)
        taken = session.scalars(select(Step).order_by(Step.id.desc()).limit(LOG_ROWS)).all()
        return _page(
            request, site, session, person, "roll-out.html",
            told=told, taken=taken, steps=words.STEPS, stated=words.STATED,
            below=ladder.STEPS[: ladder.STEPS.index(told.step)],
        )  # fmt: skip


@router.get("/log")
def log(
    request: Request, site: Here, person: Admin, before: Annotated[int | None, Query(ge=1, le=2**53)] = None
) -> Response:
    """Who did what."""
    with site.database.read() as session:
        wanted = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(LOG_ROWS)
        if before is not None:
            wanted = wanted.where(AuditEntry.id < before)
        entries = session.scalars(wanted).all()
        return _page(request, site, session, person, "log.html", entries=entries, most=LOG_ROWS)


@router.get("/about")
def about(request: Request, site: Here, person: Viewer) -> Response:
    """What the model is and is not, and what the keys do."""
    with site.database.read() as session:
        return _page(request, site, session, person, "about.html", card=model_card(session))


def sorry(request: Request, status: int, says: str) -> Response:
    """A fault, in words, without anything that was sent."""
    return templates.TemplateResponse(
        request, "sorry.html", {"status": status, "says": says}, status_code=status
    )


def _page(
    request: Request, site: Site, session: Session, person: Person, name: str, **context: Any
) -> Response:
    shared = {
        "person": person,
        "may_read": person.role.may(Role.READER),
        "largest_upload": site.settings.web.largest_upload,
        "may_admin": person.role.may(Role.ADMIN),
        "faults": faults(site, session),
        "step": step(session),
        "heat_maps": site.settings.heat_maps,
        "newest_event": session.scalar(select(func.max(Event.id))) or 0,
        "signs_in": site.settings.web.sign_in,
    }
    return templates.TemplateResponse(request, name, {**shared, **context})
