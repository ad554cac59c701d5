"""The card of a bundle: what it is for, what it saw, what was shown, what nobody knows yet.

Everything on it follows from the manifest, so that card and bundle cannot tell two stories: ``card.json``
for machines, ``card.md`` for people. A checklist is filled in with what the run knows, and left
blank where a person must write. Knows nothing of films.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from carina.evaluation.card_text import markdown
from carina.evaluation.wording import counted
from carina.scoring.manifest import CARD, CARD_JSON, EMBEDDINGS, TRAINING_IMAGES, WEIGHTS, Manifest

FORMAT = 1
FIGURES = "figures"  # the section that `carina evaluate --card` adds
NOT_A_DEVICE = (
    "It is not a medical device: it has no clearance, and its scores are no diagnosis. Every film must be "
    "read by a qualified person."
)
_CHECKLISTS = (("claim", "CLAIM 2024"), ("tripod", "TRIPOD+AI"))


def card_files(manifest: Manifest) -> dict[str, bytes]:
    """``card.json`` and ``card.md`` of a bundle with this manifest (its ``files`` do not count)."""
    content = contents(manifest)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return {CARD_JSON: text.encode(), CARD: markdown(content).encode()}


def contents(manifest: Manifest) -> dict[str, Any]:
    """What the card says, as plain values."""
    sections = manifest.sections
    ages = sections.get("intended_use", {}).get("ages")
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": manifest.name,
        "created": manifest.created,
        "carina": manifest.carina,
        "notice": NOT_A_DEVICE,
        "intended_use": {
            "films": "frontal chest radiographs (PA or AP), upright, whole, not inverted",
            "ages": ages,
            "task": "to put films in the order in which a doctor should open them; no film goes unread",
            "classes": list(manifest.classes),
            "healthy": list(manifest.healthy),
        },
        "data": {
            "training_films": manifest.data.images,
            "counts": manifest.data.counts,
            "sources": sections.get("sources", {}),
            "catalogue": manifest.data.catalogue,
            "training_images": manifest.data.fingerprint,
            "verdict": sections.get("audit", {}).get("sentence"),
        },
        "validation": manifest.training.get("valid", {}),
        "figures": sections.get(FIGURES, {}),
        "operating_points": sections.get("operating_points", {}),
        "limits": _limits(manifest),
    }
    facts = _facts(manifest, content)
    lists = tomllib.loads(files("carina.evaluation").joinpath("checklists.toml").read_text("utf-8"))
    content["checklists"] = {
        title: [
            {"item": number, "asks": asks, "answer": facts.get(fact) if fact else None}
            for number, asks, fact in lists[key][0]["items"]
        ]
        for key, title in _CHECKLISTS
    }
    return content


def _limits(manifest: Manifest) -> list[str]:
    """What follows from the manifest; nothing is left out for looking bad."""
    found = ["Thresholds do not travel: calibrate on films of the place of use, and again for a new model."]
    sections, counts = manifest.sections, manifest.data.counts
    if not sections.get("operating_points"):
        found.append("It was never calibrated: no threshold of it was shown to keep any sensitivity.")
    if not manifest.files.get(EMBEDDINGS) and "distance" not in sections:
        found.append("It cannot refuse films by their distance from its training films.")
    if quantised := sections.get("quantised"):
        cost = quantised["cost"]
        form = quantised.get("form", "int8")
        before, after = (f"{100 * cost['recall'][model]:.1f} %" for model in ("float32", form))
        numbers = "8-bit whole numbers" if form.endswith("int8") else "bfloat16"
        numbers += ", run by OpenVINO" if form.startswith("openvino") else ""
        found.append(
            f"It computes in {numbers}. On {cost['films']:,} films that are new to it and to the "
            f"float32 network, each at its own threshold, recall went from {before} to {after}, and "
            f"{cost['changed_side']:,} films changed side. Distances are to embeddings of the float32 one."
        )
    if there := manifest.recipe.get("train", {}).get("prevalence"):
        total = sum(there.values())
        shares = ", ".join(f"{name} {100 * films / total:.3g} %" for name, films in there.items())
        found.append(
            f"It was taught for places where classes occur as {shares}: elsewhere the most probable class is "
            "not the most probable one."
        )
    for name in manifest.classes:
        homes = [source for source, of in counts.items() if of.get(name)]
        if len(homes) == 1 and len(counts) > 1:
            found.append(
                f"All training films of {name} come from {homes[0]}: it may know the place, not the disease."
            )
    if sections.get("intended_use", {}).get("ages") is None:
        found.append("Its training films do not all state an age: it cannot tell whom it was not made for.")
    if not sections.get(FIGURES):
        found.append("It carries no evaluation: see `carina evaluate --card`.")
    return found


def _facts(manifest: Manifest, content: Mapping[str, Any]) -> dict[str, str | None]:
    """The answers that a run knows, by the names of ``checklists.toml``; None where it does not."""
    recipe, sources = manifest.recipe, content["data"]["sources"]
    model = recipe.get("model", {})
    scanners = {str(each["scanner"]) for each in sources.values() if each.get("scanner")}
    figures = content["figures"]
    return {
        "method": f"deep learning: {model.get('backbone', 'a network')} on frontal chest radiographs",
        "use": f"{content['intended_use']['films']}; {content['intended_use']['task']}",
        "predictors": "the pixels of one film, prepared as below, and nothing else; no person judges them",
        "scoring": "carina score: model.onnx in ONNX Runtime, the same code in use as when it was measured",
        "data": f"sets and their terms above; the sha256 of each training film in {TRAINING_IMAGES}",
        "updated": "above: thresholds, and where people were enough a map of probabilities, for each site"
        if content["operating_points"]
        else None,
        "sources": ", ".join(sorted(sources)) or None,
        "exclusion": "films and reasons stand in dropped.csv of the catalogue",
        "preparation": ", ".join(f"{key} {value}" for key, value in manifest.preparation.items()),
        "scanners": "; ".join(sorted(scanners)) or None,
        "split": "by patient and by group of near copies; the catalogue names the side of each film",
        "model": f"{model.get('backbone', 'network')}, {len(manifest.classes)} classes; model.onnx",
        "versions": ", ".join(f"{name} {each}" for name, each in manifest.versions.items()) or None,
        "weights": None if "pretrained" not in model else f"pretrained: {model['pretrained']}",
        "training": f"{counted(len(recipe['stage']), 'stage')}; the recipe stands in bundle.json"
        if recipe.get("stage")
        else None,
        "ensembles": "none: one network",
        "measures": "recall of disease, specificity, area under ROC, recall of each class"
        if figures
        else None,
        "uncertainty": "95 % intervals, resampled by patient, joined with exact ones" if figures else None,
        "abstaining": "refused by header, look or distance from the training films, and read by a person",
        "explanations": "class activation maps, exact for the network; where it looks, not where disease is",
        "figures": f"above: {', '.join(figures)}" if figures else None,
        "subgroups": "above: recall by age band, sex, view and source" if figures else None,
        "counts": f"{manifest.data.images:,} training films, by source and class above",
        "points": "above" if content["operating_points"] else None,
        "imbalance": "films by class above; what the recipe does about it stands in bundle.json",
        "limits": "above; a person must add to them",
        "availability": f"{WEIGHTS}, model.onnx and {TRAINING_IMAGES} in the bundle; Carina is Apache-2.0",
    }
