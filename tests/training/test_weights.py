from __future__ import annotations

import json
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
