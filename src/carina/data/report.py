"""What a compile did, counted: how many films of each source and class, and where the others went.

Pure: no files. The command line draws ``table()``; the manifest keeps ``to_dict()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from carina.data.confounding.verdict import Verdict

MERGED, CONFLICT, SINGLE_SOURCE = "exact_copy", "conflict", "single_source"

REASONS = {
    MERGED: "the same file, byte for byte",
    CONFLICT: "copies with different labels",
    SINGLE_SOURCE: "of a class that one source alone has",
    "no_class_wanted": "left out by the label map",
    "not_frontal": "not frontal",
    "too_young": "too young",
    "not_a_radiograph": "not a plain radiograph",
    "no_film": "listed, but not there",
    "no_row": "there, but not listed",
    "no_class": "outside every class folder",
    "contradiction": "listed with several labels",
    "other_set": "of another set",
    "second_copy": "the same file name twice",
    "not_a_film": "a heat map, not a film",
}


@dataclass(frozen=True, slots=True)
class CompileReport:
    """The counts of one compile. Every file that a reader found is in ``counts`` or in ``dropped``."""

    catalogue: Path
    classes: tuple[str, ...]
    healthy: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]  # source → class → films kept
    splits: Mapping[str, Mapping[str, int]]  # side → class → films
    dropped: Mapping[str, Mapping[str, int]]  # source → code → files
    readers: Mapping[str, str]  # source → reader
    patients: int
    unknown_patients: Mapping[str, int]  # source → films that count as patients of their own
    unknown_ages: int
    near_groups: int  # groups of at least two different files
    near_films: int
    conflict_groups: int
    seconds: float
    decided_apart: int = 0  # pairs that look like copies, and a person said they are not
    decided_together: int = 0  # pairs that nobody found, and a person said they are copies
    warnings: tuple[str, ...] = field(default=())
    verdict: Verdict | None = None  # of the quick audit; None until the catalogue is written

    @property
    def images(self) -> int:
        """Films in the catalogue."""
        return sum(sum(row.values()) for row in self.counts.values())

    @property
    def merged(self) -> int:
        """Exact copies that were merged into another film."""
        return sum(row.get(MERGED, 0) for row in self.dropped.values())

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Source × class as text: a header, and a row for each source with a row of sums below.

        The last three columns: all films kept, exact copies merged, files left out for other reasons.
        """
        rows = [self._row(source) for source in (*self.counts, None)]
        return ("source", *self.classes, "films", "merged", "left out"), rows

    def _row(self, source: str | None) -> tuple[str, ...]:
        sources = list(self.counts) if source is None else [source]
        kept = [sum(self.counts[s].get(name, 0) for s in sources) for name in self.classes]
        merged = sum(self.dropped.get(s, {}).get(MERGED, 0) for s in sources)
        left_out = sum(sum(self.dropped.get(s, {}).values()) for s in sources) - merged
        return (
            "all" if source is None else source,
            *map(str, kept),
            str(sum(kept)),
            str(merged),
            str(left_out),
        )

    def summary(self) -> str:
        """One line: films, patients, sides, copies."""
        sides = ", ".join(f"{sum(row.values())} {side}" for side, row in self.splits.items())
        decided = (
            f"; decided by a person: {self.decided_apart} pairs apart, {self.decided_together} together"
            if self.decided_apart or self.decided_together
            else ""
        )
        return (
            f"{self.images} films of {self.patients} patients ({sides}); {self.merged} exact copies merged, "
            f"{self.near_films} films in {self.near_groups} groups of near copies, "
            f"{self.conflict_groups} groups with conflicting labels{decided}"
        )

    def reasons(self) -> list[tuple[str, str, int]]:
        """Why files were left out: source, reason in words, count; in the sources' order, largest first."""
        found = []
        for source, codes in self.dropped.items():
            for code, n in sorted(codes.items(), key=lambda item: (-item[1], item[0])):
                found.append((source, REASONS.get(code, f"cannot be read ({code})"), n))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest; no time and no place, so that equal compiles write equal counts."""
        plain = asdict(self)
        for key in ("catalogue", "seconds", "classes", "healthy", "verdict"):
            del plain[key]
        return plain
