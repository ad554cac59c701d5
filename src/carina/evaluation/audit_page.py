"""The sections of an audit's page, in the order in which they are read.

Each is one small function from what was found to blocks of text and tables, as in ``sections.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.data.confounding.area import Auc
from carina.data.confounding.association import CrossTable
from carina.data.confounding.audit import Audit
from carina.data.confounding.baselines import DISEASE, Baseline, Rows
from carina.data.confounding.lookaway import SIDE, border_mask, reduced
from carina.data.confounding.verdict import CONFOUNDED, DOUBTFUL, ENOUGH, JUDGED, RULED_OUT, SEES, area
from carina.evaluation import figures
from carina.evaluation.belief import LABELS
from carina.evaluation.blocks import Block, Card, Gallery, Paragraph, Section, Table
from carina.evaluation.headline import Headline
from carina.evaluation.probe import ModelFigures
from carina.evaluation.report import render_page
from carina.evaluation.wording import DASH, counted, listed, percent
from carina.images.lettering import outside_ellipse

Films = Sequence[tuple[str, NDArray[np.uint8]]]  # class, (S, S)

NAMES = {  # short, for tables
    "source": "source",
    "header": "header",
    "marks": "lettering",
    "border": "border only",
    "blacked_out": "lungs blacked out",
    "grain": "sharpness",
    "thumbnail": "8 × 8 thumbnail",
    "age": "age",
    "view": "view",
    "sex": "sex",
}


@dataclass(frozen=True, slots=True)
class Remedied:
    """What the pictures give away once they are prepared with remedies, and a film of each class so."""

    preparation: Mapping[str, Any]
    baselines: tuple[Baseline, ...]
    films: Films

    @property
    def words(self) -> str:
        """``trim true, crop 0.07``."""
        steps = {key: value for key, value in self.preparation.items() if key not in ("size", "fit")}
        return ", ".join(key if value is True else f"{key} {value}" for key, value in steps.items())

    def to_dict(self) -> dict[str, Any]:
        """What ``audit.json`` says: no pictures."""
        return {"preparation": dict(self.preparation), "baselines": [asdict(each) for each in self.baselines]}


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the page is made of."""

    audit: Audit
    model: ModelFigures | None
    films: Films
    remedied: Remedied | None = None


def render(
    audit: Audit, model: ModelFigures | None, films: Films, remedied: Remedied | None = None, *, title: str
) -> str:
    """The page as one HTML text that refers to nothing outside itself."""
    findings = Findings(audit, model, films, remedied)
    sources = counted(len(audit.tables[0].rows), "source")
    lead = f"{counted(audit.films, 'film')} of {counted(audit.patients, 'patient')} from {sources}"
    return render_page(
        kicker="Carina · audit",
        title=f"{title}: can figures on these films be believed?",
        lead=f"{lead} · {audit.created[:10]}",
        headlines=_headlines(audit),
        grade=audit.verdict.grade,
        verdict=(("Can this be believed?", audit.verdict.sentence),),
        warnings=[f"Could not be told: {each}." for each in audit.verdict.untold],
        sections=[make(findings) for make in SECTIONS],
    )


def _headlines(audit: Audit) -> tuple[Headline, ...]:
    """The grade; the strongest thing that is not the lungs; the accuracy without lungs."""
    judged = [each for each in audit.baselines if each.key in JUDGED]
    best = max(
        (
            (figure.value, SEES[each.key], name, figure)
            for each in judged
            for name, figure in each.rows.items()
            if figure.value is not None
        ),
        key=lambda found: found[0],
        default=None,
    )
    most = max(
        (each for each in judged if each.accuracy is not None), key=lambda e: e.accuracy or 0, default=None
    )
    usual = f"who always says the most frequent class reaches {percent(audit.most_frequent)}"
    return (
        Headline("Verdict", LABELS[audit.verdict.grade], "", "by the rules below"),
        Headline("Largest area under ROC", DASH, "", "nothing could be measured")
        if best is None
        else Headline(
            "Largest area under ROC", area(best[0]), _limits(best[3]), f"{best[1]}: {_row(best[2])}"
        ),
        Headline("Accuracy without the lungs", DASH, "", "nothing could be measured")
        if most is None
        else Headline("Accuracy without the lungs", percent(most.accuracy), "", f"{SEES[most.key]}; {usual}"),
    )


