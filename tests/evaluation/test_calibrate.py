"""From a bundle and a catalogue to a bundle with operating points, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.data.catalogue import Catalogue
from carina.data.confounding.verdict import Grade
from carina.errors import BundleError, ClaimError, OutputError
from carina.evaluation.bayes import share
from carina.evaluation.belief import of_site
from carina.evaluation.calibrate import Calibration, calibrate
from carina.evaluation.wording import percent
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.operating import operating_point, sites
from carina.scoring.scorer import Scorer
from tests.bundles import tiny_bundle
from tests.evaluation.outline import check_whole, text_of
from tests.evaluation.worlds import CLASSES


@pytest.fixture(scope="module")
def done(plain: Path, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    out = tmp_path_factory.mktemp("out") / "calibrated"
    return calibrate(plain, catalogue, targets=(0.99, 0.9, 0.8), out=out, site="north")


def test_the_bundle_carries_its_points_and_the_same_model(done: Calibration, plain: Path) -> None:
    before, after = Bundle.open(plain), Bundle.open(done.bundle.root)
    of_the_model = before.manifest.files.items() - {("card.md", before.manifest.files["card.md"])}
    assert of_the_model <= after.manifest.files.items()
    assert set(after.manifest.files) == {*before.manifest.files, "card.json"}
    assert after.manifest.created == before.manifest.created
    assert [point.target for point in sites(after)["north"].points] == [0.8, 0.9]
    assert operating_point(after, "north").target == 0.9
    assert operating_point(after, "north", 0.8).sensitivity.people == 40


def test_points_carry_the_verdict_on_their_films_wherever_they_are_quoted(
    done: Calibration, plain: Path, tmp_path: Path
) -> None:
    kept = sites(done.bundle)["north"].verdict
    assert kept is not None
    assert (kept.grade, kept.sentence) == (done.verdict.grade, done.verdict.sentence)
    assert f"north, can this be believed? {kept.sentence}" in (done.bundle.root / "card.md").read_text()
    asked = of_site(done.bundle, "north")
    assert (asked.grade, asked.sentence) == (done.verdict.grade, done.verdict.sentence)
    unheard = of_site(Bundle.open(plain), "north")
    assert unheard.grade is Grade.UNKNOWN
    assert "no audit of the films of 'north' was kept" in unheard.sentence
    config = tmp_path / "dept.toml"
    example = Path(__file__).parents[2] / "docs" / "examples" / "department.toml"
    text = example.read_text("utf-8").replace("days = 15", "days = 2")
    config.write_text(
        text.replace("repetitions = 12", "repetitions = 2").replace('"TB"', '"COVID-19"'), "utf-8"
    )
    verb = ["simulate", "--config", str(config), "--model", str(done.bundle.root), "--site", "north"]
    said = CliRunner().invoke(app, verb)
    assert said.exit_code == 0, said.output
    assert "Measured: recall of" in said.stdout
    assert f"Can this be believed? {kept.sentence}" in " ".join(said.stdout.split())


def test_the_threshold_finds_the_films_it_says_it_finds(done: Calibration, catalogue: Catalogue) -> None:
    point = operating_point(done.bundle, "north", 0.9)
    table = catalogue.table("valid")
    scored = list(Scorer(done.bundle).score(table["path"].to_pylist()))
    p_disease = np.array([getattr(each, "p_disease", np.nan) for each in scored])
    ill = np.array([name != "Normal" for name in table["class"].to_pylist()])
    assert int((p_disease[ill] >= point.threshold).sum()) == point.sensitivity.found == 40
    assert int((p_disease[~ill] < point.threshold).sum()) == point.specificity.spared
    assert point.sensitivity.limit == pytest.approx(0.05 ** (1 / 40))


def test_the_same_films_put_the_probabilities_right(done: Calibration) -> None:
    corrected = sites(done.bundle)["north"].corrected
    assert corrected is not None
    assert corrected.prevalence == pytest.approx(2 / 3)
    assert corrected.after.log_loss <= corrected.before.log_loss
    assert "calibration error" in done.probabilities()[0]


def test_predictive_values_are_those_of_the_stated_prevalence(done: Calibration) -> None:
    head, rows = done.at_prevalence(share("0.05", "the prevalence"))
    assert head[1].endswith("(PPV)")
    spared = done.site.points[-1].specificity.value or 0
    assert rows[-1][-1] == percent(0.95 * spared)  # all 40 diseased people are found


def test_what_cannot_be_carried_is_said(done: Calibration) -> None:
    (said,) = done.refused
    assert said == (
        "40 positives can show at most 92.8 % at 95 % confidence; 299 without a miss are needed for 99 %; "
        "calibrate on more diseased patients, or promise less"
    )


def test_scores_that_know_nothing_are_called_that(done: Calibration) -> None:
    assert any("cannot be told from drawing lots" in warning for warning in done.warnings)


def test_what_chose_the_weights_by_validation_films_is_said(
    plain: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    opened = Bundle.open(plain)
    manifest = opened.manifest.model_copy(update={"recipe": {"train": {"patience": 3}}})
    files = {name: opened.root / name for name in opened.manifest.files}
    patient = write_bundle(tmp_path / "patient", manifest, files)
    said = calibrate(patient, catalogue, targets=(0.8,)).warnings
    assert said[0].startswith("When training stopped (patience) was judged by validation films")
    assert (tmp_path / "patient-default" / "bundle.json").is_file()
    (tmp_path / "study.json").touch()
    row = calibrate(plain, catalogue, targets=(0.8,), out=tmp_path / "runs" / "row").bundle
    assert "lies in a study" in calibrate(row, catalogue, targets=(0.8,), out=tmp_path / "out").warnings[0]


def test_per_class_asks_more_of_the_films(plain: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="Bacterial Pneumonia: 20 positives can show at most 86"):
        calibrate(plain, catalogue, targets=(0.9,), out=tmp_path / "out", per_class=True)
    assert not (tmp_path / "out").exists()
    point = calibrate(plain, catalogue, targets=(0.8,), out=tmp_path / "out", per_class=True).site.points[0]
    assert min(recall.limit for recall in point.classes.values()) >= 0.8


def test_a_second_site_is_added_and_the_same_site_replaced(
    done: Calibration, catalogue: Catalogue, tmp_path: Path
) -> None:
    out = tmp_path / "both"
    calibrate(done.bundle, catalogue, targets=(0.8,), out=out, site="south")
    calibrate(out, catalogue, targets=(0.85,), out=out, site="north")  # in place
    both = sites(Bundle.open(out))
    assert {name: [point.target for point in site.points] for name, site in both.items()} == {
        "north": [0.85],
        "south": [0.8],
    }


def test_nothing_that_stands_at_the_place_is_lost(
    done: Calibration, plain: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    scored: list[object] = []
    with pytest.raises(
        OutputError, match=r"has operating points for 'north', which .* would be lost; begin with"
    ):
        calibrate(
            plain, catalogue, targets=(0.8,), out=done.bundle.root, site="south", progress=scored.append
        )
    other = tiny_bundle(tmp_path / "other", CLASSES, 64, seed=5)
    with pytest.raises(OutputError, match="another model stands there"):
        calibrate(plain, catalogue, targets=(0.8,), out=other, progress=scored.append)
    assert not scored
    assert list(sites(Bundle.open(done.bundle.root))) == ["north"]


def test_films_the_model_knows_are_no_witnesses(catalogue: Catalogue, tmp_path: Path) -> None:
    known = catalogue.table("valid")["sha256"].to_pylist()[:3]
    plain = tiny_bundle(tmp_path / "bundle", CLASSES, 64, trained_on=known)
    with pytest.raises(ClaimError, match=r"3 of 60 films .* are not new to this bundle"):
        calibrate(plain, catalogue, targets=(0.8,), out=tmp_path / "out")


def test_a_threshold_does_not_travel(done: Calibration, plain: Path) -> None:
    with pytest.raises(ClaimError, match=r"no operating point for the site 'south' \(it has 'north'\)"):
        operating_point(done.bundle, "south")
    with pytest.raises(ClaimError, match=r"0\.95 was not shown for 'north' \(shown: 0\.8, 0\.9\)"):
        operating_point(done.bundle, "north", 0.95)
    with pytest.raises(ClaimError, match="it has none at all"):
        operating_point(Bundle.open(plain), "north")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "0" * 64}, "were shown for another model"),
        ({"points": []}, "points"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_section_that_is_not_true_of_the_bundle_is_refused(
    done: Calibration, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    copy = Path(shutil.copytree(done.bundle.root, tmp_path / "copy"))
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["sections"]["operating_points"]["north"] |= change
    (copy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=said):
        sites(Bundle.open(copy))


def test_a_site_needs_a_name_and_the_bundle_a_place(
    plain: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    with pytest.raises(ClaimError, match="no name of a site"):
        calibrate(plain, catalogue, targets=(0.8,), out=tmp_path / "out", site=" ")
    with pytest.raises(OutputError, match="lies in the bundle"):
        calibrate(plain, catalogue, targets=(0.8,), out=plain / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    scored: list[object] = []
    for place, error in (("mine", BundleError), ("mine/thesis.txt/x", OutputError), ("/proc/x", OutputError)):
        with pytest.raises(error):
            calibrate(plain, catalogue, targets=(0.8,), out=tmp_path / place, progress=scored.append)
    assert not scored


def test_the_verb_prints_the_table(plain: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    words = ["calibrate", str(plain), str(catalogue.root), "--out", str(tmp_path / "out"), "--site", "north"]
    words += ["--report", str(tmp_path / "page.html"), "--prevalence", "12/240"]
    done = CliRunner().invoke(app, [*words, "--target-sensitivity", "0.9", "--target-sensitivity", "0.99"])
    assert done.exit_code == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    check_whole(page)
    shown = text_of(page)
    assert "Recall of disease at the 90 % point 100.0 % at least 92.7 % at 95 % confidence 40 of 40" in shown
    assert "Refused: 40 positives can show at most 92.8 %" in shown
    assert "Where 12 of 240 people are diseased" in shown
    assert "92.7 %" in done.stdout
    assert "40 of 40" in done.stdout
    assert "299 without a miss are needed for 99 %" in done.stderr
