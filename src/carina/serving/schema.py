"""The tables. What is kept, and nothing of how it gets there.

One schema for SQLite and PostgreSQL. Times are UTC and come from the clock of this machine, never from
a sender's StudyDate. Patient and study facts are kept as DICOM has them, decoded to Unicode. Rows that a
person may want to know of later (studies, instances, predictions, feedback, the audit log) are never
changed into something else: a study is decided anew by another prediction, not by another value.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

UID = 64  # characters of a DICOM UID (PS3.5, section 9.1)


class Utc(TypeDecorator[datetime]):
    """An aware UTC time in Python; in SQLite, which knows no zones, the same without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times: ``ValueError``."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; times are kept in UTC")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_Plain = JSON(none_as_null=True)  # None is NULL, also after a copy


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {datetime: Utc, dict[str, Any]: _Plain, list[Any]: _Plain, str: Text}  # noqa: RUF012


class StudyState(StrEnum):
    """A study is receiving until nothing came for the quiet time, then complete; a late film reopens it."""

    RECEIVING = "receiving"
    COMPLETE = "complete"


class JobState(StrEnum):
    """A job is waiting, taken by a worker (until its lease ends), done, or dead after its last try."""

    WAITING = "waiting"
    TAKEN = "taken"
    DONE = "done"
    DEAD = "dead"


class Rank(IntEnum):
    """Where a study stands: the lower is read first. ``NOT_ANALYSED`` also while nothing has looked yet."""

    NOW = 0
    SOON = 1
    NOT_ANALYSED = 2
    NOT_FLAGGED = 3
    LIKELY_CLEAR = 4


class Study(Base):
    """One study on the worklist, with the decision that holds for it at present.

    ``outcome`` … ``model`` are copied from the instance that speaks loudest (least rank, then highest
    score) when the study is decided; None while it waits. ``rank`` is what the list is sorted by:
    rank, then ``weight`` (minus p_disease, 0 where there is none), then ``received_at``. ``raised_at``
    is set when the study waited longer than its cap and was given rank SOON. ``version`` counts how often
    a late instance reopened it, or it was looked at after all; results are sent anew for each version.
    """

    __tablename__ = "studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(UID), unique=True)  # StudyInstanceUID; 2.25.… for uploads
    patient_id: Mapped[str | None] = mapped_column(index=True)
    issuer: Mapped[str | None]  # IssuerOfPatientID
    patient_name: Mapped[str | None]  # as DICOM has it: groups joined by =, components by ^
    birth_date: Mapped[str | None]  # DA
    sex: Mapped[str | None]  # CS
    age: Mapped[float | None]  # years, from PatientAge or the two dates
    accession: Mapped[str | None] = mapped_column(index=True)
    description: Mapped[str | None]
    study_date: Mapped[str | None]  # DA
    study_time: Mapped[str | None]  # TM
    referring: Mapped[str | None]
    institution: Mapped[str | None]
    study_id: Mapped[str | None]  # StudyID (SH)
    character_set: Mapped[str | None]  # SpecificCharacterSet as sent, backslash between values
    origin: Mapped[str]  # "dicom", "stow", "upload"
    state: Mapped[StudyState] = mapped_column(String(16), default=StudyState.RECEIVING)
    version: Mapped[int] = mapped_column(default=1)
    received_at: Mapped[datetime]  # the first instance: waiting time starts here
    last_received_at: Mapped[datetime]
    rank: Mapped[int] = mapped_column(default=int(Rank.NOT_ANALYSED))
    weight: Mapped[float] = mapped_column(default=0.0)
    raised_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]  # received_at + the cap of its rank
    outcome: Mapped[str | None]  # carina.scoring.triage.Outcome
    urgency: Mapped[str | None]
    finding: Mapped[str | None]
    because: Mapped[str | None]
    code: Mapped[str | None]
    p_disease: Mapped[float | None]
    threshold: Mapped[float | None]
    suggestion: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    instance_id: Mapped[int | None]  # the instance that speaks loudest
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    second_reading: Mapped[bool] = mapped_column(default=False)  # drawn so that misses are counted
    conflict: Mapped[bool] = mapped_column(default=False)  # different bytes came under one SOP Instance UID
    flagged_by: Mapped[str | None]  # a person asked for it to be read now
    read_at: Mapped[datetime | None]
    read_by: Mapped[str | None]

    series: Mapped[list[Series]] = relationship(back_populates="study", order_by="Series.id")

    __table_args__ = (
        Index("studies_open", "read_at", "rank", "weight", "received_at"),
        Index("studies_due", "read_at", "due_at"),
        Index("studies_received", "received_at"),
        Index("studies_arrival", "read_at", "received_at"),
        Index("studies_name", "patient_name"),
        Index("studies_second", "second_reading", "read_at"),
        Index("studies_raised", "raised_at"),
        Index("studies_quiet", "state", "last_received_at"),
    )


