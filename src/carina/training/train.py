"""Train: a catalogue and a recipe in, a bundle out. The one function the rest of Carina calls.

The work is in the other modules; here stands the order of it, and what is asked of the catalogue.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from carina.data.catalogue import Catalogue
from carina.data.confounding.audit import verdict_on
from carina.data.pixels import PixelCache
from carina.errors import RunError
from carina.evaluation.card import card_files
from carina.images.prepare import Preparation
from carina.records import Progress
from carina.scoring import distance, intended, oddness
from carina.scoring.abstain import how_odd
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.manifest import Data, Input, Manifest, Normalisation, Parity, training_images
from carina.training import run as runs
from carina.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from carina.training.devices import deterministic, fabric, quiet, watched
from carina.training.export import Exported, embeddings, export
from carina.training.films import Films
from carina.training.graph import OPSET
from carina.training.loop import Loop, Split
from carina.training.network import Network
from carina.training.recipe import Recipe, load_recipe, overridden, parse_recipe
from carina.training.selection import SIDES, Part, select
from carina.training.stopping import shipped
from carina.training.weights import build

Tell = Callable[[Progress], None]
PARITY_FILMS = 64
_FOUND = ("stage", "lr", "by", "steep", "valley", "minimum", "rises")  # of a sweep, into the manifest
_PACKAGES = ("carina", "torch", "timm", "lightning", "onnx", "onnxruntime", "numpy")


def train(
    catalogue: str | os.PathLike[str] | Catalogue,
    recipe: str | os.PathLike[str] | Recipe | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    overrides: str | Sequence[str] = (),
    devices: int = 1,
    nodes: int = 1,
    precision: str = "auto",
    after: str | os.PathLike[str] | None = None,
    progress: Tell | None = None,
) -> Path:
    """Train, export, and answer with the bundle's folder, ``out``/bundle.

    ``out`` may be new, empty, or an interrupted run of the same recipe and catalogue, which goes on
    where its newest checkpoint stands; a complete one is left as it is. ``recipe`` is a TOML file, the
    name of one that ships, or its content; ``overrides`` are ``key=value`` (``stage.1.epochs=2``).
    ``after`` names a finished run of the recipe's first stages: a new run goes on from its end, to the bits
    it would have reached by itself. Raises RecipeError, CatalogueError and other DataErrors, WeightsError,
    RunError, OutputError, ExportError, each with its cure.
    """
    tell = progress or (lambda event: None)
    chosen = _chosen(recipe, overrides)
    films = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    classes, parts = select(films, chosen)
    with quiet(), deterministic():
        device = fabric(devices=devices, nodes=nodes, precision=_precision(chosen, precision))
        if not device.is_global_zero:
            tell = _silent
        about = {
            "path": str(films.root),
            "devices": device.world_size,
            "precision": device.strategy.precision.precision,
        }
        with _run_folder(
            device,
            Path(out),
            chosen,
            films.fingerprint,
            {**about, "versions": _versions()},
            None if after is None else Path(after),
        ) as run:
            if run.is_complete:
                Bundle.open(run.bundle)
                tell(
                    Progress(
                        "note", 0, None, {"text": f"{run.root}: this run is complete; nothing was trained"}
                    )
                )
                return run.bundle
            with watched(device):
                return Job(films, chosen, classes, parts, device, run, tell).go()


class Job:
    """The steps of one training, in order. ``run`` is None where nothing is to be kept."""

    def __init__(
        self,
        catalogue: Catalogue,
        recipe: Recipe,
        classes: tuple[str, ...],
        parts: Mapping[str, Part],
        device: Fabric,
        run: runs.Run | None,
        tell: Tell,
    ) -> None:
        self.catalogue, self.recipe, self.classes, self.parts = catalogue, recipe, classes, parts
        self.device, self.run, self.tell = device, run, tell
        self.healthy = tuple(name for name in classes if name in catalogue.healthy)
        self.verdict = verdict_on(catalogue)

    def go(self) -> Path:
        checkpoint = read_checkpoint(self.run.checkpoints)
        loop = self.loop(checkpoint)
        if self.device.is_global_zero:
            self.run.write_history(checkpoint.position.history if checkpoint else ())
        self._say_verdict()
        network = loop.fit(checkpoint)
        self._say_verdict()
        if self.device.is_global_zero:
            self._ship(network, loop.splits[self.recipe.stage[-1].size], loop)
        self.device.barrier()
        return self.run.bundle

    def _say_verdict(self) -> None:
        """No figure is printed without: before the first epoch and after the last."""
        self.tell(Progress("note", 0, None, {"text": f"\nverdict     {self.verdict.sentence}"}))

    def loop(self, checkpoint: Checkpoint | None = None) -> Loop:
        """Network and films, ready to train."""
        network = self._network(checkpoint)
        return Loop(
            network,
            self.recipe,
            {size: self._split(size) for size in dict.fromkeys(stage.size for stage in self.recipe.stage)},
            classes=self.classes,
            healthy=self.healthy,
            fabric=self.device,
            save=self._save if self.run else lambda checkpoint: None,
            tell=self.tell,
        )

    def _network(self, checkpoint: Checkpoint | None) -> Network:
        """The network; its weights are fetched only where no checkpoint will replace them."""
        return build(
            self.recipe.model,
            self.classes,
            size=self.recipe.stage[0].size,
            seed=self.recipe.train.seed,
            pretrained=None if checkpoint is None else False,
            note=lambda text: self.tell(Progress("note", 0, None, {"text": text})),
        )

    def _preparation(self, size: int) -> Preparation:
        return self.recipe.data.preparation(size)

    def _split(self, size: int) -> Split:
        """The films at one size, decoded once for good. The first process builds the cache, all read it."""
        with self.device.rank_zero_first():
            cache = PixelCache.build(
                self.catalogue, self._preparation(size), workers=self.recipe.data.workers, progress=self.tell
            )
        return Split(*(_films(cache, self.parts[side]) for side in SIDES))

    def _save(self, checkpoint: Checkpoint) -> None:
        self.run.write_history(checkpoint.position.history)
        if checkpoint.position.found:
            self.run.write_rates(checkpoint.position.found)
        write_checkpoint(self.run.checkpoints, checkpoint)

    def _ship(self, network: Network, split: Split, loop: Loop) -> None:
        """Export, check, write the bundle."""
        self.tell(Progress("export", 0, 1))
        about = {
            "classes": "\n".join(self.classes),
            "backbone": self.recipe.model.backbone,
            "use": "not a medical device",
        }
        exported = export(network, _real_films(split), about=about)
        listed, fingerprint = training_images(self.parts["train"].films().sha256s)
        known, section = self._embeddings(exported, split)
        size = self.recipe.stage[-1].size
        look = how_odd(_spread(split.valid, oddness.MOST_HELD_OUT), self._preparation(size))
        gate = {oddness.SECTION: look, distance.SECTION: section}
        manifest = self._manifest(network, exported, fingerprint, loop, gate)
        files = {
            "model.onnx": exported.onnx,
            "weights.safetensors": exported.weights,
            **card_files(manifest),
            "training-images.txt": listed,
            "embeddings.npy": known,
            "history.jsonl": self.run.root / "history.jsonl",
        }
        try:
            write_bundle(self.run.bundle, manifest, files)
        except OSError as error:
            raise RunError(
                f"{self.run.bundle}: cannot be written ({error.strerror}); make room and give the same "
                "command again: nothing is trained twice"
            ) from error
        self.tell(Progress("export", 1, 1))

    def _embeddings(self, exported: Exported, split: Split) -> tuple[bytes, dict[str, object]]:
        """Where the training films lie, and how far from them the validation films do (``distance``)."""
        taught = embeddings(exported.onnx, _spread(split.train, distance.MOST))
        held_out = embeddings(exported.onnx, _spread(split.valid, distance.MOST_HELD_OUT))
        return distance.carried(taught, held_out)

    def _manifest(
        self,
        network: Network,
        exported: Exported,
        fingerprint: str,
        loop: Loop,
        gate: Mapping[str, dict[str, object]],
    ) -> Manifest:
        size, train = self.recipe.stage[-1].size, self.recipe.train
        last = shipped(loop.position.history, train.metric, train.patience)
        return Manifest(
            name=self.recipe.name or "carina",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            carina=_versions()["carina"],
            classes=self.classes,
            healthy=self.healthy,
            preparation=self._preparation(size).to_dict(),
            normalisation=Normalisation(mean=float(network.mean), std=float(network.std)),
            input=Input(shape=("N", 1, size, size)),
            outputs=exported.shapes,
            opset=OPSET,
            data=Data(
                catalogue=self.catalogue.fingerprint,
                fingerprint=fingerprint,
                images=len(self.parts["train"].films()),
                counts=self._counts(),
            ),
            recipe=self.recipe.to_dict(),
            sections={
                "audit": self.verdict.to_dict(),
                "sources": self._sources(),
                intended.SECTION: {"ages": self._ages()},
                **gate,
            },
            versions=_versions(),
            parity=Parity(max_abs_diff=exported.apart, images=exported.images),
            training={
                "minutes": round(loop.position.seconds / 60, 2),
                "epochs": len(loop.position.history),
                "steps": loop.position.step,
                "rates": [{key: found[key] for key in _FOUND} for found in loop.position.found],
                "valid": {
                    key: value
                    for key, value in last.items()
                    if key not in ("epoch", "seconds", "images_per_second")
                },
            },
        )

    def _sources(self) -> dict[str, dict[str, Any]]:
        """What the catalogue states of each set that training films come from: licence, citation, terms."""
        used = set(self.parts["train"].sources)
        listed = self.catalogue.manifest.get("sources", ())
        return {
            each["name"]: {key: value for key, value in each.items() if key not in ("name", "path")}
            for each in listed
            if each["name"] in used
        }

    def _ages(self) -> tuple[float, float] | None:
        """The ages it is meant for; None where a set of training films does not say whom it shows.

        A fifth is allowed at either end, as nobody is strange for being a year older than all others.
        """
        taught, films = set(self.parts["train"].sha256s), self.catalogue.table("train")
        stated, told = self._sources(), dict[str, list[float | None]]()
        for source, sha256, age in zip(
            *(films[name].to_pylist() for name in ("source", "sha256", "age")), strict=True
        ):
            if sha256 in taught:
                told.setdefault(source, []).append(age)
        known: list[float] = []
        for source, ages in told.items():
            whole = stated.get(source, {}).get("ages") or ()
            if None in ages and not whole:
                return None
            known += [float(age) for age in (*ages, *whole) if age is not None]
        return (round(0.8 * min(known), 1), round(1.2 * max(known) + 1, 1)) if known else None

    def _counts(self) -> dict[str, dict[str, int]]:
        """Training films by source and class."""
        part, counts = self.parts["train"].films(), {}
        for source, label in zip(part.sources, part.labels, strict=True):
            of = counts.setdefault(source, {})
            of[self.classes[label]] = of.get(self.classes[label], 0) + 1
        return counts


def _chosen(
    recipe: str | os.PathLike[str] | Recipe | Mapping[str, Any], overrides: str | Sequence[str]
) -> Recipe:
    changes = [overrides] if isinstance(overrides, str) else list(overrides)
    if isinstance(recipe, Recipe | Mapping):
        return overridden(recipe if isinstance(recipe, Recipe) else parse_recipe(recipe), changes)
    return load_recipe(recipe, changes)


def _films(cache: PixelCache, part: Part) -> Films:
    copies = part.copies > 0
    return Films(
        cache.pixels,
        cache.rows(part.sha256s),
        part.labels,
        part.ids,
        copies=copies if copies.any() else None,
        sources=np.unique(part.sources, return_inverse=True)[1].astype(np.int64),
    )


def _real_films(split: Split) -> NDArray[np.uint8]:
    """Films to hold the export against: spread over validation, topped up from training. (n, S, S)"""
    first = _spread(split.valid, PARITY_FILMS)
    return np.concatenate([first, _spread(split.train, PARITY_FILMS - len(first))])


def _spread(films: Films, most: int) -> NDArray[np.uint8]:
    """At most so many films, spread evenly over all of them, (n, S, S)."""
    places = np.linspace(0, len(films) - 1, min(most, len(films))).astype(np.int64)
    return np.asarray(films.pixels[films.rows[places]])


@contextlib.contextmanager
def _run_folder(
    device: Fabric,
    root: Path,
    recipe: Recipe,
    fingerprint: str,
    about: Mapping[str, Any],
    after: Path | None,
) -> Iterator[runs.Run]:
    """The locked run folder in the first process; the others go after it."""
    if not device.is_global_zero:
        device.barrier()
        yield runs.Run(root)
        return
    with runs.opened(root, recipe, fingerprint, about) as run:
        if after is not None:
            _begin_after(after, run, recipe, fingerprint)
        device.barrier()
        yield run


def _begin_after(finished: Path, run: runs.Run, recipe: Recipe, fingerprint: str) -> None:
    """Give a run that has not begun the last checkpoint of the one before it. Raises RunError."""
    if run.is_complete or any(run.checkpoints.glob("step-*.json")):
        return
    runs.check_beginning(finished, recipe, fingerprint)
    checkpoint = read_checkpoint(runs.Run(finished).checkpoints)
    if checkpoint is None:
        raise RunError(f"{finished}: its checkpoints are gone; remove the folder to train it again")
    weights = {n: t for n, t in checkpoint.tensors.items() if not n.startswith("optimizer.")}
    write_checkpoint(run.checkpoints, Checkpoint(checkpoint.position, weights, checkpoint.scaler))


def _precision(recipe: Recipe, asked: str) -> str:
    return recipe.train.precision if asked == "auto" else asked


def _silent(event: Progress) -> None:
    """For every process but the first."""


def _versions() -> dict[str, str]:
    """What took part. ``carina`` is "source" when it runs from a checkout that is not installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "source"
    found["torch"] = torch.__version__
    return found
