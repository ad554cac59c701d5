"""Signing in: the one form of the page that works without a script.

A new session gets a new token, whatever the browser brought along. The form carries a token that must be the
one in a cookie of its own, so that nobody is signed in from elsewhere as somebody else.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select

from carina.errors import SignInRefused
from carina.serving.doorkeeper import sign_in
from carina.serving.people import MOST_PASSWORD
from carina.serving.schema import User
from carina.serving.web.pages import templates
from carina.serving.web.site import Here, Site
from carina.serving.web.who import cookie, local

router = APIRouter(include_in_schema=False)
_FORM = "carina-form"


@router.get("/sign-in")
def form(
    request: Request, site: Here, next_: Annotated[str, Query(alias="next", max_length=2000)] = ""
) -> Response:
    """The form; where nobody signs in, the worklist."""
    if not site.settings.web.sign_in:
        return RedirectResponse("/worklist", status_code=303)
    return _form(request, site, next_, None, 200)


@router.post("/sign-in")
def enter(
    request: Request,
    site: Here,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=4 * MOST_PASSWORD)],
    form: Annotated[str, Form(max_length=200)] = "",
    next_: Annotated[str, Form(alias="next", max_length=2000)] = "",
) -> Response:
    """Look at name and password; a session and the page that was asked for, or the form again."""
    kept = request.cookies.get(_FORM, "")
    if not kept or not hmac.compare_digest(kept.encode(), form.encode()):
        return _form(request, site, next_, "the form was too old; please try again", 403)
    address = request.client.host if request.client else "unknown"
    try:
        signed_in = sign_in(
            site.database, name, password, address, site.clock(), site.settings.web.session_hours
        )
    except SignInRefused as refused:
        response = _form(request, site, next_, str(refused), 429 if refused.wait else 401)
        if refused.wait:
            response.headers["Retry-After"] = str(int(refused.wait) + 1)
        return response
    response = RedirectResponse(local(next_), status_code=303)
    _set(response, site, cookie(site), signed_in.token, int(site.settings.web.session_hours * 3600))
    response.delete_cookie(_FORM, path="/sign-in")
    return response


def _form(request: Request, site: Site, next_: str, fault: str | None, status: int) -> Response:
    with site.database.read() as session:
        somebody = session.scalar(select(User.id).limit(1)) is not None
    token = secrets.token_urlsafe(24)
    context = {"token": token, "next": local(next_), "fault": fault, "somebody": somebody}
    response = templates.TemplateResponse(request, "sign-in.html", context, status_code=status)
    _set(response, site, _FORM, token, 3600, path="/sign-in")
    return response


def _set(response: Response, site: Site, name: str, value: str, age: int, path: str = "/") -> None:
    response.set_cookie(
        name,
        value,
        max_age=age,
        path=path,
        secure=site.settings.web.tls is not None,
        httponly=True,
        samesite="strict",
    )
