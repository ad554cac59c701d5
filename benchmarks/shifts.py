"""What a change of framing, exposure or sharpness costs a bundle: films of one source, changed one way each.

    python benchmarks/shifts.py CATALOGUE BUNDLE [BUNDLE ...] [--source chest_xray]

The threshold is chosen on the validation films of the source as they are: the one of the highest accuracy in
disease against health, in the middle where many reach it. It then judges the source's test films, as they
are and changed. Changes are made on the prepared square, so that they are the same for every bundle of one
size: what another machine, another hand that crops and another resize would do. No figure here stands for
a hospital; it says which changes a network has learned to look past.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real import markdown

from carina.data.catalogue import Catalogue
from carina.data.confounding.area import auc
from carina.data.pixels import PixelCache
from carina.evaluation.metrics import disease_probability
from carina.evaluation.robustness import AS_THEY_ARE, CHANGES
from carina.evaluation.selection import truth
from carina.scoring.bundle import Bundle
from carina.scoring.scorer import Scorer


def main() -> None:
    """Ask every bundle about every change and print a table for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--source", default="chest_xray")
    args = parser.parse_args()
    catalogue = Catalogue.open(args.catalogue)
    for path in args.bundles:
        print(f"\n{path}\n\n{table(catalogue, Bundle.open(path), args.source)}", flush=True)


def table(catalogue: Catalogue, bundle: Bundle, source: str) -> str:
    """Area under ROC, accuracy, sensitivity and specificity of each change, as Markdown."""
    scorer, cache = Scorer(bundle), PixelCache.build(catalogue, bundle.preparation)
    sick = np.array([name not in bundle.healthy for name in bundle.classes])
    sides = {}
    for side in ("valid", "test"):
        films = catalogue.table(side)
        films = films.filter([each == source for each in films["source"].to_pylist()])
        _, groups = np.unique(films["group"].to_pylist(), return_inverse=True)
        sides[side] = (
            cache.array(films["sha256"].to_pylist()),
            sick[truth(films, bundle, catalogue)],
            groups,
        )

    def asked(squares: NDArray[np.uint8]) -> NDArray[np.float64]:
        return disease_probability(scorer.predict(squares).probabilities, sick)

    squares, ill, _ = sides["valid"]
    threshold = most_accurate(asked(squares), ill)
    squares, ill, groups = sides["test"]
    rows = []
    for name, change in {AS_THEY_ARE: np.asarray, **CHANGES}.items():
        chances = asked(np.stack([change(square) for square in squares]))
        called = chances >= threshold
        area = auc(chances, ill, groups.astype(np.int64))
        shares = (np.mean(called == ill), np.mean(called[ill]), np.mean(~called[~ill]))
        rows.append(
            [
                name,
                f"{area.value:.3f} ({area.low:.3f}–{area.high:.3f})",
                *(f"{share:.1%}" for share in shares),
            ]
        )
    head = ["films", "area under ROC", "accuracy", "sensitivity", "specificity"]
    counted = f"{len(ill)} test films of {source}, {ill.sum()} with disease; threshold {threshold:.3f}"
    return f"{counted}\n\n{markdown(head, rows)}"


def most_accurate(chances: NDArray[np.float64], ill: NDArray[np.bool_]) -> float:
    """The threshold of the highest accuracy; of several the middle of their range."""
    edges = np.concatenate([[0.0], np.sort(chances), [1.0]])
    between = (edges[1:] + edges[:-1]) / 2
    right = np.array([np.mean((chances >= each) == ill) for each in between])
    best = between[right == right.max()]
    return float((best[0] + best[-1]) / 2)


if __name__ == "__main__":
    main()
