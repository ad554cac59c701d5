"""The charts of what may be claimed, as SVG, in the style of :mod:`carina.evaluation.figures`."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from carina.evaluation.calibration import Reliability
from carina.evaluation.figures import BLUE, INK, MUTED, STYLE, VERMILION, WIDTH, svg, svg_uri

Numbers = NDArray[np.float64]

_LINES = ((BLUE, "-"), (VERMILION, "--"), (INK, "-."), (MUTED, ":"))  # told apart without colour


def posterior_curves(prevalences: Numbers, curves: Sequence[tuple[str, Numbers, bool]], at: float) -> bytes:
    """The probability of disease over prevalence, one curve (name, (n,) values, dashed) each; SVG.

    ``at`` is the prevalence of the question, drawn as an upright line.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 0.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for number, (name, values, dashed) in enumerate(curves):
            colour, line = _LINES[number % len(_LINES)]
            axes.plot(prevalences, values, color=colour, linestyle="--" if dashed else line, label=name)
        axes.axvline(at, color=MUTED, linewidth=0.9, linestyle=":")
        axes.set(xscale="log", xlabel="prevalence", ylabel="probability of disease", ylim=(0, 1))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(loc="best")
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
