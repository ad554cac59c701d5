"""From films to independent people, each with one score: their worst film.

Ten films of one patient are not ten witnesses. Every promise about a threshold therefore counts
people, and each by the film that goes worst for the claim: a diseased person is found only if *every*
film that shows the disease is flagged, a healthy one is spared only if *no* film is. Who shares a
patient's name or a near copy of a film counts as one person. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from carina.evaluation.metrics import disease_probability
from carina.evaluation.predictions import Predictions

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class People:
    """Scores in [0, 1] of independent people, each array in no particular order.

    ``ill`` is the lowest score among a diseased person's diseased films, ``by_class`` the same for
    one disease (a person may have several), ``well`` the highest among a healthy person's films.
    ``films`` are the scores of all films, which are not independent.
    """

    ill: Scores
    by_class: dict[str, Scores]
    well: Scores
    films: Scores


def people(predictions: Predictions) -> People:
    """The people behind the films that could be scored.

    A person with healthy and with diseased films (ill last year, well now) counts on both sides.
    """
    rows = predictions.scored
    p_disease = disease_probability(predictions.probabilities[rows], predictions.sick)
    labels, who = predictions.labels[rows], persons_of(predictions)
    ill = predictions.sick[labels]
    return People(
        ill=_lowest(p_disease[ill], who[ill]),
        by_class={
            name: _lowest(p_disease[labels == index], who[labels == index])
            for index, name in enumerate(predictions.classes)
            if predictions.sick[index]
        },
        well=-_lowest(-p_disease[~ill], who[~ill]),
        films=p_disease,
    )


def persons_of(predictions: Predictions) -> NDArray[np.int64]:
    """The person each scored film shows, (M,)."""
    patients, groups = predictions.column("patient"), predictions.column("group")
    rows = predictions.scored.tolist()
    return persons([patients[row] for row in rows], [groups[row] for row in rows])


def persons(patients: Sequence[str], groups: Sequence[str]) -> NDArray[np.int64]:
    """The person each film shows, (N,): the connected parts of patients and near-copy groups."""
    if not len(patients):
        return np.zeros(0, dtype=np.int64)
    _, patient = np.unique(patients, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    apart = int(patient.max()) + 1  # groups are nodes after the patients
    size = apart + int(group.max()) + 1
    ties = coo_array((np.ones(len(patient), dtype=np.int8), (patient, apart + group)), shape=(size, size))
    _, part = connected_components(ties, directed=False)
    _, who = np.unique(part[patient], return_inverse=True)
    return who.astype(np.int64)


def _lowest(scores: Scores, who: NDArray[np.int64]) -> Scores:
    """The lowest score of each person who has any, (P,)."""
    if not len(who):
        return np.zeros(0)
    lowest = np.full(int(who.max()) + 1, np.inf)
    np.minimum.at(lowest, who, scores)
    known: Scores = lowest[np.isfinite(lowest)]
    return known
