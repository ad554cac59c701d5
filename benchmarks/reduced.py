"""What decoding at a fraction of the size costs in probability: a bundle asked twice about the same films.

    python benchmarks/reduced.py BUNDLE FILM_OR_FOLDER...

Once as ``carina score`` prepares a film (a large one is shrunk while it is decoded), and once from all of its
pixels. Films that are too small to be shrunk so are the same both times, and counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from carina.errors import ImageError
from carina.images.prepare import load, prepare
from carina.images.read import read
from carina.scoring.inputs import films
from carina.scoring.operating import sites
from carina.scoring.scorer import Scorer


def main() -> None:
    """Ask, and print how far apart the answers are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("films", nargs="+")
    args = parser.parse_args()
    scorer = Scorer(args.bundle)
    short, whole = [], []
    for item in films(args.films):
        path = getattr(item, "source", None)
        if not isinstance(path, str | Path):
            continue
        try:
            square, _ = load(Path(path), scorer.bundle.preparation)
            exact = prepare(read(Path(path)).pixels, scorer.bundle.preparation)
        except ImageError:
            continue
        short.append(square)
        whole.append(exact)
    reduced = [
        number for number, pair in enumerate(zip(short, whole, strict=True)) if (pair[0] != pair[1]).any()
    ]
    one, other = (scorer.predict(np.stack(each)).probabilities for each in (short, whole))
    sick = [name not in scorer.bundle.healthy for name in scorer.bundle.classes]
    apart = np.abs(one - other).max(axis=1)
    print(f"{len(short)} films, {len(reduced)} of them shrunk while decoded")
    print(f"gray levels apart (mean of a film, of those): {_said(_levels(short, whole, reduced))}")
    print(f"probability of a class apart: {_said(apart[reduced])}")
    p_disease = [each[:, sick].sum(axis=1) for each in (one, other)]
    points = [point for site in sites(scorer.bundle).values() for point in site.points]
    for threshold in sorted({point.threshold for point in points} or {0.5}):
        moved = int(((p_disease[0] >= threshold) != (p_disease[1] >= threshold)).sum())
        print(f"other side of {threshold:.4f}: {moved} films")


def _levels(short: list[np.ndarray], whole: list[np.ndarray], of: list[int]) -> np.ndarray:
    return np.array([np.abs(short[i].astype(int) - whole[i]).mean() for i in of])


def _said(values: np.ndarray) -> str:
    if not len(values):
        return "none"
    spread = f"95 % below {np.quantile(values, 0.95):.4f}, at most {values.max():.4f}"
    return f"median {np.median(values):.4f}, {spread}"


if __name__ == "__main__":
    main()
