"""How fast training is, beside what a user would run instead: fastai, and the plain torch loop.

    python benchmarks/training.py [--films 512] [--sizes 64,224] [--epochs 4] [--rounds 3] [--only part,part]

needs ``pip install 'carina[bench]'``. Films are synthetic, full-size JPEGs (1500 × 1200) in a folder for
each class; every contender starts from these files with nothing decoded and ends with a trained network.
Carina then also exports and verifies a bundle, which the others have no like of: that time is printed
beside. Jobs run in turn, each in a process of its own, round by round, so that a busy neighbour hits all of
them. Parts:

* ``full``: all layers, so many epochs, end to end: Carina, fastai (``from_folder``, ``vision_learner``,
  ``fit_one_cycle``), and ImageFolder + PIL + DataLoader in float32;
* ``frozen``: the head alone, as many epochs: Carina and fastai;
* ``step``: Carina's loop against a bare loop over tensors that lie in memory, one process;
* ``loading``: films a second into a tensor: the packed cache against ImageFolder + PIL;
* ``growth``: seconds of an epoch and peak memory with 1k, 2k, 5k and 10k films, from the packed cache.

The precision of each contender is printed: where a processor only emulates bfloat16, ``auto`` means float32.
Weights are random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 1500, 1200
PARTS = ("full", "frozen", "step", "loading", "growth")


def main() -> None:
    """Run the parts asked for and print the ratios; with ``--job`` run one job and print its figures."""
    args = arguments()
    if args.job:
        print("RESULT " + json.dumps(JOBS[args.job](args)), flush=True)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    films = args.out / f"films-{args.films}"
    write_films(films, args.films)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {args.backbone}")
    found: dict[str, Any] = {"cores": os.cpu_count(), "films": args.films, "backbone": args.backbone}
    for part in args.only:
        found[part] = PART_OF[part](args, films)
    (args.out / "training.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=512)
    parser.add_argument(
        "--sizes", type=lambda text: [int(size) for size in text.split(",")], default=[64, 224]
    )
    parser.add_argument("--epochs", type=int, default=4, help="of the parts full and frozen")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--backbone", default="resnet34")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument(
        "--growth", type=lambda text: [int(n) for n in text.split(",")], default=[1000, 2000, 5000, 10000]
    )
    parser.add_argument(
        "--contenders", type=lambda text: text.split(","), default=["carina", "fastai", "plain"]
    )
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "training")
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--frozen", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def write_films(out: Path, count: int) -> None:
    """``count`` films as JPEGs of 1500 × 1200 in ``train`` and a tenth as many in ``valid``, by class."""
    if (out / "done").is_file():
        return
    shutil.rmtree(out, ignore_errors=True)
    import numpy as np
    from PIL import Image

    from carina.images.phantom import write_hospitals

    small = out.with_name("phantoms")
    shutil.rmtree(small, ignore_errors=True)
    write_hospitals(small, per_class=24, seed=0)
    pictures = [path for path in sorted(small.rglob("*")) if path.suffix in (".png", ".jpg", ".jpeg")]
    rng = np.random.default_rng(0)
    for side, films in (("train", count), ("valid", max(12, count // 10))):
        for number in range(films):
            folder = out / side / f"class_{number % 6}"
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(pictures[int(rng.integers(len(pictures)))]) as film:
                large = np.asarray(
                    film.convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16
                )
            grain = rng.integers(
                -6, 7, large.shape, dtype=np.int16
            )  # a film has grain; it is what JPEGs weigh
            Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8)).save(
                folder / f"film_{side}_{number:05}.jpg", quality=90
            )
    (out / "done").touch()


def both(args: argparse.Namespace, films: Path, *, frozen: bool) -> dict[str, Any]:
    """End to end from the files, in turn, ``rounds`` times; medians and their ratios."""
    found: dict[str, Any] = {}
    for size in args.sizes:
        rows: dict[str, list[dict[str, Any]]] = {}
        contenders = [name for name in args.contenders if not (frozen and name == "plain")]
        for _ in range(args.rounds):
            for name in contenders:
                rows.setdefault(name, []).append(job(args, name, films, size=size, frozen=frozen))
        found[str(size)] = told(
            rows, f"{'the head alone' if frozen else 'all layers'}, {args.epochs} epochs, {size} px"
        )
    return found


def told(rows: dict[str, list[dict[str, Any]]], title: str) -> dict[str, Any]:
    """Print and return median seconds, memory, and how many times Carina is as fast."""
    print(f"\n{title}")
    medians = {name: statistics.median(each["seconds"] for each in found) for name, found in rows.items()}
    for name, found in rows.items():
        times = ", ".join(f"{each['seconds']:.1f}" for each in found)
        memory = max(each["peak_mb"] for each in found)
        ratio = (
            f"  {medians[name] / medians['carina']:.2f} × Carina"
            if name != "carina" and "carina" in medians
            else ""
        )
        print(
            f"  {name:<8} {medians[name]:8.1f} s  ({times})  {memory:6.0f} MB  {found[0]['precision']}{ratio}"
        )
        if "with_bundle" in found[0]:
            bundle = statistics.median(each["with_bundle"] for each in found)
            print(f"  {'':<8} {bundle:8.1f} s  with its bundle: exported, held against torch, verified")
    return {"rounds": rows, "median_seconds": medians}


def job(args: argparse.Namespace, name: str, data: Path, **options: Any) -> dict[str, Any]:
    """One job in a fresh process; raises SystemExit with its last words where it fails."""
    line = [sys.executable, __file__, "--job", name, "--data", str(data), "--backbone", args.backbone]
    line += ["--batch", str(args.batch), "--epochs", str(args.epochs), "--out", str(args.out)]
    for key, value in options.items():
        line += [f"--{key}"] if value is True else [f"--{key}", str(value)] if value is not False else []
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    result = next((text for text in done.stdout.splitlines() if text.startswith("RESULT ")), None)
    if done.returncode or result is None:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return dict(json.loads(result.removeprefix("RESULT ")))


def measured(work: Callable[[], Any], precision: str) -> dict[str, Any]:
    """Seconds of the work, and the most memory this process ever held."""
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "peak_mb": peak_mb(), "precision": precision}


def peak_mb() -> float:
    """Of this process and its children, in MB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def stages(size: int, epochs: int, frozen: bool = False) -> list[dict[str, Any]]:
    """The same work for all: the head, or everything, for so many epochs."""
    return [{"size": size, "frozen": frozen, "epochs": epochs, "lr": 1e-3}]


