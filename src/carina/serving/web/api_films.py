"""The REST interface of films: gray values for the canvas, the file itself, small pictures, heat maps.

Bytes of strangers are given out as bytes and never as a page; pictures are made in processes of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, BinaryIO

from fastapi import APIRouter, HTTPException, Path, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from carina.errors import CarinaError
from carina.serving import auditlog
from carina.serving.housekeeping import REMOVED
from carina.serving.schema import Instance, Model, PredictionRow
from carina.serving.web import listing
from carina.serving.web.darkroom import Unopened
from carina.serving.web.forms import Answers, Number
from carina.serving.web.site import Here, Site
from carina.serving.web.who import Viewer
from carina.serving.web.words import score

router = APIRouter(prefix="/api/v1", tags=["films"])

InstanceId = Annotated[Number, Path(description="our own number of the instance")]
_ABSENT: Answers = {404: {"description": "there is no such film"}}
_KEPT = "private, max-age=3600"  # in the browser of whoever was allowed to see it
_CHUNK = 1 << 18
_PNG: Answers = {200: {"content": {"image/png": {}}}, **_ABSENT}
_KINDS = ("application/dicom", "image/jpeg", "image/png")
_FILE: Answers = {200: {"content": {kind: {} for kind in _KINDS}}, **_ABSENT}


class _Png(Response):
    media_type = "image/png"


class _Bytes(Response):
    media_type = "application/octet-stream"


@router.get("/studies/{study_id}/thumbnail", response_class=_Png, responses=_PNG)
def thumbnail(study_id: Annotated[Number, Path()], site: Here, person: Viewer) -> Response:
    """A small picture of the film that speaks loudest, as PNG."""
    with site.database.read() as session:
        picture = listing.thumbnail(session, study_id)
    if picture is None:
        raise HTTPException(404, "there is no picture of this study")
    return _Png(picture, headers={"Cache-Control": _KEPT})


@router.get("/instances/{instance_id}/pixels", response_class=_Bytes, responses=_ABSENT)
def pixels(instance_id: InstanceId, site: Here, person: Viewer) -> Response:
    """All gray values: 16-bit little-endian, row by row, dark = low.

    ``X-Carina-Size`` is "width height", ``X-Carina-Window`` "low high": shown black and white at first.
    """
    instance = _instance(site, instance_id)
    try:
        film = site.darkroom.film(_content(site, instance), f"film {instance.id}")
    except Unopened as fault:
        raise HTTPException(422, f"this film cannot be shown: {fault}") from None
    headers = {
        "X-Carina-Size": f"{film.width} {film.height}",
        "X-Carina-Window": f"{film.low:.1f} {film.high:.1f}",
        "X-Carina-Bits": str(film.bits),
        "Cache-Control": _KEPT,
    }
    return _Bytes(film.pixels, headers=headers)


@router.get("/instances/{instance_id}/file", response_class=_Bytes, responses=_FILE)
def file(instance_id: InstanceId, site: Here, person: Viewer) -> StreamingResponse:
    """The file, byte for byte as it was sent."""
    instance = _instance(site, instance_id)
    ending = {"image/jpeg": ".jpg", "image/png": ".png"}.get(instance.media_type, ".dcm")
    try:
        handle = site.archive.open(instance.path)
    except (OSError, CarinaError):
        raise HTTPException(410, _gone(instance)) from None
    with site.database.write() as session:
        auditlog.append(
            session, person.name, "file taken", f"study {instance.study_id}", {"instance": instance.id}
        )
    headers = {
        "Content-Disposition": f'attachment; filename="carina-{instance.id}{ending}"',
        "Content-Length": str(instance.size),
    }
    kind = instance.media_type if instance.media_type in _KINDS else "application/octet-stream"
    return StreamingResponse(_pieces(handle), media_type=kind, headers=headers)


@router.get("/instances/{instance_id}/heat-map", response_class=_Png, responses=_PNG)
def heat_map(instance_id: InstanceId, site: Here, person: Viewer) -> Response:
    """Where the network looked, over the film as it saw it; 403 where the site does not allow heat maps."""
    if not site.settings.heat_maps:
        raise HTTPException(403, "this site shows no heat maps (heat_maps in its settings)")
    instance = _instance(site, instance_id)
    with site.database.read() as session:
        said = session.scalar(
            select(PredictionRow)
            .where(PredictionRow.instance_id == instance_id, PredictionRow.cam.is_not(None))
            .order_by(PredictionRow.id.desc())
            .limit(1)
        )
        model = session.get(Model, said.model_id) if said is not None and said.model_id else None
    if said is None or said.cam is None or said.cam_shape is None or model is None:
        raise HTTPException(404, "there is no heat map of this film")
    title = said.finding or "any disease"
    shares = said.probabilities or {}
    known = shares.get(title, said.p_disease)
    try:
        picture = site.darkroom.heat_map(
            _content(site, instance),
            f"film {instance.id}",
            said.cam,
            said.cam_shape,
            model.manifest.get("preparation") or {},
            f"{title}   {score(known)}",
        )
    except Unopened as fault:
        raise HTTPException(422, f"this film cannot be shown: {fault}") from None
    return _Png(picture, headers={"Cache-Control": _KEPT})


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_CHUNK):
            yield piece


def _instance(site: Site, instance_id: int) -> Instance:
    with site.database.read() as session:
        found = session.get(Instance, instance_id)
    if found is None:
        raise HTTPException(404, "there is no film of this number")
    return found


def _content(site: Site, instance: Instance) -> bytes:
    try:
        with site.archive.open(instance.path) as file:
            return file.read(site.settings.dicom.largest_instance)
    except (OSError, CarinaError):
        raise HTTPException(410, _gone(instance)) from None


def _gone(instance: Instance) -> str:
    """Why a film is not there, in a sentence for people."""
    if instance.path == REMOVED:
        return (
            "This film was read and, as this site keeps them, its pixels were let go. What was said of it "
            "stays. The PACS has the film."
        )
    return "The file of this film is not in the archive: tell whoever runs Carina. The PACS has the film."
