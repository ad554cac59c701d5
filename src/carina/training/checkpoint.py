"""Checkpoints: tensors in a safetensors file, and beside it the JSON that says where the run stood.

A checkpoint is there once its JSON is, and the JSON holds the sha256 of the tensors, so that a kill, a
full disk or a flipped bit costs at most the newest one. No pickle. Knows nothing of networks: tensors
by name in, the same bits out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from carina.errors import RunError

FORMAT = 1
KEPT = 2  # checkpoints that stay


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands: ``batch`` batches of ``epoch`` of ``stage`` are done (all from 0).

    ``loss_sum`` and ``films`` are of the epoch so far, ``seconds`` of the whole run, ``history`` holds
    one record for each finished epoch, ``found`` what each sweep for a learning rate came to.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    films: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    history: tuple[dict[str, Any], ...] = ()
    found: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``tensors`` by name; ``scaler`` is the state of a float16 loss scaler, empty without one."""

    position: Position
    tensors: Mapping[str, torch.Tensor]
    scaler: Mapping[str, Any] = field(default_factory=dict)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Add a checkpoint and let go of all but the newest two. Raises RunError when the disk is full."""
    stem = f"step-{checkpoint.position.step:09d}-{len(checkpoint.position.history):05d}"
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    content = save(tensors)
    about = {
        "format": FORMAT,
        "sha256": hashlib.sha256(content).hexdigest(),
        "scaler": dict(checkpoint.scaler),
        "position": asdict(checkpoint.position),
    }
    try:
        folder.mkdir(exist_ok=True)
        write_whole(folder / f"{stem}.safetensors", content)
        write_whole(folder / f"{stem}.json", json.dumps(about, allow_nan=False).encode())
    except OSError as error:
        raise RunError(
            f"{folder}: a checkpoint cannot be written ({error.strerror}); make room for "
            f"{3 * len(content) / 1e6:.0f} MB and give the same command again: it resumes from the "
            "checkpoint before"
        ) from error
    _tidy(folder)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there never was one.

    Raises RunError when there are checkpoints and every one of them is damaged.
    """
    written = sorted(folder.glob("step-*.json"), reverse=True)
    for path in written:
        found = _read(path)
        if found is not None:
            return found
    if written:
        raise RunError(f"{folder}: every checkpoint is damaged; remove the folder to train from the start")
    return None


def _read(path: Path) -> Checkpoint | None:
    try:
        about = json.loads(path.read_bytes())
        content = path.with_suffix(".safetensors").read_bytes()
        if about["format"] != FORMAT or hashlib.sha256(content).hexdigest() != about["sha256"]:
            return None
        position = Position(**about["position"])
        lists = {"history": tuple(position.history), "found": tuple(position.found)}
        return Checkpoint(replace(position, **lists), load(content), about["scaler"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _tidy(folder: Path) -> None:
    """Remove old checkpoints, JSON first, and whatever a kill left half-written."""
    for path in sorted(folder.glob("step-*.json"), reverse=True)[KEPT:]:
        path.unlink(missing_ok=True)
    for path in [*folder.glob("step-*.safetensors"), *folder.glob("*.tmp")]:
        if path.suffix == ".tmp" or not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is either all there or not there, also after a loss of power.

    Raises OSError; then nothing is left of the new file, so that a full disk is not fuller than before.
    """
    new = path.with_name(path.name + ".tmp")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
