"""Train and evaluate all rows of a study, shared stages once, and write its table.

    runs/NAME/        one run folder for each node of the tree (``tree.py``)
    rows/ROW/         the evaluation of the bundle that a row ends in
    study.csv         the table
    study.html        the table, curves, learning rates and confusions of every row
    study.json        all of it as data; written last, its presence means "complete"

Give the same command again and it goes on where it was interrupted. Rows may be added to the file in
between: what is trained stays trained. Every figure comes from the bundle, through the scorer that ships.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from carina.data.catalogue import Catalogue
from carina.errors import DataError, OutputError, RecipeError, RunError
from carina.evaluation.compare import Comparison, compared, evaluated
from carina.evaluation.evaluate import evaluate
from carina.evaluation.history import read_history
from carina.evaluation.metrics_file import Found, read_metrics
from carina.evaluation.study_page import StudyPage, write
from carina.evaluation.study_table import RatePlot, RowResult, at_mix, recommended, terminal_table
from carina.evaluation.wording import counted, listed, with_interval
from carina.records import Progress
from carina.scoring.bundle import Bundle
from carina.training.devices import is_first_process
from carina.training.lr_finder import Finding
from carina.training.lr_picture import picture
from carina.training.recipe import Recipe, Stage
from carina.training.schedule import one_cycle
from carina.training.selection import select
from carina.training.stopping import shipped
from carina.training.study_file import Study, StudyRow, load_study
from carina.training.tracking import Tracker
from carina.training.train import Tell, train
from carina.training.tree import Node, own_epochs, tree

_OURS = {"lock", "runs", "rows", "study.csv", "study.html", "study.json"}
_POINTS = 50  # of a stage in the plot of the learning rate


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What was found, and where it was written. ``rows`` is empty in every process but the first."""

    out: Path
    rows: tuple[RowResult, ...]
    nodes: tuple[Node, ...]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows for a terminal."""
        return terminal_table(self.rows)

    def lines(self) -> list[str]:
        """What stands below the table: whether to believe it, which row to use, what sharing saved."""
        best = recommended(self.rows)
        accuracy = with_interval(best.found.metrics.accuracy)
        accuracy += f", {with_interval(best.accuracy)} at the mix" if best.is_mixed else ""
        said = [f"{label:<28} {text}" for label, text in best.found.belief.lines()]
        said.append(f"{'Best on validation films':<28} row {best.name}; {best.found.split}: {accuracy}")
        said.extend(
            f"{f'Row {row.name} against {row.against}':<28} {row.comparison.sentence}"
            for row in self.rows
            if row.comparison is not None
        )
        return said


def study(
    catalogue: str | os.PathLike[str] | Catalogue,
    file: str | os.PathLike[str] | Study,
    out: str | os.PathLike[str],
    *,
    split: str | None = None,
    rows: Sequence[str] = (),
    overrides: Sequence[str] = (),
    devices: int = 1,
    nodes: int = 1,
    precision: str = "auto",
    tracker: Tracker | None = None,
    progress: Tell | None = None,
) -> StudyResult:
    """Train and evaluate the rows (all, or those named) and write ``study.json``, ``.csv`` and ``.html``.

    ``split`` is that of the films the rows are judged on: by default the test split, where there is one,
    else validation. ``overrides`` are ``key=value`` for every row's recipe. Raises RecipeError, RunError,
    and what a training or an evaluation raises.
    """
    films = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    plan = file if isinstance(file, Study) else load_study(file, overrides)
    chosen = _chosen(plan, rows)
    judged = split or ("test" if "test" in films.films["split"].to_pylist() else "valid")
    steps = tree([(row.name, row.recipe) for row in chosen])
    tell = progress or (lambda event: None)
    root = Path(out)
    for row in chosen:  # what a row lacks is said before anything is trained
        try:
            classes, _ = select(films, row.recipe)
            _check_mix(plan.mix, classes)
        except (RecipeError, DataError) as error:
            raise type(error)(f"row {row.name}: {error}") from None
    with _study_folder(root):
        job = _Job(films, plan, chosen, judged, root, tracker, tell)
        for number, node in enumerate(steps, start=1):
            job.announce(node, number, steps)
            job.train(node, devices=devices, nodes=nodes, precision=precision)
            if is_first_process():
                for name in node.rows:
                    job.evaluate(node, name)
        if not is_first_process():
            return StudyResult(root, (), steps)
        results = job.results(steps)
        write(root, _page(plan, films, judged, results, steps, job.minutes(steps)))
        return StudyResult(root, results, steps)


def _check_mix(mix: Mapping[str, int], classes: Sequence[str]) -> None:
    """Raise RecipeError where the mix has a class that the row has not."""
    unknown = [name for name in mix if name not in classes]
    if unknown:
        raise RecipeError(
            f"[mix]: {unknown[0]!r} is not among its classes, so accuracy in that population cannot be told; "
            f"give films of {', '.join(classes)} only, or leave [mix] out"
        )


class _Job:
    """The steps of a study, each of which finds out by itself whether it is done already."""

    def __init__(
        self,
        catalogue: Catalogue,
        plan: Study,
        rows: Sequence[StudyRow],
        split: str,
        root: Path,
        tracker: Tracker | None,
        tell: Tell,
    ) -> None:
        self.catalogue, self.plan, self.split, self.root = catalogue, plan, split, root
        self.rows = {row.name: row for row in rows}
        self.tracker, self.tell = tracker, tell

    def announce(self, node: Node, number: int, steps: Sequence[Node]) -> None:
        ends = f"row{'s' * (len(node.rows) > 1)} {listed(node.rows)}" if node.rows else "shared stages"
        after = f", goes on from {node.parent}" if node.parent else ""
        text = f"\nrun {number} of {len(steps)}: {node.name} ({ends}){after}"
        self.tell(Progress("note", number, len(steps), {"text": text}))

    def train(self, node: Node, **where: Any) -> None:
        run = self._run(node.name)
        following = contextlib.nullcontext(self.tell)
        if self.tracker is not None and is_first_process():
            names = listed(node.rows) or node.name
            following = self.tracker.follow(run, name=f"{self.plan.name} {names}", tell=self.tell)
        with following as tell:
            after = None if node.parent is None else self._run(node.parent)
            train(self.catalogue, node.recipe, run, after=after, progress=tell, **where)

    def evaluate(self, node: Node, name: str) -> None:
        """Score the row's films with its bundle, unless that is done."""
        run, folder = self._run(node.name), self._evaluation(name)
        if not self._is_evaluated(run, folder):
            evaluate(
                run / "bundle",
                self.catalogue,
                split=self.split,
                out=folder,
                run=run,
                seed=self.rows[name].recipe.train.seed,
                progress=self.tell,
            )
        if self.tracker is not None:
            self.tracker.record_evaluation(run, folder)
        metrics = read_metrics(folder).metrics
        text = f"row {name}: accuracy {with_interval(metrics.accuracy)} on {self.split} films"
        self.tell(Progress("note", 0, None, {"text": text}))

    def results(self, steps: Sequence[Node]) -> tuple[RowResult, ...]:
        """All rows in the order of the file."""
        node_of = {name: node for node in steps for name in node.rows}
        return tuple(self._result(row, node_of[name]) for name, row in self.rows.items())

    def minutes(self, steps: Sequence[Node]) -> float:
        """Of all training; a run's own minutes begin where the run before it ended."""
        spent = {node.name: self._minutes(node.name) for node in steps}
        return sum(spent[node.name] - spent.get(node.parent or "", 0.0) for node in steps)

    def _minutes(self, run: str) -> float:
        return float(Bundle.open(self._run(run) / "bundle").manifest.training["minutes"])

    def _result(self, row: StudyRow, node: Node) -> RowResult:
        run, folder = self._run(node.name), self._evaluation(row.name)
        bundle = Bundle.open(run / "bundle")
        found, history = read_metrics(folder), read_history(bundle, run)
        settled = _settled(row.recipe, bundle.manifest.training.get("rates", ()))
        against = row.against if row.against in self.rows else None
        valid = _on_validation(row.recipe, history)
        return RowResult(
            name=row.name,
            says=row.says,
            run=f"runs/{node.name}",
            evaluation=f"rows/{row.name}",
            images=bundle.manifest.data.images,
            stages=tuple(map(_stage, row.recipe.stage, settled.stage)),
            augmentation=augmentation_text(row.recipe),
            minutes=float(bundle.manifest.training["minutes"]),
            reported=row.reported.known(),
            found=found,
            valid_accuracy=valid.get("accuracy"),
            valid_at_mix=_valid_at_mix(valid, self.plan.mix),
            history=history,
            rates=rate_plot(settled),
            finders=_finders(bundle, run),
            mixed=at_mix(found.metrics, self.plan.mix) if self.plan.mix else None,
            against=against,
            comparison=None if against is None else self._comparison(against, row.name),
        )

    def _comparison(self, first: str, second: str) -> Comparison:
        one, other = (evaluated(self._evaluation(name)) for name in (first, second))
        named = [replace(each, name=f"row {name}") for name, each in ((first, one), (second, other))]
        return compared(*named, seed=self.rows[second].recipe.train.seed)

    def _is_evaluated(self, run: Path, folder: Path) -> bool:
        """Whether the folder holds a whole evaluation of this very bundle on these very films."""
        if not (folder / "metrics.json").is_file():
            return False
        try:
            found: Found = read_metrics(folder)
        except RunError:
            return False
        sha256 = hashlib.sha256((run / "bundle" / "bundle.json").read_bytes()).hexdigest()
        same = found.bundle_sha256, found.split, found.catalogue
        return same == (sha256, self.split, self.catalogue.fingerprint)

    def _run(self, name: str) -> Path:
        return self.root / "runs" / name

    def _evaluation(self, row: str) -> Path:
        return self.root / "rows" / row