class Series(Base):
    """One series of a study."""

    __tablename__ = "series"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    uid: Mapped[str] = mapped_column(String(UID))
    modality: Mapped[str | None]
    number: Mapped[int | None]
    description: Mapped[str | None]
    body_part: Mapped[str | None]
    laterality: Mapped[str | None]

    study: Mapped[Study] = relationship(back_populates="series")
    instances: Mapped[list[Instance]] = relationship(back_populates="series", order_by="Instance.id")

    __table_args__ = (UniqueConstraint("study_id", "uid"),)


class Instance(Base):
    """One file, kept byte for byte as it was sent.

    The same bytes under one UID are kept once. Other bytes under a known UID are kept beside it as a row
    of their own (``conflict``) and the study then needs a reader. ``path`` is relative to the archive
    and made of ``sha256``, never of anything that was sent. ``problem`` says why the header could not be
    understood; such an instance is on the list and is not analysed.
    """

    __tablename__ = "instances"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    uid: Mapped[str] = mapped_column(String(UID))  # SOPInstanceUID
    sop_class: Mapped[str | None] = mapped_column(String(UID))
    transfer_syntax: Mapped[str | None] = mapped_column(String(UID))
    number: Mapped[int | None]
    view: Mapped[str | None]
    media_type: Mapped[str] = mapped_column(default="application/dicom")
    name: Mapped[str | None]  # of an uploaded file, for people only
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]  # bytes
    path: Mapped[str]
    received_at: Mapped[datetime]
    sender: Mapped[str | None]  # calling AE title, user or API key
    address: Mapped[str | None]
    conflict: Mapped[bool] = mapped_column(default=False)
    problem: Mapped[str | None]

    series: Mapped[Series] = relationship(back_populates="instances")

    __table_args__ = (UniqueConstraint("uid", "sha256"),)


class Model(Base):
    """A bundle that has been on duty, by the hash of its manifest and weights."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str]
    classes: Mapped[list[Any]]
    healthy: Mapped[list[Any]]
    manifest: Mapped[dict[str, Any]]
    first_on_duty: Mapped[datetime]


class PredictionRow(Base):
    """What one model said of one instance, or why it said nothing (``code`` set, no probabilities).

    ``inputs`` are numbers of the prepared film for drift: mean, standard deviation and percentiles of
    gray (0–255), distance to the training films. ``cam`` is the class activation map of the finding:
    h × w float16, ``cam_shape`` its shape.
    """

    __tablename__ = "predictions"

    id: Mapped[int] = mapped_column(primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"), index=True)
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    at: Mapped[datetime] = mapped_column(index=True)
    seconds: Mapped[float | None]
    probabilities: Mapped[dict[str, Any] | None]  # class → share
    p_disease: Mapped[float | None]
    outcome: Mapped[str]
    urgency: Mapped[str | None]
    finding: Mapped[str | None]
    because: Mapped[str]
    code: Mapped[str | None]
    threshold: Mapped[float | None]
    suggestion: Mapped[str | None]
    inputs: Mapped[dict[str, Any] | None]
    cam: Mapped[bytes | None] = mapped_column(LargeBinary)
    cam_shape: Mapped[list[Any] | None]
    thumbnail: Mapped[bytes | None] = mapped_column(LargeBinary)  # PNG, 96 px, of the film as read


class Job(Base):
    """One piece of work that must be done once: ``score`` an instance."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"), index=True)
    state: Mapped[JobState] = mapped_column(String(16), default=JobState.WAITING)
    priority: Mapped[int] = mapped_column(default=0)  # lower is taken first
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    not_before: Mapped[datetime]
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    error: Mapped[str | None]

    __table_args__ = (
        Index("jobs_next", "state", "priority", "not_before"),
        UniqueConstraint("kind", "instance_id"),
    )


