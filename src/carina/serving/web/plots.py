"""Small pictures of figures: inline SVG, drawn here, coloured by the page's style sheet.

Pure. Every picture has a title for those who cannot see it, and the page puts the numbers beside it in a
table. Widths are attributes, never styles: the page allows no inline style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 24


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one layer of bars. ``key`` is the class that the style sheet colours."""

    name: str
    key: str
    values: Sequence[float | None]


def meter(value: float, mark: float | None, key: str = "") -> Markup:
    """A bar from 0 to 1 with a line at ``mark``: a probability against its threshold."""
    title = f"{value:.3f}" + (f", threshold {mark:.3f}" if mark is not None else "")
    line = "" if mark is None else _line(100 * mark, 0, 100 * mark, 10, "mark")
    return Markup(  # everything in it is a number of ours, or escaped here  # nosec B704
        f'<svg class="meter {escape(key)}" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}"><rect class="rail" x="0" y="3" width="100" height="4"/>'
        f'<rect class="fill" x="0" y="3" width="{100 * _share(value):.2f}" height="4"/>{line}</svg>'
    )


def bars(title: str, labels: Sequence[str], layers: Sequence[Series], *, share: bool = False) -> Markup:
    """Bars, one for each label, the layers on top of each other; ``share`` stretches each to 100 %."""
    totals = [sum(layer.values[i] or 0 for layer in layers) for i in range(len(labels))]
    top = 1.0 if share else _round_up(max(totals, default=0) or 1)
    parts = [_axis(top, share)]
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    for i, label in enumerate(labels):
        below = 0.0
        said = [f"{layer.name} {layer.values[i] or 0:g}" for layer in layers]
        inner = []
        for layer in layers:
            value = layer.values[i] or 0
            value = value / totals[i] if share and totals[i] else value
            y, height = _y(below + value, top), _y(below, top) - _y(below + value, top)
            if height > 0:
                x, wide = _LEFT + i * step + 0.1 * step, 0.8 * step
                inner.append(
                    f'<rect class="{escape(layer.key)}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" '
                    f'height="{height:.1f}"/>'
                )
            below += value
        parts.append(f"<g><title>{escape(label)}: {escape(', '.join(said))}</title>{''.join(inner)}</g>")
    parts.append(_labels(labels, step))
    return _picture(title, parts)


def beside(title: str, labels: Sequence[str], series: Sequence[Series]) -> Markup:
    """Bars of several series side by side, a group for each label."""
    top = _round_up(max([value or 0 for each in series for value in each.values] + [1e-9]))
    parts = [_axis(top, False)]
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    wide = 0.8 * step / max(1, len(series))
    for i, label in enumerate(labels):
        for place, each in enumerate(series):
            value = each.values[i] or 0
            x, y = _LEFT + i * step + 0.1 * step + place * wide, _y(value, top)
            parts.append(
                f'<rect class="{escape(each.key)}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" '
                f'height="{_y(0, top) - y:.1f}"><title>{escape(each.name)}, {escape(label)}: {value:.3g}'
                "</title></rect>"
            )
    parts.append(_labels(labels, step))
    return _picture(title, parts)


def _picture(title: str, parts: Sequence[str]) -> Markup:
    return Markup(  # the parts are drawn here, their words escaped where they are drawn  # nosec B704
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _axis(top: float, share: bool) -> str:
    parts = []
    for part in (0, 0.5, 1):
        y = _y(top * part, top)
        said = f"{100 * part:.0f} %" if share else f"{top * part:g}"
        parts.append(_line(_LEFT, y, WIDTH - _RIGHT, y, "grid"))
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{said}</text>')
    return "".join(parts)


def _labels(labels: Sequence[str], step: float) -> str:
    every = max(1, math.ceil(len(labels) * 58 / (WIDTH - _LEFT - _RIGHT)))
    return "".join(
        f'<text x="{_LEFT + (i + 0.5) * step:.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(label)}</text>"
        for i, label in enumerate(labels)
        if i % every == 0
    )


def _line(x1: float, y1: float, x2: float, y2: float, key: str) -> str:
    return f'<line class="{key}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def _y(value: float, top: float) -> float:
    return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - min(1.0, value / top))


def _share(value: float) -> float:
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 10 … at or above ``value``."""
    size: float = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 4, 5, 10) if step * size >= value * 0.999)
