"""Thresholds by lower confidence limit: the highest one at which the sensitivity is shown, not measured.

Pure: scores of people in, operating points out. A film is flagged when ``p_disease ≥ threshold``, so
the sensitivity falls as the threshold rises, and a search for the highest threshold that still
measures 99 % overshoots about every second time. What is searched here is the highest threshold whose
*lower limit* is at the target.

How the search is paid for. Thresholds are tested in one fixed order, from 0 upwards, each against the
hypothesis "the sensitivity here is below the target" with the exact binomial p-value
P(X ≤ misses), X ~ Binomial(positives, 1 - target), and the search stops at the first that cannot be
rejected at α = 1 - confidence. That is fixed-sequence testing within Learn then Test (Angelopoulos,
Bates, Candès, Jordan & Lei 2021, arXiv:2110.01052): the first threshold that is truly too high is
tested at level α whatever was tested before it, and nothing after a failure is looked at, so the
chance that the threshold chosen keeps less than the target is at most α. Because misses only grow with
the threshold, thresholds may lie as densely as the scores do, at no further price (the same argument
as the risk-controlling sets of Bates, Angelopoulos, Lei, Malik & Jordan 2021, J. ACM 68:43).
As "misses ≤ m" is all that the p-value asks, the sequence ends at the (m+1)-th lowest score of the
positives, m being the most misses that are allowed: Wilks' tolerance limit (1941).

With ``per_class`` the hypothesis is "some disease is found less often than the target"; it is rejected
when it is rejected for each disease (intersection-union: Berger 1982, Technometrics 24:295), so many
diseases cost no more than one, and the threshold is the lowest of theirs.
"""

from __future__ import annotations

import numpy as np

from carina.errors import ClaimError
from carina.evaluation.people import People, Scores
from carina.evaluation.planner import allowed_misses, lower_limit, shortfall, upper_limit
from carina.scoring.operating import OperatingPoint, Recall, Spared

INTERVAL = 0.95  # of the specificity, two-sided
HAIR = 1e-6  # the same film may score this much lower with other threads or another batch


def operating_point(
    people: People, target: float, confidence: float, *, per_class: bool = False
) -> OperatingPoint:
    """The highest threshold at which a sensitivity of ``target`` is shown at ``confidence``.

    The limits of the single diseases hold at the chosen threshold too, each by itself: seen from one
    disease the search is still a walk upwards that stops no later for more misses of its own. The
    threshold depends on diseased people alone, so the specificity is measured on people who had no say
    in it. Raises ClaimError where the positives cannot carry the claim.
    """
    per_class = per_class and len(people.by_class) > 1
    groups = people.by_class if per_class else {"": people.ill}
    stops = {name: _stop(scores, target, confidence, of=name) for name, scores in groups.items()}
    at = min(stops.values())
    threshold = max(0.0, float(np.floor(at / HAIR - 1)) * HAIR)

    def recall(scores: Scores, spare: int) -> Recall:
        missed = int((scores < at).sum()) + min(int((scores == at).sum()), spare)
        limit = lower_limit(len(scores) - missed, len(scores), confidence)
        return Recall(found=int((scores >= threshold).sum()), people=len(scores), limit=limit)

    overall = recall(people.ill, _spare(people.ill, at, target, confidence))
    classes = {
        name: recall(scores, _spare(scores if per_class else people.ill, at, target, confidence))
        for name, scores in people.by_class.items()
    }
    if per_class:  # each disease is kept at the worst of these limits, so any mixture of them is
        worst = min(_promised(len(scores), target, confidence) for scores in people.by_class.values())
        overall = overall.model_copy(update={"limit": worst})
    return OperatingPoint(
        target=target,
        confidence=confidence,
        per_class=per_class,
        threshold=threshold,
        sensitivity=overall,
        specificity=_spared(people.well, threshold),
        classes=dict(sorted(classes.items(), key=lambda item: _order(item[1]))),
        films=len(people.films),
        below=int((people.films < threshold).sum()),
    )


def points(
    people: People, targets: tuple[float, ...], confidence: float, *, per_class: bool = False
) -> tuple[tuple[OperatingPoint, ...], tuple[str, ...]]:
    """One point for each target that the data can carry, lowest target first, and why not the others.

    Each point keeps its promise at ``confidence`` by itself; a user works at one of them. Raises
    ClaimError where none can be carried.
    """
    carried, refused = [], []
    for target in sorted(set(targets)):
        try:
            carried.append(operating_point(people, target, confidence, per_class=per_class))
        except ClaimError as error:
            refused.append(str(error))
    if not carried:
        raise ClaimError(refused[0] if refused else "no target sensitivity was named")
    return tuple(carried), tuple(refused)


def _stop(scores: Scores, target: float, confidence: float, *, of: str) -> float:
    """Where the walk upwards stops: the (m+1)-th lowest score, m misses being allowed."""
    allowed = allowed_misses(len(scores), target, confidence)
    if allowed is None:
        cure = "calibrate on more diseased patients, or promise less"
        raise ClaimError(f"{shortfall(len(scores), target, confidence, of)}; {cure}")
    return float(np.partition(scores, allowed)[allowed])


def _spare(scores: Scores, at: float, target: float, confidence: float) -> int:
    """Misses that are allowed and did not happen, because scores are tied where the walk stopped.

    How many tied people are missed is luck, how many may be is not: the limits count them as missed.
    """
    return (allowed_misses(len(scores), target, confidence) or 0) - int((scores < at).sum())


def _promised(people: int, target: float, confidence: float) -> float:
    """The limit that the allowed misses show; a little above the target, as people are whole."""
    return lower_limit(people - (allowed_misses(people, target, confidence) or 0), people, confidence)


def _order(recall: Recall) -> tuple[float, float]:
    """The worst first, and before it diseases of which there was nobody to find: nothing is known."""
    return (-1.0 if recall.value is None else recall.value, recall.limit)


def _spared(well: Scores, threshold: float) -> Spared:
    spared, one_sided = int((well < threshold).sum()), (1 + INTERVAL) / 2
    return Spared(
        spared=spared,
        people=len(well),
        low=lower_limit(spared, len(well), one_sided) if len(well) else 0.0,
        high=upper_limit(spared, len(well), one_sided) if len(well) else 1.0,
    )