def carina_job(args: argparse.Namespace) -> dict[str, Any]:
    """Read the folder into a catalogue, decode once, train, export a verified bundle."""
    from carina.data import catalogue as catalogues
    from carina.records import Progress
    from carina.training.devices import chosen_precision
    from carina.training.recipe import parse_recipe
    from carina.training.train import train

    work = args.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    recipe = parse_recipe(
        {
            "data": {"batch": args.batch},
            "model": {"backbone": args.backbone, "pretrained": False},
            "train": {"augment": "none" if args.frozen else "film"},
            "stage": stages(args.size, args.epochs, args.frozen),
        }
    )

    trained: list[float] = []

    def tell(event: Progress) -> None:
        if event.stage == "export" and not trained:
            trained.append(time.perf_counter())

    def go() -> None:
        listed = catalogues.write(work / "catalogue", catalogue_rows(args.data), manifest(), {})
        train(listed, recipe, work / "run", progress=tell)

    began = time.perf_counter()
    found = measured(go, chosen_precision("auto"))
    return found | {"seconds": trained[0] - began, "with_bundle": found["seconds"]}


def catalogue_rows(data: Path) -> list[dict[str, Any]]:
    """A row for each file of ``train/CLASS`` and ``valid/CLASS``; hashed, as a compilation does."""
    import hashlib

    rows = []
    for path in sorted(data.glob("*/*/*.jpg")):
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        row = {
            "image_id": sha256[:16],
            "sha256": sha256,
            "path": str(path.resolve()),
            "class": path.parent.name,
        }
        row |= {
            "label": path.parent.name,
            "source": "phantoms",
            "patient": f"p:{path.stem}",
            "group": sha256[:16],
        }
        row |= {"split": path.parent.parent.name, "findings": [], "width": WIDTH, "height": HEIGHT}
        rows.append(row | {"bits": 8, "format": "jpeg", "bytes": len(content)})
    return rows


