"""The table of a study: one row a recipe, our figures beside those that were reported before.

Pure: results in; columns and cells out, for the terminal, ``study.csv``, ``study.json`` and the page.
What was not reported stays empty; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from carina.evaluation.bootstrap import Rate
from carina.evaluation.compare import ACCURACY, Comparison
from carina.evaluation.metrics import ClassFigures, Metrics
from carina.evaluation.metrics_file import Found
from carina.evaluation.paired import Difference
from carina.evaluation.wording import DASH, percent


@dataclass(frozen=True, slots=True)
class RatePlot:
    """The learning rate over a training: ``epochs`` (n,) and the rates of the first and last layers (n,)."""

    epochs: tuple[float, ...]
    first: tuple[float, ...]
    last: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row of a study, trained and evaluated."""

    name: str
    says: str
    run: str  # folder within the study
    evaluation: str  # folder within the study
    images: int  # films it was trained on
    stages: tuple[Mapping[str, Any], ...]  # size, frozen, epochs, lr
    augmentation: str
    minutes: float  # of training, shared stages included
    reported: Mapping[str, Any]
    found: Found
    valid_accuracy: float | None  # on validation films at its end ...
    valid_at_mix: float | None  # ... and in the population of the study's mix
    history: tuple[Mapping[str, Any], ...]
    rates: RatePlot
    finders: tuple[tuple[str, bytes], ...]  # of each sweep for a rate: what it came to, and its curve as SVG
    mixed: Rate | None  # accuracy in the population of the study's mix; None: the study has no mix
    against: str | None = None
    comparison: Comparison | None = None

    @property
    def planned(self) -> int:
        """Epochs of all stages, as the recipe has them."""
        return sum(int(stage["epochs"]) for stage in self.stages)

    @property
    def epochs(self) -> int:
        """Epochs that were trained: fewer than planned where stages were stopped early."""
        return len(self.history) or self.planned

    @property
    def body(self) -> str:
        """``frozen``, ``unfrozen``, or ``frozen, unfrozen``."""
        return ", ".join(dict.fromkeys("frozen" if stage["frozen"] else "unfrozen" for stage in self.stages))

    @property
    def sizes(self) -> str:
        """``64 → 128``."""
        return " → ".join(str(size) for size in dict.fromkeys(stage["size"] for stage in self.stages))

    @property
    def rate_texts(self) -> str:
        """``0.003; 1e-05–0.0001``: one for each stage."""
        return "; ".join(dict.fromkeys(str(stage["lr"]) for stage in self.stages))

    @property
    def is_mixed(self) -> bool:
        """Whether its accuracy at the study's mix is known."""
        return self.mixed is not None and self.mixed.value is not None

    @property
    def accuracy(self) -> Rate:
        """The accuracy that it is judged by: at the study's mix where that is known, else on the films."""
        return self.mixed if self.mixed is not None and self.is_mixed else self.found.metrics.accuracy

    @property
    def difference(self) -> Difference | None:
        """Its accuracy less that of the row it is held against."""
        if self.comparison is None:
            return None
        return next(each for each in self.comparison.differences if each.name == ACCURACY)


def at_mix(metrics: Metrics, mix: Mapping[str, int]) -> Rate:
    """Accuracy in a population with ``mix`` films of each class: the recalls, weighted.

    The interval is recovered from those of the recalls (Zou & Donner, Statistics in Medicine 2008,
    27:1693), which are of different films. None where a class of the mix was not seen.
    """
    recalls = {each.name: each.recall for each in metrics.per_class}
    known = [
        (count, recalls[name])
        for name, count in mix.items()
        if name in recalls and recalls[name].value is not None
    ]
    if len(known) < len(mix):
        lacking = [name for name in mix if name not in recalls or recalls[name].value is None]
        return Rate(None, None, None, 0, 0, 0, f"no film of {lacking[0]} among these films")
    counts = np.array([count for count, _ in known], dtype=np.float64)
    weights = counts / counts.sum()
    values, lows, highs = (
        np.array([getattr(rate, end) for _, rate in known], dtype=np.float64)
        for end in ("value", "low", "high")
    )
    value = float(weights @ values)
    down = float(np.sqrt(((weights * (values - lows)) ** 2).sum()))
    up = float(np.sqrt(((weights * (highs - values)) ** 2).sum()))
    films, hits = (sum(getattr(rate, part) for _, rate in known) for part in ("films", "hits"))
    return Rate(value, max(0.0, value - down), min(1.0, value + up), int(hits), int(films), metrics.patients)


def worst_class(metrics: Metrics) -> ClassFigures | None:
    """The class of which the smallest share is called by its own name."""
    seen = [each for each in metrics.per_class if each.recall.value is not None]
    return min(seen, key=lambda each: each.recall.value or 0.0, default=None)


