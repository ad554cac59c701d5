"""Drift of inputs and scores: quiet while films look alike, loud when they do not, silent about few films."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from carina.scoring.triage import Outcome
from carina.serving import drift
from carina.serving.database import Database
from carina.serving.schema import Model, PredictionRow
from carina.serving.settings import Settings
from tests.serving.results.ward import MANIFEST, NOW, Shelf, admit, model


def predictions(
    session: Session,
    duty: Model,
    number: int,
    at: datetime,
    *,
    gray: float,
    score: float,
    refused: float = 0.02,
) -> None:
    rng = random.Random(int(at.timestamp()))
    rows: list[dict[str, Any]] = []
    for _ in range(number):
        out = rng.random() < refused
        rows.append(
            {
                "instance_id": 1,
                "model_id": duty.id,
                "at": at,
                "outcome": str(Outcome.NOT_ANALYSED if out else Outcome.NOT_FLAGGED),
                "because": "x",
                "p_disease": None if out else min(1.0, max(0.0, rng.gauss(score, 0.1))),
                "inputs": {"mean": rng.gauss(gray, 10.0)},
            }
        )
    session.execute(insert(PredictionRow), rows)


def measured(
    database: Database, settings: Settings, shelf: Shelf, now: dict[str, float], count: int = 600, **kept: Any
) -> dict[str, drift.Drift]:
    with database.write() as session:
        duty = model(session, **kept)
        admit(session, shelf, "usual", duty=duty)
        predictions(session, duty, count, NOW - timedelta(days=80), gray=100, score=0.3)
        predictions(session, duty, count, NOW - timedelta(days=2), **now)
        return {each.name: each for each in drift.measure(session, settings, NOW)}


def test_films_like_those_of_the_first_weeks_raise_no_alarm(
    database: Database, settings: Settings, shelf: Shelf
) -> None:
    found = measured(database, settings, shelf, {"gray": 100, "score": 0.3})
    assert set(found) == {"p_disease", "mean", "not analysed"}
    assert not [each for each in found.values() if each.alarm]
    assert found["mean"].index is not None
    assert found["mean"].index < 0.1
    assert sum(found["mean"].then) == pytest.approx(1)


@pytest.mark.parametrize(
    ("now", "names"),
    [
        ({"gray": 120, "score": 0.3}, ["mean"]),
        ({"gray": 100, "score": 0.5}, ["p_disease"]),
        ({"gray": 100, "score": 0.3, "refused": 0.2}, ["not analysed"]),
    ],
)
def test_what_has_moved_is_named(
    sqlite: Database, settings: Settings, shelf: Shelf, now: dict[str, float], names: list[str]
) -> None:
    found = measured(sqlite, settings, shelf, now)
    assert [each.name for each in found.values() if each.alarm] == names
    assert all("<< ALARM" in found[name].says for name in names)


def test_few_films_tell_nothing(sqlite: Database, settings: Settings, shelf: Shelf) -> None:
    found = measured(sqlite, settings, shelf, {"gray": 200, "score": 0.9}, count=150)
    assert {each.index for each in found.values()} == {None}
    assert "too few films to tell" in found["mean"].says


def test_scores_are_held_against_those_the_bundle_remembers(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    rng = random.Random(5)
    scores = sorted(min(1.0, max(0.0, rng.gauss(0.6, 0.1))) for _ in range(500))
    sites = {"ward 7": {**MANIFEST["sections"]["operating_points"]["ward 7"], "watch": {"scores": scores}}}
    manifest = {**MANIFEST, "sections": {"operating_points": sites}}
    chosen = settings.model_copy(update={"site": "ward 7"})
    found = measured(sqlite, chosen, shelf, {"gray": 100, "score": 0.3}, manifest=manifest)
    assert found["p_disease"].reference == "the bundle"
    assert found["p_disease"].alarm
    assert not found["mean"].alarm


def test_without_a_model_there_is_nothing_to_measure(sqlite: Database, settings: Settings) -> None:
    with sqlite.read() as session:
        assert drift.measure(session, settings, NOW) == []
