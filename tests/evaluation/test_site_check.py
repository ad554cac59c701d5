from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from carina.cli import app
from carina.data.catalogue import Catalogue
from carina.errors import ClaimError, DataError
from carina.evaluation import site_page
from carina.evaluation.calibrate import Calibration, calibrate
from carina.evaluation.rewrite import rewrite
from carina.evaluation.shift import SURE, shift_of
from carina.evaluation.site_check import LeftOut, _refusals, site_check
from carina.records import Prediction
from carina.scoring.bundle import Bundle
from carina.scoring.monitor import Finding, withdrawal, write_finding
from carina.scoring.operating import SECTION, Watch, posterior, sites
from carina.scoring.scorer import Scorer
from tests.bundles import tiny_bundle
from tests.evaluation.outline import check_whole, text_of
from tests.evaluation.worlds import write_catalogue, write_films


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """A bundle that was calibrated for the site north, on noise of many grays."""
    root = tmp_path_factory.mktemp("home")
    films = write_films(root / "films", 200, size=64)
    catalogue = write_catalogue(root / "catalogue", films, valid=1.0, films_per_patient=1)
    return calibrate(
        tiny_bundle(root / "model"), catalogue, targets=[0.8, 0.9], site="north", out=root / "north"
    )


def elsewhere(root: Path, *, dark: bool) -> Catalogue:
    """Films of another place: all of them darker than any at home, or the same kind as there."""
    films = write_films(root / "films", 120, seed=5, size=64)
    if dark:
        for number, path in enumerate(films):
            noise = np.random.default_rng(number).integers(0, 12, (64, 64), dtype=np.uint8)
            Image.fromarray(noise).save(path)
    return write_catalogue(root / "catalogue", films, valid=1.0, films_per_patient=1)


def test_films_of_the_same_kind_raise_no_alarm(home: Calibration, tmp_path: Path) -> None:
    found = site_check(home.bundle, elsewhere(tmp_path, dark=False), site="north")
    assert found.verdict == "nothing seen"
    assert "no proof" in found.lines()[0]
    page = site_page.render(found, ("Label some.",))
    assert check_whole(page).headings == [
        "Read this before the figures", "What was promised, and what is found here", "What was seen",
        "To calibrate here",
    ]  # fmt: skip
    assert "no better than drawing lots here" in text_of(page)  # the scores of this bundle know nothing
    top = found.held[-1].sensitivity
    assert (
        f"{top.hits} of {top.people} diseased people found, {top.people - top.hits} missed: kept"
        in text_of(page)
    )
    assert "at least" in text_of(page).partition("diseased people found")[0]


def test_scores_that_lie_elsewhere_are_noticed(home: Calibration, tmp_path: Path) -> None:
    found = site_check(home.bundle, elsewhere(tmp_path, dark=True), site="north")
    assert found.verdict in ("shifted", "broken")
    assert found.shift is not None
    assert found.shift.alarm
    assert any("--withdrawn" in line for line in found.lines())
    page = site_page.render(found, ())
    assert "Read this before the figures" in check_whole(page).headings
    assert "<< ALARM" not in text_of(page)


def test_the_page_of_films_without_labels_does_not_pretend_to_know_a_recall(
    home: Calibration, tmp_path: Path
) -> None:
    films = elsewhere(tmp_path, dark=False).table()["path"].to_pylist()
    text = text_of(site_page.render(site_check(home.bundle, films, site="north"), ()))
    shown = max(home.site.points, key=lambda point: point.target).sensitivity
    assert "Recall of disease at the 90 % point not known there at least" in text
    assert f"shown at north by {shown.found} of {shown.people} diseased people" in text


@pytest.mark.parametrize(("count", "least"), [(60, 0), (100, 0), (400, 0)])
def test_false_alarms_are_as_rare_as_said(count: int, least: int) -> None:
    rng = np.random.default_rng(count)
    watch = Watch(scores=tuple(np.sort(rng.beta(2, 3, 500))), films=500, refused=10)
    alarms = 0
    for _ in range(300):
        shift = shift_of(rng.beta(2, 3, count), watch)
        assert shift is not None
        alarms += shift.alarm or _refusals(int(rng.binomial(count, 0.02)), count, watch).alarm
    assert least <= alarms <= 300 * 3 * SURE


