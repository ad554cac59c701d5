"""Chest films for tests of the hospital side: phantoms, drawn once, and what stores them."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image
from sqlalchemy.orm import Session

from carina.images.phantom import phantom
from carina.serving.schema import Instance, Study
from carina.serving.settings import Settings
from tests.serving.worklists import add_film, add_study


@cache
def film(number: int) -> bytes:
    """A phantom as PNG."""
    name = ("Normal", "TB", "Bacterial Pneumonia")[number % 3]
    buffer = BytesIO()
    Image.fromarray(phantom(name, seed=100 + number, size=224).pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Folder:
    """Films in a plain folder, in place of an archive."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.archive
        self.root.mkdir(parents=True, exist_ok=True)

    def add(self, data: bytes) -> dict[str, object]:
        """The facts of a stored file, for an instance."""
        sha256 = hashlib.sha256(data).hexdigest()
        (self.root / sha256).write_bytes(data)
        return {"sha256": sha256, "size": len(data), "path": sha256}

    def empty(self) -> None:
        shutil.rmtree(self.root)


def receive(session: Session, folder: Folder, *films: bytes, **facts: object) -> Study:
    """A study of these films, received now."""
    now = datetime.now(UTC)
    study = add_study(session, films=0, at=now, **facts)
    for data in films:
        add_film(session, study, at=now, **folder.add(data))
    return study


def copy_bundle(bundle: Path, to: Path) -> Path:
    """A bundle of its own for a test that damages it."""
    shutil.copytree(bundle, to)
    return to


__all__ = ["Folder", "Instance", "copy_bundle", "film", "receive"]
