"""Studies put straight into the database, for tests that need no file."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from carina.serving.schema import Instance, Job, Series, Study

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
_numbers = itertools.count(1)


def add_study(
    session: Session, *, films: int = 1, at: datetime = NOON, jobs: bool = True, **facts: Any
) -> Study:
    """A study with films that wait to be scored."""
    number = next(_numbers)
    study = Study(
        **{
            "uid": f"1.2.826.0.1.{number}",
            "patient_id": f"P{number:06}",
            "patient_name": f"Doe^Jane {number}",
            "origin": "dicom",
            "received_at": at,
            "last_received_at": at,
            **facts,
        }
    )
    study.series = [Series(uid=f"{study.uid}.1", modality="DX")]
    session.add(study)
    session.flush()
    for _ in range(films):
        add_film(session, study, at=at, job=jobs)
    return study


def add_film(
    session: Session, study: Study, *, at: datetime = NOON, job: bool = True, **facts: Any
) -> Instance:
    """One more film of a study, with its job."""
    uid = f"{study.uid}.1.{next(_numbers)}"
    instance = Instance(
        **{
            "study_id": study.id,
            "series_id": study.series[0].id,
            "uid": uid,
            "sha256": hashlib.sha256(uid.encode()).hexdigest(),
            "size": 1000,
            "path": f"none/{uid}",
            "received_at": at,
            **facts,
        }
    )
    session.add(instance)
    session.flush()
    if job:
        session.add(Job(kind="score", instance_id=instance.id, created_at=at, not_before=at))
        session.flush()
    return instance
