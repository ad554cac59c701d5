"""The training loop: stages, epochs, steps; validation after each epoch; resumable at every step.

Knows films as packed pixels (:class:`~carina.training.films.Films`), not catalogues, and hands its
checkpoints to whoever keeps them. Nothing random is carried from step to step
(:mod:`carina.training.dice`) and the schedule is a function of the step, so that network, optimizer
and position are all there is to a checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from numpy.typing import NDArray

from carina.errors import RecipeError, RunError
from carina.records import Progress
from carina.training import dice
from carina.training.augment import shown
from carina.training.balance import by_source
from carina.training.checkpoint import Checkpoint, Position
from carina.training.films import Feed, Films
from carina.training.network import Network
from carina.training.optimizer import adamw, set_rates
from carina.training.recipe import Recipe
from carina.training.schedule import Plan
from carina.training.validation import figures

TOLD_EVERY = 0.25  # seconds between two reports within an epoch
ASKED_EVERY = 16  # steps between two questions whether several devices shall write a checkpoint


@dataclass(frozen=True, slots=True)
class Split:
    """The films to learn from and the films to check on, at one size."""

    train: Films
    valid: Films


class Loop:
    """One training. ``splits``: films by size; ``save`` keeps a checkpoint; ``tell`` hears progress."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        splits: Mapping[int, Split],
        *,
        classes: Sequence[str],
        healthy: Sequence[str],
        fabric: Fabric,
        save: Callable[[Checkpoint], None] = lambda checkpoint: None,
        tell: Callable[[Progress], None] = lambda event: None,
    ) -> None:
        self.network, self.recipe, self.splits, self.fabric = network, recipe, splits, fabric
        self.classes = tuple(classes)
        self.healthy = [self.classes.index(name) for name in healthy]
        self.save, self.tell = save, tell
        some = splits[recipe.stage[0].size]
        self.plan = Plan.of(recipe, len(some.train), len(some.valid))
        self._check_shares()
        self._check_groups()
        self.weights = _class_weights(some.train.labels, len(self.classes), recipe.train.class_weights)
        self.position = Position()
        self.network.to(fabric.device, memory_format=torch.channels_last)

    def fit(self, checkpoint: Checkpoint | None = None) -> Network:
        """Train to the end, from the start or from a checkpoint; answers with the network, ready to use.

        Raises RunError when the loss is no longer a number.
        """
        if checkpoint is not None:
            self.position = checkpoint.position
        self._began = self._saved = time.monotonic()
        self._begun_at = self._work()
        self._seconds_before = self.position.seconds
        while self.position.stage < len(self.recipe.stage):
            self._enter(checkpoint)
            checkpoint = None
            while self.position.epoch < self.stage.epochs:
                self._train_epoch()
                self._close_epoch()
            self._leave()
        self.network.freeze(False)
        return self.network.eval()

    def _check_shares(self) -> None:
        """Raises RunError where a device would go without films."""
        smallest = min(
            len(self.splits[s.size].train) // b
            for s, b in zip(self.recipe.stage, self.plan.batches, strict=True)
        )
        devices = self.fabric.world_size
        if devices > 1 and smallest < 2 * devices:
            raise RunError(
                f"batches of {smallest} films are too small for {devices} devices; raise data.batch"
            )

    def _check_groups(self) -> None:
        """Raises RecipeError where a stage would keep more layer groups than the body has."""
        groups = len(self.network.groups()) - 1  # the last is the head
        for number, stage in enumerate(self.recipe.stage):
            if stage.freeze_to >= groups:
                raise RecipeError(
                    f"stage.{number}.freeze_to is {stage.freeze_to}, and the body has {groups} layer groups; "
                    "give fewer, or frozen = true to keep all of them"
                )

    def _enter(self, checkpoint: Checkpoint | None) -> None:
        """Make network, optimizer and films ready for the position's stage."""
        self.stage = self.recipe.stage[self.position.stage]
        self.batches = self.plan.batches[self.position.stage]
        split = self.splits[self.stage.size]
        self.network.set_size(self.stage.size)
        self.network.freeze(self.stage.frozen, to=self.stage.freeze_to)
        self._feed, self._valid = Feed(split.train, self.fabric.device), Feed(split.valid, self.fabric.device)
        if checkpoint is not None:
            self._load_network(checkpoint)
        optimizer = adamw(self.network, self.stage, weight_decay=self.recipe.train.weight_decay)
        self.model, self.optimizer = self.fabric.setup(self.network, optimizer)
        if checkpoint is not None:
            self._load_optimizer(checkpoint)
        so_far = self.position.loss_sum if self.fabric.is_global_zero else 0.0
        exact = torch.float32 if self.fabric.device.type == "mps" else torch.float64
        self._loss = torch.tensor(so_far, dtype=exact, device=self.fabric.device)
        if self.position.epoch < self.stage.epochs:
            self.tell(Progress("stage", self.position.stage, len(self.recipe.stage), self._about_stage()))

    def _leave(self) -> None:
        """Go on to the next stage's beginning; what the optimizer remembers ends here."""
        self.position = dataclasses.replace(self.position, stage=self.position.stage + 1, epoch=0, batch=0)
        self.optimizer = None

    def _train_epoch(self) -> None:
        """The batches of an epoch that are not done yet."""
        self.model.train()
        at = self.position
        epoch = self.plan.epochs_before(at.stage) + at.epoch
        order = dice.order(self.recipe.train.seed, epoch, len(self._feed.films))
        if self.recipe.train.balance == "source":
            order = by_source(order, self._feed.films.labels, self._feed.films.sources)
        shares = np.array_split(order, self.batches)  # even: no film is left out, no batch of one
        told = self._epoch_began = time.monotonic()
        self._films_before = at.films  # in an epoch that was resumed, these took another process's time
        for batch in range(at.batch, self.batches):
            rate = set_rates(
                self.optimizer, at.epoch * self.batches + batch, self.stage.epochs * self.batches
            )
            self._step(shares[batch], epoch)
            at = self.position
            self.position = dataclasses.replace(
                at, batch=batch + 1, step=at.step + 1, films=at.films + len(shares[batch])
            )
            now = time.monotonic()
            if now - told > TOLD_EVERY or batch + 1 == self.batches:
                told = now
                self._tell_step(rate)
            if batch + 1 < self.batches and self._is_checkpoint_due(batch):
                self._checkpoint()

    def _step(self, chosen: NDArray[np.int64], epoch: int) -> None:
        """One step on one batch, of which every device takes its share."""
        fabric, train = self.fabric, self.recipe.train
        torch.manual_seed(dice.step_seed(train.seed, self.position.step, fabric.global_rank))
        mine = chosen[fabric.global_rank :: fabric.world_size]
        films = self._feed.films
        labels = torch.from_numpy(films.labels[mine]).to(fabric.device)  # (B,)
        pixels = self._feed.batch(mine)  # (B, 1, S, S) float32 in [0, 255]
        copies = None if films.copies is None else films.copies[mine]
        pixels = shown(pixels, films.ids[mine], copies, train.augment, seed=train.seed, epoch=epoch)
        logits = self.model(pixels.contiguous(memory_format=torch.channels_last)).float()
        each = F.cross_entropy(logits, labels, reduction="none", label_smoothing=train.label_smoothing)
        weight = torch.from_numpy(self.weights[films.labels[mine]]).to(fabric.device)
        total = float(self.weights[films.labels[chosen]].sum())  # over all devices
        loss = (each * weight).sum() / total
        fabric.backward(loss * fabric.world_size)  # devices average their gradients
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._loss += loss.detach() * len(chosen)

    def _close_epoch(self) -> None:
        """Validate, record, tell, checkpoint."""
        trained = time.monotonic() - self._epoch_began
        loss = self._loss_sum()
        result = figures(self._logits(), self._valid.films.labels, self.healthy)
        at = self.position
        seconds = at.epoch_seconds + time.monotonic() - self._epoch_began
        record = {
            "epoch": at.epoch,
            "stage": at.stage,
            "size": self.stage.size,
            "frozen": self.stage.frozen,
            "step": at.step,
            "lr": self.stage.rates[1],
            "train_loss": loss / at.films,
            "valid_loss": result.loss,
            "accuracy": result.accuracy,
            "error_rate": 1 - result.accuracy,
            "recall_disease": result.recall_disease,
            "specificity": result.specificity,
            "auc_disease": result.auc_disease,
            "recall": dict(zip(self.classes, result.recall, strict=True)),
            "images_per_second": (at.films - self._films_before) / max(trained, 1e-9),
            "seconds": seconds,
        }
        self.position = dataclasses.replace(
            at,
            epoch=at.epoch + 1,
            batch=0,
            loss_sum=0.0,
            films=0,
            epoch_seconds=0.0,
            history=(*at.history, record),
        )
        self._loss.zero_()
        self._checkpoint()
        self.tell(Progress("epoch", len(self.position.history), sum(self.plan.epochs), record))

    @torch.no_grad()
    def _logits(self) -> NDArray[np.float32]:
        """The logits of the validation films, the same on every device. (n, C)"""
        self.network.eval()
        self._share_statistics()
        count, fabric = len(self._valid.films), self.fabric
        size = max(64, self.recipe.batch(self.position.stage))
        logits = torch.zeros(count, len(self.classes), device=fabric.device)
        for chosen in np.array_split(np.arange(count), math.ceil(count / size)):
            mine = chosen[fabric.global_rank :: fabric.world_size]
            if len(mine):
                pixels = self._valid.batch(mine).contiguous(memory_format=torch.channels_last)
                with fabric.autocast():
                    logits[torch.from_numpy(mine).to(fabric.device)] = self.network(pixels).float()
        return fabric.all_reduce(logits, reduce_op="sum").cpu().numpy()

    def _share_statistics(self) -> None:
        """Give every device the first one's batch-norm statistics; each has seen its own films since."""
        if self.fabric.world_size > 1:
            for buffer in self.network.buffers():
                buffer.copy_(self.fabric.broadcast(buffer))

    def _loss_sum(self) -> float:
        """The epoch's loss so far, over all devices. Raises RunError when it is no number."""
        total = float(self.fabric.all_reduce(self._loss.clone(), reduce_op="sum"))
        if not math.isfinite(total):
            at = self.position
            raise RunError(
                f"the loss is no longer a number in stage {at.stage + 1}, epoch {at.epoch}; lower stage."
                f"{at.stage + 1}.lr and train into a new folder"
            )
        return total

    def _is_checkpoint_due(self, batch: int) -> bool:
        """By the first device's clock: all must agree, and asking costs, so they ask now and then."""
        due = time.monotonic() - self._saved >= 60 * self.recipe.train.checkpoint_minutes
        if self.fabric.world_size == 1:
            return due
        return batch % ASKED_EVERY == ASKED_EVERY - 1 and self.fabric.broadcast(due)

    def _checkpoint(self) -> None:
        """Hand over all that is needed to go on from here to the same bits."""
        now = time.monotonic()
        at = self.position
        mid_epoch = now - self._epoch_began if at.batch else 0.0
        kept = dataclasses.replace(
            at,
            loss_sum=self._loss_sum() if at.batch else 0.0,
            seconds=self._seconds_before + now - self._began,
            epoch_seconds=at.epoch_seconds + mid_epoch,
        )
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        for parameter, state in self.optimizer.state.items():
            tensors |= {f"optimizer.{names[parameter]}.{key}": value for key, value in state.items()}
        scaler = self.fabric.strategy.precision.state_dict()
        if self.fabric.is_global_zero:
            self.save(Checkpoint(kept, tensors, scaler))
        self.fabric.barrier()
        self._saved = time.monotonic()

    def _load_network(self, checkpoint: Checkpoint) -> None:
        prefix = "network."
        state = {n.removeprefix(prefix): t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
        self.network.load_state_dict(state)

    def _load_optimizer(self, checkpoint: Checkpoint) -> None:
        """Put each parameter's moments back. At the start of a stage there are none."""
        if not (self.position.epoch or self.position.batch):
            return
        for name, parameter in self.network.named_parameters():
            prefix = f"optimizer.{name}."
            state = {n.removeprefix(prefix): t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
            if state:
                held = {k: t.clone() if t.ndim == 0 else _like(t, parameter) for k, t in state.items()}
                self.optimizer.state[parameter] = {k: t.to(parameter.device) for k, t in held.items()}
        if checkpoint.scaler:
            self.fabric.strategy.precision.load_state_dict(dict(checkpoint.scaler))

    def _about_stage(self) -> dict[str, Any]:
        at, stage = self.position, self.stage
        first, last = stage.rates
        rate = f"{last:g}" if first == last else f"{first:g} … {last:g}"
        body = "frozen" if stage.frozen else "unfrozen"
        if stage.freeze_to:
            body = f"the first {stage.freeze_to} layer groups frozen"
        text = f"stage {at.stage + 1} of {len(self.recipe.stage)}: {stage.size} px, {body}, "
        text += f"{stage.epochs} epoch{'s' * (stage.epochs > 1)}, lr {rate}"
        if at.epoch or at.batch:
            text += f"; resumed in epoch {at.epoch}, batch {at.batch} of {self.batches}"
        return {"text": text, "stage": at.stage, "epoch": at.epoch, "batch": at.batch}

    def _tell_step(self, rate: float) -> None:
        at = self.position
        elapsed = time.monotonic() - self._epoch_began
        detail = {
            "stage": at.stage,
            "epoch": at.epoch,
            "loss": float(self._loss) / at.films * self.fabric.world_size,
            "lr": rate,
            "images_per_second": (at.films - self._films_before) / max(elapsed, 1e-9),
            "seconds_left": self._seconds_left(),
        }
        self.tell(Progress("train", at.step, self.plan.steps, detail))

    def _work(self) -> float:
        return self.plan.work(self.position.stage, self.position.epoch, self.position.batch)

    def _seconds_left(self) -> float:
        """From the pace since this process began, in pixels passed through the network."""
        done = self._work() - self._begun_at
        ahead = self.plan.work(len(self.recipe.stage), 0, 0) - self._work()
        return (time.monotonic() - self._began) * ahead / done


def _class_weights(labels: NDArray[np.int64], classes: int, kind: str) -> NDArray[np.float32]:
    """What a film of each class weighs in the loss: 1, or n / (C · n_c) where balanced. (C,)"""
    if kind == "none":
        return np.ones(classes, np.float32)
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)


def _like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A moment on its parameter's device and in its memory layout, which the sums depend on."""
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
