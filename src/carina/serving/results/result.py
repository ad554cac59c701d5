"""What is to be said of one study, gathered from the rows: the one thing all results are made of.

Reads rows and the header of a stored film, writes nothing. What the sender called the patient and the study
is taken over as it is; where the header cannot be read, the rows stand in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from carina.errors import DeliveryError
from carina.scoring.triage import Outcome, said
from carina.serving.schema import Instance, Model, PredictionRow, Series, Study

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM = "application/dicom"


class Films(Protocol):
    """Where stored films are: :class:`carina.serving.archive.Archive`."""

    def open(self, path: str) -> BinaryIO:
        """The bytes of a film; ``OSError`` where they cannot be had."""


@dataclass(frozen=True, slots=True)
class FilmResult:
    """What was said of one film. ``shares``: disease → probability; empty where there is no score."""

    uid: str
    series_uid: str
    sop_class: str
    outcome: str
    urgency: str | None
    finding: str | None
    because: str
    code: str | None
    p_disease: float | None
    threshold: float | None
    shares: Mapping[str, float]
    prediction: int | None  # its row


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The bundle that spoke. ``shown``: what stands behind the threshold, in words."""

    name: str
    fingerprint: str
    preparation: Mapping[str, Any]
    shown: str


@dataclass(frozen=True, slots=True)
class Result:
    """One study with its decision. ``header`` has patient and study as the sender named them, decoded."""

    study: int  # our number
    version: int
    study_uid: str
    outcome: str
    urgency: str | None
    finding: str | None
    because: str
    code: str | None
    p_disease: float | None
    threshold: float | None
    suggestion: str | None
    decided_at: datetime
    received_at: datetime
    model: ModelFacts | None
    films: tuple[FilmResult, ...]
    header: Dataset
    loudest: str | None  # SOP Instance UID

    @property
    def label(self) -> str:
        """``flagged: now``, ``flagged: soon``, or the outcome."""
        return f"{self.outcome}: {self.urgency}" if self.urgency else self.outcome


def gather(session: Session, study_id: int, films: Films, now: datetime) -> Result:
    """The result of a study as it stands.

    A study that nothing has decided is *not analysed: needs a reader*. Raises DeliveryError where there is no
    such study.
    """
    study = session.get(Study, study_id)
    if study is None:
        raise DeliveryError(f"study {study_id}: is not kept any more; take its deliveries off the list")
    rows = session.execute(
        select(Instance, Series)
        .join(Series, Instance.series_id == Series.id)
        .where(Instance.study_id == study_id, Instance.media_type == DICOM)
        .order_by(Instance.id)
    ).all()
    first = {instance.uid: (instance, series) for instance, series in reversed(rows)}  # of two under one UID
    told = [_film(session, *first[uid]) for uid in dict.fromkeys(instance.uid for instance, _ in rows)]
    analysed = study.outcome is not None
    loudest = next((each.uid for each, _ in rows if each.id == study.instance_id), None)
    source = next((each for each, _ in rows if each.uid == loudest), rows[0][0] if rows else None)
    return Result(
        study=study.id,
        version=study.version,
        study_uid=study.uid,
        outcome=study.outcome or str(Outcome.NOT_ANALYSED),
        urgency=study.urgency,
        finding=said(study.finding) if study.finding else None,
        because=said(study.because or "nothing has looked at it; a person must read it"),
        code=study.code if analysed else "not_scored",
        p_disease=study.p_disease,
        threshold=study.threshold,
        suggestion=study.suggestion,
        decided_at=study.decided_at or now,
        received_at=study.received_at,
        model=_model(session.get(Model, study.model_id) if study.model_id else None, study.threshold),
        films=tuple(each for each in told if each is not None),
        header=_header(study, source, films),
        loudest=loudest,
    )


def _film(session: Session, instance: Instance, series: Series) -> FilmResult | None:
    if instance.sop_class is None:
        return None  # nothing can point to it
    row = session.scalars(
        select(PredictionRow)
        .where(PredictionRow.instance_id == instance.id)
        .order_by(PredictionRow.id.desc())
        .limit(1)
    ).first()
    facts = (instance.uid, series.uid, instance.sop_class)
    if row is None:
        why = said(instance.problem or "nothing has looked at it")
        return FilmResult(
            *facts, str(Outcome.NOT_ANALYSED), None, None, why, "not_scored", None, None, {}, None
        )
    model = session.get(Model, row.model_id) if row.model_id else None
    well = set(model.healthy) if model else set()
    scored = row.outcome != Outcome.NOT_ANALYSED and row.probabilities
    shares = {name: float(share) for name, share in (row.probabilities or {}).items() if name not in well}
    return FilmResult(
        *facts,
        outcome=row.outcome,
        urgency=row.urgency,
        finding=said(row.finding) if row.finding else None,
        because=said(row.because),
        code=row.code,
        p_disease=row.p_disease if scored else None,
        threshold=row.threshold if scored else None,
        shares=shares if scored else {},
        prediction=row.id,
    )


def _model(row: Model | None, threshold: float | None) -> ModelFacts | None:
    if row is None:
        return None
    return ModelFacts(
        name=said(row.name),
        fingerprint=row.fingerprint,
        preparation=row.manifest.get("preparation", {}),
        shown=_shown(row.manifest, threshold),
    )


def _shown(manifest: Mapping[str, Any], threshold: float | None) -> str:
    """The operating point of this threshold in words; what was never shown is said to be so."""
    for site, facts in manifest.get("sections", {}).get("operating_points", {}).items():
        for point in facts.get("points", ()):
            if threshold is not None and abs(point["threshold"] - threshold) < 1e-9:
                found = point["sensitivity"]
                limit = int(1000 * found["limit"]) / 10  # rounded down: what is promised must hold
                shown = (
                    f"{site}: at least {limit:.1f} % of disease found, shown on {found['people']:,} people"
                )
                grade = (facts.get("verdict") or {}).get("grade")
                return f"{shown}; films {grade}" if grade and grade != "sound" else shown
    return "a threshold that nobody has shown to hold here"


def _header(study: Study, source: Instance | None, films: Films) -> Dataset:
    from carina.serving.results.header import from_file, from_rows

    found = None
    if source is not None:
        try:
            with films.open(source.path) as stream:
                found = from_file(stream, source.transfer_syntax)
        except OSError:
            found = None  # retention has taken the pixels; the rows have all that is needed
    header = found if found is not None else from_rows(study)
    header.StudyInstanceUID = study.uid
    return header
