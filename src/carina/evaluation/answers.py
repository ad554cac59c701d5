"""Ask a bundle about the films of a catalogue: probabilities or a reason, one for each film.

The films go through the same ``Scorer`` that a hospital uses. Where the packed pixels of this very
preparation lie beside the catalogue they are used, as they are what the files would give; a film
that is gone, damaged or no longer the one that was compiled is refused, never left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carina.data.catalogue import Catalogue
from carina.data.pixels import PixelCache
from carina.errors import DataError
from carina.images.prepare import Preparation
from carina.records import Progress, Refusal
from carina.scoring.scorer import Scorer

Tell = Callable[[Progress], None]
Answer = NDArray[np.float32] | Refusal  # (C,) probabilities

_CHUNK = 256  # films taken from the cache at a time


def answers(scorer: Scorer, films: pa.Table, cache: PixelCache | None, tell: Tell | None) -> list[Answer]:
    """One answer for each row of ``films``, in order."""
    given: list[Answer] = []
    for answer in _from_cache(scorer, films, cache) if cache is not None else _from_files(scorer, films):
        given.append(answer)
        if tell is not None:
            tell(Progress("score", len(given), len(films)))
    return given


def cached(catalogue: Catalogue, preparation: Preparation) -> PixelCache | None:
    """The packed pixels of this preparation, where a training left whole ones; otherwise None."""
    if not (catalogue.root / "pixels" / preparation.fingerprint()).is_dir():
        return None
    try:
        return PixelCache.build(catalogue, preparation)
    except (DataError, OSError):  # the films themselves are still there to be asked
        return None


def _from_files(scorer: Scorer, films: pa.Table) -> Iterator[Answer]:
    paths, hashes = films["path"].to_pylist(), films["sha256"].to_pylist()
    scored = scorer.score([path for path in paths if os.path.lexists(path)])
    for path, sha256 in zip(paths, hashes, strict=True):
        if not os.path.lexists(path):
            yield Refusal(
                path, "missing", "missing: the file is gone since the catalogue was compiled; put it back"
            )
            continue
        answer = next(scored)
        if isinstance(answer, Refusal):
            yield answer
        elif answer.sha256 != sha256:
            yield Refusal(
                path, "changed", "changed: not the file that was compiled; compile the catalogue again"
            )
        else:
            yield answer.probabilities


def _from_cache(scorer: Scorer, films: pa.Table, cache: PixelCache) -> Iterator[Answer]:
    hashes = films["sha256"].to_pylist()
    for start in range(0, len(hashes), _CHUNK):
        yield from scorer.predict(cache.array(hashes[start : start + _CHUNK])).probabilities
