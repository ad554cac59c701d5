"""A worklist as a file: CSV, JSON, or one HTML page with pictures that needs nothing else.

Knows forms and escaping, not how decisions come about. A file that is there is whole.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import os
import secrets
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path, PurePath
from string import Template

from carina.errors import OutputError
from carina.folders import check_outside_bundles
from carina.scoring.tables import harmless
from carina.scoring.triage import Decision, Outcome, score_text
from carina.scoring.triage_run import Worklist

NOTICE = "Research use. Not a medical device. Every film must be read by a qualified person."
COLUMNS = (
    "place", "decision", "urgency", "finding", "p_disease", "posterior", "suggestion", "because", "code",
    "path",
)  # fmt: skip
_ENDINGS = (".csv", ".json", ".html")


def write_worklist(worklist: Worklist, path: str | os.PathLike[str]) -> None:
    """Write ``.csv``, ``.json`` or ``.html``; the ending chooses. Raises ``OutputError``."""
    path = Path(path)
    check_place(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.write(_FORMS[path.suffix.lower()](worklist).encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        fault = os.strerror(error.errno) if error.errno else str(error)
        raise OutputError(f"{path}: cannot be written: {fault}; make room or name another place") from error
    finally:
        part.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Raises ``OutputError`` where no worklist can be written; asked before an hour of scoring."""
    check_outside_bundles(path)
    if path.suffix.lower() not in _ENDINGS:
        raise OutputError(
            f"{path}: a worklist is written as {', '.join(_ENDINGS)}; choose one of these endings"
        )


def row(number: int, decision: Decision) -> tuple[str | int | float, ...]:
    """One row in the order of ``COLUMNS``; what there is not is an empty cell, never a NaN."""
    return (
        number,
        str(decision.outcome),
        str(decision.urgency or ""),
        decision.finding or "",
        "" if decision.p_disease is None else round(decision.p_disease, 6),
        "" if decision.posterior is None else round(decision.posterior, 6),
        decision.suggestion or "",
        decision.because,
        decision.code or "",
        decision.path,
    )


def _csv(worklist: Worklist) -> str:
    buffer = io.StringIO(newline="")
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(COLUMNS)
    for number, decision in enumerate(worklist.decisions, 1):
        cells = row(number, decision)
        rows.writerow([harmless(cell) if isinstance(cell, str) else cell for cell in cells])
    return buffer.getvalue()


def _json(worklist: Worklist) -> str:
    policy = worklist.policy
    content = {
        "notice": NOTICE,
        "created": worklist.created,
        "bundle": worklist.bundle,
        "threshold": policy.threshold,
        "shown": policy.shown,
        "prevalence": worklist.prevalence,
        "clear_below": None if policy.withdrawn else policy.clear_below,
        "withdrawn": policy.withdrawn,
        "warnings": list(worklist.warnings),
        "counts": worklist.counts,
        "films": [
            {"place": number, **decision.to_dict()} for number, decision in enumerate(worklist.decisions, 1)
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _html(worklist: Worklist) -> str:
    page = Template(files("carina.scoring").joinpath("worklist.html").read_text("utf-8"))
    policy = worklist.policy
    rule = policy.shown or "no threshold was shown for this place"
    if policy.threshold is not None:
        rule = f"flagged from p_disease {policy.threshold:.4f} on ({rule})"
    skipped = f" {worklist.skipped:,} files are no films and were not tried." if worklist.skipped else ""
    return page.substitute(
        notice=html.escape(NOTICE),
        title=f"{len(worklist.decisions):,} films in order of need",
        lead=html.escape(f"Model {worklist.bundle} · {rule} · {worklist.created}.{skipped}"),
        warnings="".join(f"<li>{html.escape(each)}</li>" for each in worklist.warnings),
        counts="".join(
            f'<div class="{_kind(label)}"><dt>{html.escape(label)}</dt><dd>{count:,}</dd></div>'
            for label, count in worklist.counts.items()
        ),
        rows="".join(_row(n, each, worklist) for n, each in enumerate(worklist.decisions, 1)),
    )


def _row(number: int, decision: Decision, worklist: Worklist) -> str:
    picture = worklist.pictures.get(decision.path)
    name = html.escape(PurePath(decision.path.rpartition("!/")[2]).name)
    shown = '<span class="none">no picture</span>'
    if picture is not None:
        uri = f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
        shown = f'<img src="{uri}" alt="{name}" loading="lazy" width="68" height="68">'
    score = '<span class="unknown">no score</span>'
    if decision.p_disease is not None:
        mark = ""
        if worklist.policy.threshold is not None:
            mark = f'<i style="left:{100 * worklist.policy.threshold:.2f}%"></i>'
        score = (
            f"<b>{score_text(decision.p_disease)}</b>"
            f'<span class="bar"><span style="width:{100 * decision.p_disease:.1f}%"></span>{mark}</span>'
        )
    if decision.posterior is not None and worklist.prevalence is not None:
        at = f"{score_text(decision.posterior)} at a prevalence of {worklist.prevalence:g}"
        score += f'<span class="unknown">{at}</span>'
    outcome, _, urgency = decision.label.partition(": ")
    suggestion = f"<em>{html.escape(decision.suggestion)}</em>" if decision.suggestion else ""
    return (
        f'<tr class="{_kind(decision.label)}"><td class="place">{number}</td><td class="film">{shown}</td>'
        f'<td class="outcome"><b>{html.escape(outcome)}</b> <span>{html.escape(urgency)}</span>'
        f"{suggestion}</td>"
        f'<td class="finding">{html.escape(decision.finding or "")}</td><td class="score">{score}</td>'
        f'<td class="why">{html.escape(decision.because)}</td>'
        f'<td class="path"><b>{name}</b><span>{html.escape(decision.path)}</span></td></tr>\n'
    )


def _kind(label: str) -> str:
    """The style of a label."""
    if label.startswith(f"{Outcome.FLAGGED}: "):
        return label.rpartition(" ")[2]
    return "unread" if label == Outcome.NOT_ANALYSED else "usual"


_FORMS: dict[str, Callable[[Worklist], str]] = {".csv": _csv, ".json": _json, ".html": _html}