def baselines(findings: Findings) -> Section:
    """Each thing that is not the lungs, beside the model."""
    audit, model = findings.audit, findings.model
    names = (*audit.classes, DISEASE)
    rows = [
        (
            NAMES[each.key] + ("" if each.key in JUDGED else " *"),
            _share(each.accuracy),
            *_areas(each.rows, names),
        )
        for each in audit.baselines
        if not each.why
    ]
    if model is not None:
        rows.insert(0, (f"the model ({model.split})", _share(model.accuracy), *_areas(model.rows, names)))
    text = (
        "Simple classifiers were taught to tell the class from one thing each, and judged on films of "
        "patients they had not seen. Whatever they reach, they reach without looking at the lungs. A network "
        "that is taught on these films will find the same; its figures are worth what they are above these."
    )
    starred = (
        "* age, sex and view go with disease as well and can make a verdict doubtful at most; a thumbnail "
        "still sees large lesions and is never judged."
    )
    said = [Paragraph(f"{SEES[each.key]}: not measured, {each.why}.") for each in audit.baselines if each.why]
    if model is not None:
        films = counted(model.films, "film")
        said.append(Paragraph(f"The model {model.name} was asked about {films} of the split {model.split}."))
    caption = (
        "Accuracy, and area under ROC (95 % interval) of each class against all others; guessing gives 0.50."
    )
    table = Table(caption, ("Who sees only", "Accuracy", *names), tuple(rows))
    blocks: tuple[Block, ...] = (Paragraph(text), table, Paragraph(starred), *said)
    return Section("baselines", "What tells the class without the lungs", blocks)


def remedies(findings: Findings) -> Section:
    """What the pictures give away before the remedies and after them."""
    audit, remedied = findings.audit, findings.remedied
    title = "Before and after the remedies"
    if remedied is None:
        return Section("remedies", title)
    names = (*audit.classes, DISEASE)
    rows = []
    for after in remedied.baselines:
        before = audit.baseline(after.key)
        if before is None or before.why or after.why:
            continue
        rows.append((NAMES[after.key], _share(before.accuracy), *_values(before.rows, names)))
        rows.append(("→ after", _share(after.accuracy), *_values(after.rows, names)))
    text = (
        f"The same question asked of the films prepared with {remedied.words}. What source and header tell "
        "does not change by that, and the verdict stands; a network can learn what is left in the pictures."
    )
    table = Table("Accuracy, and area under ROC.", ("Who sees only", "Accuracy", *names), tuple(rows))
    cards = tuple(
        Card(((figures.picture(film), f"A film of {name}, prepared"),), (("Class", name),))
        for name, film in remedied.films
    )
    return Section("remedies", title, (Paragraph(text), table, Gallery("", cards)))


def header_facts(findings: Findings) -> Section:
    """Which fact of the header it is."""
    header = findings.audit.baseline("header")
    names = (*findings.audit.classes, DISEASE)
    if header is None or not header.parts:
        return Section("header", "Fact by fact")
    rows = tuple((name, *_areas(rows, names)) for name, rows in header.parts.items())
    caption = "Area under ROC (95 % interval) of each fact of the header by itself."
    return Section("header", "The header, fact by fact", (Table(caption, ("Fact", *names), rows),))


def within(findings: Findings) -> Section:
    """Figures among films of one source."""
    columns = [(NAMES[each.key], each.within) for each in findings.audit.baselines if each.within]
    if findings.model is not None:
        columns.insert(0, ("the model", findings.model.within))
    text = (
        "Among the films of one source, the source cannot give the class away. What the model reaches here "
        "above the other columns may be skill."
    )
    return _by_source("within", "Among films of one source", text, columns, findings.audit.healthy)


def unseen(findings: Findings) -> Section:
    """Figures on a source that was left out."""
    columns = [(NAMES[each.key], each.unseen) for each in findings.audit.baselines if each.unseen]
    text = (
        "Each baseline was taught on all sources but one, and asked about that one; a source of a single "
        "class is set against films of the others that were kept back. What worked above and fails here was "
        "knowledge of sources. (The model is not taught anew; compile --hold-out does that.)"
    )
    return _by_source("unseen", "On a source never seen", text, columns, findings.audit.healthy)


def probes(findings: Findings) -> Section:
    """What the model's embedding knows of sources."""
    if findings.model is None or not findings.model.probes:
        return Section("probes", "What the model knows of sources")
    rows = tuple(
        (
            each.class_name,
            ", ".join(f"{source} ({films})" for source, films in each.films.items()),
            area(each.area),
            _share(each.accuracy),
            _share(each.most_frequent),
        )
        for each in findings.model.probes
    )
    caption = (
        "A linear probe on the model's embedding tells the source among films of one class; judged on "
        "patients it had not seen. Area: mean over the sources, guessing gives 0.50. Usual: who always says "
        "the largest source."
    )
    head = ("Class", "Sources (films)", "Area", "Accuracy", "Usual")
    return Section("probes", "What the model knows of sources", (Table(caption, head, rows, numeric=2),))


