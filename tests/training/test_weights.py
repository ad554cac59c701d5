from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from carina.errors import RecipeError, WeightsError
from carina.training.recipe import ModelPart
from carina.training.weights import build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network in timm's own folder format, as somebody may have trained it: five classes, colour."""
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=5)
    config = {
        "architecture": "test_resnet",
        "num_classes": 5,
        "pretrained_cfg": {
            "input_size": [3, 160, 160],
            "mean": [0.4, 0.5, 0.6],
            "std": [0.1, 0.2, 0.3],
            "num_classes": 5,
            "first_conv": "conv1.0",
            "classifier": "fc",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    return tmp_path


def load(folder: Path) -> torch.nn.Module:
    return build(ModelPart(backbone=f"local-dir:{folder}"), 3, size=32, seed=0)


def test_weights_come_from_a_folder_with_their_mean_and_std(folder: Path) -> None:
    network = load(folder)
    given = load_file(folder / "model.safetensors")
    assert torch.equal(network.body.layer1[0].conv1.weight, given["layer1.0.conv1.weight"])
    assert float(network.mean) == pytest.approx(0.5)
    assert float(network.std) == pytest.approx(0.2)


def test_a_gray_film_goes_through_the_colour_stem_as_three_equal_channels(folder: Path) -> None:
    given = load_file(folder / "model.safetensors")["conv1.0.weight"]
    torch.testing.assert_close(load(folder).body.conv1[0].weight, given.sum(1, keepdim=True))


def test_the_same_seed_draws_the_same_head(folder: Path) -> None:
    assert torch.equal(load(folder).head.weight, load(folder).head.weight)


def test_building_leaves_torchs_random_state_alone(folder: Path) -> None:
    before = torch.random.get_rng_state()
    load(folder)
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_with_other_names_are_refused_by_name(folder: Path) -> None:
    given = load_file(folder / "model.safetensors")
    given["layer9.weight"] = given.pop("layer1.0.conv1.weight")
    save_file(given, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"of another network.*layer1\.0\.conv1\.weight.*layer9\.weight"):
        load(folder)


def test_weights_with_another_shape_are_refused_by_name(folder: Path) -> None:
    given = load_file(folder / "model.safetensors")
    given["layer1.0.conv1.weight"] = torch.zeros(3, 3)
    save_file(given, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"of another network.*layer1\.0\.conv1\.weight"):
        load(folder)


def test_a_damaged_weights_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="the weights cannot be had"):
        load(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no config\.json there"):
        load(tmp_path / "nowhere")


def test_without_internet_the_cure_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot be had .*local-dir:PATH.*model\.pretrained = false"):
        build(ModelPart(backbone="test_resnet"), 3, size=32, seed=0)


def test_a_misspelt_backbone_is_met_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match="timm knows no network 'resnet3'; did you mean 'resnet34'"):
        build(ModelPart(backbone="resnet3", pretrained=False), 3, size=32, seed=0)


def test_a_size_the_backbone_cannot_take_is_a_fault_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match="test_vit cannot take films of 40 px"):
        build(ModelPart(backbone="test_vit", pretrained=False), 3, size=40, seed=0)


def from_file(path: Path, notes: list[str] | None = None, **model: object) -> torch.nn.Module:
    """The small network with a file's weights, for the classes a, b and c."""
    heard = notes if notes is not None else []
    part = ModelPart(backbone="test_resnet", weights=str(path), **model)
    return build(part, ("a", "b", "c"), size=32, seed=0, note=heard.append)


def test_what_of_the_weights_was_not_used_is_said(folder: Path) -> None:
    notes: list[str] = []
    build(ModelPart(backbone=f"local-dir:{folder}"), 3, size=32, seed=0, note=notes.append)
    assert notes == [f"local-dir:{folder}: 90 tensors used; not used: fc.weight, fc.bias"]


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_a_file_goes_on_top_of_an_architecture_whatever_stands_before_its_names(
    folder: Path, tmp_path: Path, prefix: str
) -> None:
    given = load_file(folder / "model.safetensors")
    path = tmp_path / "own.safetensors"
    save_file({prefix + name: tensor for name, tensor in given.items()}, path)
    notes: list[str] = []
    network = from_file(path, notes)
    assert torch.equal(network.body.layer1[0].conv1.weight, given["layer1.0.conv1.weight"])
    torch.testing.assert_close(network.body.conv1[0].weight, given["conv1.0.weight"].sum(1, keepdim=True))
    assert notes[0].startswith(f"{path}: 90 tensors used; not used: ")
    assert {name.strip() for name in notes[0].split("not used:")[1].split(",")} == {"fc.weight", "fc.bias"}


def a_bundles(path: Path, classes: str) -> torch.nn.Module:
    """A trained network, and its weights as a bundle keeps them."""
    trained = build(ModelPart(backbone="test_resnet", pretrained=False), 3, size=32, seed=9)
    trained.mean.fill_(0.7)
    about = {"carina": json.dumps({"classes": classes})}
    save_file({name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, path, about)
    return trained


def test_a_bundles_weights_bring_their_mean_and_for_the_same_classes_their_head(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    trained = a_bundles(path, "a\nb\nc")
    notes: list[str] = []
    network = from_file(path, notes)
    assert all(
        torch.equal(tensor, network.state_dict()[name]) for name, tensor in trained.state_dict().items()
    )
    assert notes[0].endswith("not used: none")


def test_the_head_of_other_classes_is_drawn_anew_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    trained = a_bundles(path, "a\nb\nTB")
    notes: list[str] = []
    network = from_file(path, notes)
    assert not torch.equal(network.head.weight, trained.head.weight)
    assert torch.equal(network.body.bn1.weight, trained.body.bn1.weight)
    assert "head.weight" in notes[0].split("not used:")[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda given: given.pop("layer1.0.conv1.weight"), r"it lacks layer1\.0\.conv1\.weight; correct"),
        (
            lambda given: given.update({"layer1.0.conv1.weight": torch.zeros(3, 3)}),
            r"layer1\.0\.conv1\.weight is \(3, 3\) there and \(\d+, \d+, 3, 3\) here",
        ),
        (lambda given: given.clear() or given.update({"x": torch.zeros(1)}), r"it lacks .* and .* more"),
    ],
    ids=["missing", "another shape", "another network"],
)
def test_a_file_of_another_network_is_refused_by_name(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], says: str
) -> None:
    given = load_file(folder / "model.safetensors")
    change(given)
    path = tmp_path / "own.safetensors"
    save_file(given, path)
    with pytest.raises(WeightsError, match=says):
        from_file(path)


def test_a_file_that_is_missing_or_no_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    with pytest.raises(WeightsError, match="no such file"):
        from_file(path)
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"not a whole safetensors file .*a pickle can run programs"):
        from_file(path)


def test_weights_are_not_looked_for_where_a_checkpoint_replaces_them(tmp_path: Path) -> None:
    part = ModelPart(backbone="test_resnet", weights=str(tmp_path / "gone.safetensors"))
    assert build(part, 3, size=32, seed=0, pretrained=False)