def _on_validation(recipe: Recipe, history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The figures on validation films of the epoch whose weights the row ends with; {} without a history."""
    return shipped(history, recipe.train.metric, recipe.train.patience) if history else {}


def _valid_at_mix(record: Mapping[str, Any], mix: Mapping[str, int]) -> float | None:
    """Accuracy on validation films in the population of the mix; None without one."""
    recalls = [record.get("recall", {}).get(name) for name in mix]
    if not mix or None in recalls:
        return None
    return float(np.average(recalls, weights=list(mix.values())))


def augmentation_text(recipe: Recipe) -> str:
    """What happens to training films, in a few words."""
    limits, data, train = recipe.train.augment, recipe.data, recipe.train
    copies, dummy = data.augment, data.distractor
    words = [
        f"{data.per_class} of each class" if data.per_class else "",
        "weighed by prevalence" if train.prevalence else "",
        f"every {copies.every}. {copies.class_} × {copies.copies}" if copies else "",
        f"“{dummy.name}” of {dummy.count} from {listed(dummy.from_)}" if dummy else "",
        f"mixup {train.mixup:g}" if train.mixup else "",
        f"cutmix {train.cutmix:g}" if train.cutmix else "",
        f"±{limits.rotate:g}°" if limits.rotate else "",
        f"scale ±{100 * limits.scale:g} %" if limits.scale else "",
        f"shift ±{100 * limits.shift:g} %" if limits.shift else "",
        f"aspect ±{100 * limits.aspect:g} %" if limits.aspect else "",
        f"coarsened to {100 * (1 - limits.resolution):g} %" if limits.resolution else "",
        f"brightness ±{100 * limits.brightness:g} %" if limits.brightness else "",
        f"contrast ±{100 * limits.contrast:g} %" if limits.contrast else "",
        f"gamma {limits.gamma:g}" if limits.gamma else "",
        f"erased {100 * limits.erase:g} %" if limits.erase else "",
        "mirrored" if limits.flip else "",
    ]
    return ", ".join(filter(None, words)) or "none"


def rate_plot(recipe: Recipe) -> RatePlot:
    """The learning rates of the first and the last layers over a recipe's epochs."""
    epochs_, first, last, before = [], [], [], 0
    for stage in recipe.stage:
        for place in np.linspace(0, 1, _POINTS, endpoint=False):
            factor, _ = one_cycle(int(place * _POINTS), _POINTS)
            epochs_.append(float(before + place * stage.epochs))
            first.append(stage.rates[0] * factor)
            last.append(stage.rates[1] * factor)
        before += stage.epochs
    return RatePlot(tuple(epochs_), tuple(first), tuple(last))


def _settled(recipe: Recipe, found: Sequence[Mapping[str, Any]]) -> Recipe:
    """The recipe with the rates that were found where it said "find"."""
    rates = {each["stage"]: each["lr"] for each in found}
    stages = (
        stage.at(rates[place]) if stage.lr == "find" and place in rates else stage
        for place, stage in enumerate(recipe.stage)
    )
    return recipe.model_copy(update={"stage": tuple(stages)})


def _stage(written: Stage, settled: Stage) -> dict[str, Any]:
    first, last = settled.rates
    text = f"{last:.3g}" if first == last else f"{first:.3g}–{last:.3g}"
    text += " (found)" if written.lr == "find" else ""
    return {"size": written.size, "frozen": written.frozen, "epochs": written.epochs, "lr": text}


def _finders(bundle: Bundle, run: Path) -> tuple[tuple[str, bytes], ...]:
    """The curves of the sweeps for a rate, read back from the run."""
    path = run / "rates.json"
    if not bundle.manifest.training.get("rates") or not path.is_file():
        return ()
    found = [Finding(**each) for each in json.loads(path.read_bytes())]
    return tuple((f"stage {each.stage + 1}: {each.lr:.2g} taken", picture(each)) for each in found)


def _chosen(plan: Study, names: Sequence[str]) -> tuple[StudyRow, ...]:
    known = [row.name for row in plan.rows]
    strange = [name for name in names if name not in known]
    if strange:
        raise RecipeError(f"row {strange[0]!r} is not in the study {plan.name}; it has {', '.join(known)}")
    return tuple(row for row in plan.rows if not names or row.name in names)


def _page(
    plan: Study,
    catalogue: Catalogue,
    split: str,
    rows: tuple[RowResult, ...],
    steps: Sequence[Node],
    minutes: float,
) -> StudyPage:
    alone = sum(row.planned for row in rows)
    at_most = "at most " if any(node.recipe.train.patience for node in steps) else ""
    runs = tuple(
        (node.name, listed(node.rows) or "shared", node.parent or "the start", str(len(node.recipe.stage)))
        for node in steps
    )
    return StudyPage(
        name=plan.name,
        title=plan.title or f"The study {plan.name}",
        note=plan.note,
        split=split,
        reported=plan.reported.known(),
        mix=plan.mix,
        catalogue=str(catalogue.root),
        fingerprint=catalogue.fingerprint,
        rows=rows,
        runs=runs,
        sharing=(
            f"{counted(len(rows), 'row')} of {at_most}{counted(alone, 'epoch')} in all, trained as "
            f"{counted(len(steps), 'run')} of {at_most}{counted(own_epochs(steps), 'epoch')}: "
            "stages that rows begin with in common were trained once."
        ),
        minutes=minutes,
    )


@contextlib.contextmanager
def _study_folder(root: Path) -> Iterator[None]:
    """The study's folder, locked by the first process."""
    if not is_first_process():
        yield
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        strangers = sorted(path.name for path in root.iterdir() if path.name not in _OURS)
        if strangers and not (root / "runs").is_dir():
            raise RunError(f"{root}: holds {strangers[0]} and is no study; name a new or an empty folder")
        handle = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except (FileExistsError, NotADirectoryError):
        raise RunError(f"{root}: is a file; name a folder with --out") from None
    except PermissionError as error:
        raise OutputError(
            f"{root}: may not be written ({error.strerror}); name another folder with --out"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{root}: another process works on this study; wait for it") from None
        yield
    finally:
        os.close(handle)
