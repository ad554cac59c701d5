"""Log trainings to MLflow beside the plain files: parameters, every epoch's figures, what was written.

The files of a run stay the truth; MLflow holds a copy. Which MLflow run a folder belongs to, and how many
epochs it has got, stands in the folder's ``mlflow.json``, so that a resumed training goes on in the same
MLflow run. A plain folder needs no server: it holds a SQLite file and the artefacts.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from carina.errors import MissingExtra, RunError
from carina.evaluation.metrics_file import read_metrics
from carina.records import Progress
from carina.training.checkpoint import write_whole
from carina.training.devices import is_first_process

MARK = "mlflow.json"
_ARTEFACTS = ("recipe.json", "run.json", "history.jsonl", "bundle")


def tracker(where: str | os.PathLike[str] | None, experiment: str = "carina") -> Tracker | None:
    """The tracker that was asked for; None where none was, and in every process but the first."""
    return None if where is None or not is_first_process() else Tracker(where, experiment)


@contextlib.contextmanager
def followed(where: str | os.PathLike[str] | None, run: Path, tell: Any) -> Iterator[Any]:
    """What to hand to one training as ``progress``: ``tell``, heard by MLflow where that was asked for."""
    following = tracker(where)
    if following is None:
        yield tell
        return
    with following.follow(run, name=run.name, tell=tell) as hear:
        yield hear


class Tracker:
    """One experiment of one MLflow store. ``where`` is a folder, or any tracking URI of MLflow.

    Raises MissingExtra without the ``mlflow`` extra, and RunError where the store cannot be used.
    """

    def __init__(self, where: str | os.PathLike[str], experiment: str) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it reports to its makers unless told not to
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ModuleNotFoundError as error:
            raise MissingExtra("--mlflow", "mlflow") from error
        self._faults = (MlflowException, OSError)
        uri, artefacts = _store(where)
        with self._translated():
            self._client = MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(experiment)
            self._experiment = (
                known.experiment_id
                if known is not None
                else self._client.create_experiment(experiment, artifact_location=artefacts)
            )

    @contextlib.contextmanager
    def follow(self, run: Path, *, name: str, tell: Any) -> Iterator[Any]:
        """A function to hand to ``train`` as ``progress``; hears everything and passes it on to ``tell``.

        On leaving, what is still missing is logged, and the MLflow run ends: FINISHED with the artefacts
        when the folder holds a bundle, FAILED when the training raised, KILLED when it was interrupted.
        """

        def hear(event: Progress) -> None:
            tell(event)
            if event.stage == "epoch":
                self._log_epochs(run, name)

        try:
            yield hear
        except BaseException as error:
            if (run / "run.json").is_file():
                status = "FAILED" if isinstance(error, Exception) else "KILLED"
                with contextlib.suppress(RunError), self._translated():
                    self._client.set_terminated(self._log_epochs(run, name), status)
            raise
        self._finish(run, name)

    def record_evaluation(self, run: Path, folder: Path) -> None:
        """Log the headline figures of an evaluation and its files to the run's MLflow run."""
        known = _read(run)
        if "run" not in known:
            return
        found = read_metrics(folder)
        metrics, split = found.metrics, found.split
        figures = {
            f"{split}_accuracy": metrics.accuracy.value,
            f"{split}_recall_disease": metrics.detection.sensitivity.value,
            f"{split}_specificity": metrics.detection.specificity.value,
            f"{split}_auc_disease": metrics.disease_auc.value,
            f"{split}_macro_auc": metrics.macro_auc.value,
        }
        with self._translated():
            self._log(known["run"], {key: value for key, value in figures.items() if value is not None}, 0)
            self._client.set_tag(known["run"], f"{split}_verdict", str(found.belief.verdict.grade))
            for path in ("metrics.json", "report.html"):
                self._client.log_artifact(known["run"], str(folder / path), f"evaluation/{split}")

    def _finish(self, run: Path, name: str) -> None:
        with self._translated():
            there = self._log_epochs(run, name)
            if _read(run).get("finished"):
                return
            for path in (run / each for each in _ARTEFACTS):
                if path.is_dir():
                    self._client.log_artifacts(there, str(path), path.name)
                elif path.is_file():
                    self._client.log_artifact(there, str(path))
            self._client.set_terminated(there, "FINISHED")
            _write(run, {**_read(run), "finished": True})

    def _log_epochs(self, run: Path, name: str) -> str:
        """Log the epochs that are not logged yet; answers with the MLflow run's id."""
        with self._translated():
            known = _read(run)
            if "run" not in known:
                known = {"run": self._start(run, name), "epochs": 0}
                _write(run, known)
            for step, record in enumerate(_history(run)):
                if step >= known["epochs"]:
                    self._log(known["run"], _figures(record), step)
                    known = {**known, "epochs": step + 1}
                    _write(run, known)
            return str(known["run"])

    def _start(self, run: Path, name: str) -> str:
        from mlflow.entities import Param

        about = json.loads((run / "run.json").read_bytes())
        tags = {"carina.run": str(run.resolve()), "carina.catalogue": about["catalogue"]}
        made = self._client.create_run(self._experiment, run_name=name, tags=tags)
        keys = {**_flat(about["recipe"]), "precision": about.get("precision")}
        params = [Param(key, str(value)[:6000]) for key, value in keys.items()]
        for start in range(0, len(params), 100):  # MLflow's limit for one call
            self._client.log_batch(made.info.run_id, params=params[start : start + 100])
        return str(made.info.run_id)

    def _log(self, there: str, figures: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            there, metrics=[Metric(key, float(value), now, step) for key, value in figures.items()]
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._faults as error:
            fault = " ".join(str(error).split())
            raise RunError(
                f"MLflow: {fault}; name a folder or a tracking URI that can be written with --mlflow, or "
                "leave it out: the run's own files hold the same figures"
            ) from error


def _store(where: str | os.PathLike[str]) -> tuple[str, str | None]:
    """The tracking URI, and where artefacts go; MLflow decides that for anything but a folder."""
    text = os.fspath(where)
    if "://" in text or text.startswith(("file:", "databricks")):
        return text, None
    folder = Path(text).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be made ({error.strerror}); name another folder with --mlflow"
        ) from error
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artefacts").as_uri()


def _read(run: Path) -> dict[str, Any]:
    try:
        known = json.loads((run / MARK).read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(run: Path, known: Mapping[str, Any]) -> None:
    write_whole(run / MARK, json.dumps(known).encode())


def _history(run: Path) -> list[dict[str, Any]]:
    path = run / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an epoch, nested ones with a slash: ``recall/Normal``."""
    flat = {key.replace(".", "/", 1): value for key, value in _flat(record).items()}
    return {
        _named(key): float(value)
        for key, value in flat.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _named(key: str) -> str:
    """A key that MLflow takes: letters, digits, and ``_-. :/``."""
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in key)


def _flat(values: Any, key: str = "") -> dict[str, Any]:
    """Nested data with dotted keys, as ``--set`` writes them."""
    if isinstance(values, Mapping):
        pairs = values.items()
    elif isinstance(values, list) and any(isinstance(each, Mapping) for each in values):
        pairs = enumerate(values)
    else:
        return {key: values}
    return {
        name: value
        for inner, each in pairs
        for name, value in _flat(each, f"{key}.{inner}" if key else str(inner)).items()
    }
