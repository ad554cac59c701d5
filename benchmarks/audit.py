"""What of the figures on the public sets is medicine, and the section of it in ``docs/results.md``.

    CARINA_REAL_DATA=FOLDER python benchmarks/audit.py --backbone local-dir:WEIGHTS [--out bench/audit]

Four questions are asked of the sets that ``benchmarks/real.py`` names:

* **report**, **recommended**: the audit with the labels mapped as the original report did (all NIH films are
  Other Findings, all of a COVID collection COVID-19), and as ``src/carina/data/labels.toml`` does;
* **remedies**: what the pictures give away before and after each, on a sample of whole patients;
* **unseen**: a small network at 64 pixels, taught on all sources but one and asked about that one: the area
  of disease against health there, and how many of its films it calls COVID-19, of which none shows it;
* **time**: the full audit of 10,000 films from their pixel cache.

A catalogue, a bundle or a part's text that lies under ``--out`` from an earlier run is used as it is.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real import ROOT, SETS, carina, markdown, write_section

from carina.data import catalogue as catalogues
from carina.data.catalogue import Catalogue
from carina.data.confounding import lookaway
from carina.data.confounding.area import Auc, auc
from carina.data.confounding.audit import Audit, full_audit, picture_baselines, write_audit
from carina.data.confounding.baselines import DISEASE
from carina.data.pixels import PixelCache
from carina.data.splits import SplitRow, assign
from carina.evaluation.answers import cached
from carina.evaluation.audit_page import NAMES
from carina.evaluation.metrics import disease_probability
from carina.evaluation.selection import ask, truth
from carina.scoring.bundle import Bundle
from carina.scoring.scorer import Scorer

COVID = "COVID-19"
SAMPLE, TIMED = 2000, 10_000  # films
STEPS: dict[str, dict[str, Any]] = {
    "none": {},
    "trim": {"trim": True},
    "crop 0.07": {"crop": 0.07},
    "mask_letters": {"mask_letters": True},
    "tone clahe": {"tone": "clahe"},
    "tone equalised": {"tone": "equalised"},
    "trim, crop 0.07, equalised": {"trim": True, "crop": 0.07, "tone": "equalised"},
}
_ALL = ("data.trim=true", "data.crop=0.07", "data.tone=equalised")
_JITTER = (*_ALL, "train.augment={resolution=0.5}")
NETWORKS: dict[str, tuple[str, ...]] = {
    "none": (),
    "trim, crop 0.07": _ALL[:2],
    "equalised": _ALL[2:],
    "crop 0.07": _ALL[1:2],
    "mask_letters": ("data.mask_letters=true",),
    "resolution 0.5": _JITTER[3:],
    "balance source": ("train.balance=source",),
    "trim, crop 0.07, equalised, resolution 0.5": _JITTER,
    "the same, and balance source": (*_JITTER, "train.balance=source"),
}


def main() -> None:
    """Ask all four and write the section."""
    args = arguments()
    catalogue = compiled(args)
    report = as_the_report(catalogue, args.out / "report" / "catalogue")
    parts = {
        "report": lambda: audited(args, report, "As the report mapped them"),
        "recommended": lambda: audited(args, catalogue, "As we recommend"),
        "remedies": lambda: remedies(args, catalogue),
        **{f"without-{name}": partial(unseen, args, catalogue, name) for name in args.unseen},
        "time": lambda: timing(catalogue),
    }
    chosen = {name: make for name, make in parts.items() if args.parts is None or name in args.parts}
    texts = [part(args.out / f"{name}.md", make) for name, make in chosen.items()]
    if args.parts is None:
        write_section(ROOT / "docs" / "results.md", "audit", "\n\n".join(texts))


def part(path: Path, make: Callable[[], str]) -> str:
    """The text of a part: that of an earlier run, or made now."""
    if not path.exists():
        text = make()
        path.write_text(text, "utf-8")
        print(f"\n{text}", flush=True)
    return path.read_text("utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("CARINA_REAL_DATA", "data"))
    parser.add_argument("--backbone", default=os.environ.get("CARINA_BACKBONE", "mobilenetv2_100"))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "audit")
    parser.add_argument(
        "--unseen", nargs="*", default=["shenzhen", "nih"], help="sources to hold out in turn"
    )
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS, metavar="REMEDIES")
    parser.add_argument(
        "--parts", nargs="*", help="only these (report, remedies, without-nih ...); the page is not written"
    )
    parser.add_argument("--epochs", type=int, default=3, help="of the unfrozen stage")
    parser.add_argument("--workers", type=int, default=None)
    return parser.parse_args()


def compiled(args: argparse.Namespace) -> Catalogue:
    """The catalogue of all sets that are there."""
    out = args.out / "recommended" / "catalogue"
    if not (out / catalogues.MANIFEST).exists():
        data = Path(args.data)
        found = [f"{name}={data / name}" for name in SETS if (data / name).is_dir()]
        if not found:
            raise SystemExit(f"{data}: none of {', '.join(SETS)} is there; set CARINA_REAL_DATA")
        carina("compile", *found, "--out", out)
    return Catalogue.open(out)


def as_the_report(catalogue: Catalogue, out: Path) -> Catalogue:
    """The same films under the report's labels (``recipes/labels-report.toml``)."""
    rows = catalogue.table().to_pylist()
    everything = {"nih": "Other Findings", "figure1": COVID}
    for row in rows:
        row["class"] = everything.get(row["source"], row["class"])
    return written(rows, catalogue, out)


