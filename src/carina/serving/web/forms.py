"""What the REST interface takes and gives: the shapes in its OpenAPI.

Only here pydantic stands between strangers and us; inside, plain values and rows.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from carina.serving.people import Role

NOTICE = (
    "Research use. Not a medical device. Not for diagnosis. Every study must be read by a qualified person."
)
Answers = dict[int | str, dict[str, Any]]  # what a route may answer besides success
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
_NO_CONTROL = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000, pattern=_NO_CONTROL)]
Finding = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_NO_CONTROL)
]
UserName = Annotated[str, StringConstraints(pattern=r"^\w[\w.@-]{0,63}$")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Fault(BaseModel):
    """Why there is no other answer: a sentence for people, or each field that is wrong."""

    detail: str | list[dict[str, Any]]


class Row(BaseModel):
    """One row of the worklist. ``waiting`` is in seconds, until now or until it was read."""

    id: int
    uid: str
    urgency: str  # "now", "soon", "not analysed", "not flagged"
    outcome: str | None
    finding: str | None
    because: str | None
    code: str | None
    p_disease: float | None
    threshold: float | None
    suggestion: str | None
    waiting: float
    overdue: bool
    state: str
    patient_name: str | None
    patient_id: str | None
    birth_date: str | None
    sex: str | None
    age: float | None
    accession: str | None
    description: str | None
    study_date: str | None
    origin: str
    received_at: datetime
    decided_at: datetime | None
    read_at: datetime | None
    read_by: str | None
    flagged_by: str | None
    second_reading: bool
    conflict: bool
    version: int


class Worklist(BaseModel):
    """Rows in the order of need. ``counts`` are of each urgency under the same filter."""

    notice: str = NOTICE
    step: str
    rows: list[Row]
    total: int
    offset: int
    counts: dict[str, int]


class InstanceFacts(BaseModel):
    """One stored file of a study."""

    id: int
    uid: str
    series: str | None
    modality: str | None
    view: str | None
    sop_class: str | None
    transfer_syntax: str | None
    media_type: str
    name: str | None
    size: int
    received_at: datetime
    sender: str | None
    conflict: bool
    problem: str | None
    prediction: PredictionFacts | None


class PredictionFacts(BaseModel):
    """What the model said of one film. ``probabilities`` are of diseases; ``none_of_these`` is the rest."""

    at: datetime
    model: int | None
    outcome: str
    urgency: str | None
    finding: str | None
    because: str
    code: str | None
    p_disease: float | None
    threshold: float | None
    probabilities: dict[str, float]
    none_of_these: float | None
    heat_map: bool


class FeedbackFacts(BaseModel):
    """What a reader said."""

    at: datetime
    reader: str
    kind: str
    disease: bool | None
    finding: str | None
    comment: str | None


class StudyFacts(Row):
    """A study with its files, answers and earlier studies."""

    notice: str = NOTICE
    issuer: str | None
    instances: list[InstanceFacts]
    feedback: list[FeedbackFacts]
    priors: list[Row]
    deliveries: list[DeliveryFacts]


class DeliveryFacts(BaseModel):
    """One result on its way to one destination."""

    id: int
    study_id: int
    version: int
    destination: str
    kind: str
    state: str
    attempts: int
    created_at: datetime
    not_before: datetime
    sent_at: datetime | None
    error: str | None


class Say(_Form):
    """A reader's answer; see ``POST /studies/{id}/feedback``."""

    kind: Literal["read", "agree", "disagree", "priority"]
    disease: bool | None = None
    finding: Finding | None = None
    comment: Words | None = None


class Flag(_Form):
    """Whether the study is asked to be read now."""

    flagged: bool


class Me(BaseModel):
    """Who asks."""

    name: str
    role: Role


class NewUser(_Form):
    """Somebody to let in."""

    name: UserName
    password: Annotated[str, Field(min_length=12, max_length=256)]
    role: Role = Role.READER


class UserChange(_Form):
    """What is to be another way; what is left out stays."""

    role: Role | None = None
    active: bool | None = None
    password: Annotated[str, Field(min_length=12, max_length=256)] | None = None


class UserFacts(BaseModel):
    """One user, without the password's hash."""

    name: str
    role: Role
    active: bool
    created_at: datetime
    failures: int


class NewKey(_Form):
    """A program to let in."""

    name: UserName
    role: Role = Role.READER


class KeyFacts(BaseModel):
    """One key, without the key."""

    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None


class KeyMade(KeyFacts):
    """A new key; ``key`` is shown this once."""

    key: str


class LogEntry(BaseModel):
    """One entry of the audit log."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str | None
    detail: dict[str, Any]
    hash: str


class LogVerdict(BaseModel):
    """Whether the chain of the audit log holds."""

    holds: bool
    entries: int
    head: str
    fault: str | None


class FaultFacts(BaseModel):
    """A part of the service that is not well."""

    part: str
    says: str


class Status(BaseModel):
    """How well the service is, the roll-out step, and the model on duty."""

    notice: str = NOTICE
    well: bool
    faults: list[FaultFacts]
    step: str
    model: str | None
    heat_maps: bool


for _each in (InstanceFacts, StudyFacts):
    _each.model_rebuild()
