"""Prediction sets: the classes that cannot be ruled out for a film, such as "TB or Other Findings".

Knows how a set is read off probabilities, not how its floors are chosen
(:mod:`carina.evaluation.conformal`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

OR = " or "


class Sets(BaseModel):
    """A class is in the set of a film when its probability is at least its ``floor``.

    For each class by itself, the sets of at least a share ``coverage`` of the people who have it hold it.
    ``people`` are those behind each floor; so few of them that nothing can be ruled out give a floor of 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    coverage: float = Field(gt=0, lt=1)
    floors: dict[str, float]
    people: dict[str, int]

    @model_validator(mode="after")
    def _shares(self) -> Sets:
        if self.floors.keys() != self.people.keys() or not all(
            0 <= each <= 1 for each in self.floors.values()
        ):
            raise ValueError("each class needs a floor between 0 and 1 and the people behind it")
        return self

    def of(self, classes: Sequence[str], probabilities: Iterable[float]) -> tuple[str, ...]:
        """The set of one film, the likeliest first; never empty: the likeliest class is always in it."""
        ranked = sorted(zip(probabilities, classes, strict=True), key=lambda pair: -pair[0])
        kept = [name for share, name in ranked if share >= self.floors.get(name, 0.0)]
        return tuple(dict.fromkeys((ranked[0][1], *kept)))
