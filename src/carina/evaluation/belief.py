"""The verdict that stands beside every headline figure, and the figures that survive a bad one.

A figure on films whose source tells the label is not evidence of skill; the same figure among films of
one source may be. Both are said together, in the terminal, on the page and in the files. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from carina.data.confounding.verdict import Grade, Verdict
from carina.evaluation.bootstrap import Area, areas
from carina.evaluation.metrics import disease_probability
from carina.evaluation.predictions import Predictions
from carina.evaluation.wording import area_value, interval, listed
from carina.scoring.bundle import Bundle
from carina.scoring.manifest import Manifest
from carina.scoring.operating import sites

LABELS = {
    Grade.CONFOUNDED: "Confounded",
    Grade.DOUBTFUL: "Doubtful",
    Grade.UNKNOWN: "Unknown",
    Grade.SOUND: "Sound",
}
_FEWEST = 5  # films of either side that a source needs


@dataclass(frozen=True, slots=True)
class Belief:
    """How far figures on the films at hand can be believed.

    ``within`` is the model's area for disease against health among the films of one source; ``trained``
    the verdict on the films it was taught with, where those are of another catalogue.
    """

    verdict: Verdict
    within: Mapping[str, Area]
    trained: Verdict | None = None

    def lines(self) -> tuple[tuple[str, str], ...]:
        """What a terminal and a page say, as (label, text)."""
        said = [("Can this be believed?", self.verdict.sentence)]
        told = [f"{name} {area_value(area)} ({interval(area)})" for name, area in self.within.items()]
        if told:
            text = f"{listed(told)}: area under ROC, disease against health, among films of one source"
            said.append(("Within one source", text))
        elif self.verdict.grade is not Grade.SOUND:
            said.append(("Within one source", "no source has films enough of both health and disease"))
        if self.trained is not None:
            said.append(("The films it was taught with", self.trained.sentence))
        return tuple(said)

    def to_dict(self) -> dict[str, Any]:
        """What ``metrics.json`` says."""
        return {
            **self.verdict.to_dict(),
            "within_source": {name: asdict(area) for name, area in self.within.items()},
            "trained": None if self.trained is None else self.trained.to_dict(),
        }


def belief(
    predictions: Predictions, verdict: Verdict, manifest: Manifest, fingerprint: str, *, seed: int = 0
) -> Belief:
    """The verdict on these films, with the model's figures within each source.

    ``fingerprint`` is that of the catalogue that ``verdict`` judges. Raises nothing: what a manifest
    says of its own audit and cannot be understood counts as not said.
    """
    return Belief(verdict, within_sources(predictions, seed=seed), _trained(manifest, fingerprint))


def within_sources(predictions: Predictions, *, seed: int = 0) -> dict[str, Area]:
    """Disease against health among the films of each source that has both, by source."""
    scored = predictions.scored
    p_disease = disease_probability(predictions.probabilities[scored], predictions.sick)
    sick = predictions.sick[predictions.labels[scored]]
    sources = np.array(predictions.column("source"))[scored]
    patients = np.array(predictions.column("patient"))[scored]
    found = {}
    for source in np.unique(sources):
        at = sources == source
        if min(int(sick[at].sum()), int((~sick[at]).sum())) >= _FEWEST:
            found[str(source)] = areas(patients[at], [(p_disease[at], sick[at])], seed=seed)[0]
    return found


def of_site(bundle: Bundle, site: str) -> Verdict:
    """The verdict behind the operating points of a site: on its films, else on those of the training.

    Where neither was kept it cannot be told. Raises BundleError for points that cannot be read.
    """
    found = sites(bundle).get(site)
    if found is not None and found.verdict is not None and found.verdict.grade in list(Grade):
        return Verdict(Grade(found.verdict.grade), found.verdict.sentence)
    try:
        return Verdict.from_dict(bundle.manifest.sections["audit"])
    except (KeyError, TypeError, ValueError):
        sentence = (
            f"Cannot be told whether these figures are skill: no audit of the films of {site!r} was kept."
        )
        return Verdict(Grade.UNKNOWN, sentence)


def _trained(manifest: Manifest, fingerprint: str) -> Verdict | None:
    if manifest.data.catalogue == fingerprint or "audit" not in manifest.sections:
        return None
    try:
        return Verdict.from_dict(manifest.sections["audit"])
    except (KeyError, TypeError, ValueError):
        return None
