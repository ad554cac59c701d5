"""The application: every route in one place, behind the guard.

``create_app`` takes what it works with and knows nothing of how it came about; ``carina serve`` runs it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from carina import __version__
from carina.errors import PeopleError
from carina.serving.database import Database
from carina.serving.intake import Intake
from carina.serving.settings import Settings
from carina.serving.web import (
    api,
    api_admin,
    api_films,
    api_intake,
    api_results,
    pages,
    probes,
    signing,
)
from carina.serving.web.darkroom import Darkroom
from carina.serving.web.forms import NOTICE, Answers, Fault
from carina.serving.web.guard import Guard, host_name
from carina.serving.web.live import Feed
from carina.serving.web.site import DutyStatus, Site, utc_now
from carina.serving.web.who import NotSignedIn, way_in

if TYPE_CHECKING:
    from carina.serving.archive import Archive

_PROGRAMS = ("/api/", "/dicom-web/", "/metrics")  # they get 401, not a page to sign in
_LIST_BYTES = 16 * 2**20  # of a CSV of reports
_MULTIPART = 2**20  # bytes of a request around the file itself
_EVERYWHERE: Answers = {
    400: {"description": "the request cannot be understood"},
    401: {"description": "nobody has signed in, or the key opens nothing"},
    403: {"description": "this needs another role"},
    413: {"description": "larger than is taken"},
    422: {
        "description": "not possible, in a sentence; or what was asked wrongly",
        "content": {"application/json": {"schema": Fault.model_json_schema()}},
    },
    503: {"description": "the database does not answer"},
}
_SILENT = "the database does not answer; films that are sent now are refused, and must be sent again"


def create_app(
    settings: Settings,
    database: Database,
    archive: Archive,
    duty_status: Callable[[], DutyStatus] | None = None,
    intake: Intake | None = None,
    clock: Callable[[], datetime] | None = None,
) -> FastAPI:
    """The page and the REST interface of a site.

    ``duty_status`` speaks for the model where it runs in this process; elsewhere it is known from the
    table ``health``. Without ``intake`` a new one is made of the database and the archive.
    """
    site = Site(
        settings,
        database,
        archive,
        duty_status,
        Feed(database),
        Darkroom(),
        intake or Intake(database, archive, settings),
        clock=clock or utc_now,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await site.feed.close()
        site.darkroom.close()

    app = FastAPI(
        title="Carina",
        version=__version__,
        summary="Chest radiographs in order of need.",
        description=f"{NOTICE}\n\nPrograms send `Authorization: Bearer KEY` (`carina key add NAME`).",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        separate_input_output_schemas=False,
        responses=_EVERYWHERE,
    )
    app.state.site = site
    for part in (api, api_films, api_intake, api_results, api_admin, pages, probes, signing):
        app.include_router(part.router)
    static = StaticFiles(packages=[("carina.serving.web", "static")])
    app.mount(f"/static/{__version__}", static)  # as pages name it: modules that import each other load once
    app.mount("/static", static, name="static")
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(PeopleError, _not_possible)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(SQLAlchemyError, _database_away)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(
        Guard, hosts=_hosts(settings), caps=_caps(settings), secure=settings.web.tls is not None
    )
    return app


def is_packaged() -> bool:
    """Whether templates and static files came along with the installation."""
    return files("carina.serving.web").joinpath("static", "carina.css").is_file()


def _hosts(settings: Settings) -> frozenset[str]:
    own = {settings.web.host} - {"0.0.0.0", "::", ""}  # taken away, not listened on  # nosec B104
    named = {"localhost", "127.0.0.1", "::1", *own, *settings.web.hosts}
    return frozenset(host_name(name) for name in named)


def _caps(settings: Settings) -> tuple[tuple[re.Pattern[str], int], ...]:
    upload = settings.web.largest_upload + _MULTIPART
    return (
        (re.compile(r"/api/v1/uploads"), upload),
        (re.compile(r"/dicom-web/studies(/[0-9.]{1,64})?"), upload),
        (re.compile(r"/api/v1/reports(\.csv)?"), _LIST_BYTES),
    )


async def _not_signed_in(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith(_PROGRAMS) or request.method != "GET":
        return await http_exception_handler(request, error)
    return RedirectResponse(way_in(request), status_code=303)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith(_PROGRAMS) or "text/html" not in request.headers.get("accept", ""):
        return await http_exception_handler(request, error)
    return pages.sorry(request, error.status_code, str(error.detail))


async def _not_possible(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, status_code=409)


async def _not_understood(_request: Request, error: Exception) -> Response:
    """What is wrong with a request and where, without what was sent: a password, perhaps, or no text."""
    assert isinstance(error, RequestValidationError)
    faults = [{name: each[name] for name in ("loc", "msg", "type")} for each in error.errors()]
    return JSONResponse({"detail": faults}, status_code=422)


async def _gone(_request: Request, _error: Exception) -> Response:
    """Who hung up before the end of a request sent nothing that is kept; nobody hears this answer."""
    return Response(status_code=400)


async def _database_away(request: Request, _error: Exception) -> Response:
    if request.url.path.startswith(_PROGRAMS) or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": _SILENT}, status_code=503)
    return pages.sorry(request, 503, _SILENT)
