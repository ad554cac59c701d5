"""Compare two models on the same films: is the difference more than chance?

The verdict on the films stands with the figures: where their source tells the label, the better model may
be the one that reads it better.

Takes what an evaluation wrote (``predictions.parquet`` beside ``metrics.json``), or a run folder, whose
bundle is then asked about the films of the catalogue it was trained from. Only films that both have
answered are compared; how many that leaves out is said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from carina.data.catalogue import Catalogue
from carina.data.confounding.audit import verdict_on
from carina.data.confounding.verdict import Grade, Verdict
from carina.errors import DataError, MissingExtra, RunError
from carina.evaluation.answers import Tell, cached
from carina.evaluation.wording import DASH, counted, listed
from carina.scoring.bundle import Bundle
from carina.scoring.scorer import Scorer

try:
    from carina.evaluation.paired import Difference, area_difference, share_differences
    from carina.evaluation.selection import ask, truth
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("scipy", "sklearn"):
        raise
    raise MissingExtra("carina compare", "report") from error

ACCURACY, RECALL, SPECIFICITY, AREA = (
    "Accuracy",
    "Recall of disease",
    "Specificity",
    "Area under ROC, disease",
)


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answers: the table of ``predictions.parquet``, and which classes are healthy.

    ``verdict`` is the one on the films: no figure of theirs is said without it.
    """

    name: str
    table: pa.Table
    healthy: frozenset[str]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second model less the first, on ``films`` films of ``patients`` patients."""

    first: str
    second: str
    films: int
    patients: int
    left_out: int  # films that only one of the two has answered
    differences: tuple[Difference, ...]
    verdict: Verdict  # on the films; the graver one where two evaluations hold two

    @property
    def sentence(self) -> str:
        """What to make of it, in one sentence that quotes no more than the intervals carry."""
        better = [each.name.lower() for each in self.differences if each.is_more_than_chance and _up(each)]
        worse = [each.name.lower() for each in self.differences if each.is_more_than_chance and not _up(each)]
        sides = [
            f"{word} in {listed(names)}" for word, names in (("better", better), ("worse", worse)) if names
        ]
        if not sides:
            return (
                f"No difference that chance could not make on {counted(self.films, 'film')} of "
                f"{counted(self.patients, 'patient')}: every interval holds 0."
            )
        rest = [each.name.lower() for each in self.differences if not each.is_more_than_chance]
        tail = f"; in {listed(rest)} chance could make the difference" if rest else ""
        return f"{self.second} is {' and '.join(sides)} than {self.first}, by more than chance{tail}."

    def lines(self) -> tuple[str, ...]:
        """What a terminal shows: the figures, the sentence, and whether they can be believed."""
        left = f"; {counted(self.left_out, 'film')} left out" if self.left_out else ""
        return (
            (
                f"{self.second} less {self.first}: {counted(self.films, 'film')} of "
                f"{counted(self.patients, 'patient')} that both have answered{left}"
            ),
            *(f"{each.name:<24} {said(each)}" for each in self.differences),
            self.sentence,
            f"Can this be believed? {self.verdict.sentence}",
        )


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    split: str | None = None,
    seed: int = 0,
    progress: Tell | None = None,
) -> Comparison:
    """Compare two run folders, two evaluation folders, or one of each.

    ``split`` chooses the films a run's bundle is asked about (default: those of the other one's
    evaluation, else the test split, else validation) and must agree with what was evaluated.
    Raises RunError for a folder that is neither, DataError where the two cannot be compared.
    """
    places = [Path(each) for each in (first, second)]
    asked = split or next(filter(None, map(_evaluated_split, places)), None)
    one, other = (_answers(place, asked, progress) for place in places)
    if one.name == other.name:
        one, other = (
            replace(each, name=str(place)) for place, each in zip(places, (one, other), strict=True)
        )
    return compared(one, other, seed=seed)


def compared(first: Answers, second: Answers, *, seed: int = 0) -> Comparison:
    """The differences between two models' answers to the same films. Raises DataError."""
    if first.healthy != second.healthy:
        raise DataError(
            f"{first.name} calls {listed(sorted(first.healthy)) or 'nothing'} healthy, {second.name} "
            f"{listed(sorted(second.healthy)) or 'nothing'}; compare models that ask the same question"
        )
    places = _shared(first, second)
    one, other = (each.table.take(pa.array(rows)) for each, rows in zip((first, second), places, strict=True))
    actual, named = one["class"].to_pylist(), other["class"].to_pylist()
    torn = [row for row, (mine, theirs) in enumerate(zip(actual, named, strict=True)) if mine != theirs]
    if torn:
        raise DataError(
            f"{one['path'][torn[0]].as_py()}: {actual[torn[0]]!r} for {first.name}, {named[torn[0]]!r} for "
            f"{second.name}, as are {len(torn)} films in all; compare evaluations with the same label map"
        )
    patients = np.array(one["patient"].to_pylist())
    ill = np.array([name not in first.healthy for name in actual])
    right = _told(one, actual), _told(other, actual)
    flagged = _flagged(one, first.healthy), _flagged(other, first.healthy)
    found = share_differences(
        patients,
        [
            (ACCURACY, right[0], right[1], np.ones(len(ill), dtype=np.bool_)),
            (RECALL, flagged[0], flagged[1], ill),
            (SPECIFICITY, ~flagged[0], ~flagged[1], ~ill),
        ],
        seed=seed,
    )
    scores = [np.array(table["p_disease"].to_pylist(), dtype=np.float64) for table in (one, other)]
    found.append(area_difference(AREA, patients, scores[0], scores[1], ill, seed=seed))
    everything = max(first.table.num_rows, second.table.num_rows)
    return Comparison(
        first.name,
        second.name,
        films=len(ill),
        patients=len(np.unique(patients)),
        left_out=everything - len(ill),
        differences=tuple(found),
        verdict=min((first.verdict, second.verdict), key=lambda each: list(Grade).index(each.grade)),
    )


