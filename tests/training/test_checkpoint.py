from __future__ import annotations

import errno
import json
import resource
from pathlib import Path

import pytest
import torch

from carina.errors import RunError
from carina.training.checkpoint import Checkpoint, Position, read_checkpoint, write_checkpoint

HISTORY = ({"epoch": 0, "accuracy": 0.1 + 0.2},)


def checkpoint(step: int) -> Checkpoint:
    tensors = {
        "network.a": torch.randn(3, 4),
        "network.n": torch.tensor(7),
        "optimizer.a.step": torch.tensor(2.0),
    }
    return Checkpoint(Position(1, 2, 3, step, loss_sum=1 / 3, history=HISTORY), tensors)


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    made = checkpoint(5)
    write_checkpoint(tmp_path, made)
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert read.position == made.position
    assert read.tensors.keys() == made.tensors.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in made.tensors.items())


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 11, 12):
        write_checkpoint(tmp_path, checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-0000000{step}-00001.{suffix}" for step in (11, 12) for suffix in ("json", "safetensors")
    ]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no json", "cut json", "no tensors"])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, checkpoint(step))
    tensors, about = tmp_path / "step-000000002-00001.safetensors", tmp_path / "step-000000002-00001.json"
    content = tensors.read_bytes()
    match damage:
        case "cut":
            tensors.write_bytes(content[:-8])
        case "flipped":
            tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "empty":
            tensors.write_bytes(b"")
        case "no json":
            about.unlink()
        case "cut json":
            about.write_bytes(about.read_bytes()[:-20])
        case "no tensors":
            tensors.unlink()
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.position.step == 1


def test_no_checkpoint_is_none_and_all_damaged_is_an_error(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "checkpoints") is None
    write_checkpoint(tmp_path, checkpoint(1))
    (tmp_path / "step-000000001-00001.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="every checkpoint is damaged; remove the folder"):
        read_checkpoint(tmp_path)


def test_a_full_disk_is_said_and_costs_no_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, checkpoint(1))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"No space left on device.*make room.*resumes"):
        write_checkpoint(tmp_path, checkpoint(2))
    monkeypatch.undo()
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.position.step == 1


def test_a_disk_that_fills_while_the_tensors_are_written_leaves_nothing_of_them(tmp_path: Path) -> None:
    """With a real limit on the size of a file, which the system answers as a full disk."""
    write_checkpoint(tmp_path, checkpoint(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(RunError, match="a checkpoint cannot be written"):
            write_checkpoint(tmp_path, checkpoint(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "step-000000001-00000.safetensors").write_bytes(b"tensors without their JSON")
    (tmp_path / "step-000000002-00000.json.tmp").write_bytes(b"{")
    write_checkpoint(tmp_path, checkpoint(3))
    assert {path.stem for path in tmp_path.iterdir()} == {"step-000000003-00001"}


def test_it_holds_no_pickle(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    about = json.loads((tmp_path / "step-000000001-00001.json").read_text())
    assert about["position"]["loss_sum"] == 1 / 3
    header = (tmp_path / "step-000000001-00001.safetensors").read_bytes()[8:9]
    assert header == b"{"
