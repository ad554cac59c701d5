"""The first words about a bundle: recall of disease, whether to believe it, then its price.

One wording for the first screen of the page and for the terminal. No figure is said without the verdict
on the films it was measured on. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from carina.evaluation.belief import Belief
from carina.evaluation.bootstrap import Rate
from carina.evaluation.metrics import Metrics
from carina.evaluation.wording import area_value, counted, interval, percent, with_interval


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure of the first screen."""

    label: str
    value: str
    interval: str  # of 95 %; empty where there is none
    behind: str  # the data behind it
    limit: str = ""  # what is shown by it, such as "at least 95.3 % at 95 % confidence"


def headlines(metrics: Metrics) -> tuple[Headline, ...]:
    """Recall of disease first, then what it costs."""
    found, spared, area = metrics.detection.sensitivity, metrics.detection.specificity, metrics.disease_auc
    films = f"{counted(area.positives, 'diseased film')} against {counted(area.negatives, 'healthy film')}"
    return (
        Headline(
            "Recall of disease (sensitivity)",
            percent(found.value),
            interval(found),
            _behind(found, "diseased", "found", "missed"),
        ),
        Headline(
            "Specificity",
            percent(spared.value),
            interval(spared),
            _behind(spared, "healthy", "called healthy", "false alarms"),
        ),
        Headline("Area under ROC", area_value(area), interval(area), area.why or films),
    )


def lines(metrics: Metrics, belief: Belief) -> tuple[str, ...]:
    """What a terminal shows, one figure a line; the verdict stands right below the recall."""
    shown = [
        (
            card.label,
            f"{card.value} (95 % interval {card.interval}): {card.behind}" if card.interval else card.behind,
        )
        for card in headlines(metrics)
    ]
    shown[1:1] = belief.lines()
    sick = [each for each in metrics.per_class if not each.healthy and each.detected.value is not None]
    if len(sick) > 1 and metrics.detection.sensitivity.value is not None:
        worst = min(sick, key=lambda each: each.order)
        behind = _behind(worst.detected, "", "found", "missed")
        shown.append(("Worst disease", f"{worst.name}, {with_interval(worst.detected)}: {behind}"))
    shown.append(("Accuracy", f"{with_interval(metrics.accuracy)}, {len(metrics.classes)} classes"))
    return tuple(f"{label:<31} {text}" for label, text in shown)


def _behind(rate: Rate, kind: str, right: str, wrong: str) -> str:
    """``842 of 849 diseased films found, 7 missed; 325 patients``."""
    if rate.value is None:
        return f"not measured: {rate.why}"
    films, patients = counted(rate.films, f"{kind} film".strip()), counted(rate.patients, "patient")
    return f"{rate.hits:,} of {films} {right}, {rate.films - rate.hits:,} {wrong}; {patients}"
