"""A small ward: studies with films, predictions and decisions as the rest of the service leaves them."""

from __future__ import annotations

import io
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from sqlalchemy.orm import Session

from carina.scoring.triage import Outcome
from carina.serving.schema import Instance, Model, PredictionRow, Series, Study, StudyState
from tests.serving.programs import program

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
DX = "1.2.840.10008.5.1.4.1.1.1.1"
POINT = {
    "target": 0.95,
    "confidence": 0.95,
    "per_class": True,
    "threshold": 0.25,
    "sensitivity": {"found": 298, "people": 300, "limit": 0.9791},
    "specificity": {"spared": 80, "people": 100, "low": 0.7, "high": 0.87},
    "classes": {},
    "films": 400,
    "below": 82,
}
MANIFEST: dict[str, Any] = {
    "preparation": {},
    "sections": {"operating_points": {"ward 7": {"points": [POINT]}}},
}
OUTCOMES: dict[str, dict[str, Any]] = {
    "now": {"outcome": str(Outcome.FLAGGED), "urgency": "now", "finding": "TB", "p_disease": 0.93,
            "because": "p_disease 0.930 is not below the threshold of 0.2500"},
    "soon": {"outcome": str(Outcome.FLAGGED), "urgency": "soon", "finding": "COVID-19", "p_disease": 0.4,
             "because": "p_disease 0.400 is not below the threshold of 0.2500"},
    "usual": {"outcome": str(Outcome.NOT_FLAGGED), "p_disease": 0.1,
              "because": "p_disease 0.100 is below the threshold of 0.2500"},
    "clear": {"outcome": str(Outcome.NOT_FLAGGED), "p_disease": 0.01, "suggestion": "likely clear",
              "because": "p_disease 0.010 is below the threshold of 0.2500"},
    "unread": {"outcome": str(Outcome.NOT_ANALYSED), "code": "truncated",
               "because": "the JPEG stream ends early; fetch the file again from its source"},
}  # fmt: skip
NOTHING = {"urgency": None, "finding": None, "p_disease": None, "code": None, "suggestion": None}


class Shelf:
    """Stored films in memory."""

    def __init__(self) -> None:
        self.films: dict[str, bytes] = {}

    def open(self, path: str) -> BinaryIO:
        """The bytes of one; ``FileNotFoundError`` where retention has taken it."""
        if path not in self.films:
            raise FileNotFoundError(path)
        return io.BytesIO(self.films[path])


def film(**elements: Any) -> bytes:
    """A small DX film with a complete header."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = DX, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Okonkwo^Ada^^Dr", "A-17", "WARD"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19610203", "F", "065Y"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20261123", "213000.5", "S1"
    ds.AccessionNumber, ds.StudyDescription = "ACC-9", "CHEST PA"
    ds.ReferringPhysicianName, ds.InstitutionName, ds.Modality = "House^G", "Ward 7", "DX"
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = DX, ds.SOPInstanceUID
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def model(session: Session, *, name: str = "chest six", manifest: dict[str, Any] | None = None) -> Model:
    """The model on duty."""
    row = Model(
        fingerprint=f"{abs(hash(name)):064x}"[-64:],
        name=name,
        classes=["TB", "COVID-19", "Normal"],
        healthy=["Normal"],
        manifest=MANIFEST if manifest is None else manifest,
        first_on_duty=NOW - timedelta(days=90),
    )
    session.add(row)
    session.flush()
    return row


def admit(
    session: Session,
    shelf: Shelf,
    *outcomes: str,
    files: list[bytes] | None = None,
    duty: Model | None = None,
    at: datetime = NOW,
    **study: Any,
) -> Study:
    """A complete study with one film for each of ``outcomes`` (the loudest first), or for each file."""
    study_uid = generate_uid()
    files = files or [film(StudyInstanceUID=study_uid) for _ in outcomes]
    headers = [dcmread(io.BytesIO(each), force=True) for each in files]
    head = headers[0]
    told = {**NOTHING, **OUTCOMES[outcomes[0]]}
    threshold = None if told["p_disease"] is None else 0.25
    facts = {
        "uid": str(head.StudyInstanceUID), "patient_id": head.get("PatientID"),
        "patient_name": str(head.get("PatientName") or ""), "accession": head.get("AccessionNumber"),
        "origin": "dicom", "state": StudyState.COMPLETE, "received_at": at, "last_received_at": at,
        "decided_at": at + timedelta(seconds=4), "model_id": duty.id if duty else None,
        "threshold": threshold, **told, **study,
    }  # fmt: skip
    row = Study(**facts)
    session.add(row)
    session.flush()
    series = Series(study_id=row.id, uid=str(head.get("SeriesInstanceUID") or "1.2"), modality="DX")
    session.add(series)
    session.flush()
    for number, (content, ds, outcome) in enumerate(zip(files, headers, outcomes, strict=True)):
        path = f"{row.id}/{number}"
        shelf.films[path] = content
        instance = Instance(
            study_id=row.id, series_id=series.id, uid=str(ds.SOPInstanceUID), sop_class=str(ds.SOPClassUID),
            transfer_syntax=str(ds.file_meta.TransferSyntaxUID), sha256=f"{row.id:032x}{number:032x}",
            size=len(content), path=path, received_at=at,
        )  # fmt: skip
        session.add(instance)
        session.flush()
        row.instance_id = row.instance_id or instance.id
        told = {**NOTHING, **OUTCOMES[outcome]}
        score = told["p_disease"]
        shares = None if score is None else {"TB": score * 0.9, "COVID-19": score * 0.1, "Normal": 1 - score}
        session.add(
            PredictionRow(
                instance_id=instance.id, model_id=duty.id if duty else None, at=at, probabilities=shares,
                threshold=None if score is None else 0.25, inputs={"mean": 100.0 + number}, **told,
            )
        )  # fmt: skip
    session.flush()
    return row


def faults(content: bytes, folder: Path) -> list[str]:
    """What dciodvfy calls an error in a DICOM file."""
    path = folder / "object.dcm"
    path.write_bytes(content)
    checked = subprocess.run(
        [program("dciodvfy", "dicom3tools"), path],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("Error")]