def written(rows: Sequence[Mapping[str, Any]], like: Catalogue, out: Path) -> Catalogue:
    """A catalogue of ``rows`` that shares the pixels of another."""
    if not (out / catalogues.MANIFEST).exists():
        out.mkdir(parents=True, exist_ok=True)
        pixels = (like.root / "pixels").resolve()
        pixels.mkdir(exist_ok=True)  # a link to what is not there cannot be made a folder
        (out / "pixels").symlink_to(pixels)
        left = {row["class"] for row in rows}
        manifest = {
            "classes": [name for name in like.classes if name in left],
            "healthy": sorted(like.healthy),
            "sources": like.manifest.get("sources", []),
        }
        catalogues.write(out, rows, manifest, {})
    return Catalogue.open(out)


def audited(args: argparse.Namespace, catalogue: Catalogue, title: str) -> str:
    """The full audit of a catalogue: a table and the verdict."""
    cache = PixelCache.build(catalogue, lookaway.PREPARATION, workers=args.workers)
    found = full_audit(catalogue, cache, thorough=False)
    write_audit(catalogue.root, found.to_dict())
    return f"### {title}\n\n{baselines(found)}\n\n> {found.verdict.sentence}"


def baselines(audit: Audit) -> str:
    """A row for each thing that is not the lungs."""
    names = (*audit.classes, DISEASE)
    rows = [
        [NAMES[each.key], f"{100 * each.accuracy:.1f} %", *(area(each.rows.get(name)) for name in names)]
        for each in audit.baselines
        if each.accuracy is not None
    ]
    usual = ["(always the most frequent class)", f"{100 * audit.most_frequent:.1f} %", *[""] * len(names)]
    text = (
        f"{audit.films} films of {audit.patients} patients. Accuracy over {len(audit.classes)} classes, and "
        "area under ROC of each class against the rest; cross-validated by patient."
    )
    return f"{text}\n\n{markdown(['who sees only', 'accuracy', *names], [*rows, usual])}"