def recommended(rows: Sequence[RowResult]) -> RowResult:
    """The row with the best accuracy on validation films, at the study's mix if all rows know it.

    Never chosen on the films it is judged on.
    """
    at_mix_ = [row.valid_at_mix for row in rows]
    figures = [row.valid_accuracy for row in rows] if None in at_mix_ else at_mix_
    best = max(range(len(rows)), key=lambda place: -1.0 if (found := figures[place]) is None else found)
    return rows[best]


COLUMNS = (
    "row", "says", "images", "body", "size", "learning_rate", "epochs", "minutes", "augmentation",
    "accuracy", "accuracy_low", "accuracy_high",
    "accuracy_at_mix", "accuracy_at_mix_low", "accuracy_at_mix_high",
    "macro_auc", "recall_disease", "recall_disease_low", "recall_disease_high", "specificity",
    "worst_class", "worst_class_recall", "worst_class_recall_low", "worst_class_recall_high",
    "verdict", "against", "accuracy_difference", "accuracy_difference_low", "accuracy_difference_high",
    "valid_accuracy", "valid_accuracy_at_mix", "split", "films",
    "reported_images", "reported_body", "reported_size", "reported_lr", "reported_epochs",
    "reported_minutes", "reported_augmentation", "reported_accuracy",
)  # fmt: skip
TIMES = ("minutes",)  # what another machine, or another run on this one, has otherwise


def cells(row: RowResult) -> dict[str, Any]:
    """One row of ``study.csv``: raw figures, None where there is none."""
    metrics, difference, worst = row.found.metrics, row.difference, worst_class(row.found.metrics)
    recall = worst.recall if worst is not None else Rate(None, None, None, 0, 0, 0)
    values: dict[str, Any] = {
        "row": row.name,
        "says": row.says,
        "images": row.images,
        "body": row.body,
        "size": row.sizes,
        "learning_rate": row.rate_texts,
        "epochs": row.epochs,
        "minutes": row.minutes,
        "augmentation": row.augmentation,
        **_rate("accuracy", metrics.accuracy),
        **_rate("accuracy_at_mix", row.mixed),
        "macro_auc": metrics.macro_auc.value,
        **_rate("recall_disease", metrics.detection.sensitivity),
        "specificity": metrics.detection.specificity.value,
        "worst_class": worst.name if worst is not None else None,
        **_rate("worst_class_recall", recall),
        "verdict": str(row.found.belief.verdict.grade),
        "against": row.against,
        "accuracy_difference": difference.value if difference else None,
        "accuracy_difference_low": difference.low if difference else None,
        "accuracy_difference_high": difference.high if difference else None,
        "valid_accuracy": row.valid_accuracy,
        "valid_accuracy_at_mix": row.valid_at_mix,
        "split": row.found.split,
        "films": metrics.films,
    }
    values |= {f"reported_{name}": value for name, value in row.reported.items()}
    return {name: values.get(name) for name in COLUMNS}


def content(row: RowResult) -> dict[str, Any]:
    """One row of ``study.json``: the cells, and what stands behind them."""
    metrics = row.found.metrics
    return {
        **cells(row),
        "run": row.run,
        "evaluation": row.evaluation,
        "stages": [dict(stage) for stage in row.stages],
        "reported": dict(row.reported),
        "warnings": list(row.found.warnings),
        "recall": {each.name: asdict(each.recall) for each in metrics.per_class},
        "confusion": {"classes": list(metrics.classes), "films": [list(each) for each in metrics.confusion]},
        "most_confused": [asdict(each) for each in metrics.most_confused],
        "comparison": None if row.comparison is None else asdict(row.comparison),
        "history": [dict(each) for each in row.history],
    }


def terminal_table(rows: Sequence[RowResult]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for a terminal: what is asked first."""
    mixed = any(row.is_mixed for row in rows)
    head = ["row", "size", "body", "epochs", "minutes", "accuracy", *(["at the mix"] if mixed else [])]
    head += ["reported", "recall of disease", "worst"]
    body = []
    for row in rows:
        metrics, worst = row.found.metrics, worst_class(row.found.metrics)
        stated = row.reported.get("accuracy")
        body.append(
            [
                row.name,
                row.sizes,
                row.body,
                str(row.epochs),
                f"{row.minutes:.1f}",
                percent(metrics.accuracy.value),
                *([percent(row.mixed.value if row.mixed else None)] if mixed else []),
                DASH if stated is None else percent(stated),
                percent(metrics.detection.sensitivity.value),
                DASH if worst is None else f"{percent(worst.recall.value)} {worst.name}",
            ]
        )
    return head, body


def _rate(name: str, rate: Rate | None) -> dict[str, float | None]:
    return {
        name: rate.value if rate else None,
        f"{name}_low": rate.low if rate else None,
        f"{name}_high": rate.high if rate else None,
    }
