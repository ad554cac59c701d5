"""A department for tests of the page: phantoms in the archive, with what a model might have said of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy.orm import Session

from carina.images.phantom import phantom
from carina.images.phantom.dicom import write_dicom
from carina.images.phantom.exposure import Look
from carina.serving import studies
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.schema import Event, Health, Instance, Model, PredictionRow, Series, Study, StudyState
from carina.serving.settings import Settings

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
DISEASES = ("Bacterial Pneumonia", "COVID-19", "TB", "Viral Pneumonia")
CLASSES = (*DISEASES, "Normal")
THRESHOLD = 0.31
MANIFEST = {
    "name": "north",
    "created": "2026-11-01T09:00:00Z",
    "classes": list(CLASSES),
    "healthy": ["Normal"],
    "preparation": {"size": 64, "fit": "letterbox"},
    "data": {"images": 18420, "counts": {"north": {}, "south": {}}},
    "sections": {
        "intended_use": {"ages": [16, 96]},
        "operating_points": {
            "north": {
                "created": "2026-11-02T10:00:00Z",
                "points": [
                    {
                        "target": 0.95,
                        "confidence": 0.95,
                        "threshold": THRESHOLD,
                        "sensitivity": {"found": 388, "people": 398, "limit": 0.9562},
                        "specificity": {"spared": 801, "people": 1204, "low": 0.63, "high": 0.70},
                    }
                ],
            }
        },
    },
}


@dataclass
class Scene:
    """A database, an archive and a clock that only tests move."""

    database: Database
    archive: Archive
    settings: Settings
    now: datetime = NOW
    films: int = 0

    def clock(self) -> datetime:
        """The time of this scene."""
        return self.now

    def well(self, **says: str) -> None:
        """Every part says that it is well, but those named, which say a fault."""
        with self.database.write() as session:
            for part in ("model", "worker box:1", "store box"):
                fault = says.get(part.split()[0])
                session.merge(Health(part=part, at=self.now, well=fault is None, says=fault or "well"))

    def model(self) -> int:
        """A model on duty."""
        with self.database.write() as session:
            made = Model(
                fingerprint="f" * 64,
                name="north",
                classes=list(CLASSES),
                healthy=["Normal"],
                manifest=MANIFEST,
                first_on_duty=self.now - timedelta(days=3),
            )
            session.add(made)
            session.flush()
            return made.id

    def study(
        self,
        *,
        minutes: float = 5,
        said: str | None = "soon",
        p: float | None = None,
        finding: str = "TB",
        because: str | None = None,
        film: bytes | None = None,
        model: int | None = None,
        **facts: Any,
    ) -> int:
        """A study that came ``minutes`` ago. ``said``: now, soon, unflagged, unread (not analysed), None."""
        self.films += 1
        number, at = self.films, self.now - timedelta(minutes=minutes)
        content = film if film is not None else b"film %d" % number
        with self.archive.receive() as incoming:
            incoming.write(content)
            stored = incoming.finish()
        with self.database.write() as session:
            study = Study(
                **{
                    "uid": f"1.2.826.0.1.3680043.{number}",
                    "patient_id": f"P{number:05}",
                    "patient_name": f"Phantom^Number {number}",
                    "origin": "dicom",
                    "description": "Chest PA",
                    "study_date": "20261123",
                    "received_at": at,
                    "last_received_at": at,
                    "state": StudyState.COMPLETE,
                    **facts,
                }
            )
            series = Series(uid=f"{study.uid}.1", modality="DX")
            study.series = [series]
            session.add(study)
            session.flush()
            instance = Instance(
                study_id=study.id,
                series_id=series.id,
                uid=f"{study.uid}.1.1",
                view="PA",
                sha256=stored.sha256,
                size=stored.size,
                path=stored.path,
                received_at=at,
                sender="MODALITY1",
                address="10.0.0.20",
            )
            session.add(instance)
            session.flush()
            if said is not None:
                self._say(session, study, instance, said, p, finding, because, model, content)
            studies.stand(study, self.settings.waits)
            session.add(Event(at=at, kind="study", study_id=study.id))
            return study.id

    def _say(
        self,
        session: Session,
        study: Study,
        instance: Instance,
        said: str,
        p: float | None,
        finding: str,
        because: str | None,
        model: int | None,
        film: bytes,
    ) -> None:
        flagged = said in ("now", "soon")
        score = None if said == "unread" else p if p is not None else 0.82 if flagged else 0.07
        outcome = {"unflagged": "not flagged: read as usual", "unread": "not analysed: needs a reader"}.get(
            said, "flagged"
        )
        words = because or (
            f"p_disease {score} against the threshold of {THRESHOLD}" if score is not None else "it is a hand"
        )
        facts = {
            "model_id": model,
            "p_disease": score,
            "outcome": outcome,
            "urgency": said if flagged else None,
            "finding": finding if flagged else None,
            "because": words,
            "code": "not_a_chest_film" if score is None else None,
            "threshold": THRESHOLD if score is not None else None,
            "suggestion": None,
        }
        shares = None
        if score is not None:
            rest = score * 0.3 / (len(DISEASES) - 1)
            shares = {name: 0.7 * score if name == finding else rest for name in DISEASES}
            shares["Normal"] = 1 - score
        picture = _thumbnail(film)
        cam = np.zeros((8, 8), np.float16)
        cam[2:4, 2:4] = 3
        session.add(
            PredictionRow(
                instance_id=instance.id,
                at=instance.received_at + timedelta(seconds=3),
                probabilities=shares,
                thumbnail=picture,
                cam=cam.tobytes() if score is not None else None,
                cam_shape=[8, 8] if score is not None else None,
                **facts,
            )
        )
        study.instance_id, study.decided_at = instance.id, instance.received_at + timedelta(seconds=3)
        for name, value in facts.items():
            setattr(study, name, value)


def _thumbnail(film: bytes) -> bytes | None:
    from carina.errors import ImageError
    from carina.images.read import read

    try:
        pixels = read(film, name="film").pixels
    except ImageError:
        return None
    shallow = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    small = Image.fromarray(shallow)
    small.thumbnail((96, 96))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()


def phantom_file(folder: Path, seed: int, class_name: str = "TB", size: int = 256) -> bytes:
    """A phantom as a DICOM file of 12 bits."""
    path = folder / f"{class_name}-{seed}.dcm".replace(" ", "_")
    made = phantom(class_name, seed=seed, size=size, look=Look(bits=12))
    write_dicom(path, made, f"P{seed:05}", 1, inverted=seed % 2 == 1)
    return path.read_bytes()


NAMES = (  # patient names in several scripts, as DICOM has them
    "Okafor^Adaeze", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Люксембург^Роза", "Hong^Gildong=洪^吉洞=홍",
    "Müller^Jörg", "O'Brien^Siobhán", "Νικόλαος^Ελένη", "da Silva^João^Pedro", "Haddad^Layla",
    "Novák^Jiří",
)  # fmt: skip
