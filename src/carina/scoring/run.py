"""Score what the user named, and write what was asked for: the ``score`` verb without the printing.

One pass, whatever the number of films: rows are written as they come, and only the few films that
will be listed stay in memory.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from carina.errors import CarinaError
from carina.records import Prediction, Progress, Refusal
from carina.scoring.bundle import Bundle
from carina.scoring.decoding import Decoders
from carina.scoring.inputs import Input, Skipped, films, printable

if TYPE_CHECKING:
    from carina.scoring.probabilities import Posterior
    from carina.scoring.scorer import Scorer
    from carina.scoring.sets import Sets
    from carina.scoring.tables import ScoreTable


@dataclass(frozen=True, slots=True)
class Listed:
    """A scored film in the list that a person sees."""

    path: str
    top_class: str
    p_disease: float
    set: str = ""  # where sets were asked for
    posterior: float | None = None  # where a prevalence was named


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """What became of the films: counts, the most suspicious first, and the first refusals.

    ``skipped`` counts files that are no films and were not tried (notes, tables, hidden files). ``elsewhere``
    counts scored films whose heat map lies mostly outside the lung fields, where heat maps were drawn.
    """

    scored: int
    refused: int
    skipped: int
    top: tuple[Listed, ...]
    refusals: tuple[Refusal, ...]
    elsewhere: int = 0


def score_films(
    paths: Iterable[str | Path] | str | Path,
    bundle: Bundle | Path,
    *,
    out: Path | None = None,
    heatmaps: Path | None = None,
    threads: int | None = None,
    top: int = 50,
    resume: bool = False,
    check: bool = True,
    sets: Sets | None = None,
    posterior: Posterior | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreSummary:
    """Score films, folders, globs and zip archives with one bundle.

    ``out`` is a ``.csv``, ``.jsonl`` or ``.parquet`` table with one row a film, in the order named;
    ``heatmaps`` a folder that gets one overlay PNG for every scored film, and the table a column that says
    how much of each lies outside the lung fields. With ``check`` a film that the model was not made for
    (:mod:`carina.scoring.abstain`) is refused, whatever its score; ``sets`` adds the column of prediction
    sets, ``posterior`` that of the corrected probability at a prevalence. A run that was stopped leaves its
    rows beside ``out``; with ``resume`` they are kept, and only the other films are scored. Raises
    ``BundleError`` when the bundle is not whole, ``OutputError`` when a result cannot be written (before the
    first film where the place itself is wrong), and ``SourceError`` when a named path does not exist. A film
    that cannot be read ends nothing: it is counted and listed.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    skipped, tally = Skipped(), Tally(top, sets, posterior)
    with ExitStack() as stack:
        if heatmaps is not None:
            stack.enter_context(_claimed(heatmaps))
        drawn = heatmaps is not None
        begun = None if out is None else _table(out, bundle, sets, posterior, check, resume, drawn)
        table = None if begun is None else stack.enter_context(begun)
        for row in table.earlier() if table is not None else ():
            tally.add_earlier(row)
        decoders = stack.enter_context(Decoders(bundle.preparation))
        decoders.start(1, first=_only_film(named))  # it loads what it needs while we load ONNX Runtime
        total = stack.enter_context(_Total(named, heatmaps)) if progress is not None else None
        done = table.has if table is not None and tally.count else None
        scorer = _scorer(bundle, threads)
        answers = scorer.score(named, skipped, without=heatmaps, done=done, decoders=decoders)
        for item in _checked(answers, bundle) if check else answers:
            if heatmaps is not None and isinstance(item, Prediction):
                tally.elsewhere += _save(item, heatmaps)
            if table is not None:  # after the picture: what has a row is not done again
                table.write(item)
            tally.add(item)
            if progress is not None and total is not None:
                progress(Progress("films scored", tally.count, total.films))
    return tally.summary(skipped.total)