def sights(findings: Findings) -> Section:
    """What the baselines see of a film."""
    cards = []
    for name, film in findings.films:
        small = reduced(film[None], SIDE)[0]
        block = film.shape[0] // SIDE
        big = [
            np.kron(mask, np.ones((block, block), np.bool_))
            for mask in (border_mask(SIDE), outside_ellipse(SIDE))
        ]
        tiny = np.kron(
            small.reshape(8, SIDE // 8, 8, SIDE // 8).mean((1, 3)), np.ones((film.shape[0] // 8,) * 2)
        )
        shown = (film, np.where(big[0], film, 0), np.where(big[1], film, 0), tiny.round())
        said = ("whole", "border only", "lungs blacked out", "8 × 8")
        pictures = tuple(
            (figures.picture(each.astype(np.uint8)), f"A film of {name}, {what}")
            for each, what in zip(shown, said, strict=True)
        )
        cards.append(Card(pictures, (("Class", name),)))
    if not cards:
        return Section("sights", "What they saw")
    text = "The first film of each class: whole, its border, the lungs blacked out, and as 8 × 8 thumbnail."
    return Section("sights", "What they saw", (Paragraph(text), Gallery("", tuple(cards))))


def tables(findings: Findings) -> Section:
    """Source, age, view and sex by class."""
    blocks: list[Paragraph | Table] = []
    if findings.audit.single_source:
        alone = [f"{name} ({source})" for name, source in findings.audit.single_source.items()]
        blocks.append(Paragraph(f"Classes that come from one source only: {listed(alone)}."))
    blocks.extend(_cross(each) for each in findings.audit.tables if each.rows)
    return Section("tables", "Who and whence", tuple(blocks))


def rules(findings: Findings) -> Section:
    """How the verdict comes about."""
    text = (
        "Confounded: the lower limit of an area that does not come from the lungs is "
        f"{CONFOUNDED:.2f} or more. Doubtful: {DOUBTFUL:.2f} or more. Sound: every upper limit is below "
        f"{RULED_OUT:.2f}, there are at least two sources and two classes, at least {ENOUGH} patients of "
        "each class, and nothing was left out. Otherwise it is unknown, which is no reassurance. "
        "docs/audit.md gives the reasons."
    )
    return Section("rules", "How the verdict comes about", (Paragraph(text),))


SECTIONS = (baselines, remedies, within, unseen, probes, header_facts, sights, tables, rules)


def _by_source(
    anchor: str,
    title: str,
    text: str,
    columns: Sequence[tuple[str, Mapping[str, Rows]]],
    healthy: Sequence[str],
) -> Section:
    """A row for each source and class, a column for each who was asked."""
    by_source: dict[str, set[str]] = {}
    for _, by in columns:
        for source, rows in by.items():
            by_source.setdefault(source, set()).update(rows)
    asked = [
        (source, name)
        for source in sorted(by_source)
        for name in sorted(by_source[source], key=lambda name: (name != DISEASE, name))
        if not _repeats(name, by_source[source], healthy)
    ]
    if not asked:
        return Section(anchor, title)
    cells = tuple(
        (source, _row(name), *(_cell(by.get(source, {}).get(name)) for _, by in columns))
        for source, name in asked
    )
    caption = "Area under ROC (95 % interval); guessing gives 0.50."
    head = ("Source", "Told from the rest", *(words for words, _ in columns))
    return Section(anchor, title, (Paragraph(text), Table(caption, head, cells, numeric=2)))


def _repeats(name: str, rows: set[str], healthy: Sequence[str]) -> bool:
    """Whether the row says what disease against health says there already."""
    if name == DISEASE or DISEASE not in rows:
        return False
    return len(rows) == 3 or [each for each in rows if each in healthy] == [name]


def _cross(table: CrossTable) -> Table:
    tie = f"Cramér’s V {table.association:.2f}" if table.association is not None else f"V: {table.why}"
    unstated = f"; not stated for {counted(table.unstated, 'film')}" if table.unstated else ""
    rows = tuple(
        (row, *(f"{n:,}" for n in counts)) for row, counts in zip(table.rows, table.counts, strict=True)
    )
    return Table(f"Films by {table.fact} and class. {tie}{unstated}.", (table.fact, *table.classes), rows)


def _areas(rows: Rows, names: Sequence[str]) -> list[str]:
    return [_cell(rows.get(name)) for name in names]


def _values(rows: Rows, names: Sequence[str]) -> list[str]:
    found = [rows.get(name) for name in names]
    return [DASH if each is None or each.value is None else area(each.value) for each in found]


def _cell(figure: Auc | None) -> str:
    return DASH if figure is None or figure.value is None else f"{area(figure.value)}\n{_limits(figure)}"


def _limits(figure: Auc) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{area(figure.low)}{DASH}{area(figure.high)}"


def _share(value: float | None) -> str:
    return percent(value)


def _row(name: str) -> str:
    return "disease from health" if name == DISEASE else name
