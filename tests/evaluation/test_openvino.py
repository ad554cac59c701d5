"""A bundle made for OpenVINO: chosen by a person, checked as int8 is, and refused where it cannot be run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.data.catalogue import Catalogue
from carina.errors import BundleError, ClaimError, MissingExtra
from carina.evaluation.calibrate import calibrate
from carina.evaluation.int8 import for_runtime
from carina.evaluation.quantize import QUANTISED, quantize
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.contents import RUNTIME
from carina.scoring.operating import operating_point, sites
from carina.scoring.run import score_films
from carina.scoring.scorer import Scorer
from tests.bundles import tiny_model

try:
    import openvino

    ABLE = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
except ModuleNotFoundError:
    openvino, ABLE = None, ()
needs_openvino = pytest.mark.skipif(openvino is None, reason="OpenVINO is not installed")
needs_bfloat16 = pytest.mark.skipif("BF16" not in ABLE, reason="OpenVINO with bfloat16 is needed")


def pixels(count: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64), dtype=np.uint8)


@pytest.fixture(scope="module")
def calibrated(plain: Path, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrated") / "bundle"
    calibrate(plain, catalogue, targets=(0.8, 0.9), out=out, site="north")
    return out


@needs_bfloat16
def test_bfloat16_is_another_model_with_promises_of_its_own(
    calibrated: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    made = quantize(calibrated, catalogue, out=tmp_path / "out", site="north", form="openvino-bfloat16")
    before, after = Bundle.open(calibrated), Bundle.open(made.bundle.root)
    assert after.sections[RUNTIME] == {"library": "openvino", "numbers": "bfloat16"}
    assert after.model_sha256 != before.model_sha256  # rows and thresholds of the two never meet
    assert sites(after)["north"].model == after.model_sha256
    about = after.manifest.sections[QUANTISED]
    assert about["thresholds"]["openvino-bfloat16"] == operating_point(after, "north").threshold
    assert about["cost"]["recall"]["difference"] >= -0.005
    assert "It computes in bfloat16, run by OpenVINO." in (after.root / "card.md").read_text()
    one, other = Scorer(before).predict(pixels()), Scorer(after).predict(pixels())
    for name in ("logits", "embedding", "cam"):
        assert getattr(one, name).shape == getattr(other, name).shape
        assert np.abs(getattr(one, name) - getattr(other, name)).max() > 0
    assert np.abs(one.probabilities - other.probabilities).max() < 0.02


@needs_openvino
def test_whole_numbers_by_openvino_are_those_of_onnx_runtime_but_for_rounding(
    plain: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    by_onnx = quantize(plain, catalogue, out=tmp_path / "one").bundle
    by_openvino = quantize(plain, catalogue, out=tmp_path / "two", form="openvino-int8").bundle
    one, other = (Scorer(each).predict(pixels()).probabilities for each in (by_onnx, by_openvino))
    assert np.abs(one - other).max() < 0.01


@needs_openvino
def test_numbers_are_the_same_in_every_run_and_with_any_number_of_threads(
    plain: Path, catalogue: Catalogue, films: list[Path], tmp_path: Path
) -> None:
    made = quantize(plain, catalogue, out=tmp_path / "out", form="openvino-int8").bundle
    tables = []
    for number, threads in enumerate((1, 2, 2)):
        out = tmp_path / f"{number}.csv"
        score_films(films[:21], made, out=out, threads=threads, check=False)
        tables.append(out.read_bytes())
    assert tables[0] == tables[1] == tables[2]


@needs_openvino
def test_openvino_keeps_nothing_in_the_home_folder(plain: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    made = quantize(plain, catalogue, out=tmp_path / "out", form="openvino-int8").bundle
    (tmp_path / "home").mkdir()
    code = f"import sys; from carina import Scorer; Scorer({str(made.root)!r})\n"
    code += "print([name for name, found in sys.modules.items() if 'openvino_telemetry' in name and found])"
    env = {**os.environ, "HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert list((tmp_path / "home").rglob("*")) == []


def for_openvino(plain: Path, out: Path, section: dict[str, str]) -> Bundle:
    """The bundle with a section ``runtime`` that nothing checked."""
    old = Bundle.open(plain).manifest
    files: dict[str, bytes | Path] = {name: plain / name for name in old.files}
    sections = {**old.sections, RUNTIME: section}
    return write_bundle(out, old.model_copy(update={"sections": sections}), files)


def test_without_openvino_the_extra_is_named_and_nothing_is_scored(
    plain: Path, tmp_path: Path, films: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = for_openvino(plain, tmp_path / "m", {"library": "openvino", "numbers": "int8"})
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"made for OpenVINO.*pip install 'carina\[openvino\]'"):
        Scorer(made)
    done = CliRunner().invoke(app, ["score", str(films[0]), "--model", str(made.root), "--top", "3"])
    assert done.exit_code == 1
    assert "scored" not in done.output


@needs_openvino
def test_a_bundle_known_from_before_is_run_by_openvino_too(plain: Path, tmp_path: Path) -> None:
    made = for_openvino(plain, tmp_path / "m", {"library": "openvino", "numbers": "int8"})
    for path in made.root.iterdir():
        os.utime(path, (1, 1))
    known = Bundle.known(made.root)
    assert known is None or known.sections[RUNTIME]["library"] == "openvino"
    assert type(Scorer(known or made)._session).__name__ == "OpenVinoSession"


@needs_openvino
@pytest.mark.parametrize(
    "section", [{"library": "openvino", "numbers": "int4"}, {"library": "magic", "numbers": "int8"}, {}]
)
def test_what_this_version_does_not_know_is_never_run_as_something_else(
    plain: Path, tmp_path: Path, section: dict[str, str]
) -> None:
    made = for_openvino(plain, tmp_path / "m", section)
    with pytest.raises(BundleError, match=r"runtime asks for what this version .* does not know"):
        Scorer(made)


@needs_openvino
def test_a_processor_without_the_numbers_it_was_shown_with_is_refused(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lesser:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    made = for_openvino(plain, tmp_path / "m", {"library": "openvino", "numbers": "bfloat16"})
    monkeypatch.setattr(openvino, "Core", Lesser)
    with pytest.raises(BundleError, match="made for BF16, which this processor does not compute"):
        Scorer(made)


def test_the_mark_changes_the_model_s_sha256_and_nothing_that_it_computes() -> None:
    model = tiny_model().SerializeToString()
    marked = for_runtime(model, "openvino-bfloat16")
    assert marked != model
    assert for_runtime(model, "openvino-bfloat16") == marked


def test_an_unknown_form_is_refused_before_any_work(
    plain: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    with pytest.raises(ClaimError, match="give one of int8, openvino-int8, openvino-bfloat16"):
        quantize(plain, catalogue, out=tmp_path / "out", form="int4")  # type: ignore[arg-type]
    line = ["quantize", str(plain), "--calibrate", str(catalogue.root), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*line, "--form", "int4"])
    assert (done.exit_code, list(tmp_path.iterdir())) == (1, [])


def test_the_section_stands_in_the_manifest_as_plain_json(plain: Path, tmp_path: Path) -> None:
    made = for_openvino(plain, tmp_path / "m", {"library": "openvino", "numbers": "int8"})
    content = json.loads((made.root / "bundle.json").read_text())
    assert content["sections"][RUNTIME] == {"library": "openvino", "numbers": "int8"}
