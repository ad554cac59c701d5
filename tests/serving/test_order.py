"""The rules of the worklist, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from carina.scoring.triage import LIKELY_CLEAR, Outcome, Urgency
from carina.serving.order import FIRST, cap, drawn, rank, standing
from carina.serving.schema import Rank
from carina.serving.settings import Waits

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
WAITS = Waits(now=15, soon=60, not_analysed=120, not_flagged=1440)


@pytest.mark.parametrize(
    ("outcome", "urgency", "suggestion", "expected"),
    [
        (Outcome.FLAGGED, Urgency.NOW, None, Rank.NOW),
        (Outcome.FLAGGED, Urgency.SOON, None, Rank.SOON),
        (Outcome.FLAGGED, None, None, Rank.SOON),
        (Outcome.NOT_ANALYSED, None, None, Rank.NOT_ANALYSED),
        (None, None, None, Rank.NOT_ANALYSED),  # nothing has looked yet
        ("whatever a later version says", None, LIKELY_CLEAR, Rank.NOT_ANALYSED),
        (Outcome.NOT_FLAGGED, None, None, Rank.NOT_FLAGGED),
        (Outcome.NOT_FLAGGED, None, LIKELY_CLEAR, Rank.LIKELY_CLEAR),
    ],
)
def test_a_decision_has_one_rank(
    outcome: str | None, urgency: str | None, suggestion: str | None, expected: Rank
) -> None:
    assert rank(outcome, urgency, suggestion) is expected


def test_what_was_not_analysed_stands_above_what_was_not_flagged() -> None:
    assert sorted(Rank) == [Rank.NOW, Rank.SOON, Rank.NOT_ANALYSED, Rank.NOT_FLAGGED, Rank.LIKELY_CLEAR]


@pytest.mark.parametrize(
    ("where", "minutes"),
    [
        (Rank.NOW, 15),
        (Rank.SOON, 60),
        (Rank.NOT_ANALYSED, 120),
        (Rank.NOT_FLAGGED, 1440),
        (Rank.LIKELY_CLEAR, 1440),
    ],
)
def test_every_rank_has_a_longest_wait(where: Rank, minutes: float) -> None:
    assert cap(where, WAITS) == timedelta(minutes=minutes)
    assert standing(where, None, NOON, WAITS).due_at == NOON + timedelta(minutes=minutes)


def test_within_a_rank_the_higher_score_stands_first() -> None:
    high, low = (standing(Rank.SOON, share, NOON, WAITS).weight for share in (0.9, 0.4))
    assert (high, low) == (-0.9, -0.4)


@pytest.mark.parametrize(
    ("where", "there"),
    [
        (Rank.NOW, Rank.NOW),
        (Rank.SOON, Rank.SOON),
        (Rank.NOT_ANALYSED, Rank.SOON),
        (Rank.NOT_FLAGGED, Rank.SOON),
        (Rank.LIKELY_CLEAR, Rank.SOON),
    ],
)
def test_an_overdue_study_rises_to_the_top_of_soon(where: Rank, there: Rank) -> None:
    found = standing(where, 0.2, NOON, WAITS, raised=True)
    assert (found.rank, found.weight) == (there, FIRST)
    assert found.weight <= standing(there, 1.0, NOON, WAITS).weight  # and what is as certain came later


def test_a_person_may_ask_for_a_study_to_be_read_now() -> None:
    found = standing(Rank.NOT_FLAGGED, 0.01, NOON, WAITS, asked_for=True)
    assert (found.rank, found.weight, found.due_at) == (Rank.NOW, FIRST, NOON + timedelta(minutes=15))


def test_the_second_reading_is_a_fair_draw_that_anybody_can_repeat() -> None:
    uids = [f"1.2.826.0.1.{number}" for number in range(20_000)]
    chosen = [uid for uid in uids if drawn(uid, 0.02)]
    assert 340 <= len(chosen) <= 460  # 400 expected; three standard deviations are 59
    assert chosen == [uid for uid in uids if drawn(uid, 0.02)]
    assert set(chosen) <= {uid for uid in uids if drawn(uid, 0.05)}
    assert not any(drawn(uid, 0) for uid in uids)
    assert all(drawn(uid, 1) for uid in uids)
