from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from carina.errors import BundleError, OutputError, SourceError
from carina.records import Prediction, Refusal
from carina.scoring.bundle import Bundle
from carina.scoring.inputs import Input
from carina.scoring.run import score_films
from carina.scoring.scorer import Scorer, softmax
from tests.bundles import CLASSES, tiny_bundle, tiny_model


def probabilities(answers: list[Prediction | Refusal]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([answer.probabilities for answer in answers if isinstance(answer, Prediction)])


def model_without_numbers_for_black_films() -> onnx.ModelProto:
    """The tiny model, its logits multiplied by peak / peak: 1, or not a number where all is black."""
    model = tiny_model()
    model.graph.node[-1].output[0] = "sound"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3]), "all"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["gray", "all"], ["peak"], keepdims=0),
            helper.make_node("Div", ["peak", "peak"], ["ratio"]),
            helper.make_node("Unsqueeze", ["ratio", "one"], ["column"]),
            helper.make_node("Mul", ["sound", "column"], ["logits"]),
        ]
    )
    return model


def test_every_film_gets_an_answer_in_the_order_of_names(scorer: Scorer, films: Path) -> None:
    answers = list(scorer.score([films]))
    assert [answer.path for answer in answers] == [str(path) for path in sorted(films.iterdir())]
    assert all(isinstance(answer, Prediction) for answer in answers)


def test_a_prediction_is_whole(scorer: Scorer, films: Path) -> None:
    (answer,) = scorer.score(films / "film_03.png")
    assert isinstance(answer, Prediction)
    assert answer.classes == CLASSES
    assert answer.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert answer.p_disease == pytest.approx(1 - answer.probabilities[CLASSES.index("Normal")], abs=1e-6)
    assert answer.cam.shape == (3, 8, 8)
    assert answer.embedding.shape == (5,)
    assert answer.prepared.shape == (64, 64)
    assert len(answer.sha256) == 64
    assert answer.facts is not None
    assert answer.facts.format == "png"


def test_the_map_and_the_bias_make_the_logit(scorer: Scorer, films: Path) -> None:
    one, two = (next(scorer.score(films / f"film_0{number}.png")) for number in (1, 2))
    assert isinstance(one, Prediction)
    assert isinstance(two, Prediction)
    bias = one.logits - one.cam.mean(axis=(1, 2))
    np.testing.assert_allclose(two.cam.mean(axis=(1, 2)) + bias, two.logits, atol=1e-5)


def test_neither_threads_nor_batches_nor_neighbours_change_a_score(bundle: Path, films: Path) -> None:
    reference = probabilities(list(Scorer(bundle, threads=1, batch=1).score(films)))
    for threads, batch in ((1, 7), (2, 3), (4, 16)):
        found = probabilities(list(Scorer(bundle, threads=threads, batch=batch).score(films)))
        np.testing.assert_allclose(found, reference, atol=1e-6)
    again = probabilities(list(Scorer(bundle, threads=1, batch=1).score(films)))
    np.testing.assert_array_equal(again, reference)


def test_predict_gives_what_score_gives(scorer: Scorer, films: Path) -> None:
    answers = [answer for answer in scorer.score(films) if isinstance(answer, Prediction)]
    outputs = scorer.predict(np.stack([answer.prepared for answer in answers]))
    np.testing.assert_allclose(outputs.probabilities, probabilities(list(answers)), atol=1e-6)
    np.testing.assert_allclose(outputs.cam[4], answers[4].cam, atol=1e-5)


def test_predict_on_no_films_answers_with_no_films(scorer: Scorer) -> None:
    assert scorer.predict(np.zeros((0, 64, 64), np.uint8)).logits.shape == (0, 3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 32, 32), np.uint8), np.zeros((64, 64), np.uint8), np.zeros((1, 64, 64))]
)
def test_predict_refuses_films_that_were_not_prepared_for_it(scorer: Scorer, wrong: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=r"prepared films are \(N, 64, 64\) uint8"):
        scorer.predict(wrong)


