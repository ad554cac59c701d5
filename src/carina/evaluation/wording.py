"""How figures are said: one wording for the page, the terminal and the files.

Pure. A figure is never rounded into certainty: 99.96 % is said as 99.9 %, and only all of the films
are 100 %.
"""

from __future__ import annotations

import math

from carina.evaluation.bootstrap import Area, Rate

DASH = "–"
_TINY = 1e-6  # of a chance: what lies beyond is said as such
METHODS = {  # how probabilities are corrected
    "none": "nothing (no map was better)",
    "temperature": "one temperature",
    "vector": "a scale and a bias for each class",
    "isotonic": "a rising curve",
}


def percent(value: float | None) -> str:
    """``0.9423`` → ``94.2 %``; an unknown share is a dash."""
    return DASH if value is None else f"{_rounded(value)} %"


def area_value(area: Area) -> str:
    """``0.965``; an unknown area is a dash."""
    return DASH if area.value is None else _area(area.value)


def at_least(value: float, beside: float | None = None) -> str:
    """A lower limit, rounded down: ``0.98999`` → ``98.9 %``. What is promised must hold.

    ``beside`` is a share that somebody chose; the limit has as many digits: ``0.99951`` → ``99.95 %`` beside
    0.9995.
    """
    digits = 1 if beside is None else max(1, len(exactly(beside).removesuffix(" %").partition(".")[2]))
    scale = 10**digits
    return f"{math.floor(100 * scale * value + 1e-9) / scale:.{digits}f} %"


def at_most(value: float) -> str:
    """An upper limit, rounded up: ``0.97361`` → ``97.4 %``."""
    return f"{math.ceil(1000 * value - 1e-9) / 10:.1f} %"


def chance(value: float) -> str:
    """A probability with its first digits at both ends: ``82.6 %``, ``0.015 %``, ``99.985 %``.

    Beyond one in a million it is ``below 0.0001 %`` or ``above 99.9999 %``: no rates are known so well.
    """
    rest = min(value, 1 - value)
    if 0 < rest < _TINY:
        return "below 0.0001 %" if value < 0.5 else "above 99.9999 %"
    digits = 1 if rest >= 0.01 or rest <= 0 else 1 - math.floor(math.log10(100 * rest))
    return f"{100 * value:.{digits}f} %"


def luck(p_value: float) -> str:
    """The chance that a difference is luck: ``0.034``, or ``below 0.001``."""
    return "below 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def exactly(value: float) -> str:
    """A share that somebody chose, in as many digits as they gave: ``0.995`` → ``99.5 %``."""
    return f"{100 * value:.10g} %"


def interval(figure: Rate | Area) -> str:
    """``91.0–96.5 %`` of a rate, ``0.910–0.965`` of an area; empty where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    if isinstance(figure, Area):
        return f"{_area(figure.low)}{DASH}{_area(figure.high)}"
    return f"{_rounded(figure.low)}{DASH}{_rounded(figure.high)} %"


def with_interval(figure: Rate | Area) -> str:
    """``94.2 % (95 % interval 91.0–96.5 %)``, or why there is no figure."""
    if figure.value is None:
        return f"not measured: {figure.why}"
    value = area_value(figure) if isinstance(figure, Area) else percent(figure.value)
    return f"{value} (95 % interval {interval(figure)})"


def counted(count: int, noun: str) -> str:
    """``1 film``, ``1,024 films``, ``6 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def listed(names: list[str] | tuple[str, ...]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _rounded(value: float) -> str:
    shown = 100 * value
    if value < 1:
        shown = min(shown, 99.9)
    if value > 0:
        shown = max(shown, 0.1)
    return f"{shown:.1f}"


def _area(value: float) -> str:
    return f"{min(value, 0.999) if value < 1 else value:.3f}"
