"""Which labels a classifier contradicts that never saw them: candidates for a second look, nothing more.

Each film is judged by a logistic regression that was taught on other people's films only (and on no near
copy of it); cleanlab (Northcutt, Jiang, Chuang: Confident learning. Journal of Artificial Intelligence
Research 2021) says from these probabilities which labels are probably wrong. Pure arrays; nothing is ever
dropped or changed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carina.data.candidates import histograms
from carina.data.confounding.baselines import LEARNABLE, Probabilities, Subjects, accuracy, cross_validated
from carina.data.confounding.lookaway import reduced
from carina.data.descriptors import describe
from carina.data.splits import SplitRow
from carina.errors import DataError, MissingExtra

Features = NDArray[np.float32]  # (N, F)

_PENALTY = 0.01  # inverse; strong, so that a wrong label does not talk its own classifier over
_BLOCKS = 16  # a side, of the gray values


@dataclass(frozen=True, slots=True)
class Suspect:
    """A film whose label is contradicted. ``quality`` is cleanlab's, 0 (surely wrong) to 1."""

    film: int  # its place among the films that were asked about
    given: str
    expected: str
    p_given: float
    p_expected: float
    quality: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The suspects, the worst first; and how good the judge was that names them."""

    asked: int
    accuracy: float  # share of films whose given label is the most probable one, out of fold
    suspects: tuple[Suspect, ...]
    left_out: tuple[str, ...]  # classes of too few patients to ask about


def disagreement(
    features: Features, rows: Sequence[SplitRow], healthy: Sequence[str], *, seed: int = 0
) -> Disagreement:
    """Judge the labels of ``rows`` by ``features`` (N, F).

    Raises DataError when fewer than two classes have patients enough, MissingExtra without the
    ``report`` extra.
    """
    names = sorted({row.class_name for row in rows})
    subjects = Subjects.of(rows, names, healthy, seed=seed)
    enough = [label for label in range(len(names)) if subjects.patients(label) >= LEARNABLE]
    left_out = tuple(name for label, name in enumerate(names) if label not in enough)
    if len(enough) < 2:
        raise DataError(
            f"labels cannot be judged: {len(enough)} of {len(names)} classes have {LEARNABLE} patients or "
            "more, and it takes two; compile more films"
        )
    kept = [place for place, row in enumerate(rows) if row.class_name not in left_out]
    classes = [names[label] for label in enough]
    asked = Subjects.of([rows[place] for place in kept], classes, healthy, seed=seed)
    told = cross_validated(features[kept], asked, logistic)
    found = tuple(
        Suspect(
            kept[film],
            classes[asked.labels[film]],
            classes[int(told[film].argmax())],
            float(told[film, asked.labels[film]]),
            float(told[film].max()),
            quality,
        )
        for film, quality in _issues(asked.labels, told)
    )
    return Disagreement(len(kept), accuracy(told, asked), found, left_out)


def features_of(films: NDArray[np.uint8]) -> Features:
    """What is asked where no model is given: gradient directions and gray values, (N, S, S) to (N, F)."""
    gray = reduced(films, _BLOCKS).reshape(len(films), -1)
    shapes = [histograms(describe(film)[None])[0] for film in films]
    return np.concatenate([np.array(shapes, np.float32), gray], axis=1)


def logistic(taught: Features, labels: NDArray[np.int64], asked: Features, classes: int) -> Probabilities:
    """Logistic regression on standardised features."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ModuleNotFoundError as error:
        raise MissingExtra("carina labels", "report") from error
    told = np.zeros((len(asked), classes))
    known = np.unique(labels)
    if len(known) == 1:
        told[:, known] = 1.0
        return told
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=5000))
    told[:, known] = judge.fit(taught, labels).predict_proba(asked)
    return told


def _issues(labels: NDArray[np.int64], told: Probabilities) -> list[tuple[int, float]]:
    """The films whose label cleanlab doubts and that another class is more probable for, worst first."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ModuleNotFoundError as error:
        raise MissingExtra("carina labels", "report") from error
    doubted = find_label_issues(labels, told, filter_by="prune_by_noise_rate", n_jobs=1)
    doubted &= told.argmax(1) != labels
    quality = get_label_quality_scores(labels, told, method="normalized_margin")
    return [(int(film), float(quality[film])) for film in np.argsort(quality, kind="stable") if doubted[film]]
