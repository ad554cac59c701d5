"""The page of a study, and how its three files are written.

The table of the report first, our figures above what was reported; then what can be believed of them,
and every row with its curves, learning rates and confusions. ``study.json`` is written last.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import carina
from carina.errors import OutputError
from carina.evaluation import figures, study_figures
from carina.evaluation.belief import LABELS
from carina.evaluation.blocks import Block, Chart, Paragraph, Section, Table
from carina.evaluation.bootstrap import Rate
from carina.evaluation.compare import said
from carina.evaluation.headline import Headline
from carina.evaluation.report import render_page
from carina.evaluation.study_table import COLUMNS, RowResult, cells, content, recommended, worst_class
from carina.evaluation.wording import DASH, counted, interval, percent, with_interval
from carina.evaluation.writing import write_all

FORMAT = 1
_MOST_CONFUSED = 5
_SPACE, _HYPHEN = "\N{NO-BREAK SPACE}", "\N{NON-BREAKING HYPHEN}"


@dataclass(frozen=True, slots=True)
class StudyPage:
    """All that the files of a study are made of. ``runs`` are (run, its rows, goes on from, stages)."""

    name: str
    title: str
    note: str
    split: str
    reported: Mapping[str, Any]
    mix: Mapping[str, int]
    catalogue: str
    fingerprint: str
    rows: tuple[RowResult, ...]
    runs: tuple[tuple[str, str, str, str], ...]
    sharing: str
    minutes: float  # of all training, shared stages counted once


def write(folder: Path, study: StudyPage) -> None:
    """Write ``study.csv``, ``study.html`` and, last, ``study.json``. Raises OutputError."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps(_content(study, created), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        "study.csv": _csv(study).encode(),
        "study.html": render(study, created).encode(),
        "study.json": text.encode(),
    }
    try:
        write_all(folder, files, last="study.json")
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}); free space and give the command again"
        ) from error


def render(study: StudyPage, created: str) -> str:
    """The page as one HTML text that refers to nothing outside itself."""
    best = recommended(study.rows)
    belief = best.found.belief
    films = best.found.metrics
    lead = (
        f"{counted(len(study.rows), 'row')}, judged on split “{study.split}”: {counted(films.films, 'film')} "
        f"of {counted(films.patients, 'patient')} · {created[:10]}"
    )
    return render_page(
        kicker="Carina · study",
        title=study.title,
        lead=lead,
        headlines=_headlines(study, best),
        grade=belief.verdict.grade,
        verdict=belief.lines(),
        warnings=_warnings(study),
        sections=[
            _as_reported(study),
            _what_it_means(study),
            _side_by_side(study),
            _differences(study),
            *(_row(row) for row in study.rows),
            _record(study, created),
        ],
    )


def _headlines(study: StudyPage, best: RowResult) -> tuple[Headline, ...]:
    """Recall of disease of the row that validation chose; its accuracy; the minutes of all."""
    metrics = best.found.metrics
    found, accuracy = metrics.detection.sensitivity, best.accuracy
    grade = LABELS[best.found.belief.verdict.grade].lower()
    chosen = f"row {best.name}, chosen by its validation films; verdict on the data: {grade}"
    stated = study.reported.get("accuracy")
    plain = f"; {percent(metrics.accuracy.value)} of these films" if best.is_mixed else ""
    beside = f"; reported best: {percent(stated)}" if stated is not None else ""
    hours = study.reported.get("minutes")
    before = f"; reported: {hours:g} min" if hours is not None else ""
    return (
        Headline("Recall of disease (sensitivity)", percent(found.value), interval(found), chosen),
        Headline(
            "Accuracy at the mix" if best.is_mixed else "Accuracy",
            percent(accuracy.value),
            interval(accuracy),
            f"row {best.name}, {counted(len(metrics.classes), 'class')}{plain}; {grade}{beside}",
        ),
        Headline("Training time", f"{study.minutes:.1f} min", "", f"shared stages counted once{before}"),
    )


def _warnings(study: StudyPage) -> list[str]:
    found = list(dict.fromkeys(text for row in study.rows for text in row.found.warnings))
    if study.split != "test":
        found.insert(
            0,
            f"These rows are judged on the split “{study.split}”, which also chose among them; quote the "
            "figures of a test split.",
        )
    return [*found, study.note] if study.note else found


