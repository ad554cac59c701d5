"""Two models' answers to the same films, paired and put into one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carina.data.confounding.verdict import Grade, Verdict
from carina.errors import DataError, RunError
from carina.evaluation.compare import Answers, compare, compared
from carina.evaluation.predictions import Predictions
from tests.evaluation.worlds import CLASSES, predictions

HEALTHY = frozenset({"Normal"})
SOUND = Verdict(Grade.SOUND, "Sound, as far as this audit sees.")
CONFOUNDED = Verdict(Grade.CONFOUNDED, "Confounded: the source of a film alone tells TB (AUC 0.99).")


def answers(name: str, given: Predictions, verdict: Verdict = SOUND) -> Answers:
    """The predictions as an evaluation would have written them."""
    return Answers(name, given.table(), given.healthy, verdict)


def sharper(given: Predictions, by: float) -> Predictions:
    """The same films, the probability of the truth raised."""
    rows = np.arange(len(given.labels))
    probabilities = given.probabilities.copy()
    probabilities[rows, given.labels] *= by
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Predictions(given.films, given.classes, given.healthy, given.labels, probabilities, given.refused)


def written(folder: Path, name: str, given: Predictions, split: str = "valid") -> Path:
    """The two files of an evaluation that a comparison reads."""
    folder.mkdir()
    pq.write_table(given.table(), folder / "predictions.parquet")
    about = {
        "bundle": {"name": name},
        "split": split,
        "metrics": {"healthy": ["Normal"]},
        "verdict": CONFOUNDED.to_dict(),
    }
    (folder / "metrics.json").write_text(json.dumps(about))
    return folder


def test_a_clear_gain_is_more_than_chance_and_said_in_one_sentence() -> None:
    plain = predictions(240)
    found = compared(answers("plain", plain), answers("better", sharper(plain, 4)))
    accuracy = found.differences[0]
    assert accuracy.value is not None
    assert accuracy.value > 0.1
    assert found.sentence.startswith("better is better in accuracy")
    assert "than plain, by more than chance" in found.sentence
    assert [each.name for each in found.differences] == [
        "Accuracy",
        "Recall of disease",
        "Specificity",
        "Area under ROC, disease",
    ]


def test_no_difference_is_said_without_the_verdict_on_the_films_and_the_graver_one_counts() -> None:
    plain = predictions(60)
    found = compared(answers("a", plain), answers("b", sharper(plain, 4), CONFOUNDED))
    assert found.verdict is CONFOUNDED
    assert found.lines()[-1] == f"Can this be believed? {CONFOUNDED.sentence}"
    turned = compared(answers("a", plain, CONFOUNDED), answers("b", sharper(plain, 4)))
    assert turned.verdict is CONFOUNDED


def test_an_evaluation_without_a_verdict_is_not_compared(tmp_path: Path) -> None:
    folders = [written(tmp_path / name, name, predictions(60)) for name in ("a", "b")]
    about = json.loads((folders[0] / "metrics.json").read_bytes())
    del about["verdict"]
    (folders[0] / "metrics.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match="not a whole evaluation"):
        compare(*folders)


def test_a_model_against_itself_is_no_difference() -> None:
    same = predictions(240)
    found = compared(answers("a", same), answers("b", same))
    assert [each.value for each in found.differences] == [0, 0, 0, 0]
    assert found.sentence == (
        "No difference that chance could not make on 240 films of 120 patients: every interval holds 0."
    )


def test_the_order_of_the_films_does_not_matter() -> None:
    plain, better = predictions(60), sharper(predictions(60), 3)
    table = better.table()
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(60)))
    straight = compared(answers("a", plain), answers("b", better))
    assert compared(answers("a", plain), Answers("b", shuffled, HEALTHY, SOUND)) == straight


def test_films_that_one_of_them_refused_are_left_out_and_counted() -> None:
    found = compared(answers("a", predictions(60, refused=[3, 4])), answers("b", predictions(60)))
    assert (found.films, found.left_out) == (58, 2)
    assert "2 films left out" in found.lines()[0]


def test_other_truth_for_the_same_film_is_refused() -> None:
    table = predictions(60).table()
    place = table.schema.get_field_index("class")
    renamed = pa.array([CLASSES[2] if name == CLASSES[0] else name for name in table["class"].to_pylist()])
    other = Answers("b", table.set_column(place, "class", renamed), HEALTHY, SOUND)
    with pytest.raises(DataError, match=r"20 films in all; compare evaluations with the same label map"):
        compared(answers("a", predictions(60)), other)


def test_no_film_in_common_is_refused() -> None:
    table = predictions(6).table()
    strange = table.set_column(0, "image_id", pa.array([f"other{n}" for n in range(6)]))
    with pytest.raises(DataError, match="a and b have no film in common"):
        compared(answers("a", predictions(6)), Answers("b", strange, HEALTHY, SOUND))


def test_evaluation_folders_are_read_from_disk(tmp_path: Path) -> None:
    one = written(tmp_path / "one", "quick", predictions(60))
    other = written(tmp_path / "other", "best", sharper(predictions(60), 3))
    found = compare(one, other)
    assert (found.first, found.second, found.films) == ("quick", "best", 60)


def test_models_of_the_same_name_are_called_by_their_folders(tmp_path: Path) -> None:
    one = written(tmp_path / "one", "quick", predictions(60))
    other = written(tmp_path / "other", "quick", predictions(60))
    assert compare(one, other).first == str(one)


def test_another_split_than_asked_for_is_refused(tmp_path: Path) -> None:
    one = written(tmp_path / "one", "quick", predictions(60), split="test")
    with pytest.raises(DataError, match="holds the films of split test, not valid"):
        compare(one, one, split="valid")


def test_a_folder_that_is_neither_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a run folder nor an evaluation"):
        compare(tmp_path, tmp_path)


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="not finished; give `carina train` the same command again"):
        compare(tmp_path, tmp_path)
