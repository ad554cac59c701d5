"""The charts of what may be claimed, as SVG, in the style of :mod:`carina.evaluation.figures`."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from carina.evaluation.figures import BLUE, INK, MUTED, STYLE, VERMILION, WIDTH, svg

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
