"""The one-cycle schedule, and how much work lies ahead.

Pure: numbers in, numbers out. The rate and the momentum of a step are a function of the step, so a
resumed run needs no scheduler state.

One-cycle: Smith and Topin, "Super-convergence", arXiv 1708.07120, with fastai's defaults: a cosine
from lr/25 up to lr over the first quarter, a cosine down to lr/100,000 over the rest, and the
momentum the other way round, 0.95 → 0.85 → 0.95.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from carina.training.recipe import Recipe

PCT_START = 0.25
DIV = 25.0
DIV_FINAL = 1e5
MOMENTA = (0.95, 0.85, 0.95)


def one_cycle(step: int, steps: int) -> tuple[float, float]:
    """The factor on the learning rate, and the momentum, for a step (from 0) of a stage."""
    place = step / steps
    if place < PCT_START:
        way = place / PCT_START
        return _cosine(1 / DIV, 1.0, way), _cosine(MOMENTA[0], MOMENTA[1], way)
    way = (place - PCT_START) / (1 - PCT_START)
    return _cosine(1.0, 1 / DIV_FINAL, way), _cosine(MOMENTA[1], MOMENTA[2], way)


def spread(first: float, last: float, groups: int) -> list[float]:
    """A learning rate for each layer group, in even ratios from the first to the last."""
    if groups == 1:
        return [last]
    return [first * (last / first) ** (group / (groups - 1)) for group in range(groups)]


def _cosine(start: float, end: float, way: float) -> float:
    return start + (1 - math.cos(math.pi * way)) * (end - start) / 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How many steps a recipe takes on so many films, and how the work is spread over them."""

    batches: tuple[int, ...]  # per epoch, of each stage
    epochs: tuple[int, ...]
    step_work: tuple[float, ...]  # of one step, of each stage; in films × pixels × passes
    valid_work: tuple[float, ...]  # of one validation, of each stage

    @classmethod
    def of(cls, recipe: Recipe, train: int, valid: int) -> Plan:
        """``train`` and ``valid`` are numbers of films."""
        batches = tuple(math.ceil(train / recipe.batch(k)) for k in range(len(recipe.stage)))
        passes = [1.1 if stage.frozen else 3.0 for stage in recipe.stage]  # backward costs two forwards
        return cls(
            batches=batches,
            epochs=tuple(stage.epochs for stage in recipe.stage),
            step_work=tuple(
                train / count * stage.size**2 * cost
                for count, stage, cost in zip(batches, recipe.stage, passes, strict=True)
            ),
            valid_work=tuple(float(valid * stage.size**2) for stage in recipe.stage),
        )

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return sum(b * e for b, e in zip(self.batches, self.epochs, strict=True))

    def epochs_before(self, stage: int) -> int:
        """Epochs of all earlier stages."""
        return sum(self.epochs[:stage])

    def work(self, stage: int, epoch: int, batch: int) -> float:
        """Work done when a stage has come to this batch of this epoch."""
        before = sum(self._epoch_work(k) * self.epochs[k] for k in range(stage))
        if stage == len(self.epochs):
            return before
        return before + self._epoch_work(stage) * epoch + self.step_work[stage] * batch

    def _epoch_work(self, stage: int) -> float:
        return self.step_work[stage] * self.batches[stage] + self.valid_work[stage]
