"""A quantised bundle is checked before anybody may have it, and makes its own promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.data.catalogue import Catalogue
from carina.errors import BundleError, ClaimError, OutputError
from carina.evaluation import quantize as module
from carina.evaluation.calibrate import calibrate
from carina.evaluation.int8 import to_int8
from carina.evaluation.paired import share_differences
from carina.evaluation.quantize import Cost, Quantised, quantize
from carina.scoring.bundle import Bundle
from carina.scoring.operating import operating_point, sites
from carina.scoring.scorer import Scorer
from tests.bundles import tiny_model


@pytest.fixture(scope="module")
def bundle(plain: Path, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with operating points for two hospitals."""
    out = tmp_path_factory.mktemp("out") / "calibrated"
    for name in ("north", "south"):
        calibrate(out if out.exists() else plain, catalogue, targets=(0.8, 0.9), out=out, site=name)
    return out


@pytest.fixture(scope="module")
def done(bundle: Path, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Quantised:
    return quantize(bundle, catalogue, out=tmp_path_factory.mktemp("int8") / "bundle", site="north")


def pixels(count: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64), dtype=np.uint8)


def test_the_graph_holds_whole_numbers_and_the_outputs_stay_float() -> None:
    model = tiny_model().SerializeToString()
    graph = onnx.load_from_string(to_int8(model, pixels(), Path("m"))).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QuantizeLinear") >= 1
    whole = {each.name: each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8}
    (weights,) = (each for each in whole.values() if len(each.dims) == 4)
    values = onnx.numpy_helper.to_array(weights)
    assert np.abs(values.reshape(len(values), -1)).max(axis=1).tolist() == [64] * len(
        values
    )  # each by itself
    makes_map = next(node for node in graph.node if "cam" in node.output)
    assert makes_map.op_type == "Conv"
    assert "quantized" not in makes_map.input[1]


def test_the_new_bundle_is_whole_and_gives_all_three_outputs(done: Quantised, bundle: Path) -> None:
    before, after = Scorer(bundle).predict(pixels()), Scorer(done.bundle.root).predict(pixels())
    for name in ("logits", "embedding", "cam"):
        one, other = getattr(before, name), getattr(after, name)
        assert one.shape == other.shape
        assert np.abs(one - other).max() > 0
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98
    assert done.bundle.model_sha256 != Bundle.open(bundle).model_sha256
    assert (done.bundle.root / "training-images.txt").read_bytes() == (
        bundle / "training-images.txt"
    ).read_bytes()


def test_its_promises_are_its_own(done: Quantised, bundle: Path) -> None:
    assert set(sites(done.bundle)) == {"north"}  # those of the other hospital were another model's
    assert sites(done.bundle)["north"].model == done.bundle.model_sha256
    assert operating_point(done.bundle, "north").target == 0.9
    assert any("'south'" in warning and "not carried over" in warning for warning in done.warnings)
    assert set(sites(Bundle.open(bundle))) == {"north", "south"}


def test_what_it_cost_stands_in_the_manifest_with_intervals(done: Quantised, bundle: Path) -> None:
    about = done.bundle.manifest.sections["quantised"]
    assert about["from"] == Bundle.open(bundle).model_sha256
    for model, root in (("float32", bundle), ("int8", done.bundle.root)):
        assert about["thresholds"][model] == operating_point(Bundle.open(root), "north").threshold
    cost = about["cost"]
    for key in ("recall", "specificity", "area_under_the_curve", "films_flagged"):
        assert cost[key]["low"] <= cost[key]["difference"] <= cost[key]["high"]
        assert cost[key]["difference"] == pytest.approx(cost[key]["int8"] - cost[key]["float32"])
    assert (
        cost["changed_share"]["low"] <= cost["changed_side"] / cost["films"] <= cost["changed_share"]["high"]
    )
    assert cost["films"] == 60
    assert cost["apart"] > 0
    card = (done.bundle.root / "card.md").read_text()
    assert "8-bit whole numbers" in card
    assert "On 60 films that are new to it" in card


@pytest.fixture
def another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantising that ruins the network: what comes out answers the other way round."""

    def ruined(model: bytes, films: np.ndarray, root: Path) -> bytes:
        proto = onnx.load_from_string(model)
        for each in proto.graph.initializer:
            if each.name in ("head", "bias"):
                each.CopyFrom(onnx.numpy_helper.from_array(-50 * onnx.numpy_helper.to_array(each), each.name))
        content: bytes = proto.SerializeToString()
        return content

    monkeypatch.setattr(module, "to_int8", ruined)


@pytest.mark.usefixtures("another_network")
def test_a_network_that_decides_otherwise_is_refused_and_nothing_is_written(
    plain: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    with pytest.raises(
        ClaimError, match=r"(falls from|films change side, more than).*use the bundle as it is"
    ):
        quantize(plain, catalogue, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lost", "changed", "says"),
    [
        (2, 2, "recall at the operating point falls from 100.0 % to 99.0 %, by more than 0.5 %"),
        (1, 20, None),
        (0, 21, "21 of 400 films change side, more than 5.0 %"),
    ],
)
def test_half_a_point_of_recall_and_one_film_in_twenty_are_the_most(
    plain: Path, lost: int, changed: int, says: str | None
) -> None:
    ill, people = np.arange(400) < 200, np.arange(400).astype(str)
    recall, specificity = share_differences(
        people, [("recall", ill, ill & (np.arange(400) >= lost), ill), ("specificity", ~ill, ~ill, ~ill)]
    )
    cost = Cost(recall, specificity, specificity, specificity, changed, 400, 0.0)
    if says is None:
        module._check(Bundle.open(plain), cost)
    else:
        with pytest.raises(ClaimError, match=says):
            module._check(Bundle.open(plain), cost)


def test_a_bundle_without_operating_points_is_compared_at_one_half(
    plain: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    made = quantize(plain, catalogue, out=tmp_path / "out")
    assert made.thresholds == (0.5, 0.5)
    assert made.bundle.manifest.sections["quantised"]["site"] is None
    assert made.site is None
    assert any("no operating point" in warning for warning in made.warnings)  # 40 cannot show 95 %


def test_what_cannot_be_done_is_said_first(
    bundle: Path, plain: Path, done: Quantised, catalogue: Catalogue, tmp_path: Path
) -> None:
    with pytest.raises(ClaimError, match="say with --site whose films these are"):
        quantize(bundle, catalogue, out=tmp_path / "out")
    with pytest.raises(ClaimError, match="no operating point for the site 'west'"):
        quantize(bundle, catalogue, out=tmp_path / "out", site="west")
    with pytest.raises(ClaimError, match="quantised already"):
        quantize(done.bundle, catalogue, out=tmp_path / "out")
    with pytest.raises(OutputError, match="which is kept"):
        quantize(plain, catalogue, out=plain)
    with pytest.raises(ClaimError, match="not new to this bundle"):
        quantize(plain, catalogue, out=tmp_path / "out", split="train")
    with pytest.raises(BundleError, match="cannot be quantised"):
        to_int8(b"no graph", pixels(), tmp_path)


def test_the_verb_prints_what_it_cost(plain: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    line = ["quantize", str(plain), "--calibrate", str(catalogue.root), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    for words in ("float32", "recall", "area under the curve", "films change side", "95 % interval"):
        assert words in done.output
