"""The audit log: who did what, in a chain of hashes that shows where somebody changed it.

Append-only. Each entry's hash is SHA-256 over its content and the hash of the entry before it, so that a
changed, an inserted or a removed entry breaks the chain at its place. What is cut off at the end leaves a
whole chain: note the newest hash elsewhere from time to time, and give it to :func:`verify`. Entries speak
of our own numbers ("study 12"), never of patients.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from carina.serving.schema import AuditEntry

BEGINNING = "0" * 64  # what stands before the first entry
_LOCK = 0x43415249  # PostgreSQL: one writer of the chain at a time


@dataclass(frozen=True, slots=True)
class Verdict:
    """What :func:`verify` found: how many entries hold, the newest hash, and the fault, if any."""

    entries: int
    head: str
    fault: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the whole chain is as it was written."""
        return self.fault is None


def append(
    session: Session,
    actor: str,
    action: str,
    subject: str | None = None,
    detail: Mapping[str, Any] | None = None,
    *,
    now: datetime | None = None,
) -> AuditEntry:
    """Add an entry in the transaction of ``session``: what is done and its entry stand or fall together.

    ``detail`` is plain values. In PostgreSQL writers of the chain wait for each other until the
    transaction ends; in SQLite there is one writer anyhow.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    session.flush()
    previous = session.scalar(select(AuditEntry.hash).order_by(AuditEntry.id.desc()).limit(1)) or BEGINNING
    at = (now or datetime.now(UTC)).astimezone(UTC)
    plain = json.loads(json.dumps(dict(detail or {}), allow_nan=False))
    entry = AuditEntry(
        at=at,
        actor=actor,
        action=action,
        subject=subject,
        detail=plain,
        previous=previous,
        hash=digest(at, actor, action, subject, plain, previous),
    )
    session.add(entry)
    session.flush()
    return entry


def verify(session: Session, head: str | None = None) -> Verdict:
    """Walk the whole chain. ``head`` is a hash that was noted earlier and must still be in it."""
    count, previous, seen = 0, BEGINNING, head is None
    for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.id).execution_options(yield_per=500)):
        where = f"entry {entry.id} of {entry.at:%Y-%m-%d %H:%M:%S} UTC"
        if entry.previous != previous:
            return Verdict(count, previous, f"{where} does not follow the one before it")
        expected = digest(entry.at, entry.actor, entry.action, entry.subject, entry.detail, entry.previous)
        if entry.hash != expected:
            return Verdict(count, previous, f"{where} is not what was written")
        count, previous, seen = count + 1, entry.hash, seen or entry.hash == head
    if not seen:
        return Verdict(count, previous, f"no entry has the hash {head}: the end of the log was cut off")
    return Verdict(count, previous)


def digest(
    at: datetime,
    actor: str,
    action: str,
    subject: str | None,
    detail: Mapping[str, Any],
    previous: str,
) -> str:
    """The hash of an entry: SHA-256 of its JSON with sorted keys, in ASCII."""
    content = [
        at.astimezone(UTC).isoformat(timespec="microseconds"),
        actor,
        action,
        subject,
        detail,
        previous,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