def said(difference: Difference) -> str:
    """``+3.1 points (95 % interval +1.2 to +5.0; 88.4 % → 91.5 %): more than chance``."""
    if difference.value is None or difference.first is None or difference.second is None:
        return f"not measured: {difference.why}"
    if difference.low is None or difference.high is None:
        return DASH
    chance = "more than chance" if difference.is_more_than_chance else "chance could make it"
    if difference.name == AREA:
        figures = f"{difference.first:.3f} → {difference.second:.3f}"
        ends = f"{difference.low:+.3f} to {difference.high:+.3f}"
        return f"{difference.value:+.3f} (95 % interval {ends}; {figures}): {chance}"
    figures = f"{100 * difference.first:.1f} % → {100 * difference.second:.1f} %"
    ends = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    return f"{100 * difference.value:+.1f} points (95 % interval {ends}; {figures}): {chance}"


def evaluated(folder: Path, split: str | None = None) -> Answers:
    """What an evaluation wrote into a folder. Raises RunError where it is incomplete or of another split."""
    try:
        about = json.loads((folder / "metrics.json").read_bytes())
        table = pq.read_table(folder / "predictions.parquet", use_threads=False)
        name, there = str(about["bundle"]["name"]), str(about["split"])
        healthy = frozenset(map(str, about["metrics"]["healthy"]))
        verdict = Verdict.from_dict(about["verdict"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder}: not a whole evaluation ({error}); write it again with `carina evaluate`"
        ) from error
    if split is not None and split != there:
        raise DataError(
            f"{folder}: holds the films of split {there}, not {split}; evaluate the bundle on {split}"
        )
    return Answers(name, table, healthy, verdict)


def _evaluated_split(folder: Path) -> str | None:
    """The split of an evaluation folder; None for anything else, which is examined later."""
    try:
        return str(json.loads((folder / "metrics.json").read_bytes())["split"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _answers(folder: Path, split: str | None, progress: Tell | None) -> Answers:
    if (folder / "predictions.parquet").is_file():
        return evaluated(folder, split)
    if not (folder / "run.json").is_file():
        raise RunError(
            f"{folder}: neither a run folder nor an evaluation; name what `carina train --out` or "
            "`carina evaluate --out` wrote"
        )
    if not (folder / "bundle" / "bundle.json").is_file():
        raise RunError(f"{folder}: the run is not finished; give `carina train` the same command again")
    try:
        root = json.loads((folder / "run.json").read_bytes())["path"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: run.json cannot be read ({error}); evaluate the bundle instead") from error
    return _scored(folder, Bundle.open(folder / "bundle"), Catalogue.open(Path(root)), split, progress)


def _scored(
    folder: Path, bundle: Bundle, catalogue: Catalogue, split: str | None, progress: Tell | None
) -> Answers:
    """The bundle's answers to the films of its own catalogue."""
    there = split or ("test" if "test" in catalogue.films["split"].to_pylist() else "valid")
    films = catalogue.table(there)
    scorer = Scorer(bundle)
    cache = cached(catalogue, bundle.preparation)
    predictions = ask(films, truth(films, bundle, catalogue), scorer, cache, progress)
    return Answers(folder.name or str(folder), predictions.table(), bundle.healthy, verdict_on(catalogue))


def _shared(first: Answers, second: Answers) -> tuple[list[int], list[int]]:
    """The rows of the films that both have answered, in the order of image_id. Raises DataError."""
    rows = [
        {
            film: row
            for row, (film, refused) in enumerate(
                zip(each.table["image_id"].to_pylist(), each.table["refused"].to_pylist(), strict=True)
            )
            if refused is None
        }
        for each in (first, second)
    ]
    both = sorted(rows[0].keys() & rows[1].keys())
    if not both:
        raise DataError(
            f"{first.name} and {second.name} have no film in common; evaluate both on the same catalogue "
            "and split"
        )
    return [rows[0][film] for film in both], [rows[1][film] for film in both]


def _told(table: pa.Table, actual: Sequence[str]) -> NDArray[np.bool_]:
    """Which films were called by their own name. (N,)"""
    return np.array(
        [told == name for told, name in zip(table["predicted"].to_pylist(), actual, strict=True)],
        dtype=np.bool_,
    )


def _flagged(table: pa.Table, healthy: frozenset[str]) -> NDArray[np.bool_]:
    """Which films were called any disease. (N,)"""
    return np.array([told not in healthy for told in table["predicted"].to_pylist()], dtype=np.bool_)


def _up(difference: Difference) -> bool:
    return difference.value is not None and difference.value > 0
