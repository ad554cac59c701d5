"""The charts of what may be claimed, as SVG, in the style of :mod:`carina.evaluation.figures`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from carina.evaluation.calibration import Reliability
from carina.evaluation.curves import PREVALENCES, Curve
from carina.evaluation.figures import BLUE, INK, MUTED, STYLE, VERMILION, WIDTH, svg, svg_uri
from carina.evaluation.planner import lower_limit, needed

_LINES = ((BLUE, "-"), (VERMILION, "--"), (INK, "-."), (MUTED, ":"))  # told apart without colour
_NAIVE, _REAL = (VERMILION, "--"), ((BLUE, "-"), (INK, "-."), (MUTED, ":"), (BLUE, (0, (5, 1, 1, 1))))


def posterior_curves(curves: Sequence[Curve], at: float | None = None) -> bytes:
    """The probability of disease over prevalence, with the interval of each curve that has one; SVG.

    ``at`` is the prevalence of the question, drawn as an upright line.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 0.66, 3.8), layout="constrained")
        axes = figure.subplots()
        for curve, (colour, line) in zip(curves, _styles(curves), strict=True):
            if curve.low is not None and curve.high is not None:
                axes.fill_between(PREVALENCES, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(PREVALENCES, curve.values, color=colour, linestyle=line, label=curve.name)
        if at is not None:
            axes.axvline(at, color=MUTED, linewidth=0.9, linestyle=":")
        axes.set(xscale="log", xlabel="prevalence", ylabel="probability of disease", ylim=(0, 1))
        axes.set_xlim(PREVALENCES[0], PREVALENCES[-1])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        figure.legend(loc="outside upper left", ncols=2)
        return svg(figure)


def limits_by_positives(
    misses: Sequence[int], sensitivity: float, confidence: float, positives: int | None = None
) -> bytes:
    """What so many positives show, one curve for each number of misses; SVG.

    A ring marks where a curve reaches ``sensitivity``; ``positives`` is an upright line.
    """
    shown = sorted(set(misses))[: len(_LINES)]
    needs = [needed(sensitivity, confidence, each) for each in shown]
    most = max(2.5 * max(needs), 1.5 * (positives or 0))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 0.66, 3.8), layout="constrained")
        axes = figure.subplots()
        for (colour, line), missed, need in zip(_LINES, shown, needs, strict=False):
            counts = np.unique(np.geomspace(max(10, 2 * missed), most, 160).round().astype(np.int64))
            limits = [lower_limit(int(count) - missed, int(count), confidence) for count in counts]
            axes.plot(counts, limits, color=colour, linestyle=line, label=f"{missed} missed")
            axes.plot(need, sensitivity, "o", color=colour, markerfacecolor="white", markersize=7, zorder=3)
        axes.axhline(sensitivity, color=MUTED, linewidth=0.9, linestyle=":")
        if positives is not None:
            axes.axvline(positives, color=MUTED, linewidth=0.9, linestyle=":")
        axes.set(xscale="log", xlabel="positives (diseased people)", ylabel="sensitivity shown, at least")
        axes.set_ylim(max(0.0, 1 - 12 * (1 - sensitivity)), 1)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        figure.legend(loc="outside upper left", ncols=2)
        return svg(figure)


def reliability_diagram(before: Reliability, after: Reliability | None) -> str:
    """Share of diseased films over what was said of them, before and after the correction; a data URI."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 0.62, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=":", label="says what is")
        series = [("as the network says", before, BLUE, "o", -0.004)]
        if after is not None:
            series.append(("corrected", after, VERMILION, "s", 0.004))
        for name, found, colour, marker, aside in series:
            bins = [each for each in found.bins if each.share.value is not None]
            said = np.array([each.said for each in bins]) + aside
            share = np.array([each.share.value for each in bins])
            ends = np.array([[each.share.low or 0.0, each.share.high or 0.0] for each in bins]).T
            axes.errorbar(
                said, share, yerr=np.abs(ends - share), color=colour, marker=marker, markersize=5,
                linewidth=1.2, elinewidth=0.9, capsize=2, label=f"{name} (error {found.ece:.3f})",
            )  # fmt: skip
        axes.set(xlabel="p_disease, mean of the bin", ylabel="diseased films in the bin", xlim=(-0.02, 1.02))
        axes.set_ylim(-0.02, 1.02)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(loc="upper left")
        return svg_uri(figure)


def _styles(curves: Sequence[Curve]) -> list[tuple[str, Any]]:
    """Colour and line of each curve; what is naive is dashed, and nothing else."""
    real = iter(_REAL * len(curves))
    return [_NAIVE if curve.naive else next(real) for curve in curves]
