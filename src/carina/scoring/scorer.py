"""A bundle at work: films in, predictions or refusals out, in order.

Knows the network and threads; films are decoded in processes of their own (:mod:`carina.scoring.decoding`).
Each worker takes a handful of films, has them decoded one by one by its process and runs the network on
them in its thread. So a worker keeps one core busy, here or there, and no core ever waits for another.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carina.errors import BundleError
from carina.records import Prediction, Refusal
from carina.scoring.bundle import Bundle
from carina.scoring.decoding import Decoded, Decoders
from carina.scoring.inputs import Input, Skipped, films
from carina.scoring.session import open_session

_THREADS = "carina-score"  # how the names of the threads begin
_AHEAD = 2  # handfuls decoded ahead of the one that is being read, beside one for each thread
_HANDFUL_BYTES = 64 << 20  # archive members held by one handful; one larger member goes alone


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the network says of N films: all finite. C classes, D features, an h × w map."""

    logits: NDArray[np.float32]  # (N, C)
    probabilities: NDArray[np.float32]  # (N, C), rows sum to 1
    embedding: NDArray[np.float32]  # (N, D)
    cam: NDArray[np.float32]  # (N, C, h, w): contribution of each cell to each class's logit


class Scorer:
    """Runs one bundle. Safe to use from several threads.

    ``threads`` is how many cores are used (default: all this process may use), ``batch`` how many
    films go through the network at a time on each. Neither changes a score by more than 1e-6.
    Raises :class:`~carina.errors.BundleError` when the bundle is not whole or cannot be run.
    """

    def __init__(
        self, bundle: Bundle | str | os.PathLike[str], *, threads: int | None = None, batch: int = 4
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.threads = cores() if threads is None else threads
        self.batch = batch
        if self.threads < 1 or batch < 1:
            raise ValueError(f"threads is {threads} and batch {batch}; both must be at least 1")
        self._session = open_session(self.bundle, self.threads)

    def predict(self, prepared: NDArray[np.uint8]) -> Outputs:
        """Run the network on prepared films, (N, S, S) uint8.

        Raises ``ValueError`` for another shape or dtype, :class:`~carina.errors.BundleError` when
        the network answers with numbers that are not finite: those are never a score.
        """
        size = self.bundle.preparation.size
        if prepared.dtype != np.uint8 or prepared.ndim != 3 or prepared.shape[1:] != (size, size):
            raise ValueError(
                f"prepared films are (N, {size}, {size}) uint8, not {prepared.shape} {prepared.dtype}"
            )
        parts = [prepared[at : at + self.batch] for at in range(0, max(1, len(prepared)), self.batch)]
        with ThreadPoolExecutor(min(self.threads, len(parts)), "carina-predict") as pool:
            outputs = _joined(list(pool.map(self._run, parts)))
        fine = _finite(outputs)
        if not fine.all():
            raise BundleError(
                f"{self.bundle.root}: the network gives numbers that are not finite for "
                f"{np.count_nonzero(~fine)} of {len(prepared)} films; train it with a lower learning rate"
            )
        return outputs

    def score(
        self,
        paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        skipped: Skipped | None = None,
        *,
        without: Path | None = None,
        done: Callable[[str], bool] | None = None,
        decoders: Decoders | None = None,
    ) -> Iterator[Prediction | Refusal]:
        """Score files, folders, patterns and zip archives: one answer for each film, in order.

        A film that cannot be scored is a :class:`~carina.records.Refusal` and stops nothing. Memory
        does not grow with the number of films; closing the iterator ends the threads and the decoding
        processes, unless ``decoders`` that were started before are given. ``skipped`` counts what was not
        tried, ``without`` is a folder to leave out (see :func:`carina.scoring.inputs.films`, whose
        :class:`~carina.errors.SourceError` for a mistyped path is raised at once). Raises
        :class:`~carina.errors.DecoderError` where no decoding process can be started.
        """
        named = [paths] if isinstance(paths, str | os.PathLike) else paths
        items = films(named, skipped, without=without)
        return self.answers(items if done is None else _others(items, done), decoders)

    def answers(
        self, items: Iterator[Input | Refusal], decoders: Decoders | None = None, *, at: int = 0
    ) -> Iterator[Prediction | Refusal]:
        """One answer for each item, in order; items are asked for as the work goes on.

        ``at`` is how many films of a longer row come before these. Films meet the network in the same
        company as if the whole row were scored here, so that the numbers are the same, bit for bit.
        Raises :class:`~carina.errors.DecoderError` where no decoding process can be started.
        """
        with ExitStack() as stack:
            mine = decoders or stack.enter_context(Decoders(self.bundle.preparation))
            yield from self._in_order(items, mine, at)

    def _in_order(
        self, items: Iterator[Input | Refusal], decoders: Decoders, at: int
    ) -> Iterator[Prediction | Refusal]:
        handfuls = _handfuls(items, self.batch, at)
        running: deque[Future[list[Prediction | Refusal]]] = deque()
        pool = ThreadPoolExecutor(self.threads, _THREADS)
        try:
            for handful in handfuls:
                running.append(pool.submit(self._score_handful, handful, decoders))
                if len(running) >= self.threads + _AHEAD:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:  # answers that nobody took to the end may be collected in one of the pool's own threads
            ours = threading.current_thread().name.startswith(_THREADS)
            pool.shutdown(wait=not ours, cancel_futures=True)

    def _score_handful(
        self, handful: list[Input | Refusal], decoders: Decoders
    ) -> list[Prediction | Refusal]:
        answers = [item if isinstance(item, Refusal) else decoders.load(item) for item in handful]
        loaded = [answer for answer in answers if isinstance(answer, Decoded)]
        if not loaded:
            return [answer for answer in answers if isinstance(answer, Refusal)]
        size = self.bundle.preparation.size
        squares = np.frombuffer(b"".join([each.square for each in loaded]), np.uint8)
        prepared = squares.reshape(len(loaded), size, size)
        scored = iter(self._predictions(loaded, prepared, self._run(prepared)))
        return [answer if isinstance(answer, Refusal) else next(scored) for answer in answers]

    def _predictions(
        self, loaded: list[Decoded], prepared: NDArray[np.uint8], outputs: Outputs
    ) -> Iterator[Prediction | Refusal]:
        fine = _finite(outputs)
        for i, each in enumerate(loaded):
            if not fine[i]:
                fault = "not_finite: the network gives no finite number for this film; a person must read it"
                yield Refusal(each.name, "not_finite", fault)
                continue
            yield Prediction(
                path=each.name,
                sha256=each.facts.sha256,
                classes=self.bundle.classes,
                healthy=self.bundle.healthy,
                logits=outputs.logits[i].copy(),  # a copy each: a kept prediction keeps no whole batch
                probabilities=outputs.probabilities[i].copy(),
                embedding=outputs.embedding[i].copy(),
                cam=outputs.cam[i].copy(),
                prepared=prepared[i].copy(),
                facts=each.facts,
                looks=each.looks,
            )

    def _run(self, prepared: NDArray[np.uint8]) -> Outputs:
        """The network on (N, S, S) uint8, in this thread. Numbers may be not finite."""
        answer = self._session.run(["logits", "embedding", "cam"], {"pixels": prepared[:, np.newaxis]})
        logits, embedding, cam = answer
        count, classes = len(prepared), len(self.bundle.classes)
        if logits.shape != (count, classes) or cam.shape[:2] != (count, classes) or len(embedding) != count:
            raise BundleError(
                f"{self.bundle.root}: the network answers {count} films with {logits.shape} logits and a "
                f"{cam.shape} map, not {classes} classes each; export it again"
            )
        return Outputs(logits, softmax(logits), embedding, cam)


def cores() -> int:
    """The cores this process may use; fewer than the machine has in a container or under ``taskset``."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities over the last axis, computed in float64. Not finite where a logit is not."""
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        powers = np.exp(shifted)
        probabilities: NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


def _others(items: Iterator[Input | Refusal], done: Callable[[str], bool]) -> Iterator[Input | Refusal]:
    for item in items:
        if not done(item.path if isinstance(item, Refusal) else item.name):
            yield item


def _handfuls(items: Iterator[Input | Refusal], batch: int, at: int = 0) -> Iterator[list[Input | Refusal]]:
    """Group films for the workers: first alone, so that few films use all cores too, then up to ``batch``.

    The borders depend on the films alone, never on timing, and lie where they would lie if ``at`` films
    came before these.
    """
    handful: list[Input | Refusal] = []
    held = 0
    for number, item in enumerate(items, at):
        handful.append(item)
        held += len(item.data) if isinstance(item, Input) and item.data is not None else 0
        if is_border(number + 1, batch) or held > _HANDFUL_BYTES:
            yield handful
            handful, held = [], 0
    if handful:
        yield handful


def is_border(number: int, batch: int) -> bool:
    """Whether a handful ends with so many films before it: 1 2 3 4 6 8 12 16 … in handfuls of up to 4."""
    return number % min(batch, 1 << max(0, number.bit_length() - 2)) == 0


def _joined(parts: list[Outputs]) -> Outputs:
    if len(parts) == 1:
        return parts[0]
    return Outputs(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.embedding for part in parts]),
        np.concatenate([part.cam for part in parts]),
    )


def _finite(outputs: Outputs) -> NDArray[np.bool_]:
    """(N,): every number of the film is finite."""
    fine = np.ones(len(outputs.logits), dtype=np.bool_)
    for numbers in (outputs.logits, outputs.embedding, outputs.cam):
        fine &= np.isfinite(numbers).all(axis=tuple(range(1, numbers.ndim)))
    return fine
