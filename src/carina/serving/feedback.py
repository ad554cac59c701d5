"""What people say of a study afterwards: readers on the page, and the hospital's own reports.

Both are kept as they came, with what Carina had said at that moment. A report may come before its study, or
months after: it is matched by Study Instance UID, or by an accession number that only one study has. Where
several speak of one study the newest report holds, and without a report the newest reader.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from carina.errors import ReportError
from carina.serving.schema import Event, Feedback, Report, Study

KINDS = ("read", "agree", "disagree", "priority")
LARGEST = 64 * 2**20  # bytes of a table of reports
_YES = ("1", "yes", "true", "y", "positive", "disease")
_NO = ("0", "no", "false", "n", "negative", "none")
_COLUMNS = {
    "study_uid": ("study_uid", "studyinstanceuid", "study instance uid", "uid"),
    "accession": ("accession", "accession_number", "accessionnumber", "accession number"),
    "disease": ("disease", "diseased", "finding_present"),
    "finding": ("finding", "diagnosis"),
}


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One line: whose study (at least one of the two), whether any disease was found, and which."""

    disease: bool
    study_uid: str | None = None
    accession: str | None = None
    finding: str | None = None


@dataclass(slots=True)
class Imported:
    """What became of a table: new reports, those matched to a study, those known already, and faults."""

    new: int = 0
    matched: int = 0
    known: int = 0
    faults: list[str] = field(default_factory=list)


def record(
    session: Session,
    study: Study,
    reader: str,
    kind: str,
    now: datetime,
    *,
    disease: bool | None = None,
    finding: str | None = None,
    comment: str | None = None,
) -> Feedback:
    """Keep what a reader says of a study.

    ``agree`` and ``disagree`` say by themselves whether there was disease, as Carina flagged the study or did
    not; ``disease`` overrules that. ``read`` marks the study as read. ``ValueError`` for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    said = disease if disease is not None else _implied(study, kind)
    row = Feedback(
        study_id=study.id,
        at=now,
        reader=reader,
        kind=kind,
        disease=said,
        finding=finding,
        comment=comment,
        outcome=study.outcome,
        p_disease=study.p_disease,
        model_id=study.model_id,
    )
    if kind == "read" and study.read_at is None:
        study.read_at, study.read_by = now, reader
    session.add_all([row, Event(at=now, kind="study", study_id=study.id)])
    session.flush()
    return row


def import_reports(
    session: Session, table: Path | str | bytes, now: datetime, *, origin: str = "csv"
) -> Imported:
    """Take in a CSV table: columns ``study_uid`` or ``accession``, ``disease`` (yes/no), ``finding``.

    A line that cannot be understood is told of and does not stop the others; the same table a second time
    adds nothing. Raises ReportError for what is no such table.
    """
    text = _text(table)
    result = Imported()
    rows = list(_rows(text, result.faults))
    add_reports(session, rows, now, origin=origin, result=result)
    return result


def add_reports(
    session: Session,
    rows: Iterable[ReportRow],
    now: datetime,
    *,
    origin: str = "api",
    result: Imported | None = None,
) -> Imported:
    """Take in reports one by one; the same as before is counted as known."""
    result = result or Imported()
    for row in rows:
        if _newest(session, row) == (row.disease, row.finding):
            result.known += 1
            continue
        study = _study(session, row)
        report = Report(
            at=now,
            origin=origin,
            study_uid=row.study_uid,
            accession=row.accession,
            study_id=study,
            disease=row.disease,
            finding=row.finding,
        )
        session.add(report)
        session.flush()
        result.new += 1
        result.matched += study is not None
    return result


def match(session: Session) -> int:
    """Match reports that came before their studies; how many were."""
    found = 0
    for report in session.scalars(select(Report).where(Report.study_id.is_(None)).order_by(Report.id)):
        row = ReportRow(report.disease, report.study_uid, report.accession, report.finding)
        report.study_id = _study(session, row)
        found += report.study_id is not None
    session.flush()
    return found


def _implied(study: Study, kind: str) -> bool | None:
    """Agreeing with a flag says disease, disagreeing with it says none; the other way round without."""
    if kind not in ("agree", "disagree") or study.outcome is None or study.p_disease is None:
        return None
    flagged = study.urgency is not None
    return flagged if kind == "agree" else not flagged


def _newest(session: Session, row: ReportRow) -> tuple[bool, str | None] | None:
    same = select(Report.disease, Report.finding).order_by(Report.id.desc()).limit(1)
    found = session.execute(
        same.where(Report.study_uid.is_not_distinct_from(row.study_uid)).where(
            Report.accession.is_not_distinct_from(row.accession)
        )
    ).first()
    return None if found is None else (found[0], found[1])


def _study(session: Session, row: ReportRow) -> int | None:
    """The study by its UID; else by its accession number, where exactly one study has it."""
    if row.study_uid is not None:
        return session.scalar(select(Study.id).where(Study.uid == row.study_uid))
    one = select(func.min(Study.id)).where(Study.accession == row.accession).having(func.count() == 1)
    return session.scalar(one)


def _text(table: Path | str | bytes) -> str:
    if isinstance(table, bytes):
        name, content = "the table", table
    else:
        name = str(table)
        try:
            with Path(table).open("rb") as stream:
                content = stream.read(LARGEST + 1)
        except OSError as error:
            raise ReportError(f"{name}: cannot be read ({error.strerror}); name a CSV file") from error
    if len(content) > LARGEST:
        raise ReportError(f"{name}: is larger than {LARGEST >> 20} MB; split it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReportError(f"{name}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _rows(text: str, faults: list[str]) -> Iterator[ReportRow]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = {(name or "").strip().casefold(): name for name in reader.fieldnames or ()}
    columns = {
        ours: next((names[each] for each in theirs if each in names), None)
        for ours, theirs in _COLUMNS.items()
    }
    if columns["disease"] is None or (columns["study_uid"] is None and columns["accession"] is None):
        raise ReportError(
            "a table of reports needs the columns disease and study_uid or accession; "
            f"this one has {', '.join(map(repr, names)) or 'none'}"
        )
    try:
        for line in reader:
            values = {ours: (line.get(theirs) or "").strip() for ours, theirs in columns.items() if theirs}
            row = _row(values, reader.line_num, faults)
            if row is not None:
                yield row
    except csv.Error as error:
        raise ReportError(f"line {reader.line_num}: is no CSV ({error}); save the table again") from error


def _row(values: dict[str, str], number: int, faults: list[str]) -> ReportRow | None:
    said = values["disease"].casefold()
    uid, accession = values.get("study_uid") or None, values.get("accession") or None
    if said not in (*_YES, *_NO):
        faults.append(f"line {number}: disease is neither yes nor no")
    elif uid is None and accession is None:
        faults.append(f"line {number}: names no study")
    elif uid is not None and len(uid) > 64:
        faults.append(f"line {number}: its study UID has more than 64 characters")
    else:
        return ReportRow(said in _YES, uid, accession, values.get("finding") or None)
    return None
