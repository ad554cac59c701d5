from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from carina.evaluation.group_sections import abstained, lines
from carina.evaluation.group_sections import subgroups as section
from carina.evaluation.predictions import Predictions
from carina.evaluation.subgroups import NOT_STATED, age_band, called_diseased, subgroups


def films(sexes: list[str | None], *, missed: set[int]) -> Predictions:
    """Every film diseased, of a patient of its own; those in ``missed`` are called healthy."""
    count = len(sexes)
    probabilities = np.array([[0.1, 0.9] if row in missed else [0.9, 0.1] for row in range(count)])
    table = pa.table(
        {
            "patient": [f"p{row}" for row in range(count)],
            "group": [f"g{row}" for row in range(count)],
            "source": ["a"] * count,
            "sex": pa.array(sexes, pa.string()),
            "age": pa.array([None] * count, pa.float32()),
            "view": pa.array([None] * count, pa.string()),
        }
    )
    labels = np.zeros(count, dtype=np.int64)
    return Predictions(
        table, ("TB", "Normal"), frozenset({"Normal"}), labels, probabilities, (None,) * count,
        tuple("inverted" if row == 0 else None for row in range(count)),
    )  # fmt: skip


def test_the_group_that_is_failed_stands_first_with_its_interval() -> None:
    made = films(["F"] * 40 + ["M"] * 40 + [None] * 5, missed=set(range(16)))
    found = {(each.kind, each.name): each for each in subgroups(made, called_diseased(made))}
    assert list(found)[:3] == [("sex", "F"), ("sex", "M"), ("sex", NOT_STATED)]
    women = found["sex", "F"].recall
    assert (women.hits, women.films) == (24, 40)
    assert women.low is not None
    assert 0.4 < women.low < 0.6
    assert found["sex", "M"].recall.value == 1.0
    assert found["source", "a"].recall.hits == 69
    assert not [kind for kind, _ in found if kind in ("age", "view")]  # no film says anything of them


def test_every_film_is_in_one_group_of_each_kind() -> None:
    made = films(["F", "M", None] * 6, missed=set())
    of_sex = [each for each in subgroups(made, called_diseased(made)) if each.kind == "sex"]
    assert sum(each.recall.films for each in of_sex) == 18


@pytest.mark.parametrize(
    ("age", "band"),
    [(0.0, "0–4"), (4.99, "0–4"), (5.0, "5–17"), (18, "18–39"), (79.9, "60–79"), (80, "80 and over"),
     (104, "80 and over"), (None, NOT_STATED), (float("nan"), NOT_STATED), (-1.0, NOT_STATED)],
)  # fmt: skip
def test_age_bands(age: float | None, band: str) -> None:
    assert age_band(age) == band


def test_the_page_says_who_is_failed_and_what_would_be_refused() -> None:
    made = films(["F"] * 4 + ["M"] * 4, missed={1})
    table = section(subgroups(made, called_diseased(made))).blocks[0]
    assert table.kind == "table"
    assert table.rows[0][:2] == ("Sex: F", "3 of 4")
    assert lines(made) == ("Would be refused                1 of 8 films (12.5 %), most of them as inverted",)
    text = abstained(made).blocks[0]
    assert text.kind == "paragraph"
    assert text.text.startswith("1 film of 8 (12.5 %) would be refused")
