"""Do heat maps lie on the disease? On phantoms, where it is known where the disease is.

    python benchmarks/heat.py [--model BUNDLE] [--films 300] [--write]

``--model`` names a bundle that was trained on phantoms; without it one is trained here: pretrained weights
(``CARINA_BACKBONE`` names a folder of them where there is no internet), a new head, three epochs at 160 px.
The films are new ones with a lesion mask. Pointing game (Zhang et al. 2018, IJCV 126:1084): is the
strongest place on the lesion? Energy: how much of the heat is on it? Both beside what an even map would
reach. Grad-CAM (Selvaraju et al. 2017, ICCV) is taken from the same weights in torch, on the last feature
map; for a linear head on an average it is the same map but for a factor, which the paper shows and the last
lines hold it to.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
FIRST_SEED = 900_000  # no seed of the demonstration
RECIPE = """
[data]
batch = 32

[model]
backbone = "{}"

[[stage]]
size = 160
frozen = true
epochs = 3
lr = 1e-2
"""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a bundle trained on phantoms")
    parser.add_argument("--films", type=int, default=300)
    parser.add_argument("--write", action="store_true", help="write the section of docs/results.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carina-heat-") as folder:
        text = measured(args.model or trained(Path(folder)), args.films)
    print(text)
    if args.write:
        from real import write_section

        write_section(HERE.parent / "docs" / "results.md", "heat", text)


def trained(folder: Path) -> Path:
    """A bundle from the demonstration's films and ``RECIPE``."""
    backbone = os.environ.get("CARINA_BACKBONE", "mobilenetv2_100.imagenet")
    (folder / "heat.toml").write_text(RECIPE.format(backbone))
    for line in (
        ["phantoms", "--out", "films", "--per-class", "150"],
        ["compile", *(f"films/hospital_{each}" for each in "abc"), "--out", "catalogue"],
        ["train", "catalogue", "--recipe", "heat.toml", "--out", "run"],
    ):
        subprocess.run([sys.executable, "-m", "carina", *line], cwd=folder, check=True, capture_output=True)
    return folder / "run" / "bundle"


def measured(model: Path, count: int) -> str:
    """The table of one bundle."""
    from carina.scoring import heat
    from carina.scoring.scorer import Scorer

    scorer = Scorer(model, threads=1)
    films, lesions, lungs, truth = phantoms(scorer.bundle, count)
    began = time.process_time()
    outputs = scorer.predict(films)
    exact_ms = 1000 * (time.process_time() - began) / count
    exact = outputs.cam[np.arange(count), truth]
    grad, grad_ms = grad_cam(scorer.bundle, films, truth)
    right = outputs.logits.argmax(1) == truth
    area = lesions.mean((1, 2))
    by_ellipse = np.array([heat.outside(each) for each in exact])
    rows = [
        f"{count} new phantoms with a lesion, three hospitals; {right.mean():.0%} are classified right.",
        f"The map has {exact.shape[1]} × {exact.shape[2]} cells, a lesion takes {area.mean():.0%} of a film.",
        f"`python benchmarks/heat.py --films {count}`",
        "",
        "| heat of the true class | strongest place on the lesion | heat on it | processor ms a film |",
        "|---|---|---|---|",
        f"| an even map | {area.mean():.0%} | {area.mean():.0%} | |",
        row("exact CAM from ONNX", exact, lesions, exact_ms),
        row("the same, films classified right", exact[right], lesions[right], None),
        row("Grad-CAM from torch", grad, lesions, grad_ms),
        "",
        f"The two maps correlate by {correlation(exact, grad):.4f} (median).",
        f"Outside the lungs lies {np.median(by_ellipse):.0%} of the heat by the ellipse of `heat_outside`,",
        f"{np.median(1 - energies(exact, lungs)):.0%} by the true lungs (medians).",
        f"The alarm rings for {np.mean(by_ellipse > heat.BOUND):.0%} of the films.",
    ]
    return "\n".join(rows)


def phantoms(bundle: Any, count: int) -> tuple[Any, Any, Any, Any]:
    """Films (N, S, S) uint8, lesions and lungs (N, S, S) bool, and the place of each true class (N,)."""
    from carina.images.phantom import HOSPITALS, phantom
    from carina.images.prepare import prepare

    diseased = [name for name in bundle.classes if name not in bundle.healthy]
    plain = dataclasses.replace(bundle.preparation, trim=False, mask_letters=False, tone="plain")
    made: list[list[Any]] = [[], [], [], []]
    for number in range(count):
        name, look = diseased[number % len(diseased)], list(HOSPITALS.values())[number % 3]
        film = phantom(name, seed=FIRST_SEED + number, look=look, size=384)
        made[0].append(prepare(film.pixels, bundle.preparation))
        for place, mask in ((1, film.lesion), (2, film.lungs)):
            made[place].append(prepare(np.uint8(255) * mask.astype(np.uint8), plain) > 127)
        made[3].append(bundle.classes.index(name))
    return tuple(np.stack(each) if place < 3 else np.array(each) for place, each in enumerate(made))  # type: ignore[return-value]


def grad_cam(bundle: Any, films: Any, truth: Any) -> tuple[Any, float]:
    """Grad-CAM of the true class, (N, h, w), one film at a time as it is usually done, and ms a film."""
    import torch

    from carina.training.recipe import ModelPart
    from carina.training.weights import build

    told = bundle.manifest.recipe["model"]["backbone"]
    part = ModelPart(backbone=told, pretrained=False, weights=str(bundle.root / "weights.safetensors"))
    network = build(part, bundle.classes, size=films.shape[1], seed=0).eval()
    torch.set_num_threads(1)
    maps = []
    began = time.process_time()
    for film, place in zip(films, truth, strict=True):
        features = network.features(torch.from_numpy(film.copy())[None, None]).float()
        features.retain_grad()
        network.classify(network.pool(features))[0, int(place)].backward()
        weights = features.grad.mean((2, 3), keepdim=True)
        maps.append((weights * features).sum(1)[0].relu().detach().numpy())
    return np.stack(maps), 1000 * (time.process_time() - began) / len(films)


def row(name: str, maps: Any, masks: Any, milliseconds: float | None) -> str:
    """One line of the table."""
    hits = [bool(mask.flat[wide(cam, mask.shape[0]).argmax()]) for cam, mask in zip(maps, masks, strict=True)]
    spent = "" if milliseconds is None else f"{milliseconds:.1f}"
    return f"| {name} | {np.mean(hits):.0%} | {np.mean(energies(maps, masks)):.0%} | {spent} |"


def energies(maps: Any, masks: Any) -> Any:
    """How much of each map's positive part lies on its mask, (N,)."""
    found = []
    for cam, mask in zip(maps, masks, strict=True):
        heat = np.maximum(wide(cam, mask.shape[0]), 0)
        found.append(float((heat * mask).sum() / heat.sum()) if heat.sum() > 0 else 0.0)
    return np.array(found)


def wide(cam: Any, side: int) -> Any:
    """(h, w) → (side, side), as the picture shows it."""
    return np.asarray(Image.fromarray(cam.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))


def correlation(exact: Any, grad: Any) -> float:
    """Of the positive parts of two maps, the median over films; films without heat are left out."""
    found = []
    for one, other in zip(np.maximum(exact, 0), np.maximum(grad, 0), strict=True):
        if one.std() > 0 and other.std() > 0:
            found.append(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    return float(np.median(found))


if __name__ == "__main__":
    main()