def remedies(args: argparse.Namespace, catalogue: Catalogue) -> str:
    """Accuracy of each way of not looking at the lungs, a column a remedy."""
    some = sample(catalogue)
    rows = []
    for words, steps in STEPS.items():
        folder = catalogue.root / "pixels"
        asked = replace(lookaway.PREPARATION, **steps)
        cache = PixelCache.build(some, asked, folder=folder / asked.fingerprint(), workers=args.workers)
        told = {each.key: each for each in picture_baselines(some, cache, thorough=False)}
        keys = ("marks", "border", "blacked_out", "grain", "thumbnail")
        accuracies = [f"{100 * (told[key].accuracy or 0):.1f} %" for key in keys]
        rows.append(
            [words, *accuracies, *(area(told[k].rows.get(COVID)) for k in ("marks", "border", "grain"))]
        )
        print(*rows[-1], sep="  ", flush=True)
    head = [
        "remedy",
        *(NAMES[key] for key in keys),
        *(f"{COVID} by {NAMES[k]}" for k in ("marks", "border", "grain")),
    ]
    text = (
        f"{len(some)} films drawn at random, groups whole. Accuracy over all classes; then areas of {COVID}."
    )
    return f"{text}\n\n{markdown(head, rows)}"


def sample(catalogue: Catalogue) -> Catalogue:
    """At most so many films, groups whole; in memory."""
    groups = catalogue.films["group"].to_pylist()
    order = np.random.default_rng(0).permutation(sorted(set(groups)))
    counts, kept = Counter(groups), set[str]()
    for group, total in zip(order, np.cumsum([counts[g] for g in order]), strict=True):
        if total <= SAMPLE:
            kept.add(str(group))
    films = catalogue.films.filter(np.array([group in kept for group in groups]))
    return replace(catalogue, films=films, fingerprint=catalogues.fingerprint(films))


@dataclass(frozen=True)
class Unseen:
    """What a network does on films of a source it was not taught on, and at home."""

    disease: Auc
    covid: int  # films called COVID-19; none has it
    films: int
    home: Mapping[str, Any]  # validation figures on the sources it was taught on


def unseen(args: argparse.Namespace, catalogue: Catalogue, source: str) -> str:
    """What networks do on the source that they were not taught on."""
    held = held_out(catalogue, source, args.out / f"without-{source}" / "catalogue")
    rows = []
    for words in args.networks:
        found = network(args, held, words)
        rows.append(
            [
                words,
                f"{area(found.disease)} ({area_of(found.disease.low)}–{area_of(found.disease.high)})",
                f"{found.covid} of {found.films}",
                f"{found.home['auc_disease']:.3f}",
                f"{100 * found.home['accuracy']:.1f} %",
            ]
        )
        print(*rows[-1], sep="  ", flush=True)
    there, home = f"in {source}", "at home"
    head = [
        "remedies",
        f"disease, {there}",
        f"called {COVID}, {there}",
        f"disease, {home}",
        f"accuracy, {home}",
    ]
    text = (
        f"MobileNetV2 at 64 pixels, {args.epochs + 1} epochs, taught on all sets but `{source}`. Disease "
        "against health as area under ROC (95 % interval), there and on validation films of the other sets."
    )
    return f"### A network that never saw {source}\n\n{text}\n\n{markdown(head, rows)}"


def held_out(catalogue: Catalogue, source: str, out: Path) -> Catalogue:
    """The catalogue with the source as its test side.

    A disease that nobody else has becomes the most frequent other one: only disease against health is asked.
    """
    rows = catalogue.table().to_pylist()
    elsewhere = Counter(row["class"] for row in rows if row["source"] != source)
    stand_in = next(name for name, _ in elsewhere.most_common() if name not in catalogue.healthy)
    for row in rows:
        row["class"] = row["class"] if elsewhere[row["class"]] else stand_in
    films = [
        SplitRow(row["image_id"], row["patient"], row["group"], row["class"], row["source"]) for row in rows
    ]
    sides = assign(films, valid=0.15, test=0, seed=0, hold_out=[source])
    return written([row | {"split": side} for row, side in zip(rows, sides, strict=True)], catalogue, out)


