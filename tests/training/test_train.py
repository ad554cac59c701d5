from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from carina.data.catalogue import Catalogue
from carina.errors import CacheError, DataError, RecipeError, RunError, WeightsError
from carina.records import Progress
from carina.scoring.bundle import Bundle
from carina.scoring.distance import reference
from carina.scoring.scorer import Scorer
from carina.training.checkpoint import read_checkpoint
from carina.training.devices import one_voice
from carina.training.find_lr import find_lr
from carina.training.train import train
from tests.training.small import Small

STAGES = ({"size": 32, "epochs": 2, "lr": 1e-2}, {"size": 48, "epochs": 5, "lr": 1e-2})
RECIPE = Small().recipe(*STAGES, model={"drop_rate": 0.2}, data={"batch": 12})


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Small().catalogue(tmp_path_factory.mktemp("data"), {"train": 48, "valid": 18, "test": 9})


@pytest.fixture(scope="session")
def told() -> list[Progress]:
    """What the run told on its way."""
    return []


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue, told: list[Progress]) -> Path:
    """One run from nothing to the bundle."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(catalogue.root, RECIPE, out, progress=told.append) == out / "bundle"
    return out


def test_the_bundle_scores_films_it_has_not_seen(run: Path, catalogue: Catalogue) -> None:
    films = catalogue.table("test")
    scored = list(Scorer(run / "bundle").score(films.column("path").to_pylist()))
    right = [
        each.top_class == name for each, name in zip(scored, films.column("class").to_pylist(), strict=True)
    ]
    assert np.mean(right) > 0.8


def test_the_bundle_says_what_it_was_made_from(run: Path, catalogue: Catalogue) -> None:
    manifest = Bundle.open(run / "bundle").manifest
    assert manifest.classes == catalogue.classes
    assert manifest.healthy == ("Normal",)
    assert manifest.preparation["size"] == 48
    assert manifest.data.catalogue == catalogue.fingerprint
    assert manifest.data.images == 48
    assert manifest.data.counts["a"] == {"Normal": 8, "Band below": 8, "Band in the middle": 8}
    assert manifest.recipe == RECIPE.to_dict()
    assert manifest.parity.images == 64  # 18 of validation, topped up from training
    assert manifest.parity.max_abs_diff < 1e-4
    assert manifest.training["epochs"] == 7
    look = manifest.sections["look"]  # of the validation films, prepared as the bundle prepares them
    assert len(look["held_out"]) + look["beyond"] == 18
    listed = (run / "bundle" / "training-images.txt").read_text().split()
    assert listed == sorted(catalogue.table("train").column("sha256").to_pylist())


def test_the_verdict_is_said_before_the_first_figure_and_after_the_last(
    run: Path, told: list[Progress]
) -> None:
    verdict = Bundle.open(run / "bundle").manifest.sections["audit"]["sentence"]
    assert verdict.startswith("Cannot be told whether figures on these films are skill")
    said = [event.stage for event in told if event.stage == "epoch" or verdict in str(event.detail)]
    assert said == ["note", *["epoch"] * 7, "note"]
    assert f"**{verdict}**" in (run / "bundle" / "card.md").read_text()


def test_the_card_says_that_it_is_no_medical_device_and_what_was_measured(run: Path) -> None:
    card = (run / "bundle" / "card.md").read_text()
    assert "not a medical device" in card
    assert "| a | 8 | 8 | 8 |" in card
    assert "recall of disease" in card


def test_bundle_and_card_carry_the_verdict_on_the_films(run: Path, catalogue: Catalogue) -> None:
    said = Bundle.open(run / "bundle").manifest.sections["audit"]
    assert said["grade"] in ("unknown", "doubtful", "confounded")  # a quick audit reassures nobody
    card = (run / "bundle" / "card.md").read_text()
    assert card.index(said["sentence"]) < card.index("recall of disease")


def test_the_run_folder_holds_a_line_for_each_epoch(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"], line["size"]) for line in lines] == [
        *((0, epoch, 32) for epoch in range(2)),
        *((1, epoch, 48) for epoch in range(5)),
    ]
    about = json.loads((run / "run.json").read_text())
    assert about["versions"]["torch"] == torch.__version__


def test_the_weights_in_the_bundle_are_those_of_the_last_checkpoint(run: Path) -> None:
    newest = max((run / "checkpoints").glob("*.safetensors"))
    kept, shipped = load_file(newest), load_file(run / "bundle" / "weights.safetensors")
    assert all(torch.equal(kept[f"network.{name}"], tensor) for name, tensor in shipped.items())


def test_the_whole_road_is_told(run: Path, told: list[Progress]) -> None:
    assert [event.stage for event in told if event.stage in ("stage", "epoch")] == [
        "stage",
        *["epoch"] * 2,
    ] + [
        "stage",
        *["epoch"] * 5,
    ]
    assert told[-1] == Progress("export", 1, 1)


def test_a_complete_run_is_left_as_it_is(run: Path, catalogue: Catalogue) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != "lock"
    }
    heard: list[Progress] = []
    assert train(catalogue, RECIPE, run, progress=heard.append) == run / "bundle"
    assert "complete" in heard[-1].detail["text"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_stopped_between_two_epochs_goes_on_to_the_same_bits(
    tmp_path: Path, run: Path, catalogue: Catalogue
) -> None:
    class Stopped(Exception):
        pass

    def stop_after(epochs: int) -> object:
        def hear(event: Progress) -> None:
            if event.stage == "epoch" and event.done == epochs:
                raise Stopped

        return hear

    out = tmp_path / "run"
    for epochs in (1, 2, 4, 7):
        with pytest.raises(Stopped):
            train(catalogue, RECIPE, out, progress=stop_after(epochs))
        assert len((out / "history.jsonl").read_text().splitlines()) == epochs
    train(catalogue, RECIPE, out)
    one, other = (load_file(root / "bundle" / "weights.safetensors") for root in (run, out))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_whose_disk_fills_is_resumed_to_the_same_bits(
    tmp_path: Path, run: Path, catalogue: Catalogue
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "run"

    def fill_after_the_third_epoch(event: Progress) -> None:
        if event.stage == "epoch" and event.done == 3:
            newest = max((out / "checkpoints").glob("*.safetensors"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (newest.stat().st_size // 2, limits[1]))

    try:
        with pytest.raises(RunError, match=r"checkpoint cannot be written .*; make room .*it resumes"):
            train(catalogue, RECIPE, out, progress=fill_after_the_third_epoch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = read_checkpoint(out / "checkpoints")
    assert kept is not None
    assert len(kept.position.history) == 3
    assert not list(out.rglob("*.tmp"))
    train(catalogue, RECIPE, out)
    one, other = (load_file(root / "bundle" / "weights.safetensors") for root in (run, out))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_is_not_resumed_with_another_recipe(run: Path, catalogue: Catalogue) -> None:
    with pytest.raises(RunError, match=r"stage\.2\.epochs = 5, this recipe has 9"):
        train(catalogue, RECIPE, run, overrides=["stage.2.epochs=9"])


def test_a_recipe_file_and_its_overrides_are_taken(tmp_path: Path, catalogue: Catalogue) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[stage]]\nepochs = 1\nlr = 1e-3\n")
    with pytest.raises(
        RecipeError, match=r"'Flu' is not in the catalogue .* it has Normal, Band in the middle"
    ):
        train(catalogue, path, tmp_path / "run", overrides=['data.classes=["Normal", "Flu"]'])
    assert not (tmp_path / "run").exists()


def test_a_class_without_validation_films_is_named(tmp_path: Path) -> None:
    lacking = Small().catalogue(tmp_path, {"train": 9, "valid": 2})
    with pytest.raises(DataError, match="no valid film of Band below; compile with more films"):
        train(lacking, RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fewer_classes_can_be_asked_for(tmp_path: Path, catalogue: Catalogue) -> None:
    class Enough(Exception):
        pass

    def hear(event: Progress) -> None:
        if event.stage == "epoch":
            assert event.detail["recall"].keys() == {"Band below", "Normal"}
            raise Enough

    overrides = ['data.classes=["Band below", "Normal"]']
    with pytest.raises(Enough):
        train(catalogue, RECIPE, tmp_path / "run", overrides=overrides, progress=hear)


def test_a_film_that_is_gone_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    lacking = Small().catalogue(tmp_path, {"train": 9, "valid": 3})
    gone = Path(lacking.table("train").column("path").to_pylist()[0])
    gone.unlink()
    with pytest.raises(CacheError, match=gone.name):
        train(lacking, RECIPE, tmp_path / "run")


def test_another_precision_is_answered_with_the_words_of_the_help(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    with pytest.raises(RunError, match="'foo' is not known; choose auto, 32-true, bf16-mixed or 16-mixed"):
        train(catalogue, RECIPE, tmp_path / "run", precision="foo")
    assert not (tmp_path / "run").exists()


def test_a_recipe_may_be_plain_data_and_a_single_override_a_string(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    with pytest.raises(RecipeError, match="epochs: give at least 1"):
        train(catalogue, RECIPE.to_dict(), tmp_path / "run", overrides="stage.1.epochs=0")


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_whose_first_is_still_at_work_says_its_error_itself(
    monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    with pytest.raises(RunError, match="of my own"), one_voice(patience=0.1) as speaks:
        fail(RunError("of my own" if speaks is (rank == "0") else "of another"))


ORPHAN = """
import os, time
from carina.training.devices import one_voice
os.environ["LOCAL_RANK"] = "1"
if os.fork():
    time.sleep(1)
    os._exit(0)
