from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from carina.cli import app
from carina.data.catalogue import Catalogue
from carina.errors import ClaimError, DataError
from carina.evaluation.calibrate import Calibration, calibrate
from carina.evaluation.rewrite import rewrite
from carina.evaluation.site_check import SURE, _refusals, _shift, site_check
from carina.scoring.operating import SECTION, Watch
from tests.bundles import tiny_bundle
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


def test_scores_that_lie_elsewhere_are_noticed(home: Calibration, tmp_path: Path) -> None:
    found = site_check(home.bundle, elsewhere(tmp_path, dark=True), site="north")
    assert found.verdict in ("shifted", "broken")
    assert found.shift is not None
    assert found.shift.alarm
    assert any("--withdrawn" in line for line in found.lines())


@pytest.mark.parametrize(("count", "least"), [(60, 0), (100, 0), (400, 0)])
def test_false_alarms_are_as_rare_as_said(count: int, least: int) -> None:
    rng = np.random.default_rng(count)
    watch = Watch(scores=tuple(np.sort(rng.beta(2, 3, 500))), films=500, refused=10)
    alarms = 0
    for _ in range(300):
        shift = _shift(rng.beta(2, 3, count), watch)
        assert shift is not None
        alarms += shift.alarm or _refusals(int(rng.binomial(count, 0.02)), count, watch).alarm
    assert least <= alarms <= 300 * 3 * SURE


@pytest.mark.parametrize("count", [60, 100])
def test_a_real_shift_is_seen_with_so_few_films(count: int) -> None:
    rng = np.random.default_rng(count)
    watch = Watch(scores=tuple(np.sort(rng.beta(2, 3, 500))), films=500, refused=10)
    seen = [_shift(rng.beta(4, 2, count), watch) for _ in range(100)]
    assert sum(each is not None and each.alarm for each in seen) >= 95


def test_many_more_refusals_are_noticed() -> None:
    watch = Watch(scores=(0.5,), films=500, refused=10)
    assert _refusals(12, 60, watch).alarm
    assert not _refusals(2, 60, watch).alarm


def test_the_advice_says_what_the_labelled_films_can_show(home: Calibration, tmp_path: Path) -> None:
    found = site_check(home.bundle, elsewhere(tmp_path, dark=False), site="north")
    assert found.people == (80, 40)
    text, command = found.advice(Path("north"), Path("here"), "valid")
    assert "80 diseased and 40 healthy people can show, at 95 % confidence: 80 % with 9 missed" in text
    assert "95 % with 0 missed. For 98 % label 149 diseased people. Advised: 90 %." in text
    assert command.endswith("--target-sensitivity 0.9 --split valid --out NEW_BUNDLE")


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


def test_the_command_prints_the_verdict_first(home: Calibration, tmp_path: Path) -> None:
    catalogue = elsewhere(tmp_path, dark=True)
    line = ["site-check", str(home.bundle.root), str(catalogue.root), "--site", "north"]
    done = CliRunner().invoke(app, line, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.split(":")[0] in ("SHIFTED", "BROKEN")
    assert "carina calibrate" in done.stdout
