"""What an SR and a Secondary Capture of one study have in common: whose they are, and who made them."""

from __future__ import annotations

import io
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from carina.errors import DeliveryError
from carina.serving.results import device
from carina.serving.results.header import character_set, plain
from carina.serving.results.result import Result
from carina.serving.settings import Settings

if TYPE_CHECKING:
    from pydicom import Dataset

_TAKEN_OVER = (
    "PatientName", "ReferringPhysicianName", "IssuerOfPatientID", "PatientAge", "StudyDescription",
)  # fmt: skip
_ANYBODY = "Carina^Carina"  # highdicom warns of names of one part; the true ones are put in when it is done


def evidence(result: Result) -> list[Dataset]:
    """One header for each film, with the patient (but for the name) and the study of the sender.

    Raises DeliveryError where there is no film that a PACS could know.
    """
    if not result.films:
        raise DeliveryError(
            f"study {result.study}: has no DICOM film to refer to; only a webhook can be told of it"
        )
    headers = []
    for film in result.films:
        ds = deepcopy(result.header)
        ds.PatientName = ds.ReferringPhysicianName = _ANYBODY
        ds.SOPInstanceUID, ds.SOPClassUID = film.uid, film.sop_class
        ds.SeriesInstanceUID = film.series_uid
        headers.append(ds)
    return headers


def identity(result: Result, settings: Settings) -> dict[str, Any]:
    """What highdicom is told of the maker and the time; the character set is set when it is written."""
    made = result.decided_at.astimezone()  # DICOM's dates are local ones
    return {
        "manufacturer": device.MANUFACTURER,
        "manufacturer_model_name": device.MODEL_NAME,
        "software_versions": device.VERSION,
        "device_serial_number": device.device_uid(settings).removeprefix("2.25.")[:40],
        "series_description": plain(f"Carina triage: {result.label}", 64),
        "content_date": made.date(),
        "content_time": made.time().replace(microsecond=0, tzinfo=None),
        "specific_character_set": None,
    }


def written(ds: Dataset, result: Result, texts: list[str]) -> bytes:
    """The object as a file, with what a PACS needs to put it beside the films. ``texts`` are all of ours."""
    names = character_set(result.header, texts)
    if names:
        ds.SpecificCharacterSet = names if len(names) > 1 else names[0]
    for name in _TAKEN_OVER:
        if name in result.header:
            ds[name] = deepcopy(result.header[name])
    made = result.decided_at.astimezone()
    ds.InstanceCreationDate = made.strftime("%Y%m%d")
    ds.InstanceCreationTime = made.strftime("%H%M%S")
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
