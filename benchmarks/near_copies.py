"""How well and how fast near copies are found: the figures behind ``data/duplicates.py``.

    CARINA_REAL_DATA=FOLDER python benchmarks/near_copies.py [--films 4000] [--scale 1000 10000 100000]
                                                             [--sheet FILE.png]

``FOLDER`` holds public sets in their own layouts, one folder each (see ``benchmarks/real.py``).

* **Recall**: each film gets one copy, changed in one of the ways below, in turn, and all films and all
  copies are searched at once. Beside it stands what a user would pick instead: a 64-bit perceptual hash
  (DCT, as imagehash and imagededup have it) with the usual distance of at most 10 bits.
* **False pairs**: pairs found between films whose sets say they are of different patients, and between
  different films of one patient in one position (the hard negatives; sets do hold real copies there, so
  look at ``--sheet``), each out of all such pairs.
* **The bar**: at least 98 % of the copies of every kind found, at most 1 false pair in 10,000. Whether it
  is met is printed; where a set may hold real copies the count is an upper bound.
* **Scale**: time and memory of ``near_copies`` on made-up films: two real ones, bent and laid over each
  other. They are no copies, and resemble each other more than real films do.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carina.data.closer import look_closer
from carina.data.descriptors import SIDE, describe_closely
from carina.data.duplicates import Closer, NearCopy, describe, group_ids, near_copies
from carina.data.reading import look_at_all
from carina.data.sources import recognise
from carina.data.sources.source import LeftOut
from carina.errors import DataError, ImageError
from carina.images.read import read
from carina.images.resize import resize

Picture = NDArray[np.uint8]
Draw = np.random.Generator
PHASH_BITS = 10
FOUND, FALSE = 0.98, 1e-4  # the bar


@dataclass(frozen=True, slots=True)
class Known:
    """A film of a set, with what the set says of it."""

    path: Path
    source: str
    patient: str | None
    view: str | None
    sha256: str
    descriptor: Picture


def main() -> None:
    """Measure and print."""
    args = arguments()
    films = known_films(Path(args.data))
    print(f"{len(films)} films of {', '.join(sorted({film.source for film in films}))}\n")
    pairs = found_pairs(films, args.sheet)
    if args.films:
        recall(films, args.films, args.seed, group_ids(len(films), pairs))
    scale(np.stack([film.descriptor for film in films]), args.scale, args.seed)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("CARINA_REAL_DATA", "data"))
    parser.add_argument("--films", type=int, default=4000, help="films that get a copy")
    parser.add_argument("--scale", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="a picture of all pairs within one set")
    return parser.parse_args()


def known_films(root: Path) -> list[Known]:
    """All readable films of the sets under ``root``."""
    images = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            source = recognise(folder)
        except DataError as error:
            print(f"left out: {error}")
            continue
        listed = [image for image in source.read(folder) if not isinstance(image, LeftOut)]
        images += [(image.path, folder.name, image.patient, image.view) for image in listed]
    films = []
    for i, look in look_at_all([path for path, *_ in images]):
        if not isinstance(look, ImageError):
            films.append(Known(*images[i], look.facts.sha256, look.descriptor))
    return sorted(films, key=lambda film: film.path)


# Changes. Each takes the pixels and a source of chance.


def jpeg(film: Picture, draw: Draw) -> Picture:
    file = BytesIO()
    Image.fromarray(film).save(file, "JPEG", quality=int(draw.integers(40, 96)))
    return np.asarray(Image.open(file))


def reduced(film: Picture, draw: Draw) -> Picture:
    scale = draw.uniform(0.2, 1)
    height, width = film.shape
    return resize(film, max(16, round(width * scale)), max(16, round(height * scale)))


def fifth(film: Picture, draw: Draw) -> Picture:
    height, width = film.shape
    return resize(film, max(16, round(width * 0.2)), max(16, round(height * 0.2)))


def crop(film: Picture, draw: Draw) -> Picture:
    height, width = film.shape
    top, bottom, left, right = draw.uniform(0, 0.08, 4)
    return film[
        round(top * height) : height - round(bottom * height),
        round(left * width) : width - round(right * width),
    ]


def tone(film: Picture, draw: Draw) -> Picture:
    gamma, contrast, brightness = draw.uniform(0.8, 1.2, 3)
    changed = (((film / 255) ** gamma - 0.5) * contrast + 0.5) * brightness
    return np.asarray(np.rint(np.clip(changed, 0, 1) * 255), np.uint8)


def drawn(film: Picture, draw: Draw) -> Picture:
    image = Image.fromarray(film)
    pen, (width, height) = ImageDraw.Draw(image), image.size
    for _ in range(int(draw.integers(1, 4))):
        x, y, turn = draw.uniform(0.1, 0.8) * width, draw.uniform(0.1, 0.8) * height, draw.uniform(0, 6.28)
        tip = (x + 0.12 * width * np.cos(turn), y + 0.12 * width * np.sin(turn))
        for end, share in ((turn, 1.0), (turn + 0.5, 0.4), (turn - 0.5, 0.4)):
            away = (
                tip[0] - share * 0.12 * width * np.cos(end),
                tip[1] - share * 0.12 * width * np.sin(end),
            )
            pen.line([*tip, *away], fill=255, width=max(1, width // 80))
    text = str(draw.choice(["R", "L", "AP PORTABLE", "Day 3"]))
    at = (draw.uniform(0, 0.8) * width, draw.uniform(0, 0.85) * height)
    pen.text(at, text, fill=255, font_size=max(8, int(height * draw.uniform(0.06, 0.14))))
    return np.asarray(image)


def square(film: Picture, draw: Draw) -> Picture:
    side = int(draw.choice([128, 224, 256]))
    return resize(film, side, side)


def flip(film: Picture, draw: Draw) -> Picture:
    return np.ascontiguousarray(film[:, ::-1])


def several(film: Picture, draw: Draw) -> Picture:
    for change in (crop, tone, drawn, jpeg):
        film = change(film, draw)
    scale = draw.uniform(0.5, 1)
    return resize(film, round(film.shape[1] * scale), round(film.shape[0] * scale))


CHANGES: dict[str, Callable[[Picture, Draw], Picture]] = {
    "JPEG, quality 40 to 95": jpeg,
    "resized, 0.2 to 1×": reduced,
    "resized, 0.2×": fifth,
    "cropped, to 8 % a side": crop,
    "tone: brightness, contrast, gamma ±20 %": tone,
    "arrows and letters": drawn,
    "stretched to a square": square,
    "mirrored": flip,
    "crop + tone + arrows + JPEG + 0.5 to 1×": several,
}


def recall(films: Sequence[Known], count: int, seed: int, known: NDArray[np.int64]) -> None:
    """Print the share of changed copies that are found, for each change."""
    draw = np.random.default_rng(seed)
    chosen = np.sort(draw.choice(len(films), min(count, len(films)), replace=False))
    names = list(CHANGES)
    copies, closely, hashes, copy_hashes, kinds = [], [], [], [], []
    for turn, i in enumerate(chosen):
        pixels = read(films[i].path).pixels
        eight = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
        changed = CHANGES[names[turn % len(names)]](eight, draw)
        copies.append(describe(changed))
        closely.append(describe_closely(changed))
        hashes.append(phash(eight))
        copy_hashes.append(phash(changed))
        kinds.append(names[turn % len(names)])
    everything = np.stack([film.descriptor for film in films] + copies)
    start = time.perf_counter()
    pairs = near_copies(everything, closer=closer(films, closely))
    seconds = time.perf_counter() - start
    group = group_ids(len(everything), pairs)
    found: Counter[str] = Counter()
    by_hash: Counter[str] = Counter()
    totals = Counter(kinds)
    for j, (i, kind) in enumerate(zip(chosen, kinds, strict=True)):
        found[kind] += group[i] == group[len(films) + j]
        by_hash[kind] += int((hashes[j] ^ copy_hashes[j]).bit_count()) <= PHASH_BITS
    print(f"Recall: {len(chosen)} changed copies among {len(films)} films ({seconds:.0f} s)\n")
    print(f"| change | copies | found | a 64-bit hash, ≤ {PHASH_BITS} bits |\n|---|---|---|---|")
    for name in names:
        n = max(1, totals[name])
        print(f"| {name} | {totals[name]} | {found[name] / n:.1%} | {by_hash[name] / n:.1%} |")
    low = [name for name in names if totals[name] and found[name] < FOUND * totals[name]]
    print(f"\nThe bar of {FOUND:.0%}: {'missed by ' + ', '.join(low) if low else 'met by every change'}")
    origin = np.array([*range(len(films)), *chosen])
    wrong = [p for p in pairs if known[origin[p.first]] != known[origin[p.second]]]
    print(f"\npairs with a copy that is not of the other film, nor of its known copies: {len(wrong)}")
    for pair in wrong:
        one, other = films[origin[pair.first]], films[origin[pair.second]]
        print(f"  {pair.score:.3f} {one.source}/{one.path.name} – {other.source}/{other.path.name}")
    near = sum((a ^ b).bit_count() <= PHASH_BITS for a, b in itertools.combinations(hashes[:2000], 2))
    every = len(hashes[:2000]) * (len(hashes[:2000]) - 1) // 2
    print(f"the hash joins {near} of {every} pairs of different films ({near / every * 1e4:.1f} in 10,000)\n")


def closer(films: Sequence[Known], copies: Sequence[Picture | None] = ()) -> Closer:
    """Larger pictures of the films, and of the changed copies behind them."""

    def pictures(positions: Sequence[int]) -> dict[int, Picture]:
        read_ = [position for position in positions if position < len(films)]
        looked = look_closer([films[position].path for position in read_])
        made = {p: copies[p - len(films)] for p in positions if p >= len(films)}
        found = {read_[i]: picture for i, picture in looked.items()}
        return found | {p: picture for p, picture in made.items() if picture is not None}

    return pictures


def phash(film: Picture) -> int:
    """The 64-bit DCT hash of imagehash: 32 × 32 pixels, 8 × 8 lowest frequencies against their median."""
    at = np.arange(32)
    cosines = np.cos(np.pi / 32 * (at[None, :8].T) * (at + 0.5))  # (8, 32)
    low = cosines @ resize(film, 32, 32).astype(np.float64) @ cosines.T
    bits = (low > np.median(low)).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def found_pairs(films: Sequence[Known], sheet: Path | None) -> list[NearCopy]:
    """Print what is found among the films as they are."""
    start = time.perf_counter()
    pairs = near_copies(np.stack([film.descriptor for film in films]), closer=closer(films))
    seconds = time.perf_counter() - start
    sizes = Counter(Counter(group_ids(len(films), pairs).tolist()).values())
    groups = ", ".join(f"{count} of {size}" for size, count in sorted(sizes.items()) if size > 1)
    print(f"Among the films as they are ({seconds:.0f} s): {len(pairs)} pairs; groups: {groups}\n")
    print("| sets | pairs |\n|---|---|")
    between = Counter(tuple(sorted((films[p.first].source, films[p.second].source))) for p in pairs)
    for (one, other), count in between.most_common():
        print(f"| {one} – {other} | {count} |")
    originals = [i for i, film in enumerate(films) if film.source == "chest_xray_originals"]
    if originals:
        names = {film.path.name: i for i, film in enumerate(films) if film.source == "chest_xray"}
        group = group_ids(len(films), pairs)
        together = sum(group[i] == group[names[films[i].path.name]] for i in originals)
        print(f"\noriginals grouped with their reduced copy: {together} of {len(originals)}")
    print(f"mirrored pairs: {sum(pair.kind == 'flipped' for pair in pairs)}")
    within = [p for p in pairs if films[p.first].source == films[p.second].source]
    inside = [p for p in within if films[p.first].sha256 != films[p.second].sha256]
    print(f"pairs within a set of the same bytes, left out below: {len(within) - len(inside)}")
    strange, same, posed = possible(films)
    print()
    for words, related, of in (
        ("of different patients", stranger, strange),
        ("of one patient", same_patient, same),
        ("of one patient in one position", same_position, posed),
    ):
        count = sum(related(films[p.first], films[p.second]) for p in inside)
        rate = count / max(1, of)
        print(
            f"pairs within a set, films {words}: {count} of {of:,} possible, {1e4 * rate:.2f} in 10,000"
            f"{'' if rate <= FALSE else ': look which of them are real copies (--sheet)'}"
        )
    print()
    if sheet:
        picture_of(films, sorted(inside, key=lambda p: p.score), sheet)
    return pairs


def stranger(one: Known, other: Known) -> bool:
    return None not in (one.patient, other.patient) and one.patient != other.patient


def same_patient(one: Known, other: Known) -> bool:
    return one.patient is not None and one.patient == other.patient


def same_position(one: Known, other: Known) -> bool:
    """Of one patient, and the set does not say that the views differ."""
    return same_patient(one, other) and one.view == other.view


def possible(films: Iterable[Known]) -> tuple[int, int, int]:
    """Pairs within a set of different patients, of one patient, and of one in one position."""
    posed: Counter[tuple[str, str, str | None]] = Counter()
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for film in films:
        if film.patient is not None:
            counts[film.source][film.patient] += 1
            posed[film.source, film.patient, film.view] += 1
    same = sum(n * (n - 1) // 2 for patients in counts.values() for n in patients.values())
    every = sum(sum(patients.values()) * (sum(patients.values()) - 1) // 2 for patients in counts.values())
    return every - same, same, sum(n * (n - 1) // 2 for n in posed.values())


def picture_of(films: Sequence[Known], pairs: Sequence[NearCopy], out: Path, side: int = 160) -> None:
    """A sheet of pairs, the least certain first."""
    columns = 6
    rows = -(-len(pairs) // columns)
    sheet = Image.new("L", (columns * (2 * side + 8), max(1, rows) * (side + 26)), 40)
    pen = ImageDraw.Draw(sheet)
    for place, pair in enumerate(pairs):
        x, y = place % columns * (2 * side + 8), place // columns * (side + 26)
        for k, film in enumerate((films[pair.first], films[pair.second])):
            pixels = read(film.path).pixels
            eight = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
            sheet.paste(Image.fromarray(resize(eight, side, side)), (x + k * side, y))
            pen.text((x + k * side + 2, y + side), film.path.stem[-22:], fill=255, font_size=9)
        pen.text((x + 2, y + side + 12), f"{pair.score:.3f} {pair.kind}", fill=255, font_size=10)
    sheet.save(out)


def scale(descriptors: NDArray[np.uint8], counts: Sequence[int], seed: int) -> None:
    """Print time and memory for growing numbers of films, each measured in a process of its own."""
    print("| films | seconds | CPU seconds | peak memory, MB | pairs found |\n|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    taken: list[tuple[int, float]] = []
    for count in counts:
        with context.Pool(1) as pool:  # a process of its own has a peak memory of its own
            wall, cpu, peak, pairs = pool.apply(timed, (descriptors, count, seed))
        print(f"| {count:,} | {wall:.0f} | {cpu:.0f} | {peak:.0f} | {pairs} |", flush=True)
        taken.append((count, cpu))
    for (fewer, less), (more, longer) in itertools.pairwise(taken):
        power = np.log(longer / less) / np.log(more / fewer)
        print(f"{fewer:,} to {more:,} films: processor time grows with the power {power:.2f}")


def timed(descriptors: NDArray[np.uint8], count: int, seed: int) -> tuple[float, float, float, int]:
    """Wall-clock seconds, CPU seconds, peak memory in MB and pairs found."""
    films = made_up(descriptors, count, seed)
    start, cpu = time.perf_counter(), time.process_time()
    pairs = near_copies(films)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return wall, cpu, peak, len(pairs)


def made_up(descriptors: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.uint8]:
    """``count`` films that exist nowhere, (count, SIDE, SIDE) uint8."""
    draw = np.random.default_rng(seed)
    films = np.empty((count, SIDE, SIDE), np.uint8)
    for i in range(count):
        one, other = draw.choice(len(descriptors), 2, replace=False)
        share = draw.uniform(0.3, 0.7)
        mixed = share * bent(descriptors[one], draw) + (1 - share) * bent(descriptors[other], draw)
        films[i] = np.clip(np.rint(mixed), 0, 255)
    return films


def bent(picture: Picture, draw: Draw) -> NDArray[np.float32]:
    """The picture with rows and columns moved by waves of up to three pixels."""
    at = np.arange(SIDE, dtype=np.float32)
    for axis in (0, 1):
        wave = np.sin(at / SIDE * draw.uniform(6, 12) + draw.uniform(0, 6.28)) * draw.uniform(1.5, 3)
        place = np.clip(at + wave, 0, SIDE - 1.001)
        low, part = place.astype(int), (place % 1).astype(np.float32)
        part = part[:, None] if axis == 0 else part[None, :]
        picture = np.take(picture, low, axis) * (1 - part) + np.take(picture, low + 1, axis) * part
    return np.asarray(picture, np.float32)


if __name__ == "__main__":
    main()