def test_a_bad_film_is_refused_with_its_reason_and_stops_nothing(
    scorer: Scorer, films: Path, tmp_path: Path
) -> None:
    shutil.copytree(films, tmp_path / "films")
    for number in (0, 7, 19):
        (tmp_path / "films" / f"film_{number:02}.png").write_bytes(b"not a film")
    (tmp_path / "films" / "film_08.png").write_bytes(b"")
    answers = list(scorer.score([tmp_path / "films"]))
    assert [i for i, answer in enumerate(answers) if isinstance(answer, Refusal)] == [0, 7, 8, 19]
    assert len(answers) == 20
    for answer in answers:
        assert not isinstance(answer, Refusal) or answer.reason.startswith(f"{answer.code}: ")


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "bmp", "webp"])
def test_damaged_films_are_predictions_or_refusals_and_never_a_crash(
    scorer: Scorer, films: Path, tmp_path: Path, kind: str
) -> None:
    rng = random.Random(kind)
    Image.open(films / "film_00.png").save(tmp_path / "whole", format=kind)
    whole = (tmp_path / "whole").read_bytes()
    for number in range(40):
        content = bytearray(whole[: rng.randrange(len(whole))] if number % 2 else whole)
        for _ in range(rng.randrange(6) if content else 0):
            content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / f"{number:02}.{kind}").write_bytes(content)
    answers = list(scorer.score(tmp_path))
    assert [Path(answer.path).name for answer in answers] == sorted(path.name for path in tmp_path.iterdir())
    assert isinstance(answers[-1], Prediction)
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert len(refused) >= 10
    assert all(answer.code not in ("", "internal") and len(answer.reason) > 20 for answer in refused)


