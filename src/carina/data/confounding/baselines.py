"""Classifiers that may not look at the lungs: how well they tell the classes, by patient.

Each is cross-validated (a film is judged by a classifier that saw neither its patient nor a near copy),
then measured once more among the films of one source, and on a source it never saw. Pure arrays; the
trees need scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from carina.data.confounding.area import Auc, auc
from carina.data.reading import cores
from carina.data.splits import SplitRow, components, folds
from carina.errors import MissingExtra

DISEASE = "any disease"  # the row that sets all diseased films against all healthy ones
FOLDS, TREES = 5, 64
UNSEEN_SOURCES = 8  # the largest sources that are left out in turn
LEARNABLE = 10  # patients that at least two classes must have

Labels = NDArray[np.int64]  # (N,)
Probabilities = NDArray[np.float64]  # (N, C)
Learner = Callable[[NDArray[np.float32], Labels, NDArray[np.float32], int], Probabilities]
Rows = Mapping[str, Auc]  # class or DISEASE → area


@dataclass(frozen=True)
class Subjects:
    """The films that are judged. All arrays are (N,); ``groups`` joins patients and near copies."""

    classes: tuple[str, ...]
    healthy: frozenset[str]
    labels: Labels
    sources: NDArray[np.str_]
    groups: NDArray[np.int64]
    folds: NDArray[np.int64]

    @classmethod
    def of(
        cls, rows: Sequence[SplitRow], classes: Sequence[str], healthy: Sequence[str], *, seed: int = 0
    ) -> Subjects:
        """The films of ``rows``, with groups joined and folds dealt."""
        place = {name: index for index, name in enumerate(classes)}
        group_of = {row.key: number for number, part in enumerate(components(rows)) for row in part}
        return cls(
            tuple(classes),
            frozenset(healthy),
            np.array([place[row.class_name] for row in rows], np.int64),
            np.array([row.source for row in rows], np.str_),
            np.array([group_of[row.key] for row in rows], np.int64),
            np.array(folds(rows, FOLDS, seed), np.int64),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sick(self) -> NDArray[np.bool_]:
        """Which classes are diseases, (C,)."""
        return np.array([name not in self.healthy for name in self.classes], np.bool_)

    def patients(self, label: int) -> int:
        """Groups that have a film of the class."""
        return len(np.unique(self.groups[self.labels == label]))

    @property
    def learnable(self) -> bool:
        """Whether a classifier can be learnt and judged at all."""
        return sum(self.patients(label) >= LEARNABLE for label in range(len(self.classes))) >= 2

    def among(self, chosen: NDArray[np.bool_]) -> Subjects:
        """Some of the films."""
        parts = (getattr(self, name)[chosen] for name in ("labels", "sources", "groups", "folds"))
        return Subjects(self.classes, self.healthy, *parts)


@dataclass(frozen=True, slots=True)
class Baseline:
    """How well the classes are told by one thing that is not the lungs.

    ``rows`` are areas over all films; ``within`` among the films of one source; ``unseen`` on the films
    of a source by a classifier that was taught on all others. ``parts`` are the facts that make up the
    whole, each alone. Everything is empty where ``why`` says why nothing was measured.
    """

    key: str
    rows: Rows = field(default_factory=dict)
    accuracy: float | None = None
    within: Mapping[str, Rows] = field(default_factory=dict)
    unseen: Mapping[str, Rows] = field(default_factory=dict)
    parts: Mapping[str, Rows] = field(default_factory=dict)
    films: int = 0
    why: str | None = None


def by_frequency(key: str, values: Sequence[str | None], subjects: Subjects) -> Baseline:
    """What one named fact tells: how frequent each class is at its value. Needs numpy only.

    Films of which the fact is not known (None) are left out, not made a value of their own.
    """
    known = np.array([value is not None for value in values], np.bool_)
    asked = subjects.among(known)
    names, codes = np.unique([value for value in values if value is not None], return_inverse=True)
    if len(names) < 2:
        return Baseline(key, why="one value only" if len(names) else "not stated")
    if not asked.learnable:
        return Baseline(key, why="too few patients")
    told = cross_validated(codes[:, None].astype(np.float32), asked, frequencies)
    return Baseline(key, areas(told, asked), accuracy(told, asked), films=len(asked))


def by_trees(
    key: str,
    features: NDArray[np.float32],
    subjects: Subjects,
    *,
    names: Sequence[str] = (),
    thorough: bool = True,
) -> Baseline:
    """What ``features`` (N, F) tell to extremely randomised trees (Geurts, Ernst, Wehenkel 2006).

    ``names`` of the columns asks for each column alone as well. ``thorough=False`` leaves out the sources
    never seen. Raises MissingExtra without scikit-learn.
    """
    if not subjects.learnable:
        return Baseline(key, why="too few patients")
    varies = bool((features != features[0]).any())  # otherwise there is nothing to grow trees on
    told = cross_validated(features, subjects, trees if varies else frequencies)
    parts = {
        name: areas(cross_validated(_binned(features[:, column]), subjects, frequencies), subjects)
        for column, name in enumerate(names)
        if len(np.unique(features[:, column])) > 1
    }
    return Baseline(
        key,
        areas(told, subjects),
        accuracy(told, subjects),
        within=within_sources(told, subjects),
        unseen=dict(_unseen(features, subjects)) if thorough and varies else {},
        parts=parts,
        films=len(subjects),
    )


def cross_validated(features: NDArray[np.float32], subjects: Subjects, learn: Learner) -> Probabilities:
    """(N, C): each film by a classifier that was taught on the other folds."""
    told = np.zeros((len(subjects), len(subjects.classes)))
    sides = [subjects.folds == fold for fold in np.unique(subjects.folds)]
    if len(sides) < 2:
        raise ValueError("all films are in one fold; there is nothing to learn from")

    def asked(side: NDArray[np.bool_]) -> Probabilities:
        return learn(features[~side], subjects.labels[~side], features[side], told.shape[1])

    with ThreadPoolExecutor(min(cores(), len(sides))) as pool:  # trees grow without the interpreter's lock
        for side, answer in zip(sides, pool.map(asked, sides), strict=True):
            told[side] = answer
    return told


def areas(told: Probabilities, subjects: Subjects) -> dict[str, Auc]:
    """The area of each class against the rest, and of disease against health, where it can be asked."""
    rows = {}
    for label, name in enumerate(subjects.classes):
        positive = subjects.labels == label
        if positive.any() and not positive.all():
            rows[name] = auc(told[:, label], positive, subjects.groups)
    sick = subjects.sick[subjects.labels]
    if sick.any() and not sick.all():
        rows[DISEASE] = auc(told[:, subjects.sick].sum(1), sick, subjects.groups)
    return rows


def accuracy(told: Probabilities, subjects: Subjects) -> float:
    """The share of films whose most probable class is their own."""
    return float((told.argmax(1) == subjects.labels).mean())


def by_size(subjects: Subjects) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The sources, largest first, and where their films are, (N,)."""
    names, counts = np.unique(subjects.sources, return_counts=True)
    for place in np.argsort(-counts, kind="stable"):
        yield str(names[place]), subjects.sources == names[place]


