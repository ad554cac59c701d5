"""The REST interface of readers: the worklist, a study, what somebody says of it, films out and in.

Everything the page does is done here. Each function checks, calls one thing, and gives plain facts back.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from carina.serving import people
from carina.serving.schema import Model, Study
from carina.serving.web import facts, listing, readers
from carina.serving.web.forms import (
    Answers,
    FaultFacts,
    FeedbackFacts,
    Flag,
    Me,
    Number,
    Row,
    Say,
    Status,
    StudyFacts,
    Worklist,
)
from carina.serving.web.site import Here, faults, model_card, step
from carina.serving.web.who import Reader, Viewer, cookie
from carina.serving.web.words import RANK_WORDS

router = APIRouter(prefix="/api/v1", tags=["readers"])

StudyId = Annotated[Number, Path(description="our own number of the study")]
_ABSENT: Answers = {404: {"description": "there is no such study"}}


@router.get("/me")
def me(person: Viewer) -> Me:
    """Who asks, and what they may do."""
    return Me(name=person.name, role=person.role)


@router.delete("/session", status_code=204)
def end_session(request: Request, response: Response, site: Here, person: Viewer) -> None:
    """Sign out: this session opens nothing any more."""
    token = request.cookies.get(cookie(site))
    if token:
        with site.database.write() as session:
            people.sign_out(session, token)
    response.delete_cookie(cookie(site), path="/", httponly=True, samesite="strict")


@router.get("/status")
def status(site: Here, person: Viewer) -> Status:
    """How well the service is."""
    with site.database.read() as session:
        found = faults(site, session)
        card = model_card(session)
        return Status(
            well=not found,
            faults=[FaultFacts(part=each.part, says=each.says) for each in found],
            step=step(session),
            model=card["name"] if card else None,
            heat_maps=site.settings.heat_maps,
        )


@router.get("/worklist")
def worklist(
    site: Here,
    person: Viewer,
    view: Annotated[listing.View, Query(description="open: not read yet")] = "open",
    urgency: Annotated[
        str | None, Query(pattern="^(now|soon|not-analysed|not-flagged|likely-clear)$")
    ] = None,
    q: Annotated[str, Query(max_length=200, description="a name or its beginning, a number")] = "",
    second_reading: Annotated[bool, Query(description="only those drawn for a second reading")] = False,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=listing.MOST)] = 50,
) -> Worklist:
    """Studies in the order in which a doctor should open them."""
    wanted = listing.asked(view, urgency, q, second_reading)
    now = site.clock()
    with site.database.read() as session:
        found = listing.page(session, wanted, offset, limit, site.counted)
        return Worklist(
            step=step(session),
            rows=[facts.row(study, now) for study in found.rows],
            total=found.total,
            offset=offset,
            counts={word: sum(n for rank, n in found.counts.items() if RANK_WORDS[rank] == word)
                    for word in dict.fromkeys(RANK_WORDS.values())},
        )  # fmt: skip


@router.get("/studies/{study_id}", responses=_ABSENT)
def study(study_id: StudyId, site: Here, person: Viewer) -> StudyFacts:
    """Everything of one study."""
    with site.database.read() as session:
        found = listing.whole(session, study_id)
        if found is None:
            raise HTTPException(404, "there is no study of this number")
        return facts.whole(found, healthy_classes(session), site.settings.heat_maps, site.clock())


@router.post("/studies/{study_id}/feedback", status_code=201, responses=_ABSENT)
def feedback(study_id: StudyId, said: Say, site: Here, person: Reader) -> FeedbackFacts:
    """What a reader says: ``read``; ``agree`` or ``disagree`` (with what it was); ``priority`` was wrong.

    Whoever says one of the first three has read the study: it leaves the open list.
    """
    with site.database.write() as session:
        answer = readers.say(
            session,
            _study(session, study_id),
            person,
            said.kind,
            site.clock(),
            disease=said.disease,
            finding=said.finding,
            comment=said.comment or None,
        )
        return facts.feedback(answer)


@router.delete("/studies/{study_id}/read", responses=_ABSENT)
def unread(study_id: StudyId, site: Here, person: Reader) -> Row:
    """Put a study back on the open list; what was said of it stays."""
    with site.database.write() as session:
        found = _study(session, study_id)
        readers.unread(session, found, person, site.clock())
        return facts.row(found, site.clock())


@router.put("/studies/{study_id}/flag", responses=_ABSENT)
def flag(study_id: StudyId, wanted: Flag, site: Here, person: Reader) -> Row:
    """Ask for a study to be read now: it stands at the top. Or take that back."""
    with site.database.write() as session:
        found = _study(session, study_id)
        readers.flag(session, found, person, wanted.flagged, site.settings.waits, site.clock())
        return facts.row(found, site.clock())


@router.get("/events", response_class=StreamingResponse)
async def events(
    request: Request,
    site: Here,
    person: Viewer,
    since: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> StreamingResponse:
    """What changes, as server-sent events: ``changed`` with the kinds and the studies; null means all."""
    token = request.cookies.get(cookie(site))
    last = request.headers.get("last-event-id", "")
    begin = int(last) if last.isdecimal() and len(last) < 16 else since

    def still() -> bool:
        if not site.settings.web.sign_in or token is None:
            return True
        with site.database.read() as session:
            return people.of_session(session, token, site.clock()) is not None

    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(site.feed.watch(begin, still), media_type="text/event-stream", headers=headers)


def healthy_classes(session: Session) -> dict[int, Any]:
    """For each model the classes that mean no finding."""
    from sqlalchemy import select

    return {row[0]: row[1] for row in session.execute(select(Model.id, Model.healthy))}


def _study(session: Session, study_id: int) -> Study:
    found = session.get(Study, study_id, with_for_update=True)
    if found is None:
        raise HTTPException(404, "there is no study of this number")
    return found