def test_a_folder_of_bad_films_only_is_refusals_only(scorer: Scorer, tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    assert [type(answer) for answer in scorer.score(tmp_path)] == [Refusal] * 9


def test_a_file_that_vanishes_before_it_is_read_is_refused(
    scorer: Scorer, films: Path, tmp_path: Path
) -> None:
    shutil.copytree(films, tmp_path / "films")
    answers = scorer.score([tmp_path / "films"])
    first = next(answers)
    assert isinstance(first, Prediction)
    (tmp_path / "films" / "film_19.png").unlink()
    *_, last = answers
    assert isinstance(last, Refusal)
    assert last.path.endswith("film_19.png")


def test_films_in_an_archive_get_the_same_scores_as_on_disk(
    scorer: Scorer, films: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "night.zip", "w") as archive:
        for film in sorted(films.iterdir()):
            archive.write(film, f"night/{film.name}")
    packed = list(scorer.score(tmp_path / "night.zip"))
    np.testing.assert_array_equal(probabilities(packed), probabilities(list(scorer.score(films))))
    assert packed[0].path == f"{tmp_path / 'night.zip'}!/night/film_00.png"


def test_a_mistyped_path_is_an_error_before_anything_is_scored(scorer: Scorer, films: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        scorer.score([films, "nowhere"])


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ({"out": "d.csv"}, "d.csv: is a folder; name a file with --out"),
        ({"out": "note.txt/s.csv"}, "writing stopped before the first film"),
        ({"heatmaps": "note.txt"}, "note.txt: is a file; name a folder with --heatmaps"),
        ({"heatmaps": "note.txt/maps"}, "note.txt: is a file; name a folder with --heatmaps"),
        ({"heatmaps": "/proc/maps"}, "/proc/maps: cannot be made"),
        ({"heatmaps": "a1/maps"}, "lies in the bundle"),
        ({"out": "a1/scores.csv"}, "lies in the bundle"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_before_the_first_film(
    films: Path, tmp_path: Path, place: dict[str, str], says: str
) -> None:
    bundle = tiny_bundle(tmp_path / "a1")
    (tmp_path / "d.csv").mkdir()
    (tmp_path / "note.txt").touch()
    scored: list[object] = []
    with pytest.raises(OutputError, match=re.escape(says)):
        score_films(
            films, bundle, progress=scored.append, **{key: tmp_path / name for key, name in place.items()}
        )
    assert not scored
    Bundle.open(bundle)


def test_a_mistyped_path_leaves_no_folder_for_heat_maps_behind(
    bundle: Path, films: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError):
        score_films([films / "nowhere.png"], bundle, heatmaps=tmp_path / "deep" / "maps")
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_a_refusal_and_never_a_score(tmp_path: Path, films: Path) -> None:
    scorer = Scorer(tiny_bundle(tmp_path / "a1", model=model_without_numbers_for_black_films()), batch=4)
    shutil.copytree(films, tmp_path / "films")
    Image.new("L", (100, 100)).save(tmp_path / "films" / "film_05.png")
    answers = list(scorer.score(tmp_path / "films"))
    assert [answer.code for answer in answers if isinstance(answer, Refusal)] == ["not_finite"]
    assert isinstance(answers[5], Refusal)
    assert sum(isinstance(answer, Prediction) for answer in answers) == 19
    with pytest.raises(BundleError, match="not finite for 1 of 2 films"):
        scorer.predict(np.stack([np.zeros((64, 64), np.uint8), np.full((64, 64), 9, np.uint8)]))


def test_a_graph_that_does_not_run_is_a_bundle_error(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.node[3].op_type = "NoSuchOperator"
    with pytest.raises(BundleError, match="ONNX Runtime cannot run the model"):
        Scorer(tiny_bundle(tmp_path / "a1", model=model))


def test_stopping_half_way_ends_the_threads(scorer: Scorer, films: Path) -> None:
    others = set(threading.enumerate())  # of another test whose answers were dropped, perhaps

    def ours() -> list[str]:
        new = set(threading.enumerate()) - others
        return [thread.name for thread in new if thread.name.startswith("carina-score")]

    answers = scorer.score([films] * 50)
    for _ in range(5):
        next(answers)
    assert ours()
    answers.close()  # type: ignore[attr-defined]
    assert not ours()


@pytest.mark.parametrize(("name", "waits"), [("carina-score_0", False), ("elsewhere", True)])
def test_answers_dropped_in_a_thread_of_a_pool_do_not_wait_for_that_thread(
    scorer: Scorer, films: Path, monkeypatch: pytest.MonkeyPatch, name: str, waits: bool
) -> None:
    """The garbage collector drops them wherever it happens to run, and no thread can wait for itself."""
    waited: list[bool] = []
    shutdown = ThreadPoolExecutor.shutdown

    def told(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        waited.append(wait)
        shutdown(pool, wait, cancel_futures=cancel_futures)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", told)
    answers = scorer.score([films] * 50)
    next(answers)
    dropper = threading.Thread(target=answers.close, name=name)  # type: ignore[attr-defined]
    dropper.start()
    dropper.join()
    assert waited == [waits]


def test_films_are_read_only_as_fast_as_answers_are_taken(scorer: Scorer, films: Path) -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield films / "film_00.png"

    answers = scorer.answers(Input(str(path), path=path) for path in endless())  # type: ignore[attr-defined]
    for _ in range(40):
        next(answers)
    assert taken <= 40 + scorer.batch * (scorer.threads + 3)
    answers.close()  # type: ignore[attr-defined]


def test_softmax_of_large_logits_is_exact_and_of_none_is_none() -> None:
    found = softmax(np.array([[1000, 0], [0, 0], [np.nan, 0]], np.float32))
    np.testing.assert_array_equal(found[:2], [[1, 0], [0.5, 0.5]])
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize(("threads", "batch"), [(0, 8), (2, 0)])
def test_no_threads_or_no_batch_is_an_error(bundle: Path, threads: int, batch: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Scorer(bundle, threads=threads, batch=batch)


SCORES_A_FILM = """
import sys
from carina.scoring.scorer import Scorer
from carina.scoring.tables import ScoreTable
bundle, film, out = sys.argv[1:]
scorer = Scorer(bundle)
with ScoreTable(out, scorer.bundle.classes) as table:
    for answer in scorer.score(film):
        table.write(answer)
heavy = "torch pandas matplotlib pyarrow pydicom onnx scipy sklearn lightning timm rich typer".split()
print(*[name for name in heavy if name in sys.modules])
"""


def test_scoring_a_png_to_csv_imports_nothing_heavy(bundle: Path, films: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        SCORES_A_FILM,
        str(bundle),
        str(films / "film_00.png"),
        str(tmp_path / "s.csv"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 2
