"""The summary that is shown beside the films: one page in shades of gray, on black as films are.

Words first: nothing is said by shade alone. The notice stands at the top and at the bottom, where cropping
one leaves the other. A heat map, where a site allows it, stands below the words; only then the page has
colours.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from carina.scoring.triage import LIKELY_CLEAR, Outcome, score_text
from carina.serving.results import device
from carina.serving.results.header import plain
from carina.serving.results.result import Result

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Pen

_WIDTH, _MARGIN = 1024, 40
_BLACK, _WHITE, _GRAY, _DARK = "#000000", "#ffffff", "#b4b4b4", "#3c3c3c"
_MOST_FILMS = 6  # of a study on the page
_USUAL = "Not flagged does not mean that nothing is there. The study is read as usual."
_UNREAD = "Nothing was measured. The study needs a reader, as if Carina were not there."
_RAISED = "A request to look sooner, not a finding."
_CLEAR = f'Suggested as "{LIKELY_CLEAR}": a person must still read it.'


def draw(result: Result, heat: Image.Image | None = None) -> Image.Image:
    """The page: mode L, or RGB where ``heat``, a picture with its own scale, stands on it."""
    height = 600 + 26 * min(_MOST_FILMS + 1, len(result.films)) + (heat.height + _MARGIN if heat else 0)
    page = Image.new("RGB" if heat else "L", (_WIDTH, height), _BLACK)
    pen = ImageDraw.Draw(page)
    _notice(pen, 0)
    y = _headline(pen, result, 92)
    y = _scale(pen, result, y) if result.p_disease is not None else y
    y = _facts(pen, result, y + 12)
    if heat is not None:
        page.paste(heat, ((_WIDTH - heat.width) // 2, y + 8))
    _notice(pen, height - 60)
    return page


def _notice(pen: Pen, top: int) -> None:
    pen.rectangle((0, top, _WIDTH, top + 60), fill=_WHITE)
    pen.text((_WIDTH // 2, top + 18), device.NOTICE, fill=_BLACK, font=_font(22), anchor="mm")
    pen.text((_WIDTH // 2, top + 43), device.DUTY, fill=_BLACK, font=_font(18), anchor="mm")


def _headline(pen: Pen, result: Result, y: int) -> int:
    pen.text((_MARGIN, y), "Carina triage", fill=_GRAY, font=_font(20))
    pen.text((_MARGIN, y + 30), result.label.upper(), fill=_WHITE, font=_font(44))
    y += 92
    if result.finding:
        pen.text((_MARGIN, y), f"The model suspects: {plain(result.finding)}", fill=_WHITE, font=_font(28))
        y += 42
    said = {str(Outcome.NOT_ANALYSED): _UNREAD, str(Outcome.NOT_FLAGGED): _USUAL}.get(result.outcome, _RAISED)
    for line in (said, *((_CLEAR,) if result.suggestion == LIKELY_CLEAR else ())):
        pen.text((_MARGIN, y), line, fill=_WHITE, font=_font(20))
        y += 30
    because = plain(result.because if result.code is None else f"{result.code}: {result.because}")
    for line in _wrapped(f"Because: {because}", 20, 3):
        pen.text((_MARGIN, y), line, fill=_GRAY, font=_font(20))
        y += 27
    return y


def _scale(pen: Pen, result: Result, y: int) -> int:
    """The score on a scale from 0 to 1, with the threshold as a tick that says what it is."""
    left, right, top = _MARGIN, _WIDTH - _MARGIN, y + 40
    score = result.p_disease or 0.0
    pen.rectangle((left, top, right, top + 20), outline=_GRAY, fill=_DARK)
    pen.rectangle((left, top, left + round((right - left) * score), top + 20), fill=_GRAY)
    pen.text((left, top - 30), f"p_disease {score_text(score)}", fill=_WHITE, font=_font(20))
    if result.threshold is not None:
        at = left + round((right - left) * result.threshold)
        pen.line((at, top - 6, at, top + 26), fill=_WHITE, width=3)
        anchor = "la" if at < _WIDTH // 2 else "ra"
        pen.text(
            (at, top + 28), f"threshold {result.threshold:.4f}", fill=_WHITE, font=_font(18), anchor=anchor
        )
    return top + 56


def _facts(pen: Pen, result: Result, y: int) -> int:
    rows = [
        ("decided", f"{result.decided_at.astimezone():%Y-%m-%d %H:%M:%S}"),
        ("Carina's study number", str(result.study)),
    ]
    if result.model is not None:
        rows.append(("model", f"{plain(result.model.name, 50)} ({result.model.fingerprint[:12]})"))
        rows.append(("shown for it", plain(result.model.shown, 80)))
    rows.append(("version", f"carina {device.VERSION}, result {result.version}"))
    for number, film in enumerate(result.films[:_MOST_FILMS], start=1):
        label = f"{film.outcome}: {film.urgency}" if film.urgency else film.outcome
        score = "" if film.p_disease is None else f", p_disease {score_text(film.p_disease)}"
        rows.append((f"film {number}", f"{label}{score}"))
    if len(result.films) > _MOST_FILMS:
        rows.append(("", f"and {len(result.films) - _MOST_FILMS} more films: see the structured report"))
    for name, value in rows:
        pen.text((_MARGIN, y), name, fill=_GRAY, font=_font(18))
        pen.text((_MARGIN + 220, y), value, fill=_WHITE, font=_font(18))
        y += 26
    return y


def _wrapped(text: str, size: int, most: int) -> list[str]:
    lines, line = list[str](), ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if _font(size).getlength(longer) > _WIDTH - 2 * _MARGIN and line:
            lines.append(line)
            longer = word
        line = longer
    lines.append(line)
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} ..."]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # Pillow's own: no font of the machine is needed
