"""The curve of a rate finder as a picture, with its suggestions marked. Needs matplotlib (carina[report])."""

from __future__ import annotations

import io
from typing import Any

from carina.errors import MissingExtra
from carina.training.lr_finder import Finding

MARKS = (
    ("valley", "o", "valley"),
    ("steep", "D", "steep"),
    ("minimum", "s", "minimum / 10"),
    ("rises", "^", "rises"),
)


def picture(found: Finding, kind: str = "svg") -> bytes:
    """The curve as an ``svg`` or ``png`` file. Raises MissingExtra without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure

        from carina.evaluation.figures import BLUE, FAINT, INK, MUTED, STYLE, VERMILION
    except ModuleNotFoundError as error:
        raise MissingExtra("the picture of a learning-rate curve", "report") from error
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.plot(found.rates, found.losses, color=FAINT, linewidth=1.0, label="loss of each step")
        axes.plot(found.rates, found.smoothed, color=BLUE, label="smoothed")
        axes.axvline(found.lr, color=VERMILION, linewidth=1.0, linestyle="--")
        axes.annotate(
            f" taken: {found.lr:.2g}", (found.lr, 0.97), xycoords=("data", "axes fraction"), color=VERMILION
        )
        for name, mark, text in MARKS:
            rate = getattr(found, name)
            if rate is not None:
                axes.plot(
                    rate, _height(found, rate), mark, color=INK, markersize=6, label=f"{text}: {rate:.2g}"
                )
        low, high = min(found.smoothed), max(found.smoothed[: max(1, len(found.smoothed) * 9 // 10)])
        axes.set_ylim(low - 0.15 * (high - low) - 0.01, high + 0.35 * (high - low) + 0.01)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss")
        axes.set_title(f"Stage {found.stage + 1}: {found.text}")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), labelcolor=MUTED)
        stream = io.BytesIO()
        options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 150}
        figure.savefig(stream, format=kind, **options)
    return stream.getvalue()


def _height(found: Finding, rate: float) -> float:
    """The smoothed loss at the swept rate nearest to one, in ratio."""
    place = min(range(len(found.rates)), key=lambda k: abs(found.rates[k] / rate - 1))
    return found.smoothed[place]
