"""Score what the user named, and write what was asked for: the ``score`` verb without the printing.

One pass, whatever the number of films: rows are written as they come, and only the few films that
will be listed stay in memory.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carina.records import Prediction, Progress, Refusal
from carina.scoring.bundle import Bundle
from carina.scoring.decoding import Decoders
from carina.scoring.inputs import Input, Skipped, printable

if TYPE_CHECKING:
    from carina.scoring.scorer import Scorer
    from carina.scoring.tables import ScoreTable


@dataclass(frozen=True, slots=True)
class Listed:
    """A scored film in the list that a person sees."""

    path: str
    top_class: str
    p_disease: float


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """What became of the films: counts, the most suspicious first, and the first refusals.

    ``skipped`` counts files that are no films and were not tried (notes, tables, hidden files).
    """

    scored: int
    refused: int
    skipped: int
    top: tuple[Listed, ...]
    refusals: tuple[Refusal, ...]


def score_films(
    paths: Iterable[str | Path] | str | Path,
    bundle: Bundle | Path,
    *,
    out: Path | None = None,
    heatmaps: Path | None = None,
    threads: int | None = None,
    top: int = 50,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreSummary:
    """Score films, folders, globs and zip archives with one bundle.

    ``out`` is a ``.csv``, ``.jsonl`` or ``.parquet`` table with one row a film, in the order named;
    ``heatmaps`` a folder that gets one overlay PNG for every scored film. Raises ``BundleError`` when
    the bundle is not whole, ``OutputError`` when a result cannot be written (before the first film where
    the place itself is wrong), and ``SourceError`` when a named path does not exist. A film that cannot
    be read ends nothing: it is counted and listed.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    skipped, tally = Skipped(), _Tally(top)
    with ExitStack() as stack:
        if heatmaps is not None:
            stack.enter_context(_claimed(heatmaps))
        table = stack.enter_context(_table(out, bundle)) if out is not None else None
        decoders = stack.enter_context(Decoders(bundle.preparation))
        decoders.start(1, first=_only_film(named))  # it loads what it needs while we load ONNX Runtime
        for item in _scorer(bundle, threads).score(named, skipped, without=heatmaps, decoders=decoders):
            if table is not None:
                table.write(item)
            if heatmaps is not None and isinstance(item, Prediction):
                _save(item, heatmaps)
            tally.add(item)
            if progress is not None:
                progress(Progress("films scored", tally.scored + tally.refused, None))
    return tally.summary(skipped)


class _Tally:
    """Counts, and the few films that a person will see; a heap of at most ``top``."""

    def __init__(self, top: int) -> None:
        self.scored = self.refused = 0
        self._top = top
        self._best: list[tuple[float, int, Listed]] = []
        self._refusals: list[Refusal] = []

    def add(self, item: Prediction | Refusal) -> None:
        if isinstance(item, Refusal):
            self.add_refusal(item)
        else:
            self.add_row(Listed(item.path, item.top_class, item.p_disease))

    def add_row(self, row: Listed) -> None:
        self.scored += 1
        heapq.heappush(self._best, (row.p_disease, -self.scored, row))
        if len(self._best) > self._top:
            heapq.heappop(self._best)

    def add_refusal(self, refusal: Refusal) -> None:
        self.refused += 1
        if len(self._refusals) < max(self._top, 1):
            self._refusals.append(refusal)

    def summary(self, skipped: Skipped) -> ScoreSummary:
        best = sorted(self._best, key=lambda entry: (-entry[0], -entry[1]))
        listed = tuple(row for _, _, row in best)
        return ScoreSummary(self.scored, self.refused, skipped.total, listed, tuple(self._refusals))


def _only_film(named: list[str | Path]) -> Input | None:
    """The film, where a single file is named: it can be decoded while the network is loaded."""
    if len(named) != 1 or not os.path.isfile(named[0]):  # noqa: PTH113 - Path.is_file raises
        return None
    path = Path(named[0])
    return None if path.suffix.lower() == ".zip" else Input(printable(path), path=path)


# The rest loads its modules when it is used: one film is scored before they would all be there.


def _scorer(bundle: Bundle, threads: int | None) -> Scorer:
    from carina.scoring.scorer import Scorer

    return Scorer(bundle, threads=threads)


def _table(out: Path, bundle: Bundle) -> ScoreTable:
    from carina.scoring.tables import ScoreTable

    return ScoreTable(out, bundle.classes)


def _claimed(folder: Path) -> AbstractContextManager[Path]:
    from carina.folders import claimed

    return claimed(folder, "--heatmaps")


def _save(prediction: Prediction, folder: Path) -> None:
    from carina.scoring import heatmap

    heatmap.save(prediction, folder)
