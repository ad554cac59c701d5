"""Make and measure ``src/carina/scoring/sides.npz``: are left and right exchanged in this chest film?

    CARINA_REAL_DATA=FOLDER python benchmarks/sides.py [--teach] [--out bench/frontal]

A small convolutional network looks at a film and at its mirror image; the difference of its two answers is
the verdict, so that a mirrored film gets exactly the opposite of what the film gets. Taught with the films
that ``benchmarks/frontal.py`` teaches with (half of the patients of four sets) and with more of
``chest_xray``, true films only: the mirror images are in the sum. Measured on the other half, and on sets
that it never saw. ``--teach`` takes about five CPU minutes and needs torch.
"""

from __future__ import annotations

import argparse
import os
import re
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from frontal import NEW, SQUARE, TAUGHT, Picture, drawn_chest, real_films
from numpy.typing import NDArray
from real import ROOT, markdown, write_section

from carina.errors import CarinaError
from carina.images.prepare import load
from carina.scoring import frontal, sides

NUMBERS = ROOT / "src" / "carina" / "scoring" / "sides.npz"
CHANNELS = (8, 16, 32, 48)
HIDDEN = 32


def main() -> None:
    """Teach, measure, and write the section of ``docs/results.md``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("CARINA_REAL_DATA", "data"))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "frontal")
    parser.add_argument("--most", type=int, default=1200, help="Films of one set.")
    parser.add_argument("--more", type=int, default=1600, help="Further films of chest_xray to teach with.")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--teach", action="store_true", help="Make the numbers of the package anew.")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    films = real_films(args.data, args.out / "films.npz", args.most)
    if args.teach:
        own = [film for name in TAUGHT for film, first in films.get(name, ()) if first]
        own += more(args.data, args.out / "more.npz", args.more)
        own += [drawn_chest(number) for number in range(120)]
        numbers = teach([sides.seen(film) for film in own], args.epochs)
        np.savez_compressed(NUMBERS, **{k: v.astype(np.float16) for k, v in numbers.items()})
        sides._numbers.cache_clear()
    text = measured(films)
    print(text)
    write_section(ROOT / "docs" / "results.md", "sides", text)


def more(data: Path, kept: Path, most: int) -> list[Picture]:
    """Films of ``chest_xray`` whose patient is of the first half."""
    if not kept.exists():
        files = sorted((data / "chest_xray").rglob("*.jp*g"))
        found = []
        for index in np.random.default_rng(1).permutation(len(files)):
            patient = re.split(r"_(?=\d{3}\.)|_bacteria|_virus|-\d{4}\.", files[index].name)[0]
            if zlib.crc32(patient.encode()) % 2 == 0:
                try:
                    found.append(load(files[index], SQUARE)[0])
                except CarinaError as error:
                    print(f"left out: {error}")
            if len(found) == most:
                break
        np.savez_compressed(kept, pixels=np.array(found))
    return list(np.load(kept)["pixels"])


def teach(films: list[NDArray[np.float32]], epochs: int, *, seed: int = 0) -> dict[str, NDArray[np.floating]]:
    """The numbers of ``sides.npz``, from films as :func:`carina.scoring.sides.seen` gives them."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    widths = (1, *CHANNELS)
    layers: list[Any] = []
    for before, after in pairwise(widths):
        layers += [torch.nn.Conv2d(before, after, 3, stride=2, padding=1), torch.nn.ReLU()]
    cells = sides.SIDE // 2 ** len(CHANNELS)
    net = torch.nn.Sequential(
        *layers, torch.nn.Flatten(), torch.nn.Dropout(0.3),
        torch.nn.Linear(CHANNELS[-1] * cells**2, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1),
    )  # fmt: skip
    data = torch.from_numpy(np.stack(films))[:, None]
    batch, steps = 96, epochs * (len(films) // 96)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    draws = torch.Generator().manual_seed(seed)
    for step in range(steps):
        chosen = data[torch.randint(len(data), (batch,), generator=draws)]
        x = varied(chosen, draws)
        both = net(torch.cat([x, x.flip(3)]))
        margin = both[:batch, 0] - both[batch:, 0]
        loss = torch.nn.functional.softplus(-margin).clamp(min=0.01).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        pace.step()
        if step % 200 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)
    kept: dict[str, NDArray[np.floating]] = {}
    convolutions = [layer for layer in net if isinstance(layer, torch.nn.Conv2d)]
    for number, layer in enumerate(convolutions):
        kernel = layer.weight.detach().numpy().transpose(1, 2, 3, 0)  # (C, 3, 3, K)
        kept[f"k{number}"] = kernel.reshape(-1, layer.out_channels)
        kept[f"b{number}"] = layer.bias.detach().numpy()
    first, last = (layer for layer in net if isinstance(layer, torch.nn.Linear))
    kept |= {"w1": first.weight.detach().numpy().T, "c1": first.bias.detach().numpy()}
    return kept | {"w2": last.weight.detach().numpy()[0]}


