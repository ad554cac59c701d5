"""Turn an answer about one film into a decision: where it stands on the worklist, and why.

Pure: no files, no clock, no model. What it needs comes in as arguments, so that every rule here is one
line of a table in ``tests/scoring/test_triage.py``. A decision never says that nothing is wrong with
anybody: a film is *flagged*, *not flagged: read as usual*, or *not analysed: needs a reader*, and
what was not analysed stands above what was not flagged.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from carina.records import Prediction, Refusal

FORBIDDEN = ("normal", "negative", "healthy")  # no decision says any of these
LIKELY_CLEAR = "likely clear"
EVEN = 0.5  # the threshold where nobody has shown one: as likely as not

_FORBIDDEN = re.compile("|".join(FORBIDDEN), re.IGNORECASE)


class Outcome(StrEnum):
    """The three things that can be said of a film."""

    FLAGGED = "flagged"
    NOT_ANALYSED = "not analysed: needs a reader"
    NOT_FLAGGED = "not flagged: read as usual"


class Urgency(StrEnum):
    """How soon a flagged film should be opened."""

    NOW = "now"
    SOON = "soon"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a department says about its findings: class → urgency, and ``otherwise`` for the rest.

    A flagged film takes the most urgent of its likeliest disease and of every disease whose
    probability is at least ``counts_from``.
    """

    urgency: Mapping[str, Urgency] = field(default_factory=lambda: MappingProxyType({}))
    otherwise: Urgency = Urgency.SOON
    counts_from: float = 0.1

    def of(self, class_name: str) -> Urgency:
        """The urgency of one disease."""
        return self.urgency.get(class_name, self.otherwise)


@dataclass(frozen=True, slots=True)
class Policy:
    """By what a film is decided. ``threshold`` None: nobody has shown one for this model and place.

    ``shown`` says in words what stands behind the threshold. Films below ``clear_below`` get the
    suggestion "likely clear" (but none for which a disease is the most probable class or counts by the
    rules), unless ``withdrawn`` says why it is not made at present.
    """

    rules: Rules = field(default_factory=Rules)
    threshold: float | None = None
    shown: str = ""
    clear_below: float | None = None
    withdrawn: str | None = None

    def __post_init__(self) -> None:
        for share in (self.threshold, self.clear_below):
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"a threshold of {share} is no share between 0 and 1")
        if self.clear_below is not None and self.threshold is None:
            raise ValueError('"likely clear" needs a threshold that was shown for this site')


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of the worklist.

    ``finding`` is the disease that speaks loudest and ``urgency`` how soon, both None unless flagged.
    ``p_disease`` is None, never NaN, where there is no score; ``code`` says then why, for machines.
    ``posterior`` is the corrected probability at a prevalence, where one was named; it decides nothing.
    Nothing but ``path``, which is the user's own, may contain a word of ``FORBIDDEN``: ``ValueError``.
    """

    path: str
    outcome: Outcome
    because: str
    urgency: Urgency | None = None
    finding: str | None = None
    p_disease: float | None = None
    code: str | None = None
    suggestion: str | None = None
    posterior: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self)[1:]:
            said = getattr(self, each.name)
            if isinstance(said, str) and _FORBIDDEN.search(unicodedata.normalize("NFKC", said)):
                raise ValueError(f"a decision may not say {said!r}")
        if (self.outcome is Outcome.FLAGGED) != (self.urgency is not None):
            raise ValueError("flagged films have an urgency, and no others")
        if (self.outcome is Outcome.NOT_ANALYSED) != (self.p_disease is None):
            raise ValueError("a film is analysed when it has a score, and only then")
        if self.p_disease is not None and not math.isfinite(self.p_disease):
            raise ValueError("what is no number is no score")
        if self.posterior is not None and not (self.p_disease is not None and 0 <= self.posterior <= 1):
            raise ValueError("a posterior is a share, and of a film that has a score")
        if self.suggestion is not None and self.outcome is not Outcome.NOT_FLAGGED:
            raise ValueError("only a film that is not flagged may be suggested as clear")

    @property
    def label(self) -> str:
        """``flagged: now``, ``flagged: soon``, or the outcome."""
        return f"{self.outcome}: {self.urgency}" if self.urgency is not None else str(self.outcome)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a worklist's JSON."""
        return {
            each.name: None if (value := getattr(self, each.name)) is None else _plain(value)
            for each in fields(self)
        }


