"""What each recipe does on a source that it never saw, beside what it does at home: ``docs/results.md``.

    python benchmarks/unseen.py CATALOGUE --recipes quick best report:11 --leave shenzhen nih \
        --backbone local-dir:PATH [--set key=value ...]

``CATALOGUE`` is one that ``carina compile`` wrote. For each source to leave and each recipe, a network is
trained on the films of all other sources (groups of near copies with a film of that source are left out
too) and asked about all films of the source that was left: disease against health as area under ROC with
its 95 % interval by patient, recall of disease and specificity at the most probable class, and how many
films are called COVID-19, which neither of the two sources shows. ``report:11`` is row 11 of the study
``report``. Runs lie under ``--out`` and are taken up where they stand.

A disease that only the source left out shows is given another disease's name for the question, which is
disease against health alone; the network was never taught it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from audit import COVID, area, area_of, asked_there, held_out
from real import ROOT, markdown

from carina.data.catalogue import Catalogue
from carina.scoring.bundle import Bundle

HEAD = (
    "left out",
    "recipe",
    "disease there",
    "recall there",
    "specificity there",
    f"called {COVID} there",
    "disease at home",
    "accuracy at home",
)


def main() -> None:
    """Train and ask, source by source, and print the table."""
    args = arguments()
    whole = Catalogue.open(args.catalogue)
    rows = []
    for source in args.leave:
        held = held_out(whole, source, args.out / source / "catalogue")
        for recipe in args.recipes:
            rows.append([source, recipe, *asked(args, held, recipe, args.out / source)])
            print(*rows[-1], sep="  ", flush=True)
    print(f"\n{markdown(HEAD, rows)}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["quick", "best", "report:11"])
    parser.add_argument("--leave", nargs="+", default=["shenzhen", "nih"])
    parser.add_argument("--backbone", required=True, help="local-dir:PATH, weights as timm writes them")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of every recipe")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "unseen")
    return parser.parse_args()


def recipe_of(name: str, changes: list[str]) -> Any:
    """A recipe by name or file, or a row of a study as ``study:row``."""
    from carina.training.recipe import load_recipe
    from carina.training.study_file import load_study

    study, _, row = name.partition(":")
    if not row:
        return load_recipe(name, changes)
    return next(each.recipe for each in load_study(study, changes).rows if each.name == row)


def asked(args: argparse.Namespace, catalogue: Catalogue, name: str, out: Path) -> list[str]:
    """Train one recipe without the source, and ask about the source."""
    from carina.training.train import train

    recipe = recipe_of(name, [f"model.backbone={args.backbone}", *args.set])
    run = out / Path(name.replace(":", "-")).stem
    bundle = Bundle.open(train(catalogue, recipe, run))
    found = asked_there(bundle, catalogue)
    there, ill, called_ill = found.disease, found.ill, found.sick[found.called]
    home = bundle.manifest.training["valid"]
    figures = {
        "auc": [there.value, there.low, there.high],
        "recall": float(called_ill[ill].mean()),
        "specificity": float((~called_ill[~ill]).mean()),
        "covid": int((found.called == bundle.classes.index(COVID)).sum()),
        "films": len(ill),
        "home_auc": home["auc_disease"],
        "home_accuracy": home["accuracy"],
    }
    (run / "unseen.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return [
        f"{area(there)} ({area_of(there.low)}–{area_of(there.high)})",
        f"{figures['recall']:.1%}",
        f"{figures['specificity']:.1%}",
        f"{figures['covid']} of {len(ill)}",
        f"{home['auc_disease']:.3f}",
        f"{home['accuracy']:.1%}",
    ]


if __name__ == "__main__":
    main()
