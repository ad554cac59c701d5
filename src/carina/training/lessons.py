"""What each step looks at: which films, in which order, how changed and how mixed.

A function of seed, epoch and film throughout. Where several devices train, each gets its share of the
same batches, mixed with the same partners as on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from carina.training import dice, mixing
from carina.training.augment import shown
from carina.training.balance import by_source, visits
from carina.training.films import Feed, Films, sent
from carina.training.recipe import TrainPart


@dataclass(frozen=True, slots=True)
class Share:
    """The films of one step over all devices, and how often each was seen in this epoch before. (B,)"""

    which: NDArray[np.int64]
    visit: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.which)

    def of(self, rank: int, world: int) -> Share:
        """One device's films."""
        return Share(self.which[rank::world], self.visit[rank::world])

    def partners(self) -> Share:
        """The film that each film is mixed with: the one before it."""
        return Share(np.roll(self.which, 1), np.roll(self.visit, 1))


@dataclass(frozen=True, slots=True)
class Batch:
    """One device's part of a step. ``weight`` and ``other_weight`` say what each label counts in the loss."""

    seen: torch.Tensor  # (B, 1, S, S) float32 in [0, 255]; of a frozen body (B, D) embeddings
    labels: torch.Tensor  # (B,)
    weight: torch.Tensor  # (B,)
    total: float  # what the sum over all devices is divided by
    others: torch.Tensor | None = None  # (B,) labels of the films mixed in
    other_weight: torch.Tensor | None = None

    def loss(self, logits: torch.Tensor, smoothing: float) -> torch.Tensor:
        """This device's part of the weighted mean cross-entropy. logits (B, C) float32 → ()"""
        each = F.cross_entropy(logits, self.labels, reduction="none", label_smoothing=smoothing)
        loss = (each * self.weight).sum()
        if self.others is not None:
            other = F.cross_entropy(logits, self.others, reduction="none", label_smoothing=smoothing)
            loss = loss + (other * self.other_weight).sum()
        return loss / self.total


class Lessons:
    """The training films of one stage on one of ``world`` devices."""

    def __init__(
        self,
        films: Films,
        train: TrainPart,
        classes: Sequence[str],
        device: torch.device,
        *,
        rank: int,
        world: int,
    ) -> None:
        self.films, self.train, self.device, self.rank, self.world = films, train, device, rank, world
        self.weights = class_weights(films.labels, classes, train)
        self.feed = Feed(films, device)

    def epoch(self, epoch: int, batches: int) -> Sequence[Share]:
        """The steps of an epoch, in order; even, so that no batch holds a single film."""
        seed, count = self.train.seed, len(self.films)
        if self.train.sampling == "balanced":
            which, visit = dice.balanced_order(seed, epoch, self.films.labels)
        else:
            which, visit = dice.order(seed, epoch, count), np.zeros(count, np.int64)
            if self.train.balance == "source":
                assert self.films.sources is not None
                which = by_source(which, self.films.labels, self.films.sources)
                visit = visits(which)
        split = zip(np.array_split(which, batches), np.array_split(visit, batches), strict=True)
        return [Share(*part) for part in split]

    def batch(self, share: Share, epoch: int) -> Batch:
        """This device's films of a step, as the epoch shows them."""
        mine = share.of(self.rank, self.world)
        seen = self._shown(mine, epoch)
        if not (self.train.mixup or self.train.cutmix):
            labels = self.films.labels[mine.which]
            weight = self._there(self.weights[labels])
            return Batch(_laid_out(seen), self._there(labels), weight, self._total(self._weights(share)))
        partners = share.partners()
        theirs = partners.of(self.rank, self.world)
        others = seen.roll(1, 0) if self.world == 1 else self._shown(theirs, epoch)
        whole = self._mix(share, epoch, seen.shape[-1])
        mix = mixing.Mix(whole.keep[self.rank :: self.world], whole.box[self.rank :: self.world])
        own, other = self._weights(share, whole.keep), self._weights(partners, 1 - whole.keep)
        return Batch(
            _laid_out(mixing.blend(seen, others, mix)),
            self._there(self.films.labels[mine.which]),
            self._there(own[self.rank :: self.world]),
            self._total(own + other),
            self._there(self.films.labels[theirs.which]),
            self._there(other[self.rank :: self.world]),
        )

    def _total(self, weights: NDArray[np.float32]) -> float:
        """What the losses of a step, of whose films these are the weights (B,), are divided by.

        Their sum, as torch's weighted mean does; with a prevalence their number: the weights are 1 on
        average, and where a batch holds few of a class that weighs much, the others must not make up for it.
        """
        return float(len(weights)) if self.train.prevalence else float(weights.sum())

    def _shown(self, share: Share, epoch: int) -> torch.Tensor:
        films = self.films
        ids = dice.again(films.ids[share.which], share.visit)
        copies = None if films.copies is None else films.copies[share.which]
        pixels = self.feed.batch(share.which)  # (B, 1, S, S) float32 in [0, 255]
        return shown(pixels, ids, copies, self.train.augment, seed=self.train.seed, epoch=epoch)

    def _mix(self, share: Share, epoch: int, size: int) -> mixing.Mix:
        ids = dice.again(self.films.ids[share.which], share.visit)
        return mixing.draw(self.train.seed, epoch, ids, self.train, size)

    def _weights(self, share: Share, part: NDArray[np.float64] | float = 1.0) -> NDArray[np.float32]:
        return (self.weights[self.films.labels[share.which]] * part).astype(np.float32)

    def _there(self, values: NDArray[np.generic]) -> torch.Tensor:
        return sent(values, self.device)


def _laid_out(pixels: torch.Tensor) -> torch.Tensor:
    """In the memory layout in which convolutions are fastest."""
    return pixels.contiguous(memory_format=torch.channels_last)


def class_weights(labels: NDArray[np.int64], classes: Sequence[str], train: TrainPart) -> NDArray[np.float32]:
    """What a film of each of the C classes weighs in the loss. (C,)

    1; or n / (C · n_c) where balanced, n films of which n_c are of the class; or what the prevalence says.
    """
    if train.prevalence:
        return prevalence_weights(labels, classes, train.prevalence).astype(np.float32)
    if train.class_weights == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        return (len(labels) / (len(classes) * np.maximum(counts, 1))).astype(np.float32)
    return np.ones(len(classes), np.float32)


def prevalence_weights(
    labels: NDArray[np.int64], classes: Sequence[str], prevalence: Mapping[str, float]
) -> NDArray[np.float64]:
    """What a film of each class counts so that classes count as they occur elsewhere, 1 on average. (C,)

    Its share there over its share of the films here, both among the classes that ``prevalence`` names (the
    ratio of priors of Saerens et al., Neural Computation 2002, 14:21). A class it does not name keeps 1.
    """
    counts = np.maximum(np.bincount(labels, minlength=len(classes)), 1)
    there = np.array([prevalence.get(name, 0.0) for name in classes])
    named = there > 0
    weights = np.ones(len(classes))
    weights[named] = there[named] / there.sum() * counts[named].sum() / counts[named]
    return weights
