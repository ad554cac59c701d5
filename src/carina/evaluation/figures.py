"""The charts of a report, each as one string that can stand in an ``<img src>``.

Charts are SVG, so that they print sharply. One style for all: dark on white, told apart by place,
mark and line style before colour (Okabe & Ito's colours, which the colour-blind can tell apart), so
that a gray print-out says the same. matplotlib's object interface only: no global figure, no display.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from carina.evaluation.bootstrap import Area, Rate
from carina.evaluation.metrics import Curve, Detection, Metrics
from carina.evaluation.wording import area_value, interval, percent

INK, MUTED, FAINT = "#1b1f24", "#57606a", "#d5dae0"
BLUE, VERMILION = "#0072b2", "#d55e00"  # Okabe & Ito 2008
_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#cfe1f0", "#0b4f80"])
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "carina",  # the same figures give the same bytes
}
WIDTH = 9.2  # inches at 72 units each: the width of the page's text
_POINTS = 400  # a printed curve cannot show more


def picture(pixels: NDArray[np.uint8]) -> str:
    """A film (S, S) or a coloured picture (H, W, 3), uint8, as a JPEG data URI."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def detection_curves(curve: Curve, area: Area, rules: Sequence[Detection]) -> str:
    """ROC and precision-recall of healthy against diseased, with the rules' own points marked."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _roc(left, curve, f"ROC (area {_area_text(area)})")
        _precision_recall(right, curve, "Precision and recall")
        for detection, marker in zip(rules, "osD^", strict=False):
            found, spared = detection.sensitivity.value, detection.specificity.value
            if found is None or spared is None:
                continue
            alarms = (1 - spared) * (1 - curve.prevalence)
            hits = found * curve.prevalence
            style: dict[str, Any] = {
                "marker": marker, "markersize": 8, "linestyle": "none", "zorder": 3, "clip_on": False,
                "markerfacecolor": "white", "markeredgecolor": VERMILION, "markeredgewidth": 2,
            }  # fmt: skip
            left.plot(1 - spared, found, label=detection.rule, **style)
            right.plot(found, hits / (hits + alarms) if hits + alarms else np.nan, **style)
        left.legend(loc="lower right", title="The rules of this page", title_fontsize=8.5)
        return svg_uri(figure)


def class_curves(
    names: Sequence[str], curves: Sequence[Curve | None], areas: Sequence[Area], kind: str
) -> str:
    """One small chart a class, ``kind`` "roc" or "precision": curves in one frame hide each other."""
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9 * rows + 0.2), layout="constrained")
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
        for cell, name, curve, area in zip(cells, names, curves, areas, strict=False):
            if curve is None:
                cell.set(title=name, xticks=[], yticks=[])
                cell.text(
                    0.5, 0.5, "cannot be drawn:\n" + (area.why or ""), ha="center", va="center", color=MUTED
                )
            elif kind == "roc":
                _roc(cell, curve, f"{name}\narea {_area_text(area)}")
            else:
                _precision_recall(cell, curve, f"{name}\n{area.positives} films")
        for cell in cells[len(names) :]:
            cell.remove()
        return svg_uri(figure)


def confusion_matrix(metrics: Metrics) -> str:
    """Films and share of each actual class, one row each; diseased films called healthy are outlined."""
    counts = np.array(metrics.confusion)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    names, size = metrics.classes, len(metrics.classes)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(min(WIDTH, 2.6 + 1.1 * size), 1.4 + 0.72 * size), layout="constrained")
        axes = figure.subplots()
        axes.imshow(share, cmap=_SHADES, vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(size, size):
            missed = names[row] not in metrics.healthy and names[column] in metrics.healthy
            _confusion_cell(axes, (row, column), int(counts[row, column]), share[row, column], missed)
        axes.set_xticks(np.arange(0.5, size - 1), minor=True)
        axes.set_yticks(np.arange(0.5, size - 1), minor=True)
        axes.grid(visible=True, which="minor")
        axes.set_xticks(range(size), [_wrapped(name) for name in names])
        axes.set_yticks(
            range(size), [f"{_wrapped(n)}\n({t} films)" for n, t in zip(names, totals[:, 0], strict=True)]
        )
        axes.set_xlabel("predicted", fontweight="bold")
        axes.set_ylabel("actual", fontweight="bold")
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        return svg_uri(figure)


def forest(metrics: Metrics) -> str:
    """Detection, recall and precision of each class as points with their 95 % intervals."""
    classes = metrics.per_class
    panels: list[tuple[str, list[Rate | None], str]] = [
        ("Called any disease", [None if figures.healthy else figures.detected for figures in classes], "o"),
        ("Recall: called by its own name", [figures.recall for figures in classes], "s"),
        ("Precision", [figures.precision for figures in classes], "D"),
    ]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.0 + 0.42 * len(classes)), layout="constrained")
        for axes, (title, rates, marker) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            for row, rate in enumerate(rates):
                _forest_row(axes, row, rate, marker)
            axes.set(title=title, xlim=(-0.02, 1.02), ylim=(len(classes) - 0.4, -0.6))
            axes.set_yticks(range(len(classes)), metrics.classes)
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        return svg_uri(figure)


def training_curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Loss and accuracy by epoch; bands show the stages, and whether the body was frozen.

    Rows have the keys of ``history.jsonl``: ``train_loss``, ``valid_loss``, ``accuracy``, ``stage``,
    ``size``, ``frozen``. A missing or non-finite number leaves a gap.
    """
    epochs = np.arange(1, len(history) + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(epochs, _column(history, "train_loss"), "o--", color=BLUE, markersize=4, label="training")
        left.plot(
            epochs, _column(history, "valid_loss"), "s-", color=VERMILION, markersize=4, label="validation"
        )
        left.set(xlabel="epoch")
        left.set_title("Loss", pad=26)
        left.legend(loc="upper right")
        right.plot(epochs, _column(history, "accuracy"), "s-", color=VERMILION, markersize=4)
        right.set(xlabel="epoch", ylim=(0, 1.02))
        right.set_title("Accuracy on validation films", pad=26)
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for axes in (left, right):
            axes.set_xlim(0.5, len(history) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _stages(axes, history)
        return svg_uri(figure)


def _roc(axes: Axes, curve: Curve, title: str) -> None:
    keep = _thinned(len(curve.sensitivity))
    axes.plot([0, 1], [0, 1], linestyle=":", color=MUTED, linewidth=1)
    axes.plot(curve.false_alarms[keep], curve.sensitivity[keep], color=BLUE)
    axes.set(title=title, xlabel="false alarms (1 − specificity)", ylabel="sensitivity")
    _square(axes)


def _precision_recall(axes: Axes, curve: Curve, title: str) -> None:
    keep = _thinned(len(curve.recall))
    axes.axhline(curve.prevalence, linestyle=":", color=MUTED, linewidth=1)
    axes.step(curve.recall[keep], curve.precision[keep], where="post", color=BLUE)
    axes.set(title=title, xlabel="recall (sensitivity)", ylabel="precision")
    _square(axes)


def _square(axes: Axes) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ticks = [0, 0.25, 0.5, 0.75, 1]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks)
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _forest_row(axes: Axes, row: int, rate: Rate | None, marker: str) -> None:
    if rate is None or rate.value is None or rate.low is None or rate.high is None:
        text = "" if rate is None else "not measured"
        axes.text(0.0, row, text, va="center", color=MUTED, fontsize=8)
        return
    axes.plot([rate.low, rate.high], [row, row], color=BLUE, linewidth=2.2, solid_capstyle="butt", zorder=2)
    axes.plot(
        rate.value, row, marker, markersize=6.5, markerfacecolor="white", markeredgecolor=BLUE,
        markeredgewidth=1.8, zorder=3, clip_on=False,
    )  # fmt: skip


def _confusion_cell(axes: Axes, place: tuple[int, int], films: int, share: float, missed: bool) -> None:
    row, column = place
    if missed:
        edge: dict[str, Any] = {"fill": False, "edgecolor": VERMILION, "linewidth": 2.0}
        axes.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, **edge))
    if not films:
        axes.text(column, row, "0", ha="center", va="center", color=MUTED, fontsize=8.5)
        return
    colour = "white" if share > 0.6 else INK
    axes.text(
        column, row - 0.12, f"{films}", ha="center", va="center", color=colour, fontweight="bold", fontsize=10
    )
    axes.text(column, row + 0.22, percent(share), ha="center", va="center", color=colour, fontsize=8)