def network(args: argparse.Namespace, catalogue: Catalogue, words: str) -> Unseen:
    """Train, and ask about the source that was held out."""
    from carina.training.recipe import parse_recipe
    from carina.training.train import train

    stages = [
        {"size": 64, "frozen": True, "epochs": 1, "lr": 3e-3},
        {"size": 64, "epochs": args.epochs, "lr": [3e-4, 2e-3]},
    ]
    recipe = parse_recipe(
        {
            "name": words,
            "model": {"backbone": args.backbone, "drop_rate": 0.1},
            "train": {"label_smoothing": 0.05, "precision": "auto"},
            "data": {"workers": args.workers or None},
            "stage": stages,
        }
    )
    run = catalogue.root.parent / words.replace(", ", "-").replace(" ", "_")
    bundle = Bundle.open(train(catalogue, recipe, run, overrides=NETWORKS[words]))
    there = asked_there(bundle, catalogue)
    covid = int((there.called == bundle.classes.index(COVID)).sum())
    return Unseen(there.disease, covid, len(there.ill), bundle.manifest.training["valid"])


@dataclass(frozen=True)
class There:
    """What a bundle says of the films of a source: ``called`` (n,) class indices, ``ill`` (n,) the truth."""

    disease: Auc
    called: NDArray[np.int64]
    ill: NDArray[np.bool_]
    sick: NDArray[np.bool_]  # (C,) which classes are diseases


def asked_there(bundle: Bundle, catalogue: Catalogue) -> There:
    """Ask about the test side of ``held_out``."""
    films = catalogue.table("test")
    labels = truth(films, bundle, catalogue)
    told = ask(films, labels, Scorer(bundle), cached(catalogue, bundle.preparation), None)
    at = told.scored
    sick = np.array([name not in bundle.healthy for name in bundle.classes])
    _, groups = np.unique(films["group"].to_pylist(), return_inverse=True)
    probabilities, ill = told.probabilities[at], sick[labels[at]]
    area = auc(disease_probability(probabilities, sick), ill, groups[at].astype(np.int64))
    return There(area, probabilities.argmax(1), ill, sick)


class Many:
    """The films of a cache, each as often as asked for, with a little noise so that no two are the same."""

    def __init__(self, cache: PixelCache, sha256s: Sequence[str]) -> None:
        self.cache, self.sha256s = cache, list(sha256s)

    def array(self, sha256s: Sequence[str], /) -> NDArray[np.uint8]:
        films = self.cache.array([self.sha256s[int(each) % len(self.sha256s)] for each in sha256s])
        noise = np.random.default_rng(0).integers(-3, 4, films.shape, dtype=np.int8)
        return np.clip(films + noise, 0, 255).astype(np.uint8)


def timing(catalogue: Catalogue) -> str:
    """The full audit of so many films."""
    import pyarrow as pa

    rows = catalogue.table().to_pylist()
    many = [
        {
            **rows[n % len(rows)],
            "image_id": f"{n:016x}",
            "sha256": str(n),
            "group": f"{n}",
            "patient": f"{n // 2}",
        }
        for n in range(TIMED)
    ]
    films = pa.Table.from_pylist(many, schema=catalogue.films.schema)
    cache = PixelCache.build(catalogue, lookaway.PREPARATION)
    source = Many(cache, [row["sha256"] for row in rows])
    start, worked = time.perf_counter(), time.process_time()
    full_audit(replace(catalogue, films=films), source)
    wall, worked = time.perf_counter() - start, time.process_time() - worked
    return (
        f"**Time.** The full audit of {TIMED:,} films from their pixel cache took {worked:.0f} s of "
        f"processor time ({wall:.0f} s on the clock of a machine that was shared with other work)."
    )


def area(figure: Auc | None) -> str:
    """``0.93``, empty where it could not be measured."""
    return "" if figure is None else area_of(figure.value)


def area_of(value: float | None) -> str:
    """Three digits."""
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