def decide(answer: Prediction | Refusal, policy: Policy) -> Decision:
    """The decision on one film.

    It is flagged when ``p_disease ≥ threshold``. Without a threshold it is flagged when ``p_disease`` is
    at least one half *or* the most probable class is a disease: the wider of the two.
    """
    if isinstance(answer, Refusal):
        return _not_analysed(answer.path, answer.code, answer.reason)
    shares = {name: float(share) for name, share in zip(answer.classes, answer.probabilities, strict=True)}
    if not all(map(math.isfinite, shares.values())):
        return _not_analysed(answer.path, "not_finite", "the score is no number; a person must read the film")
    score = answer.p_disease
    diseases = {name: share for name, share in shares.items() if name not in answer.healthy}
    if _flagged(score, answer.top_class in diseases, policy) and diseases:
        return _flag(answer.path, score, diseases, policy)
    clear = policy.clear_below is not None and policy.withdrawn is None and score < policy.clear_below
    clear = clear and answer.top_class not in diseases and not _counting(diseases, policy)
    return Decision(
        path=answer.path,
        outcome=Outcome.NOT_FLAGGED,
        because=f"p_disease {score_text(score)} is below {_threshold(policy)}",
        p_disease=score,
        suggestion=LIKELY_CLEAR if clear else None,
    )


def place(decision: Decision) -> tuple[int, float, str]:
    """The sort key of a worklist: now, soon, not analysed, not flagged, and last the likely clear.

    Within each, the higher score stands first.
    """
    if decision.urgency is not None:
        rank = 0 if decision.urgency is Urgency.NOW else 1
    elif decision.outcome is Outcome.NOT_ANALYSED:
        rank = 2
    else:
        rank = 3 if decision.suggestion is None else 4
    return rank, -(decision.p_disease or 0.0), decision.path


def score_text(score: float) -> str:
    """Three digits, never rounded into certainty: ``0.999`` of 0.99998, ``0.001`` of 0.00002."""
    return f"{score:.3f}" if score in (0.0, 1.0) else f"{min(0.999, max(0.001, score)):.3f}"


def said(text: str) -> str:
    """``text`` without any word that no decision may say; such a word becomes ``…``."""
    plain = unicodedata.normalize("NFKC", text)
    return _FORBIDDEN.sub("…", plain) if _FORBIDDEN.search(plain) else text


def _flagged(score: float, ill_first: bool, policy: Policy) -> bool:
    if policy.threshold is not None:
        return score >= policy.threshold
    return score >= EVEN or ill_first


def _flag(path: str, score: float, diseases: Mapping[str, float], policy: Policy) -> Decision:
    loudest = max(diseases, key=lambda name: diseases[name])
    pressing = [
        name
        for name in {loudest: None, **dict.fromkeys(_counting(diseases, policy))}
        if _is_now(name, policy)
    ]
    why = f"p_disease {score_text(score)} is not below {_threshold(policy)}"
    if pressing and loudest not in pressing:
        why = f"{pressing[0]} {diseases[pressing[0]]:.0%} is urgent; {why}"
    return Decision(
        path=path,
        outcome=Outcome.FLAGGED,
        because=said(why),
        urgency=Urgency.NOW if pressing else Urgency.SOON,
        finding=said(loudest),
        p_disease=score,
    )


def _counting(diseases: Mapping[str, float], policy: Policy) -> list[str]:
    """The diseases that are likely enough to count by themselves."""
    return [name for name, share in diseases.items() if share >= policy.rules.counts_from]


def _is_now(class_name: str, policy: Policy) -> bool:
    return policy.rules.of(class_name) is Urgency.NOW


def _not_analysed(path: str, code: str, reason: str) -> Decision:
    text = reason.removeprefix(f"{code}: ")
    return Decision(path, Outcome.NOT_ANALYSED, because=said(text), code=said(code))


def _threshold(policy: Policy) -> str:
    if policy.threshold is None:
        return f"{EVEN}, a threshold that nobody has shown to hold here"
    return f"the threshold of {policy.threshold:.4f}"


def _plain(value: object) -> str | float:
    return value if isinstance(value, float) else str(value)
