"""One row a film: what was asked, what the truth is, what the bundle answered.

Knows the columns of ``predictions.parquet``; scores nothing. A refused film keeps its row, with the
reason and without probabilities, so that nobody counts it as healthy by leaving it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carina.evaluation.bootstrap import Mask
from carina.evaluation.metrics import Labels, Probabilities, disease_probability, losses
from carina.taxonomy import column_name


@dataclass(frozen=True)
class Predictions:
    """The films of one selection in catalogue order, with the bundle's answers.

    ``films`` are N catalogue rows; ``probabilities`` is (N, C) in the order of ``classes``, NaN where
    ``refused`` (N,) gives a reason; ``labels`` is (N,), indices into ``classes``. ``abstained`` says which
    films a hospital would not have got a score for, though they have one here.
    """

    films: pa.Table
    classes: tuple[str, ...]
    healthy: frozenset[str]
    labels: Labels
    probabilities: Probabilities
    refused: tuple[str | None, ...]
    abstained: tuple[str | None, ...] = ()  # (N,) codes; empty where nobody asked

    @cached_property
    def scored(self) -> NDArray[np.int64]:
        """The rows that have probabilities, (M,)."""
        return np.flatnonzero([reason is None for reason in self.refused])

    @cached_property
    def sick(self) -> Mask:
        """Which classes are diseases, (C,)."""
        return np.array([name not in self.healthy for name in self.classes])

    def only(self, rows: Mask) -> Self:
        """The films where ``rows`` (N,) is true."""
        kept = np.flatnonzero(rows).tolist()
        return replace(
            self,
            films=self.films.take(kept),
            labels=self.labels[kept],
            probabilities=self.probabilities[kept],
            refused=tuple(self.refused[row] for row in kept),
            abstained=tuple(self.abstained[row] for row in kept) if self.abstained else (),
        )

    def column(self, name: str) -> list[str]:
        """One text column of the films, in order."""
        return [str(value) for value in self.films[name].to_pylist()]

    def table(self) -> pa.Table:
        """The table that is written; ``class`` is the truth, ``predicted`` the most probable class."""
        whole = self.scored
        probabilities = self.probabilities[whole]
        predicted = [self.classes[index] for index in probabilities.argmax(axis=1)]
        columns: dict[str, pa.Array] = {
            "image_id": self.films["image_id"],
            "path": self.films["path"],
            "class": pa.array([self.classes[index] for index in self.labels], pa.string()),
            "predicted": self._spread(predicted, pa.string()),
            "p_disease": self._spread(disease_probability(probabilities, self.sick), pa.float64()),
            **{
                column_name(name): self._spread(probabilities[:, index], pa.float64())
                for index, name in enumerate(self.classes)
            },
            "loss": self._spread(losses(probabilities, self.labels[whole]), pa.float64()),
            "patient": self.films["patient"],
            "source": self.films["source"],
            "split": self.films["split"],
            "refused": pa.array(self.refused, pa.string()),
            "abstained": pa.array(self.abstained or [None] * len(self.refused), pa.string()),
        }
        return pa.table(columns)

    def _spread(self, values: Sequence[str] | NDArray[np.float64], kind: pa.DataType) -> pa.Array:
        """Values of the scored films (M,) as a column of all films (N,), null where refused."""
        column: list[str | float | None] = [None] * len(self.refused)
        for row, value in zip(self.scored.tolist(), values, strict=True):
            column[row] = value if isinstance(value, str) else float(value)
        return pa.array(column, kind)