def _as_reported(study: StudyPage) -> Section:
    """The report's own columns; below each figure what was reported, where it is known."""
    head = ("Row", "Images", "Body", "Size", "Learning rate", "Epochs", "Minutes", "Augmentation")
    rows = tuple(
        (
            f"{row.name}. {row.says}" if row.says else row.name,
            _beside(f"{row.images:,}", row, "images"),
            _beside(row.body, row, "body"),
            _beside(row.sizes, row, "size"),
            _beside(row.rate_texts.replace("e-", f"e{_HYPHEN}"), row, "lr"),
            _beside(str(row.epochs), row, "epochs"),
            _beside(f"{row.minutes:.1f}", row, "minutes"),
            _beside(row.augmentation.replace(" %", f"{_SPACE}%"), row, "augmentation"),
            _beside(percent(row.accuracy.value), row, "accuracy"),
        )
        for row in study.rows
    )
    text = (
        "One line a configuration, in the columns of the report. Beside our figure stands what was reported, "
        "where it is known; nothing is filled in. Minutes are of training, with the stages a row shares with "
        "others counted in full, as if it had been trained alone."
    )
    return Section(
        "table", "The table", (Paragraph(text), Table("", (*head, _accuracy(study)), tuple(rows), numeric=9))
    )


def _accuracy(study: StudyPage) -> str:
    """How the accuracy that rows are judged by is called."""
    return "Accuracy at the mix" if any(row.is_mixed for row in study.rows) else "Accuracy"


def _what_it_means(study: StudyPage) -> Section:
    """The figures the report has not got, with their intervals and the verdict on the data."""
    mixed = bool(study.mix)
    head = ["Row", "Accuracy"]
    head += ["Accuracy at the mix"] if mixed else []
    head += ["Macro AUC", "Recall of disease", "Worst class", "Its recall", "Data"]
    rows = []
    for row in study.rows:
        metrics, worst = row.found.metrics, worst_class(row.found.metrics)
        told = [row.name, _with_limits(metrics.accuracy)]
        told += [_with_limits(row.mixed)] if mixed else []
        told += [
            DASH if metrics.macro_auc.value is None else f"{metrics.macro_auc.value:.3f}",
            _with_limits(metrics.detection.sensitivity),
            DASH if worst is None else worst.name,
            _with_limits(None if worst is None else worst.recall),
            LABELS[row.found.belief.verdict.grade],
        ]
        rows.append(tuple(told))
    text = (
        "The same rows with 95 % intervals by patient. A diseased film counts as found when the most "
        "probable class is any disease. “Data” is the verdict on the films: where they are confounded, no "
        "accuracy here can be read as skill."
    )
    blocks: list[Block] = [Paragraph(text), Table("", tuple(head), tuple(rows))]
    if mixed:
        counts = ", ".join(f"{name} {count:,}" for name, count in study.mix.items())
        blocks.append(Paragraph(f"The mix: {counts}. Recall of each class, weighted by these counts."))
    return Section("meaning", "What the figures mean", tuple(blocks))


def _side_by_side(study: StudyPage) -> Section:
    accuracies = "; ".join(f"row {row.name} {percent(row.accuracy.value)}" for row in study.rows)
    chart = Chart(
        study_figures.rows_side_by_side(study.rows),
        f"{_accuracy(study)} by row: {accuracies}.",
        "Points with their 95 % intervals. A cross is what was reported.",
    )
    return Section("rows", "The rows side by side", (chart,))


def _differences(study: StudyPage) -> Section:
    """Each row against the one it is meant to beat, on the same films."""
    rows = tuple(
        (f"row {row.name} less row {row.against}", each.name, said(each))
        for row in study.rows
        if row.comparison is not None
        for each in row.comparison.differences
    )
    if not rows:
        return Section("differences", "What each step gave")
    text = "Paired on the same films; patients are drawn, and a draw holds the answers of both rows."
    text += " Accuracy is that on the films as they are, not at the mix." if study.mix else ""
    return Section(
        "differences",
        "What each step gave",
        (Paragraph(text), Table("", ("Rows", "Figure", "Difference"), rows, numeric=3)),
    )


