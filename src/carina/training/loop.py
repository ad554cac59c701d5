"""The training loop: stages, epochs, steps; validation after each epoch; resumable at every step.

Knows films as packed pixels (:class:`~carina.training.films.Films`), not catalogues, and hands its
checkpoints to whoever keeps them. Nothing random is carried from step to step
(:mod:`carina.training.dice`) and the schedule is a function of the step, so that network, optimizer
and position are all there is to a checkpoint.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from carina.errors import RunError
from carina.records import Progress
from carina.training import dice, snapshot
from carina.training.average import Average
from carina.training.checkpoint import Checkpoint, Position
from carina.training.convolutions import suited
from carina.training.demands import check_groups, check_metric, check_shares
from carina.training.devices import seed
from carina.training.features import CachedLessons, cached_views
from carina.training.films import Films
from carina.training.judging import Judge
from carina.training.lessons import Lessons, Share, prevalence_weights
from carina.training.lr_finder import STEPS, Finding, suggest, sweep
from carina.training.network import Network
from carina.training.optimizer import adamw, set_peaks, set_rates, set_sweep
from carina.training.recipe import Recipe, Stage
from carina.training.schedule import Plan
from carina.training.shared_norms import shared
from carina.training.stopping import best_epoch, is_over
from carina.training.telling import about_stage, about_stop, record
from carina.training.validation import figures

TOLD_EVERY = 0.25  # seconds between two reports within an epoch
ASKED_EVERY = 16  # steps between two questions whether several devices shall write a checkpoint
LIGHT = 32 << 20  # bytes of a checkpoint that is written at the end of every epoch, however short
SHARE = 1 / 20  # of the time since the one before, that writing a heavier one may take there ...
PACE = 256 << 20  # ... at so many bytes a second: serialised, hashed, synced to the disk


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
        check_shares(recipe, self.plan, splits, fabric.world_size)
        check_groups(recipe, len(network.groups()) - 1)
        check_metric(recipe, self.classes, self.healthy)
        self.position = Position()
        self.network.to(fabric.device, memory_format=torch.channels_last)
        self.average = Average(network, recipe.train.ema) if recipe.train.ema else None
        self._best: snapshot.State = {}  # the weights of the stage's best epoch, where patience looks for it

    def fit(self, checkpoint: Checkpoint | None = None) -> Network:
        """Train to the end, from the start or from a checkpoint; answers with the network, ready to use.

        Raises RunError when the loss is no longer a number.
        """
        with shared(self.network, self.fabric.world_size), suited(self.network, self.fabric.device):
            self._train(checkpoint, len(self.recipe.stage))
        self.network.freeze(False)
        if self.average is not None:
            self.network.load_state_dict(self.average.network.state_dict())
        return self.network.eval()

    def find_rate(self, stage: int, *, earlier: bool = True) -> Finding:
        """Sweep for the learning rate of a stage (from 0), after the earlier stages are trained, or at once.

        Raises RunError when the loss is no longer a number while they are.
        """
        with shared(self.network, self.fabric.world_size), suited(self.network, self.fabric.device):
            if earlier:
                self._train(None, stage)
            self.position = dataclasses.replace(self.position, stage=stage)
            self._began = time.monotonic()
            self._enter(None, find=True)
        return Finding(**self.position.found[-1])

    def _train(self, checkpoint: Checkpoint | None, stages: int) -> None:
        """Train the stages before this number that are not done yet."""
        if checkpoint is not None:
            self.position = checkpoint.position
        self._began = self._saved = time.monotonic()
        self._begun_at = self._work()
        self._seconds_before = self.position.seconds
        while self.position.stage < stages:
            if checkpoint is not None and self._has_ended():
                self._take_up(checkpoint)
            else:
                self._enter(checkpoint)
            checkpoint = None
            while self.position.epoch < self.stage.epochs and not self._is_over():
                self._train_epoch()
                self._close_epoch()
            self._leave()
        self.position = dataclasses.replace(self.position, seconds=self._spent())

    def _spent(self) -> float:
        """Seconds of training so far, those of an interrupted run included."""
        return self._seconds_before + time.monotonic() - self._began

    def _has_ended(self) -> bool:
        """Whether nothing is left to train in the position's stage."""
        return self.position.epoch >= self.recipe.stage[self.position.stage].epochs or self._is_over()

    def _take_up(self, checkpoint: Checkpoint | None, *, find: bool = False) -> None:
        """Make the network what it is in the position's stage."""
        self.stage = self._stage_at_its_rate(find)
        self.batches = self.plan.batches[self.position.stage]
        self.network.set_size(self.stage.size)
        self.network.freeze(self.stage.frozen, to=self.stage.freeze_to)
        if self.average is not None:
            self.average.enter(self.network, self.stage.size)
        self._best = {}
        if checkpoint is not None:
            snapshot.load_weights(checkpoint.tensors, self.network, self.average)
            self._best = snapshot.part(checkpoint.tensors, "best.")
            if checkpoint.scaler:
                self.fabric.strategy.precision.load_state_dict(dict(checkpoint.scaler))

    def _enter(self, checkpoint: Checkpoint | None, *, find: bool = False) -> None:
        """Make network, optimizer and films ready for the position's stage, and find its rate if asked to."""
        self._take_up(checkpoint, find=find)
        self._bring_films()
        optimizer = adamw(self.network, self.stage, weight_decay=self.recipe.train.weight_decay)
        self.model, self.optimizer = self.fabric.setup(self.network, optimizer)
        if checkpoint is not None:
            self._load_optimizer(checkpoint)
        if self.stage.lr == "find":
            self._find_rate()
        so_far = self.position.loss_sum if self.fabric.is_global_zero else 0.0
        exact = torch.float32 if self.fabric.device.type == "mps" else torch.float64
        self._loss = torch.tensor(so_far, dtype=exact, device=self.fabric.device)
        if self.position.epoch < self.stage.epochs and not find:
            at = self.position
            text = about_stage(self.recipe, self.stage, at, self.views, self.batches)
            detail = {"text": text, "stage": at.stage, "epoch": at.epoch, "batch": at.batch}
            self.tell(Progress("stage", at.stage, len(self.recipe.stage), detail))

    def _stage_at_its_rate(self, find: bool) -> Stage:
        """The position's stage, at the rate that was found for it earlier, if it was."""
        at = self.position
        stage = self.recipe.stage[at.stage]
        if find:
            return stage.model_copy(update={"lr": "find", "ratio": stage.rates[1] / stage.rates[0]})
        known = [found["lr"] for found in at.found if found["stage"] == at.stage]
        return stage.at(known[-1]) if stage.lr == "find" and known else stage

    def _bring_films(self) -> None:
        """The stage's films to learn from and to check on; of a frozen body, what it sees in them."""
        split, fabric, train = self.splits[self.stage.size], self.fabric, self.recipe.train
        batch = self.recipe.batch(self.position.stage)
        self._judge = Judge(split.valid, fabric, batch=batch, tell=self._tell_features)
        self.views = cached_views(train) if self.stage.frozen else 0
        if self.views:
            self.lessons = CachedLessons(
                split.train,
                train,
                self.classes,
                self.network,
                fabric,
                views=self.views,
                first=self.plan.epochs_before(self.position.stage),
                tell=self._tell_features,
            )
        else:
            self.lessons = Lessons(
                split.train,
                train,
                self.classes,
                fabric.device,
                rank=fabric.global_rank,
                world=fabric.world_size,
            )

    def _find_rate(self) -> None:
        """Sweep for the stage's rate, and leave everything else as it was."""
        at, train, fabric = self.position, self.recipe.train, self.fabric
        epoch = self.plan.epochs_before(at.stage)
        shares = itertools.cycle(self.lessons.epoch(epoch, self.batches))
        steps = itertools.count()

        def step(rate: float) -> float:
            done = next(steps)
            self.tell(Progress("find lr", done, STEPS))
            set_sweep(self.optimizer, rate)
            seed(fabric.device, dice.step_seed(train.seed, done, fabric.global_rank))
            return float(fabric.all_reduce(self._descend(next(shares), epoch), reduce_op="sum"))

        with snapshot.held(self.network, self.optimizer, fabric):
            self.model.train()
            rates, losses = sweep(step)
        if not len(losses):
            raise RunError(
                f"the loss of stage {at.stage + 1} is no number at the lowest rate; look at the films, or "
                "name other weights"
            )
        found = suggest(at.stage, rates, losses)
        self.tell(Progress("find lr", STEPS, STEPS))
        self.position = dataclasses.replace(at, found=(*at.found, found.to_dict()))
        self.stage = self.stage.at(found.lr)
        set_peaks(self.optimizer, self.network, self.stage)

    def _leave(self) -> None:
        """Go on to the next stage's beginning; what the optimizer remembers ends here."""
        if self._best:
            snapshot.load_weights(self._best, self.network, self.average)
            self._best = {}
        self.position = dataclasses.replace(self.position, stage=self.position.stage + 1, epoch=0, batch=0)
        self.optimizer = None

    def _train_epoch(self) -> None:
        """The batches of an epoch that are not done yet."""
        self.model.train()
        at = self.position
        epoch = self.plan.epochs_before(at.stage) + at.epoch
        told = self._epoch_began = time.monotonic()
        shares = self.lessons.epoch(epoch, self.batches)
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

    def _step(self, share: Share, epoch: int) -> None:
        """One step on one batch, of which every device takes its share."""
        rank = self.fabric.global_rank
        seed(self.fabric.device, dice.step_seed(self.recipe.train.seed, self.position.step, rank))
        loss = self._descend(share, epoch)
        if self.average is not None:
            self.average.update(self.position.step + 1)
        self._loss += loss * len(share)

    def _descend(self, share: Share, epoch: int) -> torch.Tensor:
        """Forward, backward, and a step down; answers with this device's part of the loss."""
        fabric, train = self.fabric, self.recipe.train
        batch = self.lessons.batch(share, epoch)
        loss = batch.loss(self.model(batch.seen).float(), train.label_smoothing)
        fabric.backward(loss * fabric.world_size)  # devices average their gradients
        if train.clip:
            fabric.clip_gradients(self.model, self.optimizer, max_norm=train.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _close_epoch(self) -> None:
        """Validate, record, tell, checkpoint."""
        trained = time.monotonic() - self._epoch_began
        loss = self._loss_sum()
        labels = self._judge.films.labels
        result = figures(self._logits(), labels, self.healthy, self._prevalence(labels))
        self._check_number(result.loss)  # the last step may have ended it: no training loss shows that
        at = self.position
        seconds = at.epoch_seconds + time.monotonic() - self._epoch_began
        done = record(self.stage, at, result, self.classes) | {
            "views": self.views or None,  # of each film, whose features were computed once; None: all anew
            "train_loss": loss / at.films,
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
            history=(*at.history, done),
        )
        self._loss.zero_()
        self._keep_best()
        stopped = self._is_over() and self.position.epoch < self.stage.epochs
        last = stopped or self.position.epoch == self.stage.epochs
        if last or self._is_epoch_kept():
            self._checkpoint()
        self.tell(Progress("epoch", len(self.position.history), sum(self.plan.epochs), done))
        if stopped:
            self.tell(Progress("note", 0, None, {"text": about_stop(self.recipe, self._records())}))

    def _prevalence(self, labels: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """What each validation film counts at the recipe's prevalence, if it has one. (n,)"""
        there = self.recipe.train.prevalence
        return prevalence_weights(labels, self.classes, there)[labels] if there else None

    def _records(self) -> list[dict[str, Any]]:
        """The epochs of this stage."""
        return [record for record in self.position.history if record["stage"] == self.position.stage]

    def _is_over(self) -> bool:
        """Whether early stopping ends the stage here."""
        return is_over(self._records(), self.recipe.train.metric, self.recipe.train.patience)

    def _keep_best(self) -> None:
        """Where early stopping is asked for, remember the weights of the stage's best epoch."""
        train, records = self.recipe.train, self._records()
        if train.patience and best_epoch(records, train.metric) == len(records) - 1:
            self._best = snapshot.kept(snapshot.of_weights(self.network, self.average))

    def _logits(self) -> NDArray[np.float32]:
        """The logits of the validation films, the same on every device. (n, C)"""
        self._share_statistics()
        judged = self.network if self.average is None else self.average.network
        return self._judge.logits(judged, frozen=self.stage.frozen)

    def _tell_features(self, done: int, count: int) -> None:
        self.tell(Progress("features", done, count))

    def _share_statistics(self) -> None:
        """Give every device the first one's batch-norm statistics; each has seen its own films since."""
        if self.fabric.world_size > 1:
            averaged = self.average.network.buffers() if self.average is not None else ()
            for buffer in (*self.network.buffers(), *averaged):
                buffer.copy_(self.fabric.broadcast(buffer))

    def _loss_sum(self) -> float:
        """The epoch's loss so far, over all devices. Raises RunError when it is no number."""
        total = float(self.fabric.all_reduce(self._loss.clone(), reduce_op="sum"))
        self._check_number(total)
        return total

    def _check_number(self, loss: float) -> None:
        if not math.isfinite(loss):
            at = self.position
            raise RunError(
                f"the loss is no longer a number in stage {at.stage + 1}, epoch {at.epoch}; lower stage."
                f"{at.stage + 1}.lr and train into a new folder"
            )

    def _is_checkpoint_due(self, batch: int) -> bool:
        """By the first device's clock: all must agree, and asking costs, so they ask now and then."""
        due = time.monotonic() - self._saved >= 60 * self.recipe.train.checkpoint_minutes
        if self.fabric.world_size == 1:
            return due
        return batch % ASKED_EVERY == ASKED_EVERY - 1 and self.fabric.broadcast(due)

    def _is_epoch_kept(self) -> bool:
        """Whether the end of an epoch within a stage is worth a checkpoint, which takes time too."""
        if self.views:  # on known features an epoch takes less than that
            return self._is_checkpoint_due(0)
        weights = sum(tensor.nbytes for tensor in self.network.state_dict().values())
        size = weights * (3 if self.average is None else 4)  # two moments of each weight, and its average
        spent = time.monotonic() - self._saved
        return self.fabric.broadcast(size <= LIGHT or SHARE * spent >= size / PACE)

    def _checkpoint(self) -> None:
        """Hand over all that is needed to go on from here to the same bits."""
        now = time.monotonic()
        at = self.position
        mid_epoch = now - self._epoch_began if at.batch else 0.0
        kept = dataclasses.replace(
            at,
            loss_sum=self._loss_sum() if at.batch else 0.0,
            seconds=self._spent(),
            epoch_seconds=at.epoch_seconds + mid_epoch,
        )
        tensors = snapshot.of_weights(self.network, self.average)
        if not self._has_ended():  # the next stage has moments of its own
            tensors |= snapshot.of_optimizer(self.network, self.optimizer)
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        scaler = self.fabric.strategy.precision.state_dict()
        if self.fabric.is_global_zero:
            self.save(Checkpoint(kept, tensors, scaler))
        self.fabric.barrier()
        self._saved = time.monotonic()

    def _load_optimizer(self, checkpoint: Checkpoint) -> None:
        """Put each parameter's moments back. At the start of a stage there are none."""
        if self.position.epoch or self.position.batch:
            snapshot.load_optimizer(checkpoint.tensors, self.network, self.optimizer)

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
