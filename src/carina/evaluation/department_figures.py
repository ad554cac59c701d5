"""The charts of a simulated department, in the style of :mod:`carina.evaluation.figures`."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from carina.evaluation.department import Department
from carina.evaluation.figures import BLUE, FAINT, INK, STYLE, VERMILION, WIDTH, svg_uri
from carina.evaluation.simulate import ANY, Figure, Policy, Simulation, row


def waits_by_policy(simulation: Simulation) -> str:
    """What each policy gives and takes, as points with their 95 % intervals, one panel a figure.

    The advised policy is filled.
    """
    policies = list(simulation.outcomes)
    rows = [simulation.outcomes[policy] for policy in policies]
    flagged, missed = ([row(each, ANY, missed=missed) for each in rows] for missed in (False, True))
    panels = (
        ("Flagged disease: mean wait", [each.mean for each in flagged], BLUE, "o"),
        ("Missed disease: mean wait", [each.mean for each in missed], VERMILION, "s"),
        ("Missed disease: longest wait", [each.longest for each in missed], VERMILION, "D"),
    )
    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=(WIDTH, 1.1 + 0.36 * len(policies)), layout="constrained")
        for axes, (title, figures, colour, marker) in zip(
            drawing.subplots(1, 3, sharey=True), panels, strict=True
        ):
            for place, (policy, figure) in enumerate(zip(policies, figures, strict=True)):
                _point(axes, place, figure, colour, marker, filled=policy == simulation.recommended)
            axes.set(title=title, xlabel="minutes", ylim=(len(policies) - 0.4, -0.6))
            axes.set_xlim(left=0)
            axes.set_yticks(range(len(policies)), [_short(policy) for policy in policies])
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        return svg_uri(drawing)


def a_day(department: Department) -> str:
    """Films that arrive in each hour, and how many the readers on duty can read in it."""
    hours = np.arange(24)
    capacity = 60.0 * np.array(department.readers) / department.reading.mean_minutes
    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=(WIDTH, 2.6), layout="constrained")
        axes = drawing.subplots()
        axes.bar(hours + 0.5, department.arrivals_per_hour, width=0.86, color=FAINT, edgecolor=BLUE)
        axes.stairs(
            capacity, np.arange(25), color=VERMILION, linewidth=1.8, label="can be read", baseline=None
        )
        axes.plot([], [], "s", color=FAINT, markeredgecolor=BLUE, markersize=8, label="arrive")
        axes.set(xlim=(0, 24), xlabel="hour of the day", ylabel="films an hour", xticks=range(0, 25, 3))
        axes.set_ylim(bottom=0)
        drawing.legend(loc="outside upper left", ncols=2)
        return svg_uri(drawing)


def _point(axes: Axes, place: int, figure: Figure, colour: str, marker: str, *, filled: bool) -> None:
    if figure.interval is None:
        axes.annotate(
            "none was met", (0.02, place), xycoords=("axes fraction", "data"), va="center", color=INK,
            fontsize=8,
        )  # fmt: skip
        return
    value, low, high = figure.interval
    axes.plot([max(0.0, low), high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot(
        value, place, marker, markersize=6.5, markerfacecolor=colour if filled else "white",
        markeredgecolor=colour, markeredgewidth=1.8, zorder=3,
    )  # fmt: skip


def _short(policy: Policy) -> str:
    return policy.name.replace(", overdue", ",\noverdue")
