"""The charts of scores: those of a site beside new ones, those of one model against those of another."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from carina.evaluation.figures import BLUE, INK, MUTED, STYLE, VERMILION, WIDTH, svg_uri
from carina.evaluation.people import Scores
from carina.scoring.operating import Watch

_MOST = 1500  # films of a scatter: more cannot be told apart, and weigh

Marks = Sequence[tuple[str, float]]  # (name, threshold)


def scores_beside(watch: Watch, scores: Scores, ill: NDArray[np.bool_] | None, marks: Marks) -> str:
    """The share of films at or below each score, at the site and now; (N,) scores, thresholds upright.

    With labels ``ill`` (N,) diseased and other films stand apart, as mixtures may differ where films do not.
    """
    panels = [("All films", np.array(watch.scores), scores)]
    if ill is not None and watch.ill and watch.well:
        panels = [
            ("Diseased films", np.array(watch.ill), scores[ill]),
            ("Other films", np.array(watch.well), scores[~ill]),
        ]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * (0.6 if len(panels) == 1 else 1.0), 3.6), layout="constrained")
        cells = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, then, now) in zip(cells, panels, strict=True):
            _steps(axes, then, color=MUTED, linestyle="--", label="where the thresholds were chosen")
            _steps(axes, now, color=BLUE, linestyle="-", label="these films")
            _upright(axes, marks)
            axes.set(title=title, xlabel="p_disease", ylabel="films at or below")
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        figure.legend(*cells[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return svg_uri(figure)


def old_against_new(
    then: Scores, now: Scores, ill: NDArray[np.bool_], old: float, new: float | None, mapped: float
) -> str:
    """Each film by its old and its new score, all (N,); with the thresholds of both models.

    What lies in the upper left is newly flagged, what lies in the lower right no longer.
    """
    keep = np.unique(np.linspace(0, len(then) - 1, min(len(then), _MOST)).round().astype(np.int64))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 0.62, 4.9), layout="constrained")
        axes = figure.subplots()
        for side, name, colour, marker in (
            (~ill, "other films", MUTED, "o"),
            (ill, "diseased films", VERMILION, "^"),
        ):
            rows = keep[side[keep]]
            axes.plot(
                then[rows], now[rows], marker, color=colour, markersize=4, alpha=0.55, markeredgewidth=0,
                label=name,
            )  # fmt: skip
        axes.axvline(old, color=INK, linewidth=1.0, label="old threshold")
        if new is not None:
            axes.axhline(new, color=BLUE, linewidth=1.4, label="shown anew")
        axes.axhline(mapped, color=BLUE, linewidth=1.0, linestyle=":", label="mapped: the same share below")
        axes.set(xlabel="p_disease by the old model", ylabel="p_disease by the new model")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        figure.legend(loc="outside upper left", ncols=2)
        return svg_uri(figure)


def _steps(axes: Axes, values: Scores, **style: str) -> None:
    """The empirical distribution function, (N,) values in [0, 1]."""
    at = np.concatenate([[0.0], np.sort(values), [1.0]])
    share = np.concatenate([[0.0], np.arange(1, len(values) + 1) / max(1, len(values)), [1.0]])
    keep = np.unique(np.linspace(0, len(at) - 1, min(len(at), 400)).round().astype(np.int64))
    axes.step(at[keep], share[keep], where="post", linewidth=1.6, color=style["color"],
              linestyle=style["linestyle"], label=style["label"])  # fmt: skip


def _upright(axes: Axes, marks: Marks) -> None:
    for place, (name, threshold) in enumerate(marks):
        axes.axvline(threshold, color=VERMILION, linewidth=0.9, linestyle=":",
                     label="thresholds" if not place else None)  # fmt: skip
        axes.annotate(
            name, (threshold, 1.0), xycoords=("data", "data"), xytext=(2, -9 - 9 * (place % 4)),
            textcoords="offset points", fontsize=7, color=VERMILION,
        )  # fmt: skip
