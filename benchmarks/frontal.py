"""Make and measure ``src/carina/scoring/frontal.npz``: does this look like one upright frontal chest film?

    CARINA_REAL_DATA=FOLDER python benchmarks/frontal.py [--teach] [--out bench/frontal]

Taught with half of the patients of NIH, Shenzhen, Hannover and ``chest_xray`` and with phantoms, against
the same films gone wrong (inverted, turned, cut, parts of them), drawn radiographs of other parts and
pictures that are no radiograph. Measured on the other half, on sets it never saw (COVID-CXNet,
Figure 1, DarkCovidNet) and on pictures it never saw: photographs of scikit-image and scikit-learn, digits,
slices of pydicom where these packages are installed. ``--teach`` makes the numbers anew (two CPU
minutes) and puts them into the package; without it those of the package are measured (one).
"""

from __future__ import annotations

import argparse
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from real import ROOT, markdown, write_section
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPClassifier

from carina.errors import CarinaError
from carina.images.phantom import HOSPITALS, phantom
from carina.images.phantom.foreign import KINDS as FOREIGN
from carina.images.phantom.foreign import foreign
from carina.images.phantom.scenes import KINDS as SCENES
from carina.images.phantom.scenes import SPOILT, scene, spoilt
from carina.images.prepare import Preparation, load, prepare
from carina.scoring import abstain, frontal
from carina.taxonomy import SIX_CLASSES

TAUGHT = ("nih", "shenzhen", "hannover", "chest_xray")
NEW = ("covid_cxnet", "figure1", "darkcovidnet")
SQUARE = Preparation(size=64, fit="stretch")
NUMBERS = ROOT / "src" / "carina" / "scoring" / "frontal.npz"
Picture = NDArray[np.uint8]
Rng = np.random.Generator


