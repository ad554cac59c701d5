"""Score and decide what the user named: the ``triage`` verb without the printing.

One pass over the films. A decision takes some hundred bytes, so the decisions on all of them are held
and sorted; pictures are kept for the films that stand highest.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carina.records import Prediction, Progress
from carina.scoring.abstain import Gate
from carina.scoring.bundle import Bundle
from carina.scoring.inputs import Skipped
from carina.scoring.probabilities import Posterior
from carina.scoring.scorer import Scorer
from carina.scoring.triage import Decision, Outcome, Policy, Urgency, decide, place, said

PICTURES = 1000  # films that get a picture on the page
PICTURE = 136  # pixels a side: sharp at 68 on a dense screen

Thumbnails = Mapping[str, bytes]  # path → JPEG


@dataclass(frozen=True, slots=True)
class Worklist:
    """Decisions in the order in which the films should be opened, and what they rest on."""

    decisions: tuple[Decision, ...]
    pictures: Thumbnails
    bundle: str
    policy: Policy
    created: str  # ISO 8601, UTC
    skipped: int  # files that are no films and were not tried
    warnings: tuple[str, ...]  # gravest first
    prevalence: float | None = None  # of the posteriors, where one was named

    @property
    def counts(self) -> dict[str, int]:
        """Films by label, in worklist order; a label without films is there with 0."""
        labels = [f"{Outcome.FLAGGED}: {each}" for each in Urgency]
        found = Counter(each.label for each in self.decisions)
        return {label: found[label] for label in (*labels, Outcome.NOT_ANALYSED, Outcome.NOT_FLAGGED)}


def triage_films(
    paths: Iterable[str | Path],
    bundle: Bundle,
    policy: Policy,
    *,
    gate: Gate | None = None,
    posterior: Posterior | None = None,
    pictures: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Worklist:
    """Score films, folders, globs and zip archives, decide on each, and put them in order.

    ``gate`` refuses what the model was not made for before its score counts (default: that of the bundle);
    ``posterior`` adds to each decision what its score means at a prevalence. A film that cannot be read
    ends nothing; it needs a reader, and stands above all that was not flagged. Raises ``CarinaError`` when
    a named path does not exist, ``BundleError`` when the model cannot be run.
    """
    gate = gate or Gate.of(bundle)
    skipped, decisions = Skipped(), list[Decision]()
    thumbnails: dict[str, tuple[Decision, bytes]] = {}
    for answer in Scorer(bundle, threads=threads).score(paths, skipped):
        refusal = gate.refusal(answer) if isinstance(answer, Prediction) else None
        decision = decide(refusal or answer, policy)
        if posterior is not None and isinstance(answer, Prediction) and decision.p_disease is not None:
            decision = replace(decision, posterior=posterior.of(answer.probabilities))
        decisions.append(decision)
        if pictures and isinstance(answer, Prediction):
            thumbnails[answer.path] = decision, thumbnail(answer.prepared)
            if len(thumbnails) >= 2 * PICTURES:
                thumbnails = _highest(thumbnails)
        if progress is not None:
            progress(Progress("films decided", len(decisions), None))
    return Worklist(
        decisions=tuple(sorted(decisions, key=place)),
        pictures={path: picture for path, (_, picture) in _highest(thumbnails).items()},
        bundle=said(bundle.manifest.name),
        policy=policy,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        skipped=skipped.total,
        warnings=tuple(map(said, _warnings(bundle, policy, gate))),
        prevalence=None if posterior is None else posterior.prevalence,
    )


def thumbnail(prepared: NDArray[np.uint8]) -> bytes:
    """The film as the model saw it, (S, S) uint8, as a small JPEG."""
    buffer = io.BytesIO()
    picture = Image.fromarray(prepared).resize((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _highest(thumbnails: dict[str, tuple[Decision, bytes]]) -> dict[str, tuple[Decision, bytes]]:
    kept = sorted(thumbnails.items(), key=lambda item: place(item[1][0]))[:PICTURES]
    return dict(kept)


def _warnings(bundle: Bundle, policy: Policy, gate: Gate) -> tuple[str, ...]:
    found = []
    if policy.threshold is None:
        found.append(
            "Nobody has shown a threshold for this model here: films are flagged from an even chance on, or "
            "when a disease is the most probable class. How much disease that misses is unknown. Run: carina "
            "calibrate"
        )
    if policy.withdrawn is not None:
        what = "The threshold is in doubt here"
        what = what if policy.clear_below is None else 'The suggestion "likely clear" is withdrawn'
        found.append(f"{what}: {policy.withdrawn}")
    strange = sorted(set(policy.rules.urgency).difference(bundle.classes))
    unruled = [name for name in bundle.classes if name not in {*policy.rules.urgency, *bundle.healthy}]
    if unruled:
        also = f" (the rules speak of {', '.join(strange)})" if strange else ""
        found.append(f"No rule for {', '.join(unruled)}{also}: they count as {policy.rules.otherwise}.")
    return (*found, *gate.warnings)
