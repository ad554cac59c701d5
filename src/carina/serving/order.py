"""The rules of the worklist: what stands where, how long anybody waits, who is read twice.

Pure: no database, no clock. A study stands by its rank, then by its weight (the smaller first), then by when
it came. What was not analysed stands above what was not flagged; a study that waited longer than its cap
rises, and does not sink again before it is read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from carina.scoring.triage import Outcome, Urgency
from carina.serving.schema import Rank
from carina.serving.settings import Waits

FIRST = -1.0  # the weight of what stands at the top of its rank; -p_disease is never less


@dataclass(frozen=True, slots=True)
class Standing:
    """A place on the worklist: ``rank``, ``weight`` within it, and when it is overdue there."""

    rank: Rank
    weight: float
    due_at: datetime


def rank(outcome: str | None, urgency: str | None, suggestion: str | None = None) -> Rank:
    """The rank of a decision. Without an outcome, and for one nobody knows, ``NOT_ANALYSED``."""
    if outcome == Outcome.FLAGGED:
        return Rank.NOW if urgency == Urgency.NOW else Rank.SOON
    if outcome == Outcome.NOT_FLAGGED:
        return Rank.NOT_FLAGGED if suggestion is None else Rank.LIKELY_CLEAR
    return Rank.NOT_ANALYSED


def cap(rank: Rank, waits: Waits) -> timedelta:
    """The longest that a study of this rank waits."""
    minutes = {
        Rank.NOW: waits.now,
        Rank.SOON: waits.soon,
        Rank.NOT_ANALYSED: waits.not_analysed,
        Rank.NOT_FLAGGED: waits.not_flagged,
        Rank.LIKELY_CLEAR: waits.not_flagged,
    }
    return timedelta(minutes=minutes[rank])


def standing(
    rank: Rank,
    p_disease: float | None,
    received_at: datetime,
    waits: Waits,
    *,
    raised: bool = False,
    asked_for: bool = False,
) -> Standing:
    """Where a study stands.

    ``raised``: it waited longer than its cap; it then stands at the top of "soon", or of "now" where it
    is that. ``asked_for``: a person wants it read now, and it stands at the top of "now".
    """
    due_at = received_at + cap(rank, waits)
    if asked_for:
        return Standing(Rank.NOW, FIRST, min(due_at, received_at + cap(Rank.NOW, waits)))
    if raised:
        return Standing(min(rank, Rank.SOON), FIRST, due_at)
    return Standing(rank, -(p_disease or 0.0), due_at)


def drawn(study_uid: str, share: float) -> bool:
    """Whether an unflagged study is read a second time, so that misses are counted at all.

    About ``share`` of all studies; which ones follows from their UIDs alone, so that anybody can check that
    nobody chose them.
    """
    digest = hashlib.sha256(f"carina second reading {study_uid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
