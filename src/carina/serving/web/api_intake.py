"""The REST interface of films that come in: uploads from the page, STOW-RS from programs.

A body goes to the disk piece by piece and never into memory whole; how many bytes it may have was settled
before (:mod:`carina.serving.web.guard`). What is answered with success is kept.
"""

from __future__ import annotations

import errno
import tempfile
from typing import Annotated, Any, BinaryIO, Literal, cast

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from carina.errors import RequestError, StoreError
from carina.serving import auditlog, stow, uploads
from carina.serving.people import Person
from carina.serving.web.forms import Answers
from carina.serving.web.site import Here, Site
from carina.serving.web.who import Reader

router = APIRouter(tags=["films in"])

_REFUSED: Answers = {
    413: {"description": "more bytes than are taken"},
    415: {"description": "neither DICOM nor JPEG nor PNG, or compressed"},
    507: {"description": "no room: send it again later"},
}
_BODY: dict[str, Any] = {"requestBody": {"content": {"application/octet-stream": {}}, "required": True}}
_STOW: dict[str, Any] = {
    "requestBody": {"content": {'multipart/related; type="application/dicom"': {}}, "required": True}
}


class Kept(BaseModel):
    """What became of one file; ``ours`` is a result of Carina itself, which is not kept."""

    name: str
    status: Literal["stored", "known", "conflict", "ours", "refused"]
    study: int | None
    instance: int | None
    fault: str | None


class Uploaded(BaseModel):
    """All files of an upload; a zip has several."""

    files: list[Kept]


@router.post("/api/v1/uploads", status_code=201, responses=_REFUSED, openapi_extra=_BODY)
async def upload(
    request: Request,
    site: Here,
    person: Reader,
    name: Annotated[str, Query(max_length=200, description="the file's name, for people")] = "film",
) -> Uploaded:
    """A DICOM, JPEG or PNG file, or a zip of them, as the whole body.

    201 when at least one film is kept or was kept before; the fault of the first one otherwise.
    """
    try:
        site.settings.data.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=site.settings.data) as spooled:
            async for chunk in request.stream():
                await run_in_threadpool(spooled.write, chunk)
            spooled.seek(0)
            outcomes = await run_in_threadpool(_take, site, person, request, cast("BinaryIO", spooled), name)
    except OSError as error:
        status = 507 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 500
        raise HTTPException(status, "it cannot be written to the disk; send it again later") from None
    kept = [each for each in outcomes if each.receipt is not None]
    if not kept:
        status, fault = (outcomes[0].status, outcomes[0].reason) if outcomes else (415, "the zip is empty")
        raise HTTPException(status, fault or "it was not kept")
    return Uploaded(files=[_kept(each) for each in outcomes])


def _take(site: Site, person: Person, request: Request, file: BinaryIO, name: str) -> list[uploads.Outcome]:
    outcomes = list(
        uploads.take(
            file,
            name,
            site.intake,
            sender=person.name,
            address=request.client.host if request.client else None,
            largest=site.settings.dicom.largest_instance,
            most=site.settings.web.largest_upload,
        )
    )
    kept = sorted({each.receipt.study_id for each in outcomes if each.receipt is not None} - {0})
    with site.database.write() as session:
        detail = {"files": len(outcomes), "studies": kept[:100]}
        auditlog.append(session, person.name, "films uploaded", None, detail, now=site.clock())
    return outcomes


def _kept(outcome: uploads.Outcome) -> Kept:
    receipt = outcome.receipt
    return Kept(
        name=outcome.name,
        status=receipt.status if receipt else "refused",
        study=(receipt.study_id or None) if receipt else None,
        instance=(receipt.instance_id or None) if receipt else None,
        fault=outcome.reason,
    )


@router.post("/dicom-web/studies", responses=_REFUSED, openapi_extra=_STOW)
async def stow_any(request: Request, site: Here, person: Reader) -> Response:
    """STOW-RS: instances of any study (DICOM PS3.18, 10.5)."""
    return await _stow(request, site, person, None)


@router.post("/dicom-web/studies/{study_uid}", responses=_REFUSED, openapi_extra=_STOW)
async def stow_one(
    request: Request,
    site: Here,
    person: Reader,
    study_uid: Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")],
) -> Response:
    """STOW-RS: instances of this study; those of another one are refused."""
    return await _stow(request, site, person, study_uid)


async def _stow(request: Request, site: Site, person: Person, study_uid: str | None) -> Response:
    try:
        reception = stow.Reception(
            request.headers.get("content-type", ""),
            site.intake,
            sender=person.name,
            address=request.client.host if request.client else None,
            largest=site.settings.dicom.largest_instance,
            study_uid=study_uid,
        )
        with reception:
            async for chunk in request.stream():
                await run_in_threadpool(reception.feed, chunk)
            answer = await run_in_threadpool(reception.finish)
    except RequestError as error:
        raise HTTPException(400, str(error)) from None
    except StoreError as error:
        raise HTTPException(error.http, str(error)) from None
    return JSONResponse(answer.body, answer.status, media_type="application/dicom+json")
