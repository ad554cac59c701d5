"""Two processes on one machine (gloo): the same network as one, and a clear end where one is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from carina.data.catalogue import Catalogue
from carina.training.shared_norms import shared
from tests.training.small import Small

RECIPE = """
[data]
batch = 12
[model]
backbone = "test_resnet"
pretrained = false
[train]
precision = "32-true"
checkpoint_minutes = 0
[[stage]]
size = 32
epochs = {epochs}
lr = 4e-3
[[stage]]
size = 32
frozen = true
epochs = 1
lr = 4e-3
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Small().catalogue(tmp_path_factory.mktemp("data"), {"train": 48, "valid": 18})


def start(catalogue: Catalogue, out: Path, *, devices: int, epochs: int) -> subprocess.Popen[str]:
    """The command in a process of its own, one thread each."""
    recipe = out.with_suffix(".toml")
    recipe.write_text(RECIPE.format(epochs=epochs))
    environment = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "NODE_RANK")}
    line = [
        "train",
        str(catalogue.root),
        "--recipe",
        str(recipe),
        "--out",
        str(out),
        "--devices",
        str(devices),
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "carina", *line],
        env=environment | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def history(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def test_two_processes_come_to_the_figures_of_one(tmp_path: Path, catalogue: Catalogue) -> None:
    for devices in (1, 2):
        started = start(catalogue, tmp_path / f"on{devices}", devices=devices, epochs=3)
        _, said = started.communicate(timeout=500)
        assert started.returncode == 0, said
    one, two = history(tmp_path / "on1"), history(tmp_path / "on2")
    assert json.loads((tmp_path / "on2" / "run.json").read_text())["devices"] == 2
    for first, second in zip(one, two, strict=True):
        for figure in ("valid_loss", "train_loss", "accuracy", "recall_disease", "auc_disease"):
            assert second[figure] == pytest.approx(first[figure], abs=1e-3), figure


def test_a_lost_process_ends_the_run_with_one_line_and_it_can_be_resumed(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    out = tmp_path / "run"
    started = start(catalogue, out, devices=2, epochs=400)
    until = time.monotonic() + 400
    while not (out / "history.jsonl").is_file() or len(history(out)) < 2:
        assert started.poll() is None, started.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.2)
    (child,) = _children(started.pid)
    os.kill(child, signal.SIGKILL)
    _, said = started.communicate(timeout=120)
    assert started.returncode == 1
    assert "carina: a process of this run was lost" in said
    assert "Traceback" not in said
    before = len(history(out))
    assert before >= 2
    again = start(catalogue, out, devices=1, epochs=400)
    until = time.monotonic() + 400
    while len(history(out)) < before + 1:
        assert again.poll() is None, again.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.2)
    os.killpg(again.pid, signal.SIGKILL)
    _, said = again.communicate()
    assert f"resumed in epoch {before}" in said or f"resumed in epoch {before - 1}" in said


def _children(pid: int) -> list[int]:
    """The processes a process has started, from /proc."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found]


def test_on_one_process_the_norms_stay_what_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    with shared(network, 1):
        assert type(network[1]) is nn.BatchNorm2d


def test_shared_norms_give_torchs_values_gradients_and_statistics() -> None:
    """In a group of one process, where the sums over all are this one's own."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        ours, theirs = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        films = torch.randn(8, 3, 5, 5) * 3 + 1
        seen = []
        with shared(ours, 2):
            for norm in (ours, theirs):
                given = films.clone().requires_grad_()
                out = norm(given)
                out.square().mul(torch.arange(5.0)).sum().backward()
                seen.append((out, given.grad, norm.weight.grad, norm.bias.grad))
        for mine, torchs in zip(*seen, strict=True):
            torch.testing.assert_close(mine, torchs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)
        assert type(ours) is nn.BatchNorm2d
        assert ours.state_dict().keys() == theirs.state_dict().keys()
    finally:
        torch.distributed.destroy_process_group()