@pytest.mark.parametrize("count", [60, 100])
def test_a_real_shift_is_seen_with_so_few_films(count: int) -> None:
    rng = np.random.default_rng(count)
    watch = Watch(scores=tuple(np.sort(rng.beta(2, 3, 500))), films=500, refused=10)
    seen = [shift_of(rng.beta(4, 2, count), watch) for _ in range(100)]
    assert sum(each is not None and each.alarm for each in seen) >= 95


def apart(rng: np.random.Generator) -> Watch:
    """A site of which two thirds of the films show disease."""
    ill, well = np.sort(rng.beta(5, 2, 250)), np.sort(rng.beta(2, 5, 125))
    both = np.sort(np.concatenate([ill, well]))
    return Watch(scores=tuple(both), ill=tuple(ill), well=tuple(well), films=375, refused=0)


def test_another_share_of_disease_is_no_shift() -> None:
    """Nobody, or one in ten, is ill: the old alarm would ring in nearly every check."""
    rng, alarms, told = np.random.default_rng(3), 0, 0
    for world in range(200):
        ill = rng.random(100) < (0.1 if world % 2 else 0.0)
        scores = np.where(ill, rng.beta(5, 2, 100), rng.beta(2, 5, 100))
        for shift in (shift_of(scores, apart(rng)), shift_of(scores, apart(rng), ill)):
            assert shift is not None
            alarms += shift.alarm
            told += shift.differs and shift.explained is not None and shift.explained < 0.35
    assert alarms <= 400 * 2 * SURE
    assert told >= 380


def test_films_that_no_share_of_disease_explains_are_a_shift() -> None:
    rng, seen = np.random.default_rng(4), 0
    for _ in range(50):
        shift = shift_of(rng.beta(12, 12, 100), apart(rng))  # all of them in the middle
        seen += shift is not None and shift.alarm
    assert seen >= 47


def test_labels_tell_disease_that_scores_lower_from_less_disease() -> None:
    rng = np.random.default_rng(5)
    ill = np.arange(120) < 80
    scores = np.where(ill, rng.beta(2, 5, 120), rng.beta(2, 5, 120))  # disease looks like none here
    blind, seeing = shift_of(scores, apart(rng)), shift_of(scores, apart(rng), ill)
    assert blind is not None
    assert seeing is not None
    assert not blind.alarm
    assert seeing.alarm
    assert (blind.of, seeing.of) == ("", "diseased films")


def test_many_more_refusals_are_noticed() -> None:
    watch = Watch(scores=(0.5,), films=500, refused=10)
    assert _refusals(12, 60, watch).alarm
    assert not _refusals(2, 60, watch).alarm


def test_the_advice_says_what_the_labelled_films_can_show(home: Calibration, tmp_path: Path) -> None:
    found = site_check(home.bundle, elsewhere(tmp_path, dark=False), site="north")
    assert found.people is not None
    assert (found.people.ill, found.people.well) == (80, 40)
    text, command = found.advice(Path("north"), Path("here"))
    assert "The 80 diseased and 40 healthy people of these films that are new to the model" in text
    assert "can show, at 95 % confidence: 80 % with 9 missed" in text
    assert "95 % with 0 missed. For 98 % label 149 diseased people. Advised: 90 %." in text
    assert command == ("carina calibrate north here --site hospital_a --target-sensitivity 0.9 --split all")


