"""Who asks, and whether they may: the dependencies of every route.

A browser shows a session cookie, and for every change the session's token beside it; a program shows an
API key and its cookies are not looked at. What a route needs stands in its signature, as ``Viewer``,
``Reader`` or ``Admin``.
"""

from __future__ import annotations

import hmac
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request

from carina.serving import people
from carina.serving.people import Person, Role
from carina.serving.web.guard import SAFE
from carina.serving.web.site import Here, Site

CSRF = "x-csrf-token"
KEY = "bearer "
_REALM = {"WWW-Authenticate": 'Bearer realm="carina"'}


class NotSignedIn(HTTPException):
    """Nobody, or nobody any more. A page is sent to sign in, a program gets 401."""

    def __init__(self, says: str = "sign in, or bring an API key") -> None:
        super().__init__(401, says, _REALM)


def cookie(site: Site) -> str:
    """The cookie's name; browsers hold ``__Host-`` ones to this host, this path and TLS."""
    return "__Host-carina" if site.settings.web.tls else "carina"


def who(request: Request, site: Here) -> Person:
    """The person or program that asks. Raises 401 for nobody, 403 for a change without its token."""
    shown = request.headers.get("authorization")
    if shown is not None:
        key = shown[len(KEY) :].strip() if shown.lower().startswith(KEY) else ""
        with site.database.read() as session:
            found = people.of_key(session, key)
        if found is None:
            raise NotSignedIn("this key opens nothing here")
        return found
    person = _of_browser(request, site)
    if request.method not in SAFE:
        given = request.headers.get(CSRF, "")
        if not hmac.compare_digest(given.encode(), (person.csrf or "").encode()):
            raise HTTPException(403, "the page is older than the session: load it again")
    return person


def _of_browser(request: Request, site: Site) -> Person:
    if not site.settings.web.sign_in:
        return Person("local", Role.ADMIN, site.token)
    token = request.cookies.get(cookie(site))
    if token is None:
        raise NotSignedIn
    now = site.clock()
    with site.database.read() as session:
        person = people.of_session(session, token, now)
        stale = person is not None and people.is_stale(session, token, now)
    if person is None:
        raise NotSignedIn
    if stale:
        with site.database.write() as session:
            people.seen(session, token, now)
    return person


def _at_least(role: Role) -> object:
    async def check(person: Annotated[Person, Depends(who)]) -> Person:
        if not person.role.may(role):
            raise HTTPException(403, f"this needs the role {role}; you are {person.role}")
        return person

    return Depends(check)


Viewer = Annotated[Person, _at_least(Role.VIEWER)]
Reader = Annotated[Person, _at_least(Role.READER)]
Admin = Annotated[Person, _at_least(Role.ADMIN)]


def way_in(request: Request) -> str:
    """Where to sign in, and come back from to the page that was asked for."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return "/sign-in" if request.method != "GET" or asked == "/" else f"/sign-in?next={quote(asked)}"


def local(path: str | None) -> str:
    """``path`` where it is a page of ours, else the worklist: nobody is sent anywhere else."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\")) or not path.isprintable():
        return "/worklist"
    return path
