"""The card that ships with a model: what it is, what it saw, what was measured. Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carina.scoring.manifest import Manifest

_SHOWN = (
    ("recall_disease", "recall of disease"),
    ("specificity", "specificity"),
    ("auc_disease", "AUC, disease against healthy"),
    ("accuracy", "accuracy over all classes"),
)


def card(manifest: Manifest, last: Mapping[str, Any]) -> str:
    """``last`` is the record of the last epoch."""
    healthy = ", ".join(manifest.healthy) or "none"
    stages = manifest.recipe.get("stage", [])
    sizes = ", ".join(f"{stage['size']} px × {stage['epochs']}" for stage in stages)
    lines = [
        f"# {manifest.name}",
        "",
        "A classifier of frontal chest radiographs, trained with Carina. **It is not a medical device**: it",
        "has no clearance, and its scores are no diagnosis. Evaluate it on films of your own hospital first.",
        "",
        f"- Classes: {', '.join(manifest.classes)} (healthy: {healthy})",
        f"- Network: {manifest.recipe.get('model', {}).get('backbone', '?')}; stages: {sizes}",
        f"- Films are prepared as {_plain(manifest.preparation)}",
        f"- Trained on {manifest.data.images} films; catalogue {manifest.data.catalogue[:16]}",
        f"- Written {manifest.created} by Carina {manifest.carina}",
        "",
        "## Training films",
        "",
        *_counts(manifest),
        "",
        *_origins(manifest),
        "## On the validation films",
        "",
        f"**{_verdict(manifest)}**",
        "",
        "Measured while training, on films the weights did not learn from but the recipe may have been",
        "chosen on; `carina evaluate` gives figures with intervals.",
        "",
        *(f"- {text}: {last[key]:.3f}" for key, text in _SHOWN if last.get(key) is not None),
        *(
            f"- recall of {name}: {value:.3f}"
            for name, value in last.get("recall", {}).items()
            if value is not None
        ),
        "",
    ]
    return "\n".join(lines)


def _counts(manifest: Manifest) -> list[str]:
    head = ["source", *manifest.classes]
    rows = [
        [source, *(str(counts.get(name, 0)) for name in manifest.classes)]
        for source, counts in sorted(manifest.data.counts.items())
    ]
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _verdict(manifest: Manifest) -> str:
    """The sentence that no figure is printed without."""
    audit = manifest.sections.get("audit", {})
    return str(audit.get("sentence") or "Nobody has asked whether figures on these films can be believed.")


def _origins(manifest: Manifest) -> list[str]:
    """A line for each set: licence, terms, citation, ages and scanner where known."""
    lines = []
    for name, facts in sorted(manifest.sections.get("sources", {}).items()):
        ages = facts.get("ages")
        said = [
            f"licence: {facts['licence']}" if facts.get("licence") else None,
            facts.get("terms"),
            f"ages {ages[0]:g} to {ages[1]:g} years" if ages else None,
            f"taken with {facts['scanner']}" if facts.get("scanner") else None,
            f"holds films of {', '.join(facts['made_of'])}" if facts.get("made_of") else None,
            facts.get("citation") if facts.get("citation") != "none" else None,
        ]
        lines.append(f"- {name}: {facts.get('title', name)}. " + "; ".join(text for text in said if text))
    return [*lines, ""] if lines else []


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(preparation: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in preparation.items())
