"""What ``carina plan`` answers: how many positives a claim needs, or what so many can show. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carina.errors import ClaimError
from carina.evaluation import planner
from carina.evaluation.planner import Requirement
from carina.evaluation.wording import at_least, exactly, percent

Table = tuple[tuple[str, ...], list[tuple[object, ...]]]

POSITIVE = "A positive is one diseased patient, however many films there are."


@dataclass(frozen=True, slots=True)
class Plan:
    """A claim about a sensitivity. ``requirements`` is empty where ``positives`` says what there is."""

    sensitivity: float
    confidence: float
    misses: tuple[int, ...]
    requirements: tuple[Requirement, ...]
    positives: int | None
    expected: float | None
    prevalence: float | None

    @property
    def title(self) -> str:
        """What is asked."""
        sure = f"at {exactly(self.confidence)} confidence"
        if self.positives is not None:
            return f"What {self.positives:,} positives show {sure}"
        return f"To show a sensitivity of {exactly(self.sensitivity)} {sure}"

    @property
    def table(self) -> Table:
        """Columns and rows, one for each number of misses."""
        if self.positives is not None:
            shown = planner.showing(self.positives, self.confidence, self.misses)
            return ("misses", "sensitivity at least"), [*shown]
        head = ["misses", "positives needed", "then shown"]
        if self.expected is not None:
            head.append(f"chance to pass at a true {exactly(self.expected)}")
        if self.prevalence is not None:
            head.append(f"people to examine at {exactly(self.prevalence)}")
        return tuple(head), [
            (
                row.misses,
                row.positives,
                at_least(row.limit, self.sensitivity),
                *(() if row.chance is None else (percent(row.chance),)),
                *(() if row.to_examine is None else (row.to_examine,)),
            )
            for row in self.requirements
        ]

    @property
    def lines(self) -> tuple[str, ...]:
        """What must be read with the table."""
        if self.positives is None:
            return (POSITIVE,)
        if planner.best_claim(self.positives, self.confidence) >= self.sensitivity:
            return ()
        return (planner.shortfall(self.positives, self.sensitivity, self.confidence),)


def plan(
    sensitivity: float,
    confidence: float,
    misses: Sequence[int] = (0, 1, 2, 5),
    *,
    positives: int | None = None,
    expected: float | None = None,
    prevalence: float | None = None,
) -> Plan:
    """Plan a claim, or with ``positives`` turn the question round. Raises ClaimError for what is no rate."""
    needs: tuple[Requirement, ...] = ()
    if positives is None:
        needs = planner.plan(sensitivity, confidence, misses, expected=expected, prevalence=prevalence)
    elif expected is not None or prevalence is not None:
        raise ClaimError(
            "--positives asks what so many show, whatever is expected and however rare disease is; leave out "
            "--expected and --prevalence"
        )
    else:
        planner.showing(positives, confidence, misses)
    return Plan(sensitivity, confidence, tuple(misses), needs, positives, expected, prevalence)
