"""How two columns of a catalogue hang together: cross tables and Cramér's V.

Pure: names in, counts out. What is not stated is left out and counted, never a value of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

AGE_BANDS = ((6, "0–5"), (18, "6–17"), (40, "18–39"), (60, "40–59"), (80, "60–79"), (math.inf, "80+"))


@dataclass(frozen=True, slots=True)
class CrossTable:
    """Films by the values of one fact (rows) and class (columns), and how closely the two are tied.

    ``counts`` is (rows, classes). ``association`` is Cramér's V in [0, 1]: 0 when the fact says nothing
    of the class, 1 when it says all; None with ``why`` where it cannot be told.
    """

    fact: str  # "source", "age", "view", "sex"
    classes: tuple[str, ...]
    rows: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    unstated: int  # films of which the fact is not known
    association: float | None
    why: str | None = None


def cross_table(
    fact: str, values: Sequence[str | None], labels: Sequence[str], classes: Sequence[str]
) -> CrossTable:
    """Count films by ``values`` (None: not stated) and ``labels``, both (N,)."""
    cells = Counter((value, label) for value, label in zip(values, labels, strict=True) if value is not None)
    rows = sorted({value for value, _ in cells}, key=_row_order)
    counts = tuple(tuple(cells[row, name] for name in classes) for row in rows)
    unstated = sum(value is None for value in values)
    association, why = cramers_v(counts)
    return CrossTable(fact, tuple(classes), tuple(rows), counts, unstated, association, why)


def cramers_v(counts: Sequence[Sequence[int]]) -> tuple[float | None, str | None]:
    """Cramér's V of a table of counts, corrected for the bias of small samples; or None and why not.

    Bergsma 2013, A bias-correction for Cramér's V and Tschuprow's T (Journal of the Korean Statistical
    Society 42:323). Empty rows and columns do not count. Films are counted, not patients, so V says how
    strong the tie is, not how certain it is.
    """
    table = [[float(n) for n in row] for row in counts if sum(row)]
    columns = [j for j in range(len(table[0])) if any(row[j] for row in table)] if table else []
    table = [[row[j] for j in columns] for row in table]
    total = sum(map(sum, table))
    if len(table) < 2 or len(columns) < 2:
        what = "nothing is stated" if not table else "one value only" if len(table) < 2 else "one class only"
        return None, what
    row_sums = [sum(row) for row in table]
    column_sums = [sum(column) for column in zip(*table, strict=True)]
    expected = [[r * c / total for c in column_sums] for r in row_sums]
    phi2 = sum(
        (seen - due) ** 2 / due
        for seen_row, due_row in zip(table, expected, strict=True)
        for seen, due in zip(seen_row, due_row, strict=True)
    ) / total  # fmt: skip
    if total <= max(len(table), len(columns)):
        return None, "too few films"
    r, c = len(table), len(columns)
    freed = max(0.0, phi2 - (r - 1) * (c - 1) / (total - 1))
    least = min(r - (r - 1) ** 2 / (total - 1), c - (c - 1) ** 2 / (total - 1)) - 1
    return (min(1.0, math.sqrt(freed / least)), None) if least > 0 else (None, "too few films")


def single_source_classes(table: CrossTable) -> dict[str, str]:
    """Classes whose films all come from one source, with that source; empty where there is one source."""
    if len(table.rows) < 2:
        return {}
    found = {}
    for column, name in enumerate(table.classes):
        of = [row for row, counts in zip(table.rows, table.counts, strict=True) if counts[column]]
        if len(of) == 1:
            found[name] = of[0]
    return found


def age_bands(
    ages: Sequence[float | None], sources: Sequence[str], spans: Mapping[str, tuple[float, float]]
) -> list[str | None]:
    """The age band of each film: by its own age, else by its set's span where that lies in one band.

    ``ages`` in years; ``spans`` are the ages that the authors of a source state for all of its films.
    """
    by_source = {
        source: low
        for source, (first, last) in spans.items()
        if (low := age_band(first)) == age_band(last) and low is not None
    }
    return [
        by_source.get(source) if age is None else age_band(age)
        for age, source in zip(ages, sources, strict=True)
    ]


def age_band(age: float) -> str | None:
    """``34`` → ``18–39``; None for what is no age."""
    if math.isnan(age) or age < 0:
        return None
    return next(name for end, name in AGE_BANDS if age < end)


def _row_order(value: str) -> tuple[int, str]:
    bands = [name for _, name in AGE_BANDS]
    return (bands.index(value) if value in bands else -1, value)
