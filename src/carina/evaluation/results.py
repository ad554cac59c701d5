"""The files of an evaluation: what ``metrics.json`` says, and how all of them are written.

``metrics.json`` is written last, so that its presence means that the others are whole. What could not
be measured is null there, with the reason beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import carina
from carina.data.catalogue import Catalogue
from carina.errors import OutputError
from carina.evaluation.belief import Belief
from carina.evaluation.contamination import Contamination
from carina.evaluation.metrics import Metrics
from carina.evaluation.predictions import Predictions
from carina.evaluation.promises import Claims
from carina.evaluation.robustness import Changed
from carina.evaluation.subgroups import Subgroup
from carina.evaluation.writing import write_all
from carina.scoring.bundle import Bundle

FORMAT = 1


def content(
    bundle: Bundle,
    catalogue: Catalogue,
    split: str,
    seed: int,
    predictions: Predictions,
    metrics: Metrics,
    believed: Belief,
    known: Contamination,
    warnings: tuple[str, ...],
    claims: Claims,
    groups: tuple[Subgroup, ...] = (),
    changed: tuple[Changed, ...] = (),
) -> dict[str, Any]:
    """What ``metrics.json`` says."""
    rows = zip(predictions.column("path"), predictions.labels, predictions.refused, strict=True)
    refused = [
        {"path": path, "class": bundle.classes[label], "reason": reason}
        for path, label, reason in rows
        if reason
    ]
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "carina": carina.__version__,
        "bundle": {
            "path": str(bundle.root),
            "name": bundle.manifest.name,
            "sha256": hashlib.sha256((bundle.root / "bundle.json").read_bytes()).hexdigest(),
            "preparation": bundle.preparation.to_dict(),
        },
        "catalogue": {"path": str(catalogue.root), "fingerprint": catalogue.fingerprint},
        "split": split,
        "seed": seed,
        "verdict": believed.to_dict(),
        "warnings": list(warnings),
        "contamination": {**asdict(known), "known": None if known.same_film is None else known.known},
        "refused": refused,
        "metrics": asdict(metrics),
        "claims": {key: value for key, value in asdict(claims).items() if key != "watch"},
        "subgroups": [asdict(each) for each in groups],
        "robustness": [asdict(each) for each in changed],
        "abstained": _abstained(predictions),
    }


def _abstained(predictions: Predictions) -> dict[str, Any]:
    """How many films of each class would be refused, and why."""
    codes = Counter(code for code in predictions.abstained if code is not None)
    by_class = Counter(
        predictions.classes[label]
        for label, code in zip(predictions.labels, predictions.abstained or (), strict=bool(codes))
        if code is not None
    )
    return {"films": len(predictions.scored), "refused": codes.total(), "codes": codes, "classes": by_class}


def for_card(content: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that a bundle's card shows, from what ``metrics.json`` says."""
    metrics = content["metrics"]
    return {
        "created": content["created"],
        "catalogue": content["catalogue"]["fingerprint"],
        "split": content["split"],
        "verdict": content["verdict"]["sentence"],
        "warnings": content["warnings"],
        "rule": metrics["detection"]["rule"],
        "site": content["claims"]["site"],
        "points": [
            {name: point[name] for name in ("target", "promised", "verdict", "sensitivity", "specificity")}
            for point in content["claims"]["points"]
        ],
        "rates": {
            "recall of disease": metrics["detection"]["sensitivity"],
            "specificity": metrics["detection"]["specificity"],
            "area under ROC, disease against none": metrics["disease_auc"],
            "accuracy": metrics["accuracy"],
            **{f"recall of {each['name']}": each["recall"] for each in metrics["per_class"]},
            **_worst(content["robustness"]),
        },
        "subgroups": content["subgroups"],
        "abstained": content["abstained"],
    }


def _worst(changed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The lowest recall and specificity on films that were framed, exposed or shrunk otherwise."""
    found = {}
    for key, name in (("recall", "recall of disease"), ("specificity", "specificity")):
        known = [each for each in changed[1:] if each[key]["value"] is not None]
        if known:
            worst = min(known, key=lambda each: float(each[key]["value"]))
            found[f"{name}, worst of {len(changed) - 1} changes to the films: {worst['change']}"] = worst[key]
    return found


def write(folder: Path, table: pa.Table, page: str, content: Mapping[str, Any]) -> None:
    """Replace all three files; from the first change to the last there is no ``metrics.json``."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    files = {
        "predictions.parquet": sink.getvalue().to_pybytes(),
        "report.html": page.encode(),
        "metrics.json": text.encode(),
    }
    try:
        write_all(folder, files, last="metrics.json")
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}); free space or name another folder"
        ) from error
