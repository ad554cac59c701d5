"""Where training runs: devices, machines and precision through Lightning Fabric, quiet and deterministic."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import get_args

import torch
from lightning.fabric import Fabric

from carina.errors import RunError
from carina.training.recipe import Precision

_NAMES = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_PRECISIONS = get_args(Precision)
LOST = (
    "a process of this run was lost; the newest checkpoint is whole: give the same command again, and the "
    "run goes on from there"
)
GRACE = 3.0  # seconds in which the main thread may find out by itself
_BROKEN = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
_children: list[subprocess.Popen[bytes]] = []  # that this process has started, over all trainings


def fabric(*, devices: int = 1, nodes: int = 1, precision: str = "auto") -> Fabric:
    """Fabric for the machine at hand, launched. ``precision``: auto, 32, bf16, 16 or Fabric's names.

    Raises RunError when the machine has not got what was asked for.
    """
    if devices < 1 or nodes < 1:
        raise RunError(f"{devices} devices on {nodes} machines: give at least one of each")
    many = devices > 1 or nodes > 1
    try:
        made = Fabric(
            accelerator="auto",
            strategy="ddp" if many else "auto",
            devices=devices,
            num_nodes=nodes,
            precision=chosen_precision(precision),
        )
        if many:
            made.launch()
            _take_over(made)
    except (RuntimeError, ValueError, ImportError) as error:
        fault = " ".join(str(error).split())
        raise RunError(
            f"{devices} devices on {nodes} machines cannot be used: {fault}; try --devices 1"
        ) from error
    return made


@contextlib.contextmanager
def one_voice(patience: float = 20) -> Iterator[bool]:
    """Whether this process is the one that speaks; Fabric starts the others by running the command again.

    One of the others that fails lets the first of its machine say why: it ends in silence when that one
    has ended, and speaks for itself when that one is still at work after ``patience`` seconds. It must not
    end earlier: Fabric kills the first process as soon as another has failed.
    """
    parent = os.getppid()
    try:
        yield is_first_process()
    except Exception:
        if os.environ.get("LOCAL_RANK", "0") != "0" and _has_ended(parent, patience):
            raise SystemExit(1) from None
        raise


def _has_ended(parent: int, patience: float) -> bool:
    """Whether the parent of this process ends within ``patience`` seconds."""
    until = time.monotonic() + patience
    while os.getppid() == parent:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _take_over(made: Fabric) -> None:
    """Watch the processes that Lightning started ourselves: its own watch kills without a word."""
    started = getattr(made.strategy.launcher, "procs", None)
    if started:
        _children.extend(started)
        started.clear()  # the list that Lightning's watch looks at; an empty one ends it


@contextlib.contextmanager
def watched(made: Fabric) -> Iterator[None]:
    """Where a process of the run is lost, the others end with one clear line instead of waiting for it.

    Raises RunError when a sum over all processes fails because one of them is gone. A process that hangs
    in such a sum is ended from a thread, with the same line and exit code 1.
    """
    if made.world_size == 1:
        yield
        return
    done = threading.Event()
    threading.Thread(target=_watch, args=(done, os.getppid()), daemon=True).start()
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or any(each in str(error) for each in _BROKEN):
            done.set()
            raise RunError(LOST) from error
        raise
    finally:
        done.set()


def _watch(done: threading.Event, parent: int) -> None:
    """Until ``done``, look whether a child has failed or, in a child, whether the first process is gone."""
    while not done.wait(0.5):
        orphaned = os.environ.get("LOCAL_RANK", "0") != "0" and os.getppid() != parent
        failed = [child for child in _children if child.poll()]
        if (orphaned or failed) and not done.wait(GRACE):
            for child in _children:
                child.kill()
            code = f" (it ended with code {failed[0].returncode})" if failed else ""
            os.write(2, f"carina: {LOST}{code}\n".encode())
            os._exit(1)


def is_first_process() -> bool:
    """Whether this process is the one that writes: told before Fabric is launched as well as after.

    Lightning starts the processes of one machine with LOCAL_RANK, those of others are told by NODE_RANK
    (or GROUP_RANK), and launchers such as torchrun and Slurm count all of them.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return os.environ[name] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))


def chosen_precision(precision: str) -> str:
    """Fabric's name of a precision; ``auto`` is bfloat16 where the hardware has it, else float32."""
    if precision == "auto":
        return "bf16-mixed" if _bf16_pays() else "32-true"
    full = _NAMES.get(precision, precision)
    if full not in _PRECISIONS:
        known = f"{', '.join(_PRECISIONS[:-1])} or {_PRECISIONS[-1]}"
        raise RunError(f"precision {precision!r} is not known; choose {known}")
    return full


def _bf16_pays() -> bool:
    """Ampere or later, or a processor with AVX512-BF16 or AMX; elsewhere bfloat16 is emulated and slower."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability()[0] >= 8
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # names of torch 2.9 to 2.14
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def seed(device: torch.device, number: int) -> None:
    """Seed what a step on this device may draw from. ``torch.manual_seed`` asks every kind of device there
    could be, which takes longer than the step of a head.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """The same input gives the same bits, wherever torch knows a way; torch warns where it does not.

    Torch's own settings and random state are put back afterwards.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill, benchmark = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = (
        False  # costs time, and nothing here reads such memory
    )
    torch.backends.cudnn.benchmark = False
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the lines Lightning logs about devices, seeds and advertisements of its own."""
    loggers = [logging.getLogger(name) for name in ("lightning.fabric", "lightning.pytorch", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
