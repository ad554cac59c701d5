"""Read back what an evaluation found: ``metrics.json`` as the same frozen figures.

The inverse of what :mod:`carina.evaluation.results` writes, for pages that join several evaluations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carina.data.confounding.verdict import Verdict
from carina.errors import RunError
from carina.evaluation.belief import Belief
from carina.evaluation.bootstrap import Area, Rate
from carina.evaluation.metrics import ClassFigures, Confusion, Detection, MacroArea, Metrics


@dataclass(frozen=True, slots=True)
class Found:
    """One evaluation: its figures, the verdict beside them, and where it came from."""

    split: str
    bundle_sha256: str  # of bundle.json
    catalogue: str  # fingerprint
    metrics: Metrics
    belief: Belief
    warnings: tuple[str, ...]


def read_metrics(folder: Path) -> Found:
    """What ``carina evaluate`` wrote into a folder. Raises RunError where it is incomplete or damaged."""
    path = folder / "metrics.json"
    try:
        content = json.loads(path.read_bytes())
        return Found(
            str(content["split"]),
            str(content["bundle"]["sha256"]),
            str(content["catalogue"]["fingerprint"]),
            _metrics(content["metrics"]),
            _belief(content["verdict"]),
            tuple(map(str, content["warnings"])),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); write it again with `carina evaluate`") from error


def _metrics(values: Mapping[str, Any]) -> Metrics:
    return Metrics(
        films=values["films"],
        patients=values["patients"],
        classes=tuple(values["classes"]),
        healthy=tuple(values["healthy"]),
        detection=_detection(values["detection"]),
        detection_at_half=_detection(values["detection_at_half"]),
        disease_auc=Area(**values["disease_auc"]),
        disease_brier=values["disease_brier"],
        accuracy=Rate(**values["accuracy"]),
        macro_auc=MacroArea(
            values["macro_auc"]["value"],
            tuple(values["macro_auc"]["classes"]),
            tuple(values["macro_auc"]["left_out"]),
        ),
        log_loss=values["log_loss"],
        brier=values["brier"],
        per_class=tuple(_class_figures(each) for each in values["per_class"]),
        confusion=tuple(tuple(map(int, row)) for row in values["confusion"]),
        most_confused=tuple(Confusion(**each) for each in values["most_confused"]),
    )


def _detection(values: Mapping[str, Any]) -> Detection:
    rates = Rate(**values["sensitivity"]), Rate(**values["specificity"])
    return Detection(values["rule"], values["threshold"], *rates)


def _class_figures(values: Mapping[str, Any]) -> ClassFigures:
    return ClassFigures(
        name=values["name"],
        healthy=values["healthy"],
        films=values["films"],
        recall=Rate(**values["recall"]),
        precision=Rate(**values["precision"]),
        detected=Rate(**values["detected"]),
        auc=Area(**values["auc"]),
    )


def _belief(values: Mapping[str, Any]) -> Belief:
    within = {str(name): Area(**each) for name, each in values["within_source"].items()}
    trained = values["trained"]
    return Belief(Verdict.from_dict(values), within, None if trained is None else Verdict.from_dict(trained))