def main() -> None:
    """Teach, measure, and write the section of ``docs/results.md``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("CARINA_REAL_DATA", "data"))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "frontal")
    parser.add_argument("--most", type=int, default=1200, help="Films of one set.")
    parser.add_argument("--teach", action="store_true", help="Make the numbers of the package anew.")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    films = real_films(args.data, args.out / "films.npz", args.most)
    if args.teach:
        numbers = teach([film for name in TAUGHT for film, first in films.get(name, ()) if first])
        np.savez_compressed(NUMBERS, **{k: v.astype(np.float16) for k, v in numbers.items()})
    text = measured(films)
    print(text)
    write_section(ROOT / "docs" / "results.md", "frontal", text)


def real_films(data: Path, kept: Path, most: int) -> dict[str, list[tuple[Picture, bool]]]:
    """Films of each set, and whether their patient is of the first half."""
    if kept.exists():
        stored = np.load(kept)
        sets, names, pixels = stored["sets"], stored["names"], stored["pixels"]
    else:
        rows = list(_read(data, most))
        sets, names, pixels = (np.array(each) for each in zip(*rows, strict=True))
        np.savez_compressed(kept, sets=sets, names=names, pixels=pixels)
    found: dict[str, list[tuple[Picture, bool]]] = {}
    for name, file, film in zip(sets, names, pixels, strict=True):
        patient = re.split(r"_(?=\d{3}\.)|_bacteria|_virus|-\d{4}\.", str(file))[0]
        found.setdefault(str(name), []).append((film, zlib.crc32(patient.encode()) % 2 == 0))
    return found


def _read(data: Path, most: int) -> Iterator[tuple[str, str, Picture]]:
    for name in (*TAUGHT, *NEW):
        files = sorted(p for p in (data / name).rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
        chosen = np.random.default_rng(0).permutation(len(files))[:most]
        for index in sorted(chosen):
            try:
                yield name, files[index].name, load(files[index], SQUARE)[0]
            except CarinaError as error:
                print(f"left out: {error}")


def teach(films: list[Picture], *, again: int = 4, seed: int = 0) -> dict[str, NDArray[np.floating]]:
    """The numbers of ``frontal.npz``."""
    rng = np.random.default_rng(seed)
    drawn = [drawn_chest(i) for i in range(180)]
    chests = [vary(film, rng) for film in (*films, *drawn) for _ in range(again)]
    examples: list[tuple[int, Picture]] = [(0, film) for film in chests]
    examples += [(0, film[:, ::-1]) for film in chests[:: again * 2]]
    for film in (*films, *drawn):
        examples += [(frontal.LIKE.index(like), vary(bad, rng)) for like, bad in gone_wrong(film, rng)]
    other = frontal.LIKE.index("other")
    for number in range(130):
        for kind in FOREIGN:
            film = foreign(kind, seed=number, size=64)
            examples += [(other, vary(each, rng)) for each in (film, film[:, ::-1], film)]
            examples.append((other, 255 - film))
        for kind in SCENES:
            picture = scene(kind, seed=number, size=64)
            examples += [(other, vary(each, rng)) for each in (picture, 255 - picture)]
    x = np.array([frontal.equalised(frontal.without_borders(film)) for _, film in examples])
    y = np.array([label for label, _ in examples])
    axes = PCA(72, random_state=seed).fit(x[rng.permutation(len(x))[:12000]])
    inner = (x - axes.mean_) @ axes.components_.T
    left = np.linalg.norm(x - axes.mean_ - inner @ axes.components_, axis=1)
    features = np.column_stack([inner, left])
    scale = features.std(axis=0)
    layer = MLPClassifier(
        (48,), alpha=0.1, early_stopping=True, n_iter_no_change=4, max_iter=40, random_state=seed
    ).fit(features / scale, y)
    own = x[: len(chests)]
    chest = PCA(40, random_state=seed).fit(own)
    rest = (own - chest.mean_) - ((own - chest.mean_) @ chest.components_.T) @ chest.components_
    return {
        "mean": axes.mean_, "axes": axes.components_, "scale": scale,
        "w1": layer.coefs_[0], "b1": layer.intercepts_[0], "w2": layer.coefs_[1], "b2": layer.intercepts_[1],
        "chest_mean": chest.mean_, "chest_axes": chest.components_,
        "chest_variance": chest.explained_variance_,
        "chest_noise": np.array([(rest**2).sum(axis=1).mean() / (1024 - 40)]),
    }  # fmt: skip


def drawn_chest(seed: int) -> Picture:
    """A phantom of each class and hospital in turn, as its file would be read."""
    made = phantom(SIX_CLASSES[seed % 6], seed=seed, look=list(HOSPITALS.values())[seed // 6 % 4], size=224)
    whole = (1 << made.look.bits) - 1
    return prepare((made.pixels.astype(np.uint32) * 255 // whole).astype(np.uint8), SQUARE)


def vary(film: Picture, rng: Rng, *, most_turn: float = 7) -> Picture:
    """The same film from another room: a little turned, cut, wider, lighter, with a border."""
    side = film.shape[0]
    picture = Image.fromarray(np.ascontiguousarray(film))
    picture = picture.rotate(rng.uniform(-most_turn, most_turn), Image.Resampling.BILINEAR, fillcolor=0)
    left, top, right, bottom = rng.uniform(0, 0.09, 4) * side
    picture = picture.resize(
        (64, 64), Image.Resampling.BILINEAR, box=(left, top, side - right, side - bottom)
    )
    gray = (np.asarray(picture, np.float32) / 255) ** rng.uniform(0.7, 1.4)
    pixels = (np.clip(gray * rng.uniform(0.75, 1.15), 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.3:
        wide = np.zeros_like(pixels)
        bar = int(rng.integers(1, 10))
        inner = Image.fromarray(pixels).resize((64 - 2 * bar, 64), Image.Resampling.BILINEAR)
        wide[:, bar : 64 - bar] = np.asarray(inner)
        pixels = wide
    return pixels


def gone_wrong(film: Picture, rng: Rng) -> Iterator[tuple[str, Picture]]:
    """(what it is like, picture): a few of the ways, by lot."""
    yield "inverted", 255 - film
    yield "turned", np.rot90(film, int(rng.choice([1, 3])))
    yield "upside_down", np.rot90(film, 2) if rng.random() < 0.5 else film[::-1]
    half = film.copy()
    axis, first = rng.integers(2), rng.integers(2)
    cut = int(film.shape[0] * rng.uniform(0.4, 0.6))
    part = np.s_[:cut] if first else np.s_[cut:]
    half[part if axis else (slice(None), part)] = rng.choice([0, 255, int(rng.integers(0, 256))])
    yield "part", half
    size = int(film.shape[0] * rng.uniform(0.25, 0.5))
    y, x = rng.integers(0, film.shape[0] - size, 2)
    yield "part", np.asarray(Image.fromarray(film[y : y + size, x : x + size]).resize((64, 64)))
    tiles = [film[r : r + 32, c : c + 32] for r in (0, 32) for c in (0, 32)]
    a, b, c, d = (tiles[i] for i in rng.permutation(4))
    yield "other", np.block([[a, b], [c, np.rot90(d, int(rng.integers(1, 4)))]])


def measured(films: dict[str, list[tuple[Picture, bool]]]) -> str:
    """The tables: true films refused, everything else refused."""
    true = {name: [film for film, first in films[name] if not first] for name in TAUGHT if name in films}
    true |= {f"{name} (never seen)": [film for film, _ in films[name]] for name in NEW if name in films}
    true["phantoms"] = [drawn_chest(9000 + i) for i in range(72)]
    rows = []
    for name, part in true.items():
        codes = [abstain.sane(film) for film in part]
        why = [code for code in codes if code]
        said = ", ".join(f"{why.count(each)} {each}" for each in sorted(set(why))) or "–"
        rows.append([name, len(part), f"{len(why) / len(part):.1%}", said])
    text = [markdown(["true films", "films", "refused", "as"], rows)]
    whole = [film for name in TAUGHT if name in true for film in true[name]]
    bad = {how: [np.asarray(prepare(spoilt(film, how), SQUARE)) for film in whole[::4]] for how in SPOILT}
    bad |= {f"drawn: {kind}": [foreign(kind, seed=5000 + i, size=64) for i in range(40)] for kind in FOREIGN}
    bad |= {
        f"no radiograph: {kind}": [scene(kind, seed=5000 + i, size=64) for i in range(40)] for kind in SCENES
    }
    bad |= {f"never seen: {name}": part for name, part in others().items()}
    rows = [
        [name, len(part), f"{np.mean([abstain.sane(each) is not None for each in part]):.1%}"]
        for name, part in bad.items()
    ]
    text.append(markdown(["not a whole, upright chest film", "pictures", "refused"], rows))
    return "\n\n".join(text)


def others() -> dict[str, list[Picture]]:
    """Pictures of packages that happen to be installed; none of them was taught with."""
    found: dict[str, list[Picture]] = {}
    for name, pictures in (("scikit-learn", _sklearn), ("scikit-image", _skimage), ("pydicom", _pydicom)):
        try:
            found |= pictures()
        except ImportError:
            print(f"{name} is not installed: its pictures are left out")
    return found


def _crops(picture: Picture, count: int) -> list[Picture]:
    """Squares of a photograph, large and small, by lot."""
    rng, made = np.random.default_rng(0), []
    for _ in range(count):
        side = int(min(picture.shape) * rng.uniform(0.35, 1))
        y, x = (int(rng.integers(0, edge - side + 1)) for edge in picture.shape)
        made.append(prepare(picture[y : y + side, x : x + side], SQUARE))
    return made


def _sklearn() -> dict[str, list[Picture]]:
    from sklearn.datasets import load_digits, load_sample_images

    photos = [np.asarray(Image.fromarray(each).convert("L")) for each in load_sample_images().images]
    digits = (load_digits().images[:300] * 15).astype(np.uint8)
    return {
        "photographs": [crop for photo in photos for crop in _crops(photo, 60)],
        "handwritten digits": [np.asarray(Image.fromarray(each).resize((64, 64))) for each in digits],
    }


def _skimage() -> dict[str, list[Picture]]:
    from skimage import data

    names = (
        "astronaut",
        "camera",
        "coffee",
        "chelsea",
        "coins",
        "moon",
        "page",
        "text",
        "rocket",
        "brick",
        "grass",
        "gravel",
    )
    photos = []
    for name in names:
        picture = np.asarray(getattr(data, name)())
        photos.append(np.asarray(Image.fromarray(picture).convert("L")))
    return {"photographs of scikit-image": [crop for photo in photos for crop in _crops(photo, 20)]}


def _pydicom() -> dict[str, list[Picture]]:
    from pydicom.data import get_testdata_file

    names = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm")
    made = []
    for name in names:
        path = get_testdata_file(name)
        try:
            made.append(load(str(path), SQUARE)[0])
        except CarinaError as error:
            print(f"left out: {error}")
    return {"slices and others of pydicom": made} if made else {}


if __name__ == "__main__":
    main()
