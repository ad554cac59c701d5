"""Films become people: one score each, that of their worst film."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from carina.evaluation.people import people, persons
from carina.evaluation.predictions import Predictions
from tests.evaluation import worlds


def answered(rows: list[tuple[str, str, str, float]]) -> Predictions:
    """Rows of patient, near-copy group, class, p_disease."""
    names = worlds.CLASSES
    ill = np.array([row[3] for row in rows])
    probabilities = np.column_stack([ill / 2, ill / 2, 1 - ill])
    films = pa.table({"patient": [row[0] for row in rows], "group": [row[1] for row in rows]})
    labels = np.array([names.index(row[2]) for row in rows])
    return Predictions(films, names, frozenset({"Normal"}), labels, probabilities, (None,) * len(rows))


def test_a_diseased_person_counts_by_the_least_suspicious_film_a_healthy_one_by_the_most() -> None:
    found = people(
        answered(
            [
                ("a", "1", "COVID-19", 0.9),
                ("a", "2", "COVID-19", 0.2),  # the film that would be missed
                ("b", "3", "COVID-19", 0.8),
                ("b", "4", "Bacterial Pneumonia", 0.7),
                ("c", "5", "Normal", 0.1),
                ("c", "6", "Normal", 0.6),  # the film that would be a false alarm
                ("a", "7", "Normal", 0.05),  # well again
            ]
        )
    )
    assert sorted(found.ill.round(6)) == [0.2, 0.7]
    assert sorted(found.by_class["COVID-19"].round(6)) == [0.2, 0.8]
    assert found.by_class["Bacterial Pneumonia"].round(6).tolist() == [0.7]
    assert sorted(found.well.round(6)) == [0.05, 0.6]
    assert len(found.films) == 7


def test_near_copies_under_two_names_are_one_person() -> None:
    who = persons(["a", "b", "b", "c"], ["x", "x", "y", "z"])
    assert who[0] == who[1] == who[2] != who[3]
    assert len(persons([], [])) == 0


def test_refused_films_are_in_no_score() -> None:
    whole, cut = worlds.predictions(60), worlds.predictions(60, refused=(0, 1, 2))
    assert len(people(cut).films) == len(people(whole).films) - 3


def test_a_class_without_films_has_nobody() -> None:
    made = worlds.predictions(60)
    only = dataclasses.replace(made, labels=np.where(made.labels == 1, 2, made.labels))
    assert len(people(only).by_class["COVID-19"]) == 0
