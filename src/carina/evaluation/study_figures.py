"""The charts of a study: the rows side by side, and the learning rate of each.

In the style of :mod:`carina.evaluation.figures`.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from carina.evaluation.bootstrap import Rate
from carina.evaluation.figures import BLUE, INK, MUTED, STYLE, VERMILION, WIDTH, svg_uri
from carina.evaluation.study_table import RatePlot, RowResult, worst_class


def rows_side_by_side(rows: Sequence[RowResult]) -> str:
    """Accuracy, recall of disease and worst-class recall of each row, with 95 % intervals.

    Accuracy is that at the study's mix, if it has one.

    What was reported for a row stands as a cross beside our accuracy.
    """
    worst = [worst_class(row.found.metrics) for row in rows]
    mixed = any(row.is_mixed for row in rows)
    panels: list[tuple[str, list[Rate | None], str]] = [
        ("Accuracy at the mix" if mixed else "Accuracy", [row.accuracy for row in rows], "s"),
        ("Recall of disease", [row.found.metrics.detection.sensitivity for row in rows], "o"),
        ("Recall of the worst class", [None if each is None else each.recall for each in worst], "D"),
    ]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.36 * len(rows)), layout="constrained")
        for axes, (title, rates, marker) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            for place, rate in enumerate(rates):
                _point(axes, place, rate, marker)
            axes.set(title=title, ylim=(len(rows) - 0.4, -0.6))
            axes.set_yticks(range(len(rows)), [f"row {row.name}" for row in rows])
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        _reported(figure.axes[0], rows)
        return svg_uri(figure)


def rate_plot(rates: RatePlot, borders: Sequence[int]) -> str:
    """The learning rate of the first and of the last layers; ``borders`` are the epochs of each stage."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 2, 2.4), layout="constrained")
        axes = figure.subplots()
        epochs, first, last = (np.array(each) for each in (rates.epochs, rates.first, rates.last))
        axes.plot(epochs, last, color=BLUE, label="last layers")
        if not np.allclose(first, last):
            axes.plot(epochs, first, "--", color=VERMILION, label="first layers")
            axes.legend(loc="lower left")
        for border in np.cumsum(borders)[:-1]:
            axes.axvline(float(border), color=MUTED, linestyle=":", linewidth=1)
        axes.set(yscale="log", xlabel="epoch", title="Learning rate")
        top = float(max(last.max(), first.max()))
        axes.set_ylim(top / 2e5, top * 2)
        return svg_uri(figure)


def _point(axes: Axes, place: int, rate: Rate | None, marker: str) -> None:
    if rate is None or rate.value is None or rate.low is None or rate.high is None:
        axes.annotate(
            "not measured", (0.02, place), xycoords=("axes fraction", "data"), va="center", color=MUTED,
            fontsize=8,
        )  # fmt: skip
        return
    axes.plot([rate.low, rate.high], [place, place], color=BLUE, linewidth=2.2, solid_capstyle="butt")
    axes.plot(
        rate.value, place, marker, markersize=6, markerfacecolor="white", markeredgecolor=BLUE,
        markeredgewidth=1.8, zorder=3,
    )  # fmt: skip


def _reported(axes: Axes, rows: Sequence[RowResult]) -> None:
    """A cross where somebody stated an accuracy."""
    stated = [
        (row.reported["accuracy"], place) for place, row in enumerate(rows) if "accuracy" in row.reported
    ]
    if not stated:
        return
    values, places = zip(*stated, strict=True)
    axes.plot(
        values, places, "x", color=VERMILION, markersize=7, markeredgewidth=2, label="reported", zorder=4
    )
    axes.legend(loc="best", labelcolor=INK)
