"""Do films and scores still look like those the model was taken on with?

The population stability index (``carina.evaluation.stability``) of each number that is kept with a
prediction: the score against the films the operating point was shown on, where the bundle remembers them,
and everything else against the first weeks of the model on duty. Needs no labels; it sees symptoms, and
nothing seen is no proof that all is well.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import nan

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from carina.evaluation import stability
from carina.scoring.triage import Outcome
from carina.serving import monitoring
from carina.serving.schema import Model, PredictionRow
from carina.serving.settings import Settings

SCORE, REFUSED = "p_disease", "not analysed"
FIRST = timedelta(days=28)  # the reference, where the bundle has none
WINDOW = timedelta(days=7)  # what is held against it
FEWEST = 200  # films on each side: with fewer, luck alone comes near the alarm
MOST = 5000  # newest films that are looked at, on each side
_TWICE = 2.0  # share of films not analysed, against the first weeks


@dataclass(frozen=True, slots=True)
class Drift:
    """How far one number has moved. ``index`` is None where there are too few films on either side.

    ``borders`` (k,) and ``then``, ``now`` (k + 1,) shares are what a plot shows.
    """

    name: str
    reference: str  # "the bundle" or "first weeks"
    index: float | None
    films_then: int
    films_now: int
    borders: tuple[float, ...] = ()
    then: tuple[float, ...] = ()
    now: tuple[float, ...] = ()

    @property
    def alarm(self) -> bool:
        """Large enough to matter: an index above 0.2; of films not analysed, twice the share."""
        return self.index is not None and self.index > (_TWICE if self.name == REFUSED else stability.SHIFT)

    @property
    def says(self) -> str:
        """One line for people."""
        if self.index is None:
            fewer = f"{self.films_then:,} then and {self.films_now:,} now"
            return f"{self.name}: too few films to tell ({fewer}; {FEWEST} are needed)"
        if self.name == REFUSED:
            return (
                f"not analysed: {self.now[0]:.1%} of {self.films_now:,} films, {self.then[0]:.1%} of "
                f"{self.films_then:,} in the {self.reference}{'  << ALARM' if self.alarm else ''}"
            )
        mark = "  << ALARM" if self.alarm else ""
        return (
            f"{self.name}: index {self.index:.2f} against {self.reference} ({self.films_now:,} films, "
            f"{self.films_then:,} then){mark}"
        )


def measure(session: Session, settings: Settings, now: datetime, window: timedelta = WINDOW) -> list[Drift]:
    """The drift of scores, inputs and of the share that is not analysed; empty without a model on duty."""
    model = monitoring.on_duty(session)
    if model is None:
        return []
    first = _films(session, model, model.first_on_duty, model.first_on_duty + FIRST)
    latest = _films(session, model, max(now - window, model.first_on_duty), now, newest=True)
    remembered = _remembered(model, settings)
    then, recent = _known(first.scores[~first.refused]), _known(latest.scores[~latest.refused])
    named = ("the bundle", remembered) if remembered is not None else ("first weeks", then)
    found = [_shift(SCORE, *named, recent)]
    found += [
        _shift(name, "first weeks", _known(values), _known(latest.inputs.get(name, _NONE)))
        for name, values in sorted(first.inputs.items(), key=lambda item: _natural(item[0]))
    ]
    return [*found, _refused(first.refused, latest.refused)]


_NONE = np.empty(0)


@dataclass(frozen=True, slots=True)
class _Films:
    """N films as columns: ten thousand rows as objects would be megabytes, every few minutes."""

    scores: NDArray[np.float64]  # (N,), NaN where there is none
    refused: NDArray[np.bool_]  # (N,): not analysed
    inputs: dict[str, NDArray[np.float64]]  # (N,) each, NaN where it was not kept


def _films(
    session: Session, model: Model, since: datetime, until: datetime, *, newest: bool = False
) -> _Films:
    rows = select(PredictionRow.p_disease, PredictionRow.outcome, PredictionRow.inputs).where(
        PredictionRow.model_id == model.id, PredictionRow.at >= since, PredictionRow.at <= until
    )
    ordered = rows.order_by(PredictionRow.id.desc() if newest else PredictionRow.id).limit(MOST)
    scores, refused = array("d"), array("b")
    inputs: dict[str, array[float]] = {}
    for number, (score, outcome, kept) in enumerate(
        session.execute(ordered.execution_options(yield_per=500))
    ):
        scores.append(nan if score is None else score)
        refused.append(outcome == str(Outcome.NOT_ANALYSED))
        for name in (kept or {}).keys() - inputs.keys():
            inputs[name] = array("d", [nan]) * number
        for name, column in inputs.items():
            value = (kept or {}).get(name)
            column.append(float(value) if isinstance(value, int | float) else nan)
    columns = {name: np.array(column) for name, column in inputs.items()}
    return _Films(np.array(scores), np.array(refused, np.bool_), columns)


def _natural(name: str) -> tuple[str, int]:
    """``p5`` before ``p25``: percentiles in the order of their numbers."""
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :] or 0)


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known: NDArray[np.float64] = values[np.isfinite(values)]
    return known


def _remembered(model: Model, settings: Settings) -> NDArray[np.float64] | None:
    """The scores of the films the site's operating points were shown on."""
    sites = model.manifest.get("sections", {}).get("operating_points", {})
    scores = (sites.get(settings.site or "default", {}).get("watch") or {}).get("scores") or []
    return np.array(scores, dtype=np.float64) if len(scores) >= FEWEST else None


def _shift(name: str, reference: str, then: NDArray[np.float64], now: NDArray[np.float64]) -> Drift:
    if min(len(then), len(now)) < FEWEST:
        return Drift(name, reference, None, len(then), len(now))
    borders = stability.edges(then)
    return Drift(
        name=name,
        reference=reference,
        index=stability.index(then, now),
        films_then=len(then),
        films_now=len(now),
        borders=tuple(borders.tolist()),
        then=tuple(stability.shares(then, borders).tolist()),
        now=tuple(stability.shares(now, borders).tolist()),
    )


def _refused(first: NDArray[np.bool_], latest: NDArray[np.bool_]) -> Drift:
    """The ratio of the shares; half a film is added to each, so that none is 0."""
    if min(len(first), len(latest)) < FEWEST:
        return Drift(REFUSED, "first weeks", None, len(first), len(latest))
    then, now = ((float(each.sum()) + 0.5) / (len(each) + 1) for each in (first, latest))
    return Drift(REFUSED, "first weeks", now / then, len(first), len(latest), (), (then,), (now,))
