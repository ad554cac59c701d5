"""Who says it: the names Carina signs its objects with, and how it knows them again.

A PACS that forwards everything also forwards our own results to us. They are known by what stands in them,
so that they are never scored and never reopen a study.
"""

from __future__ import annotations

import uuid
from typing import Any

from carina import __version__
from carina.images import facts
from carina.serving.settings import Settings

MANUFACTURER = "Carina"
MODEL_NAME = "Carina triage"  # not "Phantom", which is what synthetic films say
NOTICE = "Research use. Not a medical device. Not for diagnosis."
DUTY = "Every study must be read by a qualified person."
VERSION = __version__

_SPACE = uuid.UUID("6f3d9c1e-52a0-4f0e-9a54-0c8f4d9a71c3")


def new_uid() -> str:
    """A UID that nobody has, from a random UUID (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def uid_from(*parts: object) -> str:
    """The UID that always follows from these parts, from a name-based UUID (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(_SPACE, '|'.join(map(str, parts))).int}"


def device_uid(settings: Settings) -> str:
    """The UID of this installation as an observer: one for each AE title and site."""
    return uid_from("device", settings.dicom.ae_title, settings.site or "")


def is_ours(ds: Any) -> bool:
    """Whether a DICOM header is that of an SR or SC which Carina, here or elsewhere, has made.

    Asks for both Manufacturer and ManufacturerModelName; ``ds`` is whatever has ``get``.
    """
    found = (facts.text(ds, "Manufacturer"), facts.text(ds, "ManufacturerModelName"))
    return tuple((each or "").strip() for each in found) == (MANUFACTURER, MODEL_NAME)