def test_films_that_taught_the_model_or_chose_the_thresholds_test_nothing(tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", 200, size=64)
    catalogue = write_catalogue(tmp_path / "catalogue", films, valid=0.6, films_per_patient=1)
    taught = catalogue.table("train")["sha256"].to_pylist()[:20]
    model = tiny_bundle(tmp_path / "model", trained_on=taught)
    known = calibrate(model, catalogue, targets=[0.8], site="north", out=tmp_path / "north").bundle
    found = site_check(known, catalogue, site="north")
    assert found.left_out == LeftOut(20, 120, 200, listed=True, remembered=True)
    assert found.refusals.films == 60
    assert found.held[0].films == 60
    assert any("20 that the model was trained on" in line for line in found.lines())
    with pytest.raises(ClaimError, match="none is left to test them"):
        site_check(known, catalogue, site="north", split="valid")
    again = write_catalogue(tmp_path / "again", films[:120], valid=0.1, films_per_patient=1)
    with pytest.raises(ClaimError, match="were chosen on 120"):  # another catalogue, the same films
        site_check(known, again, site="north")


def test_the_advised_command_runs_on_the_very_films_that_were_counted(tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", 160, size=64)
    catalogue = write_catalogue(tmp_path / "catalogue", films, valid=0.6, films_per_patient=1)
    taught = catalogue.table("train")["sha256"].to_pylist()[:10]
    model = tiny_bundle(tmp_path / "model", trained_on=taught)
    known = calibrate(model, catalogue, targets=[0.8], site="north", out=tmp_path / "north").bundle
    found = site_check(known, catalogue, site="north")
    text, command = found.advice(known.root, catalogue.root)
    assert found.people is not None
    done = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    written = Bundle.open(tmp_path / "north-hospital_a")  # beside the bundle, as no place was named
    site = sites(written)["hospital_a"]
    assert (site.films, site.split) == (150, "all")
    assert site.points[0].sensitivity.people == found.people.ill
    assert f"{found.people.ill:,} diseased" in text
    assert "10 of 160 films were left out" in done.stderr
    side = site_check(known, catalogue, site="north", split="train")
    assert "run this command without --split" in side.advice(known.root, catalogue.root)[1]


def test_without_labels_the_advice_says_how_many_to_label(home: Calibration, tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", 8, seed=9, size=64)
    found = site_check(home.bundle, films, site="north")
    assert found.verdict == "too few to tell"
    (text,) = found.advice(Path("north"), None)
    assert "50 diseased people show at least 94.1 %" in text
    assert "100 diseased people show at least 97.0 %" in text


def test_an_unknown_site_an_empty_folder_and_an_older_calibration_are_refused(
    home: Calibration, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClaimError, match="no operating point for the site 'south'"):
        site_check(home.bundle, [tmp_path], site="south")
    with pytest.raises(DataError, match="no film was found"):
        site_check(home.bundle, [tmp_path / "empty"], site="north")
    section = home.site.model_dump(mode="json") | {"watch": None}
    older = rewrite(home.bundle, tmp_path / "older", {SECTION: {"north": section}})
    with pytest.raises(ClaimError, match="remembers no scores"):
        site_check(older, [tmp_path / "empty"], site="north")


def test_in_a_folder_too_the_films_of_the_making_test_nothing(tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", 200, size=64)
    catalogue = write_catalogue(tmp_path / "catalogue", films, valid=0.8, films_per_patient=1)
    known = catalogue.table("train")["sha256"].to_pylist()
    plain = tiny_bundle(tmp_path / "model", trained_on=known)
    north = calibrate(plain, catalogue, targets=[0.8], site="north", out=tmp_path / "north").bundle
    with pytest.raises(ClaimError, match=r"trained on 40, .* chosen on 160: none is left"):
        site_check(north, [tmp_path / "films"], site="north")
    new = write_films(tmp_path / "new", 60, seed=77, size=64)
    new[0].with_name("torn.png").write_text("no picture")
    found = site_check(north, [tmp_path / "films", tmp_path / "new"], site="north")
    assert (found.refusals.films, found.unread) == (60, 1)
    said = "\n".join(found.lines())
    assert "Left out, of 260 films: 40 that the model was trained on (the very files; near copies" in said
    assert "160 that the thresholds were chosen on" in said
    assert "1 file could not be read and count nowhere" in said


def test_files_that_cannot_be_read_are_no_shift(home: Calibration, tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", 60, seed=5, size=64)
    for number in range(30):
        films[0].with_name(f"torn {number}.png").write_text("no picture")
    assert site_check(home.bundle, [tmp_path / "films"], site="north").verdict == "nothing seen"


def test_a_catalogue_is_named_alone_and_a_folder_has_no_sides(home: Calibration, tmp_path: Path) -> None:
    catalogue = elsewhere(tmp_path, dark=False)
    with pytest.raises(DataError, match="is a catalogue; name it alone"):
        site_check(home.bundle, [tmp_path / "films", catalogue.root], site="north")
    with pytest.raises(DataError, match="leave out --split"):
        site_check(home.bundle, [tmp_path / "films"], site="north", split="test")


def test_the_command_prints_the_verdict_first(home: Calibration, tmp_path: Path) -> None:
    catalogue = elsewhere(tmp_path, dark=True)
    line = ["site-check", str(home.bundle.root), str(catalogue.root), "--site", "north"]
    done = CliRunner().invoke(app, line, catch_exceptions=False)
    assert done.exit_code == 3
    assert done.stdout.split(":")[0] in ("SHIFTED", "BROKEN")
    assert "carina calibrate" in done.stdout


def test_a_finding_takes_the_suggestion_back_by_itself(home: Calibration, tmp_path: Path) -> None:
    catalogue = elsewhere(tmp_path, dark=True)
    line = ["site-check", str(home.bundle.root), str(catalogue.root), "--site", "north"]
    CliRunner().invoke(app, [*line, "--out", str(tmp_path / "check.json")], catch_exceptions=False)
    reason = withdrawal(tmp_path / "check.json", home.bundle, "north")
    assert reason is not None
    assert reason.startswith("the site check of 20")
    films = str(tmp_path / "films" / "film_000.png")
    words = ["triage", films, "--model", str(home.bundle.root), "--site", "north", "--prevalence", "0.05"]
    words += ["--monitor", str(tmp_path / "check.json"), "--out", str(tmp_path / "list.json")]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    written = json.loads((tmp_path / "list.json").read_text())
    assert written["withdrawn"] == reason
    assert written["prevalence"] == 0.05
    assert f"The threshold is in doubt here: {reason}" in written["warnings"]


def test_only_a_check_that_saw_nothing_leaves_the_suggestion(home: Calibration, tmp_path: Path) -> None:
    model = home.bundle.manifest.files["model.onnx"]
    seen = Finding(
        created="2026-01-01", model=model, site="north", films=60, verdict="nothing seen", lines=()
    )
    write_finding(seen, tmp_path / "fine.json")
    assert withdrawal(tmp_path / "fine.json", home.bundle, "north") is None
    write_finding(seen.model_copy(update={"verdict": "too few to tell"}), tmp_path / "few.json")
    assert "too few films" in str(withdrawal(tmp_path / "few.json", home.bundle, "north"))
    with pytest.raises(ClaimError, match="of the site 'north', not of 'south'"):
        withdrawal(tmp_path / "fine.json", home.bundle, "south")
    write_finding(seen.model_copy(update={"model": "0" * 64}), tmp_path / "other.json")
    with pytest.raises(ClaimError, match="speaks of another model"):
        withdrawal(tmp_path / "other.json", home.bundle, "north")
    (tmp_path / "torn.json").write_text("{")
    for name in ("torn.json", "none.json"):
        with pytest.raises(ClaimError, match=r"carina site-check … --out"):
            withdrawal(tmp_path / name, home.bundle, "north")


def test_a_film_has_its_corrected_probability_at_a_prevalence(home: Calibration, tmp_path: Path) -> None:
    (film,) = write_films(tmp_path / "films", 1, seed=3, size=64)
    corrected = home.site.corrected
    assert corrected is not None
    (answer,) = Scorer(home.bundle).score([film])
    assert isinstance(answer, Prediction)
    mapped = float(1 - corrected.map(answer.probabilities[None].astype(float))[0][2])  # the third is Normal
    odds = mapped / (1 - mapped) * (0.05 / 0.95) / (corrected.prevalence / (1 - corrected.prevalence))
    found = posterior(home.bundle, "north", 0.05).of(answer.probabilities)
    assert found == pytest.approx(odds / (1 + odds))
    words = ["score", str(film), "--model", str(home.bundle.root), "--site", "north", "--no-check", "--sets"]
    words += ["--prevalence", "0.05", "--out", str(tmp_path / "scores.jsonl")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.stdout.splitlines()[0].split() == ["p_disease", "posterior", "class", "set", "film"]
    row = json.loads((tmp_path / "scores.jsonl").read_text())
    assert row["posterior"] == pytest.approx(found, abs=1e-6)
    assert row["set"] in done.stdout
    with pytest.raises(ClaimError, match="give a share between 0 and 1"):
        posterior(home.bundle, "north", 5)
