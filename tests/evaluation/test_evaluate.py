"""From a bundle and a catalogue to three files; nothing is left out in silence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from carina.data.catalogue import Catalogue
from carina.data.pixels import PixelCache
from carina.errors import CatalogueError, DataError, OutputError, RunError
from carina.evaluation.evaluate import Evaluation, evaluate
from carina.records import Progress
from carina.scoring.bundle import Bundle
from tests.bundles import tiny_bundle
from tests.evaluation.worlds import CLASSES, write_catalogue, write_films


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    return write_films(tmp_path / "films", 24)


def evaluated(
    tmp_path: Path, films: list[Path], *, trained_on: list[int] | None = None, **options: object
) -> Evaluation:
    """Films 0–11 are the validation split; the bundle was trained on 12–23 unless told otherwise."""
    catalogue = write_catalogue(tmp_path / "catalogue", films)
    hashes = dict(
        zip(catalogue.films["path"].to_pylist(), catalogue.films["sha256"].to_pylist(), strict=True)
    )
    known = [hashes[str(films[row])] for row in (range(12, 24) if trained_on is None else trained_on)]
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES, 64, trained_on=known)
    return evaluate(bundle, catalogue, out=tmp_path / "out", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def told() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, told: list[Progress]) -> Evaluation:
    folder = tmp_path_factory.mktemp("plain")
    return evaluated(folder, write_films(folder / "films", 24), progress=told.append)


def test_three_files_and_the_headline(result: Evaluation) -> None:
    assert sorted(path.name for path in result.out.iterdir()) == [
        "metrics.json",
        "predictions.parquet",
        "report.html",
    ]
    assert result.headline[0].startswith("Recall of disease")
    assert result.headline[1].startswith("Can this be believed?           Cannot be told")
    read = json.loads((result.out / "metrics.json").read_text())
    assert read == json.loads(json.dumps(result.metrics))
    assert read["metrics"]["films"] == 12
    assert read["metrics"]["detection"]["sensitivity"]["films"] == 8
    assert read["contamination"]["known"] == 0
    assert read["verdict"]["grade"] == "unknown"
    assert "all films come from one source, so nothing is known of any other" in read["verdict"]["untold"]


def test_predictions_stand_one_a_film_with_truth_and_answer(result: Evaluation) -> None:
    table = pq.read_table(result.out / "predictions.parquet")
    assert table.column_names == [
        "image_id", "path", "class", "predicted", "p_disease", "p_Bacterial Pneumonia", "p_COVID-19",
        "p_Normal", "loss", "patient", "source", "split", "refused",
            "abstained",
    ]  # fmt: skip
    assert table.num_rows == 12
    for row in table.to_pylist():
        assert row["p_disease"] == pytest.approx(1 - row["p_Normal"], abs=1e-6)
        assert row["predicted"] == max(CLASSES, key=lambda name: row[f"p_{name}"])
        assert row["refused"] is None


def test_films_the_bundle_was_trained_on_are_said_everywhere(tmp_path: Path, films: list[Path]) -> None:
    result = evaluated(tmp_path, films, trained_on=[0, 1, 2])  # films 2 and 3 are of one patient
    assert result.metrics["contamination"] == {
        "films": 12, "same_film": 3, "near_copy": 0, "same_patient": 1, "known": 4,
    }  # fmt: skip
    said = "4 of 12 films are not new to this bundle"
    assert result.lines()[0].startswith(f"warning: {said}")
    assert said in (result.out / "report.html").read_text().partition("<nav")[0]
    assert said in json.loads((result.out / "metrics.json").read_text())["warnings"][0]


def test_a_film_that_cannot_be_scored_keeps_its_row_and_its_reason(tmp_path: Path, films: list[Path]) -> None:
    write_catalogue(tmp_path / "catalogue", films)
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES, 64, trained_on=["0" * 64])
    gone, changed, broken = films[0], films[1], films[3]
    gone.unlink()
    Image.new("L", (80, 80), 90).save(changed)
    broken.write_bytes(b"no image at all")
    result = evaluate(bundle, tmp_path / "catalogue", out=tmp_path / "out")
    rows = {row["path"]: row for row in pq.read_table(result.out / "predictions.parquet").to_pylist()}
    assert len(rows) == 12
    for path, word in ((gone, "missing"), (changed, "changed"), (broken, "not_an_image")):
        assert rows[str(path)]["refused"].startswith(word)
        assert rows[str(path)]["p_disease"] is None
    assert len(result.metrics["refused"]) == 3
    assert result.metrics["metrics"]["films"] == 9
    assert "3 films of 12 could not be scored, 3 of them diseased" in result.lines()[0]


def test_a_class_the_bundle_does_not_know_is_named(tmp_path: Path, films: list[Path]) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", films, classes=("TB", "Normal"))
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES, 64)
    with pytest.raises(DataError, match="'TB' is not one of the bundle's"):
        evaluate(bundle, catalogue, out=tmp_path / "out")


def test_bundle_and_catalogue_must_agree_on_what_healthy_means(tmp_path: Path, films: list[Path]) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", films, healthy=("COVID-19", "Normal"))
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES, 64)
    with pytest.raises(DataError, match="'COVID-19' is diseased for the bundle but not for the catalogue"):
        evaluate(bundle, catalogue, out=tmp_path / "out")


def test_a_catalogue_with_fewer_classes_is_measured_and_the_gap_said(
    tmp_path: Path, films: list[Path]
) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", films, classes=("COVID-19", "Normal"))
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES, 64, trained_on=["0" * 64])
    result = evaluate(bundle, catalogue, out=tmp_path / "out")
    assert result.warnings[-1] == (
        "No film of Bacterial Pneumonia is among these films: nothing is known about the recall there."
    )
    assert result.metrics["metrics"]["per_class"][0]["recall"]["value"] is None


def test_scores_no_better_than_guessing_are_called_that(result: Evaluation) -> None:
    assert (result.metrics["metrics"]["disease_auc"]["low"] or 0) <= 0.5  # the tiny bundle knows nothing
    assert "better than guessing" in result.warnings[0]


def test_a_split_without_films_is_an_error(tmp_path: Path, films: list[Path]) -> None:
    with pytest.raises(CatalogueError, match="test"):
        evaluated(tmp_path, films, split="test")


def test_when_no_film_can_be_scored_there_is_no_report(tmp_path: Path, films: list[Path]) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", films)
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES, 64)
    for path in films:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 12 films could be scored"):
        evaluate(bundle, catalogue, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError):
        evaluate(bundle, catalogue, out=tmp_path / "there")
    assert (tmp_path / "there").is_dir()  # made by somebody else, so it stays


def test_results_never_go_into_the_bundle(tmp_path: Path, films: list[Path]) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", films)
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES, 64)
    other = tiny_bundle(tmp_path / "run" / "bundle", CLASSES, 64)
    for place in (bundle / "evaluation", bundle, other / "deep" / "er"):
        with pytest.raises(OutputError, match="lies in the bundle"):
            evaluate(bundle, catalogue, out=place)
    assert Bundle.open(bundle).manifest == Bundle.open(other).manifest


def test_results_never_go_among_the_files_of_the_catalogue(tmp_path: Path, films: list[Path]) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", films)
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES, 64)
    with pytest.raises(OutputError, match="is the catalogue; name another folder with --out"):
        evaluate(bundle, catalogue, out=tmp_path / "catalogue")
    assert not (tmp_path / "catalogue" / "report.html").exists()


def test_a_file_in_the_way_is_an_output_error(tmp_path: Path, films: list[Path]) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="out: is a file; name a folder with --out"):
        evaluated(tmp_path, films)


def test_the_same_seed_gives_the_same_figures_and_results_are_replaced(result: Evaluation) -> None:
    folder = result.out.parent
    again = evaluate(folder / "bundle", folder / "catalogue", out=result.out)
    assert again.metrics["metrics"] == result.metrics["metrics"]
    assert len(list(again.out.iterdir())) == 3


def test_progress_counts_every_film(result: Evaluation, told: list[Progress]) -> None:
    assert result.metrics["metrics"]["films"] == 12
    assert [step.done for step in told if step.stage == "score"] == list(range(1, 13))


def test_packed_pixels_give_the_same_figures_and_pictures_without_the_films(
    tmp_path: Path, films: list[Path]
) -> None:
    from_files = evaluated(tmp_path, films)
    catalogue = Catalogue.open(tmp_path / "catalogue")
    PixelCache.build(catalogue, Bundle.open(tmp_path / "bundle").preparation, workers=0)
    for path in films:
        path.unlink()
    from_cache = evaluate(tmp_path / "bundle", catalogue, out=tmp_path / "again")
    assert from_cache.metrics["metrics"] == from_files.metrics["metrics"]
    pages = [(folder / "report.html").read_text() for folder in (from_files.out, from_cache.out)]
    assert pages[0].count("data:image/jpeg") == pages[1].count("data:image/jpeg") == 3 * 4 + 2 * 12


def test_a_damaged_pixel_cache_is_not_used(tmp_path: Path, films: list[Path]) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", films)
    bundle = Bundle.open(tiny_bundle(tmp_path / "bundle", CLASSES, 64))
    PixelCache.build(catalogue, bundle.preparation, workers=0)
    folder = catalogue.root / "pixels" / bundle.preparation.fingerprint()
    (folder / "pixels.u8").write_bytes(b"")
    films[0].unlink()  # so that it cannot be repaired either
    result = evaluate(bundle, catalogue, out=tmp_path / "out")
    assert [each["path"] for each in result.metrics["refused"]] == [str(films[0])]


def test_training_curves_come_from_the_run_around_the_bundle(tmp_path: Path, films: list[Path]) -> None:
    row = {
        "epoch": 1,
        "train_loss": 0.9,
        "valid_loss": 0.8,
        "accuracy": 0.7,
        "stage": 0,
        "size": 64,
        "frozen": True,
    }
    (tmp_path / "history.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps(row)[:20]
    )  # killed while writing
    page = (evaluated(tmp_path, films).out / "report.html").read_text()
    assert 'id="training"' in page
    assert "over 1 epoch;" in page


def test_a_damaged_history_names_its_line(tmp_path: Path, films: list[Path]) -> None:
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\nrubbish\n{"epoch": 3}\n')
    with pytest.raises(RunError, match="line 2 is damaged"):
        evaluated(tmp_path, films)


def test_a_run_that_is_none_is_an_error(tmp_path: Path, films: list[Path]) -> None:
    with pytest.raises(RunError, match=r"no history\.jsonl"):
        evaluated(tmp_path, films, run=tmp_path / "films")


@pytest.mark.parametrize("absent", ["matplotlib", "jinja2", "sklearn"])
def test_without_the_report_extra_the_cure_is_named(absent: str) -> None:
    code = f"""
import sys
sys.modules[{absent!r}] = None
from carina.errors import MissingExtra
try:
    import carina
    carina.evaluate
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "carina evaluate" in done.stdout
    assert "pip install 'carina[report]'" in done.stdout


def test_evaluation_knows_no_torch_and_no_pyplot() -> None:
    code = "import sys, carina.evaluation.evaluate; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
