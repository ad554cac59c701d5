"""What the ``score`` verb says, as plain lines; nothing is loaded for it, so that one film is told at once.

Results go to standard output, everything about the work itself to standard error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carina.scoring.run import ScoreSummary


def printable(text: str) -> str:
    """``text`` with control characters escaped: a file's name cannot move the cursor."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def refusals(summary: ScoreSummary) -> Iterator[str]:
    """A line for each film that needs a reader, as far as they are listed."""
    for refusal in summary.refusals:
        yield f"refused  {printable(refusal.path)}: {printable(refusal.reason)}"
    if summary.refused > len(summary.refusals):
        yield f"refused  … and {summary.refused - len(summary.refusals)} more"


def results(summary: ScoreSummary, where: object = "--top") -> Iterator[str]:
    """The scored films, the most suspicious first; ``where`` the others are to be found."""
    if summary.top:
        later = any(p.posterior is not None for p in summary.top)
        sets = any(p.set for p in summary.top)
        head = ("p_disease", *(("posterior",) * later), "class", *(("set",) * sets), "film")
        rows = [
            (
                f"{p.p_disease:.3f}",
                *(("" if p.posterior is None else f"{p.posterior:.3f}",) * later),
                printable(p.top_class),
                *((printable(p.set),) * sets),
                printable(p.path),
            )
            for p in summary.top
        ]
        yield from _columns(head, rows)
        if summary.scored > len(summary.top):
            yield f"… and {summary.scored - len(summary.top)} more; see {where}"


def totals(summary: ScoreSummary, paths: Sequence[str], out: object = None) -> Iterator[str]:
    """How many were scored and how many not."""
    skipped = f"; {summary.skipped} files are no films and were not tried" if summary.skipped else ""
    if not summary.scored + summary.refused:
        yield f"warning: no film was found in {', '.join(map(printable, paths))}"
    yield f"{summary.scored} scored, {summary.refused} refused (they need a reader){skipped}"
    if summary.elsewhere:
        verb = "film has" if summary.elsewhere == 1 else "films have"
        yield f"warning: {summary.elsewhere} {verb} more heat outside the lung fields than inside: look twice"
    if out is not None:
        yield f"scores      {out}"


def _columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A table: the first column to the right, the others to the left, nothing cut."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for first, *others in table:
        cells = [first.rjust(widths[0]), *(cell.ljust(w) for cell, w in zip(others, widths[1:], strict=True))]
        yield " ".join(cells).rstrip()
