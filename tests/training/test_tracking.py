"""What a training logs to MLflow: a copy of its own files, no epoch twice, whatever happens in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carina.data.catalogue import Catalogue
from carina.errors import RunError
from carina.records import Progress
from carina.training.tracking import Tracker
from carina.training.train import train
from tests.training.small import Small

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
mlflow = pytest.importorskip("mlflow", reason="the mlflow extra is not installed")

RECIPE = Small().recipe({"size": 32, "epochs": 3, "lr": 1e-2})


class Stopped(Exception):
    """Somebody pulled the plug."""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Small().catalogue(tmp_path_factory.mktemp("data"), {"train": 24, "valid": 9})


def stop_after(epochs: int) -> Any:
    def hear(event: Progress) -> None:
        if event.stage == "epoch" and event.done == epochs:
            raise Stopped

    return hear


def test_a_resumed_training_is_one_mlflow_run_with_every_epoch_once(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    run = tmp_path / "run"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'tracking' / 'mlflow.db'}")
    with (
        pytest.raises(Stopped),
        Tracker(tmp_path / "tracking", "films").follow(run, name="first", tell=stop_after(2)) as tell,
    ):
        train(catalogue, RECIPE, run, progress=tell)
    there = json.loads((run / "mlflow.json").read_text())["run"]
    assert client.get_run(there).info.status == "FAILED"
    tracker = Tracker(tmp_path / "tracking", "films")
    for _ in range(2):  # the second time the run is complete already
        with tracker.follow(run, name="first", tell=lambda event: None) as tell:
            train(catalogue, RECIPE, run, progress=tell)
    (logged,) = client.search_runs([client.get_experiment_by_name("films").experiment_id])
    assert (logged.info.run_id, logged.info.status) == (there, "FINISHED")
    assert logged.data.params["stage.0.epochs"] == "3"
    assert logged.data.params["model.backbone"] == "test_resnet"
    steps = client.get_metric_history(there, "valid_loss")
    written = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [(each.step, each.value) for each in steps] == [
        (step, pytest.approx(record["valid_loss"])) for step, record in enumerate(written)
    ]
    assert logged.data.metrics["recall/Normal"] == pytest.approx(written[-1]["recall"]["Normal"])
    kept = {each.path for each in client.list_artifacts(there)}
    assert {"recipe.json", "history.jsonl", "bundle"} <= kept
    assert {each.path for each in client.list_artifacts(there, "bundle")} >= {"bundle/model.onnx"}


def test_a_store_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="name another folder with --mlflow"):
        Tracker(tmp_path / "file" / "store", "films")
