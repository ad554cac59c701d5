"""Mutated films of every kind through the command line: every film has a row, and no half is scored.

``benchmarks/mutants.py`` does the same with 5,000; the figures stand in ``docs/results.md``.
"""

from __future__ import annotations

from collections import Counter

import mutants
import pytest

COUNT = 10 * len(mutants.KINDS)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The table's rows by the names of the files."""
    root = tmp_path_factory.mktemp("mutants")
    mutants.laid_out(root, mutants.mutants(COUNT, 6))
    return mutants.scored(root)


def test_whole_films_of_every_kind_are_read() -> None:
    from carina.images.read import read

    for kind in mutants.KINDS:
        assert read(mutants._film(kind, 6)).pixels.shape == (mutants.HEIGHT, mutants.WIDTH), kind


def test_every_mutant_has_a_row_and_the_fault_is_never_ours(rows: dict[str, dict[str, str]]) -> None:
    assert len(rows) == COUNT
    codes = Counter(row["refused"].partition(":")[0] for row in rows.values())
    assert codes["internal"] == 0
    assert codes["timed_out"] == 0
    assert 0.1 < codes[""] / COUNT < 0.8  # as they were mutated, some can still be read


def test_no_film_whose_pixel_stream_was_cut_is_scored(rows: dict[str, dict[str, str]]) -> None:
    cut = [mutant.name for mutant in mutants.mutants(COUNT, 6) if mutant.cut]
    assert len(cut) > COUNT / 5
    assert [name for name in cut if not rows[name]["refused"]] == []


def test_mutants_are_the_same_for_the_same_seed() -> None:
    one, two = (list(mutants.mutants(30, 1)) for _ in range(2))
    assert one == two
    assert one != list(mutants.mutants(30, 2))