def within_sources(told: Probabilities, subjects: Subjects) -> dict[str, Rows]:
    """The areas among the films of one source, for each source that can be asked."""
    found: dict[str, Rows] = {}
    for source, at in by_size(subjects):
        rows = _enough(areas(told[at], subjects.among(at)))
        if rows:
            found[source] = rows
    return found


def _enough(rows: Rows) -> dict[str, Auc]:
    """The rows with patients enough on both sides."""
    return {name: area for name, area in rows.items() if min(area.groups) >= LEARNABLE}


def _unseen(features: NDArray[np.float32], subjects: Subjects) -> Iterator[tuple[str, Rows]]:
    """Leave one source out, with all that is tied to it. A class that nobody else has cannot be asked for.

    A source of a single class is set against films of the other classes that were kept back, one fold.
    """
    for number, (source, at) in enumerate(by_size(subjects)):
        if number == UNSEEN_SOURCES:
            return
        tied = np.isin(subjects.groups, subjects.groups[at])
        here = np.unique(subjects.labels[at])
        alone = len(here) == 1
        others = (subjects.folds == 0) & ~tied & (subjects.labels != here[0]) & alone
        asked, taught = at | others, ~(tied | others)
        known = np.unique(subjects.labels[taught])
        if len(known) < 2 or (alone and here[0] not in known):
            continue
        told = trees(features[taught], subjects.labels[taught], features[asked], len(subjects.classes))
        rows = _enough(areas(told, subjects.among(asked)))
        names = {subjects.classes[label] for label in np.intersect1d(here, known)}
        if not alone and len(set(subjects.sick[known])) == 2:
            names.add(DISEASE)
        kept = {name: area for name, area in rows.items() if name in names}
        if kept:
            yield source, kept


def frequencies(
    taught: NDArray[np.float32], labels: Labels, asked: NDArray[np.float32], classes: int
) -> Probabilities:
    """How frequent each class is at the value of the one column; an unknown value gets what is usual."""
    usual = np.bincount(labels, minlength=classes) / len(labels)
    told = np.tile(usual, (len(asked), 1))
    for value in np.unique(asked[:, 0]):
        found = labels[taught[:, 0] == value]
        share = (np.bincount(found, minlength=classes) + usual) / (len(found) + 1)
        told[asked[:, 0] == value] = share
    return np.asarray(told, np.float64)


def trees(
    taught: NDArray[np.float32], labels: Labels, asked: NDArray[np.float32], classes: int
) -> Probabilities:
    """Extremely randomised trees of scikit-learn, seeded.

    Single trees, averaged here: scikit-learn's forest sets the process's warning filters from its
    threads, which is not safe where several forests grow at a time.
    """
    try:
        from sklearn.tree import ExtraTreeClassifier
    except ModuleNotFoundError as error:
        raise MissingExtra("carina audit", "report") from error
    told = np.zeros((len(asked), classes))
    known = np.unique(labels)
    for seed in range(TREES):
        tree = ExtraTreeClassifier(min_samples_leaf=2, random_state=seed).fit(taught, labels)
        told[:, known] += tree.predict_proba(asked) / TREES
    return told


def _binned(column: NDArray[np.float32], most: int = 24) -> NDArray[np.float32]:
    """Few values as they are, many as quantiles, (N, 1)."""
    values = np.unique(column)
    if len(values) <= most:
        return column[:, None]
    edges = np.unique(np.quantile(column, np.linspace(0, 1, most + 1)[1:-1]))
    return np.searchsorted(edges, column, "right").astype(np.float32)[:, None]