def _row(row: RowResult) -> Section:
    """One row: curves, learning rate, confusions."""
    metrics = row.found.metrics
    what = f"{row.says}. " if row.says else ""
    belief = " ".join(f"{label} {text}" for label, text in row.found.belief.lines())
    recall = with_interval(metrics.detection.sensitivity)
    told = f"{what}Accuracy {with_interval(metrics.accuracy)}, recall of disease {recall}. {belief}"
    blocks: list[Block] = [Paragraph(told)]
    if row.history:
        last = row.history[-1]
        blocks.append(
            Chart(
                figures.training_curves(row.history),
                f"Losses and accuracy over {counted(len(row.history), 'epoch')}.",
                f"Validation after the last epoch: loss {last['valid_loss']:.3f}, accuracy "
                f"{percent(last['accuracy'])}. Bands: the stages.",
            )
        )
    blocks.append(
        Chart(
            study_figures.rate_plot(row.rates, [int(stage["epochs"]) for stage in row.stages]),
            f"Learning rate by epoch: {row.rate_texts}.",
            "One cycle a stage.",
        )
    )
    blocks.extend(
        Chart(figures.svg_data(curve), f"The rate finder's curve, {text}.", f"The rate finder, {text}.")
        for text, curve in row.finders
    )
    if metrics.confusion:
        blocks.append(
            Chart(
                figures.confusion_matrix(metrics),
                "Confusion matrix: " + "; ".join(_confused(row)[:_MOST_CONFUSED]),
                "Rows are the truth. Outlined: diseased films called healthy.",
            )
        )
    confused = tuple((each.actual, each.predicted, str(each.films)) for each in metrics.most_confused)
    if confused:
        caption = "Most confused."
        blocks.append(Table(caption, ("Actual", "Predicted", "Films"), confused[:_MOST_CONFUSED], numeric=2))
    blocks.append(Paragraph(f"The whole evaluation: {row.evaluation}/report.html; the run: {row.run}."))
    return Section(f"row-{row.name}", f"Row {row.name}", tuple(blocks))


def _record(study: StudyPage, created: str) -> Section:
    facts = (
        ("Study", study.name),
        ("Catalogue", study.catalogue),
        ("Catalogue’s content", f"sha256 {study.fingerprint}"),
        ("Split", study.split),
        ("Carina", carina.__version__),
        ("Made", created),
    )
    head = ("Run", "Rows that end here", "Goes on from", "Stages")
    return Section(
        "record",
        "For the record",
        (
            Paragraph(study.sharing),
            Table("", head, study.runs, numeric=3),
            Table("", ("", ""), facts, numeric=2),
        ),
    )


def _content(study: StudyPage, created: str) -> dict[str, Any]:
    best = recommended(study.rows)
    return {
        "format": FORMAT,
        "created": created,
        "carina": carina.__version__,
        "name": study.name,
        "title": study.title,
        "split": study.split,
        "catalogue": {"path": study.catalogue, "fingerprint": study.fingerprint},
        "reported": dict(study.reported),
        "mix": dict(study.mix),
        "verdict": best.found.belief.to_dict(),
        "best_on_valid": best.name,
        "minutes": study.minutes,
        "sharing": study.sharing,
        "runs": [dict(zip(("run", "rows", "after", "stages"), each, strict=True)) for each in study.runs],
        "rows": [content(row) for row in study.rows],
    }


def _csv(study: StudyPage) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(cells(row) for row in study.rows)
    return stream.getvalue()


def _beside(ours: str, row: RowResult, key: str) -> str:
    """Our figure, and below it what was reported where that is known."""
    stated = row.reported.get(key)
    if stated is None:
        return ours
    if key == "accuracy":
        return f"{ours} (reported: {percent(stated)})"
    text = f"{stated:,}" if isinstance(stated, int) else f"{stated}"
    return f"{ours} (reported: {text})"


def _with_limits(rate: Rate | None) -> str:
    if rate is None or rate.value is None:
        return DASH if rate is None or not rate.why else f"{DASH} ({rate.why})"
    return f"{percent(rate.value)}\n{interval(rate)}"


def _confused(row: RowResult) -> list[str]:
    return [f"{each.films} {each.actual} called {each.predicted}" for each in row.found.metrics.most_confused]
