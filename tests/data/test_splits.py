"""Splits: nothing that belongs together is parted, every class is on every side, shares are kept."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carina.data.splits import SplitRow, assign
from carina.errors import SplitError

CLASSES = ("Normal", "TB", "COVID-19")


def realistic(films: int = 3000) -> list[SplitRow]:
    """Three classes from four sources, one to forty films per patient, a few groups across patients."""
    rows = []
    patient, left = 0, 0
    for number in range(films):
        if left == 0:
            patient += 1
            left = 40 if patient % 97 == 0 else 1 + patient % 5
        left -= 1
        class_name = CLASSES[patient % 7 % 3]
        group = f"g{number - 1 if number % 50 == 0 else number}"
        rows.append(SplitRow(f"f{number:05}", f"s:{patient}", group, class_name, f"source{patient % 4}"))
    return rows


def sides_of(rows: list[SplitRow], sides: list[str], by: str) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row, side in zip(rows, sides, strict=True):
        found[getattr(row, by)].add(side)
    return found


films = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 60), st.sampled_from(CLASSES), st.sampled_from("ab")),
    max_size=120,
)


@settings(deadline=None, max_examples=60)
@given(
    films=films,
    seed=st.integers(0, 5),
    shares=st.sampled_from([(0.15, 0.15), (0.2, 0.0), (0.0, 0.5), (0.0, 1.0)]),
)
def test_a_patient_is_never_on_two_sides_and_neither_is_a_group(
    films: list[tuple[int, int, str, str]], seed: int, shares: tuple[float, float]
) -> None:
    rows = [SplitRow(str(i), f"p{p}", f"g{g}", c, s) for i, (p, g, c, s) in enumerate(films)]
    try:
        sides = assign(rows, valid=shares[0], test=shares[1], seed=seed)
    except SplitError:
        return
    assert all(len(found) == 1 for by in ("patient", "group") for found in sides_of(rows, sides, by).values())
    asked = {"train": 1 - sum(shares), "valid": shares[0], "test": shares[1]}
    for name in {row.class_name for row in rows}:
        on = {side for row, side in zip(rows, sides, strict=True) if row.class_name == name}
        assert on == {side for side, share in asked.items() if share > 0}


def test_shares_are_kept_within_two_points_in_every_class_and_source() -> None:
    rows = realistic()
    sides = assign(rows, valid=0.15, test=0.15, seed=0)
    for by in ("class_name", "source"):
        for name in {getattr(row, by) for row in rows}:
            part = Counter(side for row, side in zip(rows, sides, strict=True) if getattr(row, by) == name)
            total = sum(part.values())
            assert part["valid"] / total == pytest.approx(0.15, abs=0.02)
            assert part["test"] / total == pytest.approx(0.15, abs=0.02)


def test_the_order_of_the_films_does_not_matter() -> None:
    rows = realistic(400)
    sides = dict(zip((row.key for row in rows), assign(rows, valid=0.2, test=0.2, seed=3), strict=True))
    back = rows[::-1]
    assert (
        dict(zip((row.key for row in back), assign(back, valid=0.2, test=0.2, seed=3), strict=True)) == sides
    )


def test_another_seed_deals_other_films() -> None:
    rows = realistic(400)
    assert assign(rows, valid=0.2, test=0.2, seed=0) != assign(rows, valid=0.2, test=0.2, seed=1)
    assert assign(rows, valid=0.2, test=0.2, seed=1) == assign(rows, valid=0.2, test=0.2, seed=1)


def test_ties_keep_two_patients_together() -> None:
    rows = [SplitRow(str(i), f"p{i}", f"g{i}", "TB", "a") for i in range(40)]
    ties = [(f"p{i}", f"p{i + 1}") for i in range(0, 40, 2)]
    sides = assign(rows, valid=0.2, test=0.2, seed=0, ties=ties)
    assert all(sides[i] == sides[i + 1] for i in range(0, 40, 2))
    through = assign(rows, valid=0.2, test=0.2, seed=0, ties=[("p0", "gone"), ("gone", "p39")])
    assert through[0] == through[39]  # by way of a patient whose films were all left out


def test_split_by_image_parts_patients_as_the_report_did() -> None:
    rows = [SplitRow(str(i), f"p{i // 10}", f"g{i}", "TB", "a") for i in range(200)]
    sides = assign(rows, valid=0.15, test=0.15, seed=0, by="image")
    assert Counter(sides) == {"train": 140, "valid": 30, "test": 30}
    assert any(len(found) > 1 for found in sides_of(rows, sides, "patient").values())


def test_a_class_with_too_few_patients_is_an_error_that_names_it_and_counts_them() -> None:
    rows = [SplitRow(str(i), f"p{i}", f"g{i}", "Normal", "a") for i in range(20)]
    rows += [SplitRow(f"x{i}", f"q{i // 5}", f"h{i}", "TB", "a") for i in range(10)]
    with pytest.raises(
        SplitError, match=r"train \+ valid \+ test in class 'TB' \(2\); add films of other patients"
    ):
        assign(rows, valid=0.15, test=0.15, seed=0)
    sides = assign(rows, valid=0.0, test=0.15, seed=0)  # two sides are enough for two patients
    assert {side for row, side in zip(rows, sides, strict=True) if row.class_name == "TB"} == {
        "train",
        "test",
    }


def test_three_patients_of_a_class_go_to_three_sides() -> None:
    rows = [SplitRow(str(i), f"p{i}", f"g{i}", "Normal", "a") for i in range(60)]
    rows += [SplitRow(f"x{i}", f"q{i}", f"h{i}", "TB", "a") for i in range(3)]
    assert set(assign(rows, valid=0.15, test=0.15, seed=0)[60:]) == {"train", "valid", "test"}


@pytest.mark.parametrize(("valid", "test"), [(-0.1, 0.1), (0.6, 0.6), (1.2, 0.0)])
def test_shares_that_make_no_sense_are_refused(valid: float, test: float) -> None:
    with pytest.raises(SplitError, match="shares of all films"):
        assign([], valid=valid, test=test, seed=0)


def test_everything_can_be_test() -> None:
    rows = [SplitRow(str(i), f"p{i}", f"g{i}", "TB", "a") for i in range(5)]
    assert set(assign(rows, valid=0, test=1, seed=0)) == {"test"}
    assert set(assign(rows, valid=0, test=1, seed=0, by="image")) == {"test"}


def three_sources() -> list[SplitRow]:
    """Ninety films of Normal and TB from a, b and c; the first film of a is a copy of one of b."""
    return [
        SplitRow(f"f{n}", f"p{n}", f"g{0 if n == 1 else n}", CLASSES[n // 3 % 2], "abc"[n % 3])
        for n in range(90)
    ]


def test_a_source_that_is_held_out_is_the_test_with_all_that_is_tied_to_it() -> None:
    rows = three_sources()
    sides = assign(rows, valid=0.2, test=0.15, seed=0, hold_out=["a"])
    on = Counter(zip((row.source for row in rows), sides, strict=True))
    assert on["a", "test"] == 30
    assert on["b", "test"] == 1  # the copy of a film of a
    assert on["c", "test"] == 0
    assert on["b", "valid"] + on["c", "valid"] == pytest.approx(0.2 * 59, abs=2)
    assert assign(rows[::-1], valid=0.2, test=0.9, seed=0, hold_out=["a"])[::-1] == sides


@pytest.mark.parametrize(
    ("hold_out", "by", "words"),
    [
        (["d"], "patient", "--hold-out d: no film is from there; there are a, b, c"),
        (["a"], "image", "leave out --split image, or --hold-out"),
        (["a", "b", "c"], "patient", "every film of Normal, TB is from there"),
    ],
)
def test_what_cannot_be_held_out_is_said(hold_out: list[str], by: str, words: str) -> None:
    with pytest.raises(SplitError, match=words):
        assign(three_sources(), valid=0.2, test=0.2, seed=0, by=by, hold_out=hold_out)  # type: ignore[arg-type]


def test_a_class_that_only_the_held_out_source_has_is_named() -> None:
    rows = [*three_sources(), *(SplitRow(f"c{n}", f"q{n}", f"h{n}", "COVID-19", "a") for n in range(9))]
    with pytest.raises(SplitError, match="every film of COVID-19 is from there or tied to it"):
        assign(rows, valid=0.2, test=0, seed=0, hold_out=["a"])