def manifest() -> dict[str, Any]:
    """Six classes, the first of which is healthy."""
    return {"classes": [f"class_{number}" for number in range(6)], "healthy": ["class_0"]}


def fastai_job(args: argparse.Namespace) -> dict[str, Any]:
    """fastai as its tutorials write it, with its own augmentation where all layers learn."""
    from fastai.vision import all as vision
    from torchvision import models

    architecture = getattr(models, args.backbone)

    def go() -> None:
        changes = None if args.frozen else vision.aug_transforms(do_flip=False)
        data = vision.ImageDataLoaders.from_folder(
            args.data,
            train="train",
            valid="valid",
            item_tfms=vision.Resize(args.size),
            batch_tfms=changes,
            bs=args.batch,
            num_workers=os.cpu_count(),
        )
        learner = vision.vision_learner(data, architecture, pretrained=False, metrics=vision.accuracy)
        learner.freeze() if args.frozen else learner.unfreeze()
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(args.epochs, 1e-3)

    return measured(go, "float32")


def plain_job(args: argparse.Namespace) -> dict[str, Any]:
    """ImageFolder + PIL + DataLoader, float32, colour: what most scripts do."""
    import torch
    from torch import nn
    from torchvision import datasets, models, transforms

    def go() -> None:
        steps = [
            transforms.Resize((args.size, args.size)),
            transforms.RandomRotation(5),
            transforms.ToTensor(),
        ]
        films = datasets.ImageFolder(str(args.data / "train"), transforms.Compose(steps))
        plain = transforms.Compose([steps[0], steps[2]])
        held = datasets.ImageFolder(str(args.data / "valid"), plain)
        options = {"batch_size": args.batch, "num_workers": os.cpu_count() or 1}
        network = getattr(models, args.backbone)(weights=None, num_classes=6)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for _ in range(args.epochs):
            network.train()
            for pixels, labels in torch.utils.data.DataLoader(films, shuffle=True, **options):
                loss = nn.functional.cross_entropy(network(pixels), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                for pixels, _ in torch.utils.data.DataLoader(held, **options):
                    network(pixels).argmax(1)

    return measured(go, "float32")


def step(args: argparse.Namespace, films: Path) -> dict[str, Any]:
    """Carina's loop against a bare one, in turn."""
    found: dict[str, Any] = {}
    for size in args.sizes:
        rounds = [job(args, "steps", films, size=size, films=args.films) for _ in range(args.rounds)]
        ratio = statistics.median(each["carina"] / each["bare"] for each in rounds)
        best = min(rounds, key=lambda each: each["bare"])
        ours, least = 1000 * best["carina"], 1000 * best["bare"]
        print(f"\nstep, {size} px: {ours:.1f} ms, bare loop {least:.1f} ms; ratio {ratio:.3f}")
        found[str(size)] = {"rounds": rounds, "ratio": ratio}
    return found


def steps_job(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step: an epoch of Carina's loop, and the same network over tensors in memory."""
    import numpy as np
    import torch

    from carina.training.devices import chosen_precision, deterministic, fabric, quiet
    from carina.training.films import Films
    from carina.training.loop import Loop, Split
    from carina.training.recipe import parse_recipe
    from carina.training.weights import build

    steps = max(4, args.films // args.batch)
    count = steps * args.batch
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, args.size, args.size), dtype=np.uint8)
    ids = np.arange(count, dtype=np.uint64)
    films = Films(pixels, np.arange(count), np.arange(count) % 6, ids)
    held = Films(pixels[:12], np.arange(12), np.arange(12) % 6, ids[:12])
    keys = {"data": {"batch": args.batch}, "model": {"backbone": args.backbone, "pretrained": False}}
    recipe = parse_recipe(
        {**keys, "train": {"augment": "none", "checkpoint_minutes": 60}, "stage": stages(args.size, 1)}
    )
    names = tuple(manifest()["classes"])
    with quiet(), deterministic():
        device = fabric(precision="auto")
        times: dict[str, float] = {}
        for turn in ("warm", "carina", "bare"):
            network = build(recipe.model, 6, size=args.size, seed=0, pretrained=False)
            if turn == "bare":
                times[turn] = bare(network, pixels, steps, args.batch, device)
                continue
            loop = Loop(
                network,
                recipe,
                {args.size: Split(films, held)},
                classes=names,
                healthy=names[:1],
                fabric=device,
            )
            loop.fit()
            record = loop.position.history[-1]
            times[turn] = count / record["images_per_second"] / steps
    return {
        "carina": times["carina"],
        "bare": times["bare"],
        "precision": chosen_precision("auto"),
        "torch": torch.__version__,
    }


def bare(network: Any, pixels: Any, steps: int, batch: int, device: Any) -> float:
    """Seconds a step of the least loop there is: same network, optimizer and precision, films in memory."""
    import torch
    from torch import nn

    network.to(device.device, memory_format=torch.channels_last)
    network.set_size(pixels.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    films = torch.from_numpy(pixels).to(device.device).unsqueeze(1).float()
    films = films.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(len(films), device=device.device) % 6
    network.train()
    began = time.perf_counter()
    for start in range(0, steps * batch, batch):
        with device.autocast():
            logits = network(films[start : start + batch])
        loss = nn.functional.cross_entropy(logits.float(), labels[start : start + batch])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if device.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def loading(args: argparse.Namespace, films: Path) -> dict[str, Any]:
    """Films a second into a float tensor."""
    found: dict[str, Any] = {}
    for size in args.sizes:
        rounds = [job(args, "load", films, size=size) for _ in range(args.rounds)]
        middle = {
            key: statistics.median(each[key] for each in rounds) for key in ("first", "cache", "folder")
        }
        print(
            f"\nloading, {size} px: cache {middle['cache']:,.0f} films/s "
            f"(decoding once: {middle['first']:,.0f}), ImageFolder + PIL {middle['folder']:,.0f}; "
            f"{middle['cache'] / middle['folder']:.0f} ×"
        )
        found[str(size)] = {"rounds": rounds, **middle}
    return found


def load_job(args: argparse.Namespace) -> dict[str, Any]:
    """Decode once into the cache, read the cache, read the folder as ImageFolder does; all cores."""
    import numpy as np
    import torch
    from torchvision import datasets, transforms

    from carina.data import catalogue as catalogues
    from carina.data.pixels import PixelCache
    from carina.images.prepare import Preparation
    from carina.training.films import Feed, Films

    work = args.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    rows = [row for row in catalogue_rows(args.data) if row["split"] == "train"]
    listed = catalogues.write(work / "catalogue", rows, manifest(), {})
    began = time.perf_counter()
    cache = PixelCache.build(listed, Preparation(size=args.size))
    first = len(rows) / (time.perf_counter() - began)
    places = cache.rows([row["sha256"] for row in rows])
    nothing = np.zeros(len(rows))
    feed = Feed(
        Films(cache.pixels, places, nothing.astype(np.int64), nothing.astype(np.uint64)), torch.device("cpu")
    )
    order = np.random.default_rng(0).permutation(len(rows))
    began = time.perf_counter()
    for _ in range(20):
        for start in range(0, len(rows), args.batch):
            feed.batch(order[start : start + args.batch])
    cached = 20 * len(rows) / (time.perf_counter() - began)
    steps = transforms.Compose([transforms.Resize((args.size, args.size)), transforms.ToTensor()])
    folder = datasets.ImageFolder(str(args.data / "train"), steps)
    began = time.perf_counter()
    for _ in torch.utils.data.DataLoader(folder, batch_size=args.batch, num_workers=os.cpu_count() or 1):
        pass
    return {"first": first, "cache": cached, "folder": len(rows) / (time.perf_counter() - began)}


def growth(args: argparse.Namespace, films: Path) -> dict[str, Any]:
    """Seconds of an epoch and peak memory by number of films, from a packed file that is memory-mapped."""
    size = min(args.sizes)
    rows = [job(args, "epoch", films, size=size, films=count) for count in args.growth]
    print(f"\nan epoch at {size} px, network test_resnet, from a memory-mapped pack")
    for count, row in zip(args.growth, rows, strict=True):
        print(
            f"  {count:>7,} films {row['seconds']:8.2f} s  {1e6 * row['seconds'] / count:7.0f} µs a film  "
            f"{row['peak_mb']:6.0f} MB, of which the map {row['map_mb']:5.0f} MB"
        )
    return {"size": size, "rows": [{"films": n, **row} for n, row in zip(args.growth, rows, strict=True)]}


def epoch_job(args: argparse.Namespace) -> dict[str, Any]:
    """One epoch of a small network over ``films`` films of a memory map."""
    import numpy as np

    from carina.training.devices import deterministic, fabric, quiet
    from carina.training.films import Films
    from carina.training.loop import Loop, Split
    from carina.training.recipe import parse_recipe
    from carina.training.weights import build

    path = args.out / f"pack-{args.films}.u8"
    shape = (args.films, args.size, args.size)
    pack = np.memmap(path, np.uint8, "w+", shape=shape)
    rng = np.random.default_rng(0)
    for start in range(0, args.films, 500):
        pack[start : start + 500] = rng.integers(0, 256, pack[start : start + 500].shape, dtype=np.uint8)
    pack.flush()
    pixels = np.memmap(path, np.uint8, "r", shape=shape)
    ids = np.arange(args.films, dtype=np.uint64)
    films = Films(pixels, np.arange(args.films), np.arange(args.films) % 6, ids)
    held = Films(pixels[:12], np.arange(12), np.arange(12) % 6, ids[:12])
    model = {"backbone": "test_resnet", "pretrained": False}
    keys = {"data": {"batch": 64}, "model": model, "train": {"checkpoint_minutes": 60}}
    recipe = parse_recipe({**keys, "stage": stages(args.size, 1)})
    names = tuple(manifest()["classes"])
    with quiet(), deterministic():
        network = build(recipe.model, 6, size=args.size, seed=0, pretrained=False)
        loop = Loop(
            network, recipe, {args.size: Split(films, held)},
            classes=names, healthy=names[:1], fabric=fabric(precision="auto"),
        )  # fmt: skip
        loop.fit()
    seconds = args.films / loop.position.history[-1]["images_per_second"]
    size = path.stat().st_size / 2**20
    path.unlink()
    return {"seconds": seconds, "peak_mb": peak_mb(), "map_mb": size}


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "carina": carina_job,
    "fastai": fastai_job,
    "plain": plain_job,
    "steps": steps_job,
    "load": load_job,
    "epoch": epoch_job,
}
PART_OF: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "full": lambda args, films: both(args, films, frozen=False),
    "frozen": lambda args, films: both(args, films, frozen=True),
    "step": step,
    "loading": loading,
    "growth": growth,
}

if __name__ == "__main__":
    main()