class Tally:
    """Counts, and the few films that a person will see; a heap of at most ``top``."""

    def __init__(self, top: int, sets: Sets | None = None, posterior: Posterior | None = None) -> None:
        self.scored = self.refused = self.elsewhere = 0
        self._top, self._sets, self._posterior = top, sets, posterior
        self._best: list[tuple[float, int, Listed]] = []
        self._refusals: list[Refusal] = []

    @property
    def count(self) -> int:
        """All films so far."""
        return self.scored + self.refused

    def add_earlier(self, row: dict[str, Any]) -> None:
        """A row of a run that was stopped."""
        if row["refused"]:
            code, _, _ = str(row["refused"]).partition(":")
            self.add_refusal(Refusal(str(row["path"]), code, str(row["refused"])))
        else:
            later, far = row.get("posterior"), row.get("heat_outside")
            self.elsewhere += far not in (None, "") and _far(float(far))
            self.add_row(
                Listed(
                    path=str(row["path"]),
                    top_class=str(row["class"]),
                    p_disease=float(row["p_disease"]),
                    set=str(row.get("set") or ""),
                    posterior=float(later) if later not in (None, "") else None,
                )
            )

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Rows of a table."""
        for row in rows:
            self.add_earlier(row)

    def add(self, item: Prediction | Refusal) -> None:
        """The answer for a film."""
        if isinstance(item, Refusal):
            self.add_refusal(item)
        else:
            held = "" if self._sets is None else " or ".join(self._sets.of(item.classes, item.probabilities))
            later = None if self._posterior is None else self._posterior.of(item.probabilities)
            self.add_row(Listed(item.path, item.top_class, item.p_disease, held, later))

    def add_row(self, row: Listed) -> None:
        self.scored += 1
        heapq.heappush(self._best, (row.p_disease, -self.scored, row))
        if len(self._best) > self._top:
            heapq.heappop(self._best)

    def add_refusal(self, refusal: Refusal) -> None:
        self.refused += 1
        if len(self._refusals) < max(self._top, 1):
            self._refusals.append(refusal)

    def summary(self, skipped: int) -> ScoreSummary:
        """What became of all of them; ``skipped`` files were no films."""
        best = sorted(self._best, key=lambda entry: (-entry[0], -entry[1]))
        listed = tuple(row for _, _, row in best)
        refusals = tuple(self._refusals)
        return ScoreSummary(self.scored, self.refused, skipped, listed, refusals, self.elsewhere)


class _Total:
    """How many films there are, counted beside the scoring; ``None`` until that is known."""

    def __init__(self, named: list[str | Path], without: Path | None) -> None:
        self.films: int | None = None
        self._given_up = False
        self._named, self._without = named, without

    def __enter__(self) -> Self:
        threading.Thread(target=self._count, name="carina-count", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._given_up = True

    def _count(self) -> None:
        count = 0
        with suppress(CarinaError, OSError):  # who reads the films will say it
            for _ in films(self._named, without=self._without, contents=False):
                count += 1
                if self._given_up:
                    return
            self.films = count


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


def _checked(answers: Iterator[Prediction | Refusal], bundle: Bundle) -> Iterator[Prediction | Refusal]:
    from carina.scoring.abstain import Gate, checked

    return checked(answers, Gate.of(bundle))


def _table(
    out: Path,
    bundle: Bundle,
    sets: Sets | None,
    posterior: Posterior | None,
    check: bool,
    resume: bool,
    heat: bool,
) -> ScoreTable:
    from carina.scoring.tables import ScoreTable

    made_by = f"{bundle.model_sha256} check={check} sets={sets}"  # rows of another making never meet these
    if posterior is not None:
        made_by = f"{made_by} posterior={posterior}"
    return ScoreTable(
        out, bundle.classes, sets, posterior=posterior, heat=heat, made_by=made_by, resume=resume
    )


def _claimed(folder: Path) -> AbstractContextManager[Path]:
    from carina.folders import claimed

    return claimed(folder, "--heatmaps")


def _save(prediction: Prediction, folder: Path) -> bool:
    """Draw the heat map; whether it lies mostly where no lung is."""
    from carina.scoring import heat, heatmap

    heatmap.save(prediction, folder)
    found = heat.outside(prediction.cam[prediction.classes.index(prediction.top_class)])
    return found is not None and _far(found)


def _far(outside: float) -> bool:
    """Whether so much of a heat map outside the lung fields wants a second look."""
    from carina.scoring.heat import BOUND

    return outside > BOUND
