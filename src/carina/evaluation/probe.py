"""What a model's own figures and its embedding give away about the source of a film.

A probe is a simple classifier on the embedding. Among films of one class the source must not matter;
how well the probe tells it there is how much of the model's knowledge is of hospitals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carina.data.confounding.area import Auc
from carina.data.confounding.baselines import (
    LEARNABLE,
    Probabilities,
    Rows,
    Subjects,
    accuracy,
    areas,
    cross_validated,
    within_sources,
)
from carina.data.splits import SplitRow


@dataclass(frozen=True, slots=True)
class Probe:
    """How well the source is told among the films of one class."""

    class_name: str
    films: Mapping[str, int]  # by source
    rows: Mapping[str, Auc]  # by source, against all others
    accuracy: float
    most_frequent: float  # the accuracy of who always says the most frequent source

    @property
    def area(self) -> float:
        """The mean area over the sources."""
        return float(np.mean([each.value for each in self.rows.values() if each.value is not None]))


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What a bundle reaches on films of a split, in the same measures as the baselines."""

    name: str
    split: str
    films: int
    refused: int
    accuracy: float
    rows: Rows
    within: Mapping[str, Rows]
    probes: tuple[Probe, ...]


def model_figures(
    name: str,
    split: str,
    films: pa.Table,
    classes: Sequence[str],
    healthy: Sequence[str],
    given: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]] | None],
) -> ModelFigures:
    """``given`` are probabilities (C,) and embedding (D,) for each of the films, None where refused."""
    scored = [row for row, answer in enumerate(given) if answer is not None]
    rows = _split_rows(films, scored)
    told: Probabilities = np.array([answer[0] for answer in given if answer is not None], np.float64)
    inside = np.array([answer[1] for answer in given if answer is not None], np.float32)
    subjects = Subjects.of(rows, classes, healthy)
    return ModelFigures(
        name=name,
        split=split,
        films=len(scored),
        refused=len(given) - len(scored),
        accuracy=accuracy(told, subjects),
        rows=areas(told, subjects),
        within=within_sources(told, subjects),
        probes=tuple(source_probes(rows, inside)),
    )


def source_probes(rows: Sequence[SplitRow], embeddings: NDArray[np.float32]) -> list[Probe]:
    """The probe in every class that at least two sources have, by enough patients each."""
    found = []
    for name in sorted({row.class_name for row in rows}):
        at = [place for place, row in enumerate(rows) if row.class_name == name]
        patients = {
            source: len({rows[place].patient for place in at if rows[place].source == source})
            for source in {rows[place].source for place in at}
        }
        sources = sorted(source for source, count in patients.items() if count >= LEARNABLE)
        if len(sources) < 2:
            continue
        at = [place for place in at if rows[place].source in sources]
        asked = [SplitRow(r.key, r.patient, r.group, r.source, "") for r in (rows[place] for place in at)]
        subjects = Subjects.of(asked, sources, ())
        told = cross_validated(embeddings[at], subjects, linear)
        counts = {source: int((subjects.labels == label).sum()) for label, source in enumerate(sources)}
        found.append(
            Probe(
                name,
                counts,
                areas(told, subjects),
                accuracy(told, subjects),
                max(counts.values()) / len(at),
            )
        )
    return found


def linear(
    taught: NDArray[np.float32], labels: NDArray[np.int64], asked: NDArray[np.float32], classes: int
) -> Probabilities:
    """Linear discriminant analysis, its covariance shrunk as Ledoit and Wolf (2004) say."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    told = np.zeros((len(asked), classes))
    known = np.unique(labels)
    if len(known) == 1:
        told[:, known] = 1.0
        return told
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(taught, labels)
    told[:, known] = fitted.predict_proba(asked)
    return told


def _split_rows(films: pa.Table, chosen: Sequence[int]) -> list[SplitRow]:
    names = ("image_id", "patient", "group", "class", "source")
    columns = [films[name].to_pylist() for name in names]
    return [SplitRow(*(column[row] for column in columns)) for row in chosen]
