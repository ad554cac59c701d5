"""Whom the model fails: recall and specificity by age band, sex, view and source. Pure.

99 % of all may hide 60 % of the women over 80. Films are counted, intervals are by patient; a film that
says nothing of a thing stands in the group "not stated", so that no film leaves the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carina.evaluation.bootstrap import Rate, shares
from carina.evaluation.predictions import Predictions

AGE_BANDS = ((0, 5), (5, 18), (18, 40), (40, 60), (60, 80), (80, 200))
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Subgroup:
    """One group of one kind ("age", "sex", "view", "source"); recall of disease and specificity in it."""

    kind: str
    name: str
    recall: Rate
    specificity: Rate


def subgroups(predictions: Predictions, called: NDArray[np.bool_], *, seed: int = 0) -> tuple[Subgroup, ...]:
    """The groups of the films that could be scored; of each kind the worst recall first.

    ``called`` (M,) are the scored films that were called diseased. A kind of which no film says
    anything is left out.
    """
    rows = predictions.scored
    sick = predictions.sick[predictions.labels[rows]]
    patients = np.array(predictions.column("patient"))[rows]
    found: list[Subgroup] = []
    for kind, names in _kinds(predictions).items():
        group = names[rows]
        stated = sorted(set(group.tolist()) - {NOT_STATED})
        if not stated:
            continue
        order = [*stated, NOT_STATED] if NOT_STATED in group else stated
        questions = [
            (wanted == called, wanted_rows)
            for name in order
            for wanted, wanted_rows in (
                (np.ones_like(called), (group == name) & sick),
                (np.zeros_like(called), (group == name) & ~sick),
            )
        ]
        rates = shares(patients, questions, seed=seed)
        pairs = [Subgroup(kind, name, rates[2 * at], rates[2 * at + 1]) for at, name in enumerate(order)]
        found += sorted(pairs, key=_order)
    return tuple(found)


def called_diseased(predictions: Predictions) -> NDArray[np.bool_]:
    """The scored films whose most probable class is a disease, (M,)."""
    likeliest = predictions.probabilities[predictions.scored].argmax(axis=1)
    called: NDArray[np.bool_] = predictions.sick[likeliest]
    return called


def age_band(age: float | None) -> str:
    """``18–39``, ``80 and over``; what is unknown or no age is not stated."""
    if age is None or not np.isfinite(age) or age < 0:
        return NOT_STATED
    low, high = next((band for band in AGE_BANDS if band[0] <= age < band[1]), AGE_BANDS[-1])
    return f"{low} and over" if high == AGE_BANDS[-1][1] else f"{low}–{high - 1}"


def _kinds(predictions: Predictions) -> dict[str, NDArray[np.str_]]:
    """The name of each film's group, (N,), by kind."""
    films, count = predictions.films, len(predictions.refused)

    def column(name: str) -> list[object]:
        return films[name].to_pylist() if name in films.column_names else [None] * count

    bands = [age_band(None if age is None else float(str(age))) for age in column("age")]
    return {
        "age": np.array([band if band == NOT_STATED else f"{band} years" for band in bands]),
        **{
            kind: np.array([NOT_STATED if each is None else str(each) for each in column(kind)])
            for kind in ("sex", "view", "source")
        },
    }


def _order(group: Subgroup) -> tuple[int, float]:
    """The worst recall first; groups without a diseased film after all others."""
    return (1, 0.0) if group.recall.value is None else (0, group.recall.value)