def _stages(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """Shade every other stage and name it along the top edge."""
    stages = [row.get("stage") for row in history]
    borders = [
        0,
        *(index for index in range(1, len(stages)) if stages[index] != stages[index - 1]),
        len(stages),
    ]
    for number, (start, end) in enumerate(pairwise(borders)):
        if number % 2:
            axes.axvspan(start + 0.5, end + 0.5, color="#f0f2f5", zorder=0, linewidth=0)
        row = history[start]
        words = [f"{row['size']} px"] if row.get("size") else []
        words += ["head only" if row["frozen"] else "whole network"] if row.get("frozen") is not None else []
        axes.annotate(
            "\n".join(words), ((start + end + 1) / 2, 1.02), xycoords=("data", "axes fraction"),
            ha="center", va="bottom", fontsize=7.5, color=MUTED,
        )  # fmt: skip


def _column(history: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    values = [row.get(key) for row in history]
    return np.array(
        [v if isinstance(v, int | float) and np.isfinite(v) else np.nan for v in values], dtype=float
    )


def _area_text(area: Area) -> str:
    return "unknown" if area.value is None else f"{area_value(area)}, 95 % {interval(area)}"


def _wrapped(name: str) -> str:
    return name.replace(" ", "\n", 1)


def _thinned(points: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, points - 1, min(points, _POINTS)).round().astype(np.int64))


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def svg_uri(figure: Figure) -> str:
    return svg_data(svg(figure))


def svg_data(file: bytes) -> str:
    """An SVG file as a data URI."""
    return f"data:image/svg+xml;base64,{base64.b64encode(file).decode()}"
