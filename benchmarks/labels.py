"""How many wrong labels ``carina labels`` finds: labels of real films are swapped, and looked for.

    python benchmarks/labels.py CATALOGUE [--model BUNDLE] [--flip 0.05] [--films 2000] [--seed 0]

Labels are swapped among the classes of one source only (bacterial for viral pneumonia, TB for normal), as a
person errs; a label of another hospital would be found by the hospital. Films of sources with one class are
left out. With ``--model`` only films it was not trained on are taken. Labels that were wrong before count as
right here, so the share of false alarms is an upper bound.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from carina.data.catalogue import Catalogue
from carina.data.confounding import lookaway
from carina.data.pixels import PixelCache
from carina.data.splits import SplitRow
from carina.evaluation.answers import cached, embeddings
from carina.evaluation.disagreement import disagreement, features_of
from carina.evaluation.selection import trained_on
from carina.scoring.bundle import Bundle
from carina.scoring.scorer import Scorer


def main() -> None:
    """Swap, judge, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--flip", type=float, default=0.05)
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    catalogue = Catalogue.open(args.catalogue)
    seen = trained_on(Bundle.open(args.model)) if args.model else frozenset()
    rows, chosen = mixed(catalogue, args.films, args.seed, seen)
    print(f"{len(rows)} films of {', '.join(sorted({row.source for row in rows}))}")
    features = measured(catalogue, chosen, args.model)
    swapped, wrong = swap(rows, args.flip, args.seed)
    found = disagreement(features, swapped, sorted(catalogue.healthy))
    listed = [suspect.film for suspect in found.suspects]
    print(f"out of fold, {found.accuracy:.1%} of the given labels are the most probable\n")
    print("| source | labels swapped | found | among the first as many | listed |\n|---|---|---|---|---|")
    by_source: defaultdict[str, set[int]] = defaultdict(set)
    for film in range(len(rows)):
        by_source[rows[film].source].add(film)
    first = set(listed[: len(wrong)])
    for name, films in (*sorted(by_source.items()), ("all", set(range(len(rows))))):
        here = wrong & films
        share = len(here & set(listed)) / max(1, len(here))
        early = len(here & first) / max(1, len(here))
        print(f"| {name} | {len(here)} | {share:.0%} | {early:.0%} | {len(films & set(listed))} |")


def mixed(
    catalogue: Catalogue, count: int, seed: int, seen: frozenset[str]
) -> tuple[list[SplitRow], list[int]]:
    """Films of the sources with at least two classes, and their places in the catalogue."""
    hashes = catalogue.films["sha256"].to_pylist()
    names = ("image_id", "patient", "group", "class", "source")
    columns = (catalogue.films[name].to_pylist() for name in names)
    rows = [SplitRow(*row) for row in zip(*columns, strict=True)]
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        classes[row.source].add(row.class_name)
    able = [
        place for place, row in enumerate(rows) if len(classes[row.source]) > 1 and hashes[place] not in seen
    ]
    draw = np.random.default_rng(seed)
    chosen = sorted(draw.choice(able, min(count, len(able)), replace=False).tolist())
    return [rows[place] for place in chosen], chosen


def measured(catalogue: Catalogue, chosen: list[int], model: Path | None) -> np.ndarray:
    """What the judge sees of the chosen films."""
    films = catalogue.films.take(chosen)
    if model is not None:
        bundle = Bundle.open(model)
        given = embeddings(Scorer(bundle), films, cached(catalogue, bundle.preparation), None)
        return np.array([answer[1] for answer in given if answer is not None], np.float32)
    part = replace(catalogue, films=films)
    cache = PixelCache.build(
        part, lookaway.PREPARATION, folder=catalogue.root / "pixels" / "labels-benchmark"
    )
    return features_of(cache.array(films["sha256"].to_pylist()))


def swap(rows: list[SplitRow], share: float, seed: int) -> tuple[list[SplitRow], set[int]]:
    """The rows with some classes swapped for another of the same source, and which."""
    draw = np.random.default_rng(seed + 1)
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        classes[row.source].add(row.class_name)
    wrong = set(draw.choice(len(rows), round(share * len(rows)), replace=False).tolist())
    out = []
    for film, row in enumerate(rows):
        others = sorted(classes[row.source] - {row.class_name})
        out.append(replace(row, class_name=str(draw.choice(others))) if film in wrong else row)
    return out, wrong


if __name__ == "__main__":
    main()