with one_voice():
    raise RuntimeError("the line is dead")
"""


def test_a_process_whose_first_has_ended_is_silent() -> None:
    line = [sys.executable, "-W", "ignore", "-c", ORPHAN]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_film_that_changed_since_it_was_compiled_is_named_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    lacking = Small().catalogue(tmp_path, {"train": 9, "valid": 3})
    first, second = (Path(path) for path in lacking.table("train").column("path").to_pylist()[:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(CacheError, match=f"{first.name}: not the file that was compiled; put that file back"):
        train(lacking, RECIPE, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_weights_of_another_network_leave_a_folder_in_which_the_right_ones_can_be_trained(
    tmp_path: Path, run: Path, catalogue: Catalogue
) -> None:
    wrong = timm.create_model("test_vit")
    save_file(wrong.state_dict(), tmp_path / "vit.safetensors")
    recipe, out = Small().recipe({"size": 32, "epochs": 1, "lr": 1e-2}), tmp_path / "run"
    with pytest.raises(WeightsError, match=r"vit\.safetensors: weights of another network: it lacks conv1"):
        train(catalogue, recipe, out, overrides=[f"model.weights={tmp_path / 'vit.safetensors'}"])
    assert not (out / "checkpoints").exists()
    told: list[Progress] = []
    shipped = run / "bundle" / "weights.safetensors"
    train(catalogue, recipe, out, overrides=[f"model.weights={shipped}"], progress=told.append)
    notes = [event.detail["text"] for event in told if event.stage == "note"]
    assert f"{shipped}: 94 tensors used; not used: none" in notes
    accuracy = json.loads((out / "history.jsonl").read_text().splitlines()[0])["accuracy"]
    assert accuracy > 0.6  # it went on from what the bundle had learned


def test_killed_at_twenty_moments_two_of_them_amid_a_save_it_ends_in_the_same_bits(
    tmp_path: Path, run: Path, catalogue: Catalogue
) -> None:
    recipe = RECIPE.to_dict()
    recipe["train"]["checkpoint_minutes"] = 0
    plan = {"longest": 1.5, "kills": 18, "saves": 2, "cuts": 0}
    arguments = [str(catalogue.root), json.dumps(recipe), str(tmp_path / "driven"), json.dumps(plan)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.training", *arguments],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    out = tmp_path / "driven" / "run"
    assert done.returncode == 0, done.stderr
    one, other = (load_file(root / "bundle" / "weights.safetensors") for root in (run, out))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len((out / "history.jsonl").read_text().splitlines()) == 7
    assert {path.name for path in out.iterdir()} == {path.name for path in run.iterdir()}


def test_a_rate_that_was_found_stands_in_the_run_and_in_the_bundle(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    recipe = Small().recipe({"size": 32, "epochs": 1, "lr": "find"}, data={"batch": 12})
    out = tmp_path / "run"
    manifest = Bundle.open(train(catalogue, recipe, out)).manifest
    kept = json.loads((out / "rates.json").read_text())
    history = json.loads((out / "history.jsonl").read_text())
    assert history["lr"] == kept[0]["lr"] == manifest.training["rates"][0]["lr"]
    assert len(kept[0]["rates"]) == len(kept[0]["smoothed"])
    alone = find_lr(catalogue, recipe)
    assert alone.lr == kept[0]["lr"]
    assert list(alone.losses) == kept[0]["losses"]


def test_a_stage_that_is_not_there_is_said(catalogue: Catalogue) -> None:
    with pytest.raises(RecipeError, match="has 2 stages and no stage 3; count from 1"):
        find_lr(catalogue, RECIPE, stage=3)


def test_the_bundle_knows_where_its_training_films_lie(run: Path) -> None:
    bundle = Bundle.open(run / "bundle")
    known = reference(bundle)
    assert known is not None
    assert known.films.shape[0] == bundle.manifest.data.images
    assert np.allclose(np.linalg.norm(known.films, axis=1), 1, atol=1e-3)
    assert list(known.held_out) == sorted(known.held_out)
    own = known.distances(known.films[:5])
    assert own.max() <= known.held_out[-1] + 0.5


def test_the_card_stands_beside_the_model_for_people_and_machines(run: Path) -> None:
    content = json.loads((run / "bundle" / "card.json").read_text())
    assert content["data"]["training_films"] == Bundle.open(run / "bundle").manifest.data.images
    assert [len(items) for items in content["checklists"].values()] == [44, 52]
