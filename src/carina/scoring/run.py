"""Score what the user named, and write what was asked for: the ``score`` verb without the printing.

One pass, whatever the number of films: rows are written as they come, and only the few films that
will be listed stay in memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from carina.folders import claimed
from carina.records import Prediction, Progress, Refusal
from carina.scoring import heatmap
from carina.scoring.abstain import Gate, checked
from carina.scoring.bundle import Bundle
from carina.scoring.inputs import Skipped
from carina.scoring.scorer import Scorer
from carina.scoring.sets import Sets
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
    check: bool = True,
    sets: Sets | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreSummary:
    """Score films, folders, globs and zip archives with one bundle.

    ``out`` is a ``.csv``, ``.jsonl`` or ``.parquet`` table with one row a film, in the order named;
    ``heatmaps`` a folder that gets one overlay PNG for every scored film. With ``check`` a film that the
    model was not made for (:mod:`carina.scoring.abstain`) is refused, whatever its score; ``sets`` adds
    the column of prediction sets. Raises ``BundleError`` when the bundle is not whole, ``OutputError``
    when a result cannot be written (before the first film where the place itself is wrong), and
    ``SourceError`` when a named path does not exist. A film that cannot be read ends nothing: it is
    counted and listed.
    """
    scorer = Scorer(bundle, threads=threads)
    skipped = Skipped()
    scored = refused = 0
    best: list[tuple[float, int, Listed]] = []  # a heap of at most `top`
    refusals: list[Refusal] = []
    with ExitStack() as stack:
        if heatmaps is not None:
            stack.enter_context(claimed(heatmaps, "--heatmaps"))
        table = stack.enter_context(ScoreTable(out, scorer.bundle.classes, sets)) if out is not None else None
        answers = scorer.score(paths, skipped, without=heatmaps)
        for item in checked(answers, Gate.of(scorer.bundle)) if check else answers:
            if table is not None:
                table.write(item)
            if isinstance(item, Prediction):
                scored += 1
                row = Listed(item.path, item.top_class, item.p_disease)
                heapq.heappush(best, (row.p_disease, -scored, row))
                if len(best) > top:
                    heapq.heappop(best)
                if heatmaps is not None:
                    heatmap.save(item, heatmaps)
            else:
                refused += 1
                if len(refusals) < max(top, 1):
                    refusals.append(item)
            if progress is not None:
                progress(Progress("films scored", scored + refused, None))
    listed = tuple(row for _, _, row in sorted(best, key=lambda entry: (-entry[0], -entry[1])))
    return ScoreSummary(scored, refused, skipped.total, listed, tuple(refusals))
