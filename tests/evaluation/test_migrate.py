from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.data.catalogue import Catalogue
from carina.errors import ClaimError, OutputError
from carina.evaluation import migration_page
from carina.evaluation.calibrate import calibrate
from carina.evaluation.migrate import Migration, migrate
from carina.evaluation.wording import at_least
from carina.scoring.bundle import Bundle
from carina.scoring.operating import operating_point, sites
from tests.bundles import tiny_bundle
from tests.evaluation.outline import check_whole, text_of
from tests.evaluation.worlds import write_catalogue, write_films


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    root = tmp_path_factory.mktemp("films")
    films = write_films(root / "films", 160, size=64)
    return write_catalogue(root / "catalogue", films, valid=0.9, films_per_patient=1)


@pytest.fixture(scope="module")
def old(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("old")
    model = tiny_bundle(root / "model", seed=1)
    return calibrate(model, catalogue, targets=[0.8, 0.9], site="north", out=root / "north").bundle


@pytest.fixture(scope="module")
def done(old: Bundle, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Migration:
    root = tmp_path_factory.mktemp("new")
    return migrate(old, tiny_bundle(root / "model", seed=2), catalogue, out=root / "out", site="north")


def test_the_points_that_are_written_were_shown_for_the_new_model(done: Migration, old: Bundle) -> None:
    written = sites(done.bundle)["north"]
    assert written.model == done.bundle.manifest.files["model.onnx"]
    assert written.model != sites(old)["north"].model
    assert [point.target for point in written.points] == [0.8, 0.9]
    for point in written.points:
        assert point.sensitivity.limit >= point.target
        assert point.threshold != operating_point(old, "north", point.target).threshold


def test_the_mapped_threshold_leaves_the_same_share_of_films_below(done: Migration) -> None:
    for moved in done.points:
        assert 0 <= moved.mapped <= 1
        assert moved.mapped != moved.old.threshold
        assert (done.new_scores < moved.mapped).sum() == (done.old_scores < moved.old.threshold).sum()


def test_films_that_change_side_are_listed_the_lost_diseased_first(done: Migration) -> None:
    keys = [(case.diseased and not case.flagged) for case in done.cases]
    assert keys == sorted(keys, reverse=True)
    assert done.cases
    (new,) = (each.new for each in done.points if each.old.target == 0.9)
    (before,) = (each.old for each in done.points if each.old.target == 0.9)
    assert new is not None
    for case in done.cases:
        assert case.flagged == (case.new_score >= new.threshold)
        assert case.flagged != (case.old_score >= before.threshold)


def test_what_the_films_cannot_show_again_is_refused_and_not_carried_over(
    old: Bundle, catalogue: Catalogue, tmp_path: Path
) -> None:
    small = catalogue.table("valid").slice(0, 12)["path"].to_pylist()
    few = write_catalogue(tmp_path / "few", [Path(path) for path in small], valid=1.0, films_per_patient=1)
    with pytest.raises(ClaimError, match="8 positives can show at most"):
        migrate(old, tiny_bundle(tmp_path / "model", seed=2), few, out=tmp_path / "out", site="north")
    assert not (tmp_path / "out").exists()


def test_the_same_model_other_classes_and_an_unknown_site_are_refused(
    old: Bundle, catalogue: Catalogue, tmp_path: Path
) -> None:
    with pytest.raises(ClaimError, match="the same model"):
        migrate(old, old, catalogue, out=tmp_path / "out", site="north")
    other = tiny_bundle(tmp_path / "other", ("TB", "COVID-19", "Normal"), seed=2)
    with pytest.raises(ClaimError, match="are not those of"):
        migrate(old, other, catalogue, out=tmp_path / "out", site="north")
    with pytest.raises(ClaimError, match="no operating point for the site 'south'"):
        migrate(old, tiny_bundle(tmp_path / "model", seed=2), catalogue, out=tmp_path / "out", site="south")


def test_films_the_new_model_was_trained_on_show_nothing(
    old: Bundle, catalogue: Catalogue, tmp_path: Path
) -> None:
    known = catalogue.table("valid")["sha256"].to_pylist()[:3]
    new = tiny_bundle(tmp_path / "model", seed=2, trained_on=known)
    with pytest.raises(ClaimError, match="3 of 144 films"):
        migrate(old, new, catalogue, out=tmp_path / "out", site="north")


def test_the_bundle_in_use_is_not_written_over(old: Bundle, catalogue: Catalogue, tmp_path: Path) -> None:
    new = tiny_bundle(tmp_path / "model", seed=2)
    with pytest.raises(OutputError, match="is the bundle in use"):
        migrate(old, new, catalogue, out=old.root, site="north")
    assert sites(Bundle.open(old.root))["north"].model == old.manifest.files["model.onnx"]


def test_prediction_sets_keep_their_coverage_and_useless_scores_are_called_that(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    model = tiny_bundle(tmp_path / "model", seed=1)
    calibrate(model, catalogue, targets=[0.8], site="north", coverage=0.8, out=tmp_path / "old")
    new = tiny_bundle(tmp_path / "new", seed=2)
    done = migrate(tmp_path / "old", new, catalogue, site="north")
    assert done.bundle.root == tmp_path / "new-north"
    sets = sites(done.bundle)["north"].sets
    assert sets is not None
    assert sets.coverage == 0.8
    assert any("cannot be told from drawing lots" in warning for warning in done.warnings)
    assert done.points[0].carried_over.useless
    assert "no better than drawing lots" in done.table()[1][0][2]


def test_the_command_says_that_nothing_was_carried_over(
    old: Bundle, catalogue: Catalogue, tmp_path: Path
) -> None:
    new = tiny_bundle(tmp_path / "model", seed=3)
    line = ["migrate", *map(str, (old.root, new, catalogue.root)), "--site", "north"]
    line += ["--out", str(tmp_path / "out"), "--report", str(tmp_path / "page.html")]
    shown = CliRunner().invoke(app, line, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "The old threshold was not carried over" in shown.stdout
    assert "change side" in shown.stdout
    assert (tmp_path / "out" / "bundle.json").exists()
    check_whole((tmp_path / "page.html").read_text("utf-8"))


def test_the_page_has_the_recall_that_was_shown_anew_with_its_limit_and_its_people(done: Migration) -> None:
    text = text_of(migration_page.render(done))
    found = operating_point(done.bundle, "north", 0.9).sensitivity
    missed = found.people - found.found
    assert "Recall of disease at the 90 % point" in text
    assert f"at least {at_least(found.limit)} at 95 % confidence" in text
    assert f"{found.found:,} of {found.people:,} diseased people found, {missed} missed" in text
    assert f"Films that change side {len(done.cases)}" in text
    assert done.verdict.sentence in text
    assert len(done.old_scores) == len(done.new_scores) == len(done.diseased) == done.films
