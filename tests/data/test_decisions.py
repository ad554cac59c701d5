"""What a person decided about near copies: kept, honoured, and taken back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from carina.data.catalogue import Catalogue
from carina.data.decisions import Decision, Decisions, grouped, keep
from carina.data.duplicates import NearCopy, group_ids
from carina.data.review import cases
from carina.errors import CatalogueError, DecisionError
from tests.data.test_compile import clinic, lines, run, save

A, B, C, D = (letter * 64 for letter in "abcd")


def pair(first: int, second: int, score: float = 0.95) -> NearCopy:
    return NearCopy(first, second, score, "copy")


def groups(found: list[NearCopy], *made: tuple[tuple[str, ...], ...]) -> list[int]:
    decisions = Decisions(tuple(Decision(parts) for parts in made))
    return list(grouped([A, B, C, D], found, decisions).first)


@pytest.mark.parametrize(
    ("found", "made", "expected"),
    [
        ([pair(0, 1)], [], [0, 0, 2, 3]),
        ([pair(0, 1)], [((A,), (B,))], [0, 1, 2, 3]),
        ([], [((A, B),)], [0, 0, 2, 3]),
        # what is apart stays apart, whoever else resembles both: the surer pair wins
        ([pair(0, 1), pair(0, 2, 0.99), pair(1, 2)], [((A,), (B,))], [0, 1, 0, 3]),
        ([pair(0, 1), pair(0, 2), pair(1, 2, 0.99)], [((A,), (B,))], [0, 1, 1, 3]),
        # the later word counts
        ([pair(0, 1)], [((A,), (B,)), ((A, B),)], [0, 0, 2, 3]),
        ([pair(0, 1)], [((A, B),), ((A,), (B,))], [0, 1, 2, 3]),
        # two groups that a person joined stay apart from a third as wholes
        ([pair(0, 1), pair(2, 3, 0.99), pair(1, 2)], [((A,), (D,))], [0, 0, 2, 2]),
        # a decision about films that are not here changes nothing
        ([pair(0, 1)], [(("e" * 64,), (A,))], [0, 0, 2, 3]),
    ],
)
def test_groups_follow_the_decisions(
    found: list[NearCopy], made: list[tuple[tuple[str, ...], ...]], expected: list[int]
) -> None:
    assert groups(found, *made) == expected


def test_without_decisions_groups_are_what_the_pairs_say() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        ends = np.sort([draw.choice(30, 2, replace=False) for _ in range(18)], axis=1)
        found = [pair(int(one), int(other), float(draw.uniform(0.93, 1))) for one, other in ends]
        names = [f"{number:064x}" for number in range(30)]
        assert list(grouped(names, found, Decisions()).first) == list(group_ids(30, found))


def test_what_decisions_changed_is_counted() -> None:
    decisions = Decisions((Decision(((A,), (B,))), Decision(((C, D),))))
    made = grouped([A, B, C, D], [pair(0, 1)], decisions)
    assert (made.overruled, made.added) == (1, 1)


def test_later_decisions_replace_those_about_the_same_films(tmp_path: Path) -> None:
    older = Decisions((Decision(((A,), (B,))), Decision(((C, D),))))
    both = older.followed_by(Decisions((Decision(((A, B),)),)))
    assert both.made == (Decision(((C, D),)), Decision(((A, B),)))
    both.save(tmp_path / "decisions.json")
    assert Decisions.load(tmp_path / "decisions.json") == both


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no decisions"),
        ('{"kind": "carina decisions", "format": 9}', "format 9; this Carina reads 1"),
        ('{"kind": "carina decisions", "format": 1, "groups": 3}', "its groups are no list"),
        ('{"kind": "carina decisions", "format": 1, "groups": [[["x"]]]}', "group 1 is no list of parts"),
        ('{"kind": "carina decisions", "format": 1, "groups": [[[]]]}', "group 1 is no list of parts"),
        (
            json.dumps({"kind": "carina decisions", "format": 1, "groups": [[[A], [A]]]}),
            "group 1 names a film twice",
        ),
    ],
)
def test_a_file_without_decisions_is_an_error(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(DecisionError, match=words):
        Decisions.load(tmp_path / "d.json")


def compiled(tmp_path: Path) -> Path:
    """Six films of clinic a, each with a copy in clinic b, and a copy of the first with another label."""
    clinic(tmp_path / "a")
    for number in range(6):
        save(tmp_path / "b" / "TB" / f"copy {number}.jpg", number, quality=60)
    save(tmp_path / "b" / "Normal" / "again.jpg", 0, quality=80)
    run({"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "cat")
    return tmp_path / "cat"


def test_a_split_holds_in_the_next_compile_and_can_be_taken_back(tmp_path: Path) -> None:
    catalogue = compiled(tmp_path)
    listed = cases(Catalogue.open(catalogue))
    assert [len(case.sha256s) for case in listed] == [3, 2, 2, 2, 2, 2]
    assert listed[0].conflicting
    assert listed[0].classes == ("Normal", "TB")
    assert not any(case.decided for case in listed)
    split, apart = listed[1], listed[0]
    saved = tmp_path / "decisions.json"
    Decisions(
        (
            Decision(tuple((film,) for film in split.sha256s)),
            Decision(tuple((film,) for film in apart.sha256s)),
        )
    ).save(saved)
    kept, again = keep(catalogue, saved)
    assert kept == 2
    assert again[:3] == ["carina", "compile", f"a={tmp_path / 'a'}"]
    assert again[again.index("--conflicts") + 1] == "leave_out"

    report = run({"a": tmp_path / "a", "b": tmp_path / "b"}, catalogue)
    assert (report.near_groups, report.conflict_groups) == (4, 0)
    assert report.decided_apart == 4  # one pair, and the three of the conflict
    assert "decided by a person: 4 pairs apart" in report.summary()
    after = {case.sha256s: case for case in cases(Catalogue.open(catalogue))}
    assert after[split.sha256s].parts == (0, 1)
    assert after[split.sha256s].decided
    assert not after[apart.sha256s].conflicting

    Decisions((Decision((split.sha256s,)),)).save(saved)
    keep(catalogue, saved)
    assert run({"a": tmp_path / "a", "b": tmp_path / "b"}, catalogue).near_groups == 5


def test_decisions_can_be_given_to_a_first_compile(tmp_path: Path) -> None:
    catalogue = compiled(tmp_path)
    (case, *_) = cases(Catalogue.open(catalogue))
    Decisions((Decision(tuple((film,) for film in case.sha256s)),)).save(tmp_path / "d.json")
    sources = {"a": tmp_path / "a", "b": tmp_path / "b"}
    report = run(sources, tmp_path / "other", decisions=tmp_path / "d.json")
    assert report.conflict_groups == 0
    assert Decisions.of_catalogue(tmp_path / "other") == Decisions.load(tmp_path / "d.json")


def test_one_file_with_two_labels_is_a_case_of_one_film(tmp_path: Path) -> None:
    clinic(tmp_path / "a")
    save(tmp_path / "b" / "Normal" / "x.png", 0)
    run({"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "cat")
    (case,) = cases(Catalogue.open(tmp_path / "cat"))
    assert (len(case.sha256s), len(case.files[0]), case.conflicting) == (1, 2, True)


def test_the_pairs_stand_in_a_list_with_their_agreement(tmp_path: Path) -> None:
    rows = lines(compiled(tmp_path), "pairs.csv")
    assert len(rows) == 8
    assert {row["kind"] for row in rows} == {"copy"}
    assert all(0.92 <= float(row["score"]) <= 1 for row in rows)


def test_a_catalogue_without_pairs_is_to_be_compiled_again(tmp_path: Path) -> None:
    catalogue = compiled(tmp_path)
    (catalogue / "pairs.csv").unlink()
    with pytest.raises(CatalogueError, match="compile the catalogue again"):
        cases(Catalogue.open(catalogue))