class Delivery(Base):
    """One result for one destination. Its UIDs are made once, before the first try, and never again.

    ``state`` as of a job; ``dead`` ones are shown and can be tried again by a person.
    """

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    version: Mapped[int]  # of the study
    destination: Mapped[str]
    kind: Mapped[str] = mapped_column(String(16))  # "sr", "sc", "hl7", "webhook"
    uid: Mapped[str] = mapped_column(String(UID))  # SOPInstanceUID, or message control ID
    payload: Mapped[bytes | None] = mapped_column(LargeBinary)
    state: Mapped[JobState] = mapped_column(String(16), default=JobState.WAITING)
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    not_before: Mapped[datetime]
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]

    __table_args__ = (
        Index("deliveries_next", "state", "not_before"),
        UniqueConstraint("study_id", "version", "destination", "kind"),
    )


class Feedback(Base):
    """What a reader said of one study: ``read``, ``agree``, ``disagree`` (with what it was), ``priority``."""

    __tablename__ = "feedback"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    at: Mapped[datetime] = mapped_column(index=True)
    reader: Mapped[str]
    kind: Mapped[str] = mapped_column(String(16))
    disease: Mapped[bool | None]  # what the reader found: any disease at all
    finding: Mapped[str | None]  # class, or the reader's own word
    comment: Mapped[str | None]
    outcome: Mapped[str | None]  # what Carina had said at that moment
    p_disease: Mapped[float | None]
    model_id: Mapped[int | None]


class Report(Base):
    """A finding from the hospital's own report, matched to a study by UID or accession number when it can."""

    __tablename__ = "reports"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    origin: Mapped[str]  # "csv", "api"
    study_uid: Mapped[str | None] = mapped_column(String(UID), index=True)
    accession: Mapped[str | None] = mapped_column(index=True)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("studies.id"), index=True)
    disease: Mapped[bool]
    finding: Mapped[str | None]


class User(Base):
    """A person who signs in. ``role``: viewer < reader < admin. ``password`` is an argon2id hash."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password: Mapped[str]
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]


class WebSession(Base):
    """A signed-in browser. Only the SHA-256 of its token is kept."""

    __tablename__ = "web_sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    csrf: Mapped[str]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class SignInAttempt(Base):
    """One try to sign in, for the lock-outs. The name that was typed is kept as its SHA-256: people type
    passwords into it."""

    __tablename__ = "sign_in_attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    account_sha256: Mapped[str] = mapped_column(String(64))
    address: Mapped[str]
    right: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (
        Index("sign_in_attempts_account", "account_sha256", "at"),
        Index("sign_in_attempts_address", "address", "at"),
    )


class ApiKey(Base):
    """A key for a program. Only the SHA-256 of it is kept."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    key_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class AuditEntry(Base):
    """Who did what. Append-only: ``hash`` is SHA-256 over the entry and the hash of the one before it."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str | None]  # e.g. "study 12": our own number, never a patient's name
    detail: Mapped[dict[str, Any]]
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)


class Step(Base):
    """The roll-out step the site is on, with the evidence it was reached by; the newest row holds."""

    __tablename__ = "steps"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    by: Mapped[str]
    step: Mapped[str] = mapped_column(String(32))  # "audit", "silent", "prioritise", "rule-out suggestion"
    evidence: Mapped[dict[str, Any]]


class Event(Base):
    """Something changed that a page shows. Pages ask for what is newer than the last they saw."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(32))  # "study", "service", "delivery"
    study_id: Mapped[int | None]


class Health(Base):
    """The last word of each part of the service on itself: listener, worker, store, model, delivery."""

    __tablename__ = "health"

    part: Mapped[str] = mapped_column(
        String(64), primary_key=True
    )  # "worker host:pid", "store host", "model"
    at: Mapped[datetime]
    well: Mapped[bool]
    says: Mapped[str]  # a sentence for people
