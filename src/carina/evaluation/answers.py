"""Ask a bundle about the films of a catalogue: probabilities or a reason, one for each film.

The films go through the same ``Scorer`` that a hospital uses. Where the packed pixels of this very
preparation lie beside the catalogue they are used: they are verified, and what the files would give.
Otherwise the files are read, and one that is gone, damaged or no longer the one that was compiled is
refused, never left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carina.data.catalogue import Catalogue
from carina.data.pixels import PixelCache
from carina.errors import DataError
from carina.images.prepare import Preparation
from carina.records import Prediction, Progress, Refusal
from carina.scoring.abstain import Gate
from carina.scoring.scorer import Scorer

Tell = Callable[[Progress], None]
Answer = NDArray[np.float32] | Refusal  # (C,) probabilities

_CHUNK = 256  # films taken from the cache at a time


@dataclass(frozen=True, slots=True)
class Look:
    """One film as the model saw it, (S, S) uint8, and the contributions to each class, (C, h, w)."""

    prepared: NDArray[np.uint8]
    cam: NDArray[np.float32]


def answers(
    scorer: Scorer, films: pa.Table, cache: PixelCache | None, tell: Tell | None, gate: Gate | None = None
) -> list[tuple[Answer, str | None]]:
    """One answer for each row of ``films``, in order, and the code by which ``gate`` would refuse the film.

    The code is None where the film would be scored, and where it has no answer to refuse.
    """
    given: list[tuple[Answer, str | None]] = []
    ways = _from_files(scorer, films, gate) if cache is None else _from_cache(scorer, films, cache, gate)
    for answer in ways:
        given.append(answer)
        if tell is not None:
            tell(Progress("score", len(given), len(films)))
    return given


def embeddings(
    scorer: Scorer, films: pa.Table, cache: PixelCache | None, tell: Tell | None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]] | None]:
    """Probabilities (C,) and embedding (D,) for each row of ``films``, in order; None where refused."""
    if cache is None:
        for done, answer in enumerate(_predictions(scorer, films), 1):
            yield None if isinstance(answer, Refusal) else (answer.probabilities, answer.embedding)
            if tell is not None:
                tell(Progress("score", done, len(films)))
        return
    hashes = films["sha256"].to_pylist()
    for start in range(0, len(hashes), _CHUNK):
        outputs = scorer.predict(cache.array(hashes[start : start + _CHUNK]))
        yield from zip(outputs.probabilities, outputs.embedding, strict=True)
        if tell is not None:
            tell(Progress("score", min(start + _CHUNK, len(hashes)), len(hashes)))


def looks(scorer: Scorer, films: pa.Table, cache: PixelCache | None) -> Iterator[Look | None]:
    """The film and its map for each row of ``films``, in order; None where the film cannot be had."""
    if cache is not None:
        prepared = cache.array(films["sha256"].to_pylist())
        yield from map(Look, prepared, scorer.predict(prepared).cam)
        return
    for answer in _predictions(scorer, films):
        yield None if isinstance(answer, Refusal) else Look(answer.prepared, answer.cam)


def squares(scorer: Scorer, films: pa.Table, cache: PixelCache | None) -> Iterator[NDArray[np.uint8]]:
    """Each film of ``films`` as the network sees it, (S, S) uint8, in order, a few in memory at a time.

    The films are those that have an answer: one that is refused now has changed since, and raises DataError.
    """
    if cache is not None:
        hashes = films["sha256"].to_pylist()
        for start in range(0, len(hashes), _CHUNK):
            yield from cache.array(hashes[start : start + _CHUNK])
        return
    for answer in _predictions(scorer, films):
        if isinstance(answer, Refusal):
            raise DataError(f"{answer.path}: {answer.reason}; it could be read a moment ago")
        yield answer.prepared


def cached(catalogue: Catalogue, preparation: Preparation) -> PixelCache | None:
    """The packed pixels of this preparation, where a training left whole ones; otherwise None."""
    if not (catalogue.root / "pixels" / preparation.fingerprint()).is_dir():
        return None
    try:
        return PixelCache.build(catalogue, preparation)
    except (DataError, OSError):  # the films themselves can still be asked, each for itself
        return None


def _from_files(scorer: Scorer, films: pa.Table, gate: Gate | None) -> Iterator[tuple[Answer, str | None]]:
    for answer in _predictions(scorer, films):
        if isinstance(answer, Refusal):
            yield answer, None
        else:
            refusal = gate.refusal(answer) if gate is not None else None
            yield answer.probabilities, None if refusal is None else refusal.code


def _predictions(scorer: Scorer, films: pa.Table) -> Iterator[Prediction | Refusal]:
    """What the scorer says of each file that is still the one that was compiled."""
    paths, hashes = films["path"].to_pylist(), films["sha256"].to_pylist()
    there = [os.path.lexists(path) for path in paths]
    scored = scorer.score([path for path, is_there in zip(paths, there, strict=True) if is_there])
    for path, sha256, is_there in zip(paths, hashes, there, strict=True):
        if not is_there:
            fault = "missing: the file is gone since the catalogue was compiled; put it back"
            yield Refusal(path, "missing", fault)
            continue
        answer = next(scored)
        if isinstance(answer, Prediction) and answer.sha256 != sha256:
            fault = "changed: not the file that was compiled; compile the catalogue again"
            yield Refusal(path, "changed", fault)
        else:
            yield answer


def _from_cache(
    scorer: Scorer, films: pa.Table, cache: PixelCache, gate: Gate | None
) -> Iterator[tuple[Answer, str | None]]:
    hashes = films["sha256"].to_pylist()
    for start in range(0, len(hashes), _CHUNK):
        prepared = cache.array(hashes[start : start + _CHUNK])
        outputs = scorer.predict(prepared)
        for probabilities, film, embedding in zip(
            outputs.probabilities, prepared, outputs.embedding, strict=True
        ):
            why = gate.why(film, embedding) if gate is not None else None
            yield probabilities, None if why is None else why[0]
