"""A training that is killed, also amid a save, or loses its disk to a power cut, ends in the same bits.

The trainings run in forks of a process of their own (:func:`drive`): torch is loaded once. Beside it, the
pixel cache: flipped bytes in an entry are always found. The quick form is
``test_killed_at_twenty_moments_two_of_them_amid_a_save_it_ends_in_the_same_bits`` in ``tests/training``,
and the tests of ``tests/data/test_pixels.py``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES = ({"size": 32, "epochs": 2, "lr": 1e-2}, {"size": 48, "epochs": 5, "lr": 1e-2})


@dataclass(frozen=True, slots=True)
class Size:
    """``kills`` at random moments, ``saves`` amid a save, ``cuts`` of the power, ``flips`` in entries."""

    kills: int
    saves: int
    cuts: int
    flips: int

    def __str__(self) -> str:
        return (
            f"`kill -9` {self.kills} times and {self.saves} times amid a save, {self.cuts} power cuts "
            f"(ext4 shut down without flush); 20 flipped bytes in a cache entry, {self.flips} times"
        )


QUICK, FULL = Size(2, 1, 0, 20), Size(50, 5, 10, 200)


@dataclass(frozen=True, slots=True)
class Found:
    """``equal``: whether the weights are those of a run that nobody disturbed; ``found`` of ``flips``."""

    equal: bool
    kills: int
    saves: int
    cuts: int
    why_no_cuts: str
    flips: int
    found: int

    @property
    def met(self) -> bool:
        return self.equal and self.found == self.flips and not self.why_no_cuts

    def __str__(self) -> str:
        cuts = f"no power cut ({self.why_no_cuts})" if self.why_no_cuts else f"{self.cuts} power cuts"
        return (
            f"{self.kills} kills, {self.saves} of them amid a save, {cuts}: resumed each time, weights "
            f"{'bit-equal' if self.equal else 'NOT EQUAL'} in the end; corrupt cache entries found: "
            f"{self.found}/{self.flips}"
        )


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """Train once in peace, once disturbed, compare; then damage a cache again and again."""
    from tests.reliability import volume
    from tests.training.small import Small

    catalogue = Small().catalogue(folder / "data", {"train": 48, "valid": 18, "test": 9})
    recipe = Small().recipe(*STAGES, model={"drop_rate": 0.2}, data={"batch": 12}).to_dict()
    recipe["train"]["checkpoint_minutes"] = 0
    why = volume.missing() if size.cuts else None
    plans = {
        "peace": {"kills": 0, "saves": 0, "cuts": 0},
        "disturbed": {"kills": size.kills, "saves": size.saves, "cuts": 0 if why else size.cuts},
    }
    weights = {}
    for name, plan in plans.items():
        out = folder / name
        line = [sys.executable, "-m", "tests.reliability.training", str(catalogue.root), json.dumps(recipe)]
        done = subprocess.run(
            [*line, str(out), json.dumps({"longest": 1.5, **plan})], capture_output=True, text=True,
            check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        weights[name] = (out / "weights.safetensors").read_bytes()
    flips = sum(flipped(folder / "flips" / str(number), number) for number in range(size.flips))
    equal = weights["peace"] == weights["disturbed"]
    counts = plans["disturbed"]
    total = counts["kills"] + counts["saves"]
    return Found(equal, total, counts["saves"], counts["cuts"], why or "", size.flips, flips)


def drive(catalogue: str, recipe: dict[str, object], out: Path, plan: dict[str, float]) -> None:
    """Train in forks that are killed as ``plan`` says, until one ends by itself; keep its weights."""
    import torch

    torch.set_num_threads(1)
    from carina.scoring.bundle import Bundle
    from carina.training.recipe import parse_recipe
    from carina.training.train import train
    from tests.reliability.volume import Volume

    dice = random.Random(0)
    ends = ["kill"] * int(plan["kills"]) + ["save"] * int(plan["saves"]) + ["cut"] * int(plan["cuts"])
    dice.shuffle(ends)
    out.mkdir(parents=True)
    with ExitStack() as stack:
        disk = stack.enter_context(Volume(out / "disk", 64)) if plan["cuts"] else None
        run = (disk.path if disk else out) / "run"
        for end in [*ends, None]:
            child = os.fork()
            if not child:
                if end == "save":
                    _die_amid_a_save(dice.randint(1, 6))
                try:
                    train(catalogue, parse_recipe(recipe), run)
                except BaseException as fault:
                    if end is None:
                        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
                    os._exit(1)
                os._exit(0)
            if end in ("kill", "cut"):
                time.sleep(dice.uniform(0, plan["longest"]))
            if end == "cut" and disk is not None:
                disk.cut()
            if end in ("kill", "cut"):
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if end == "cut" and disk is not None:
                disk.unmount()
                disk.mount()
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) and end != "cut":
                raise SystemExit(f"could not be resumed; before: {ends}")
            if (run / "bundle").exists():
                Bundle.open(run / "bundle")
        content = (run / "bundle" / "weights.safetensors").read_bytes()
    (out / "weights.safetensors").write_bytes(content)


def _die_amid_a_save(count: int) -> None:
    """End this process with SIGKILL at its ``count``-th fsync: while a file is half made to last."""
    fsync, left = os.fsync, [count]

    def dying(handle: int) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = dying


def flipped(folder: Path, seed: int) -> bool:
    """Flip 20 bytes of one entry of a cache; whether the entry was found out and made anew."""
    import numpy as np

    from carina.data.packed import PIXELS
    from tests.data.test_pixels import SMALL, build, expected, films, sha256s

    dice = random.Random(seed)
    catalogue = films(folder, count=3, seed=seed)
    cache = build(catalogue)
    side = SMALL.size * SMALL.size
    path, entry = cache.folder / PIXELS, dice.randrange(3)
    content = bytearray(path.read_bytes())
    for at in dice.sample(range(entry * side, (entry + 1) * side), 20):
        content[at] ^= dice.randint(1, 255)
    path.write_bytes(content)
    again = build(catalogue)
    same = np.array_equal(again.array(sha256s(catalogue)), expected(catalogue))
    return bool(same) and len(again.pixels) == 4  # the old row is no longer used, one was added


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    drive(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