def varied(films: Any, draws: Any) -> Any:
    """(N, 1, S, S) from other rooms: turned by up to 8°, cut, stretched, of other gamma and grain."""
    import torch

    def uniform(low: float, high: float) -> Any:
        return torch.rand(len(films), generator=draws) * (high - low) + low

    angle = torch.deg2rad(uniform(-8, 8))
    wide, high = uniform(0.86, 1.05), uniform(0.86, 1.05)
    theta = torch.zeros(len(films), 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = wide * angle.cos(), -wide * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = high * angle.sin(), high * angle.cos()
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-0.07, 0.07), uniform(-0.07, 0.07)
    grid = torch.nn.functional.affine_grid(theta, list(films.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(films, grid, padding_mode="border", align_corners=False)
    power = torch.exp(uniform(-0.35, 0.35))[:, None, None, None]
    bent = moved.sign() * moved.abs().clamp(min=1e-4) ** power
    noise = torch.randn(films.shape, generator=draws) * uniform(0, 0.12)[:, None, None, None]
    hidden = bent + noise
    for film in range(
        0, len(films), 3
    ):  # a third of them with a corner covered: no letter is to be relied on
        size = int(torch.randint(6, 18, (1,), generator=draws))
        y, x = (int(v) for v in torch.randint(0, sides.SIDE - size, (2,), generator=draws))
        hidden[film, :, y : y + size, x : x + size] = float(torch.rand(1, generator=draws)) * 2 - 1
    return hidden


def measured(films: dict[str, list[tuple[Picture, bool]]]) -> str:
    """The table: true films taken for mirrored, and mirrored ones found."""
    groups = {name: [film for film, first in films[name] if not first] for name in TAUGHT if name in films}
    groups |= {f"{name} (never seen)": [film for film, _ in films[name]] for name in NEW if name in films}
    groups["phantoms"] = [drawn_chest(9000 + number) for number in range(72)]
    rows, every = [], []
    for name, part in groups.items():
        margins = np.array([sides.margin(frontal.without_borders(film)) for film in part])
        every += [] if name == "phantoms" else list(margins)
        rows.append([name, len(part), *_shares(margins)])
    whole = np.array(every)
    rows.append(["**all but phantoms**", len(whole), *_shares(whole)])
    table = markdown(["films", "number", "refused as they are", "refused when mirrored", "right"], rows)
    cuts = [(share, float(np.quantile(whole, share))) for share in (0.002, 0.005, 0.01, 0.02)]
    said = "; ".join(f"{share:.1%} refused finds {np.mean(-whole < cut):.1%}" for share, cut in cuts)
    return f"{table}\n\nOver all of them: {said}. Cuts: {', '.join(f'{cut:.2f}' for _, cut in cuts)}."


def _shares(margins: NDArray[np.float64]) -> list[str]:
    refused = [np.mean(each < -sides.SURE) for each in (margins, -margins)]
    return [*(f"{share:.1%}" for share in refused), f"{np.mean(margins > 0):.1%}"]


if __name__ == "__main__":
    main()
