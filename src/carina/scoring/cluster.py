"""Score millions of films on many cores or machines with Ray Data: a network and a session for each actor.

The films are listed once, here, and cut into parts (:mod:`carina.scoring.plan`). An actor is handed a part,
reads its films where it runs and answers with the rows; they are written here
(:mod:`carina.scoring.parts`). So a killed actor costs the part it was at, a killed driver the parts that were
under way, and no machine needs to see the folder of the table. Films meet the network in the same company as
on one machine, hence the same numbers, bit for bit, on processors of one kind.

Ray moves code and data among its machines with pickle: a cluster is a place for machines that trust each
other. Nothing that is read from films or stores is ever unpickled.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import carina
from carina.errors import BundleError, CarinaError, ClusterError, MissingExtra, OutputError
from carina.records import Progress
from carina.scoring.bundle import Bundle
from carina.scoring.contents import MANIFEST as BUNDLE_MANIFEST
from carina.scoring.inputs import Skipped, films
from carina.scoring.run import ScoreSummary, Tally
from carina.scoring.sets import Sets

if TYPE_CHECKING:
    from carina.scoring.abstain import Gate
    from carina.scoring.decoding import Decoders
    from carina.scoring.parts import Parts
    from carina.scoring.plan import Plan
    from carina.scoring.scorer import Scorer

_SAME = ("onnxruntime", "numpy", "pillow", "pydicom", "simplejpeg")  # what decides the numbers
_WAVE = 2048  # parts handed to Ray at a time: two million films


@dataclass(frozen=True, slots=True)
class Job:
    """What every actor must know."""

    plan: Plan
    check: bool
    sets: Sets | None
    versions: dict[str, str]


def score_on_cluster(
    paths: Sequence[str | Path] | str | Path,
    bundle: Bundle | Path,
    *,
    out: Path,
    address: str | None = None,
    threads: int | None = None,
    top: int = 50,
    resume: bool = False,
    check: bool = True,
    sets: Sets | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreSummary:
    """Score what :func:`carina.scoring.run.score_films` scores, into a folder of Parquet parts.

    ``address`` is that of a running Ray cluster (default: ``$RAY_ADDRESS``, else one is started here and
    ended again); ``threads`` the actors at most, one core each (default: all of the cluster). With ``resume``
    the films of the run that was begun in ``out`` are scored to the end; it must be the same model, settings
    and names. Raises ``MissingExtra`` without Ray, ``ClusterError`` where the cluster cannot be reached or
    does not fit, and what ``score_films`` raises. A film that cannot be read has a row with the reason.
    """
    ray = _ray()
    from carina.scoring import parts, plan
    from carina.scoring.rows import Rows

    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    form = Rows(bundle.classes, sets)
    if form.clash:
        raise OutputError(f"{out}: a class is called like another column; rename the class")
    named = [os.fspath(each) for each in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    parts.check_place(out, resume=resume)
    key = plan.key_of(f"{bundle.model_sha256} check={check} sets={sets}", named)
    made = plan.opened(out) if resume else None
    if made is not None and made.key != key:
        raise OutputError(
            f"{out}: was begun with another model, other options or other films; name those again, or "
            "another folder with --out"
        )
    tally = Tally(top)
    with _connected(ray, address, threads) as workers:
        if made is None:
            skipped = Skipped()
            try:
                made = plan.make(out, films(named, skipped, contents=False), named, key, workers, skipped)
            except OSError as error:
                raise OutputError(f"{out}: the films cannot be listed there ({error}); make room") from error
        with parts.Parts(out, made, form) as table:
            for rows in table.earlier():
                tally.add_rows(rows.to_pylist())
                _tell(progress, tally, made)
            job = Job(made, check, sets, _versions())
            hosts: set[str] = set()
            for answer in _answers(ray, table, job, bundle, workers) if table.missing() else ():
                if answer["fault"]:
                    raise ClusterError(answer["fault"])
                rows = table.write(answer["part"], answer["content"])
                hosts.add(answer["host"])
                if rows is not None:
                    tally.add_rows(rows.to_pylist())
                    _tell(progress, tally, made)
            table.finish(_about(bundle, job, tally, hosts))
    return tally.summary(made.skipped)


class Actor:
    """One network with one session on one core of some machine; started by Ray, asked part by part."""

    def __init__(self, files: Any, job: Job) -> None:
        """``files`` refers to the bundle's files, by name, in Ray's object store."""
        self._files, self._job = files, job
        self._tools: tuple[Scorer, Decoders, Gate | None] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The rows of one part; a fault that no film is to blame for comes as its text."""
        answer = {"part": row["part"], "content": b"", "fault": "", "host": _host()}
        try:
            answer["content"] = self._score(row["part"], row["films"])
        except CarinaError as error:
            answer["fault"] = str(error)
        return answer

    def _score(self, number: int, listing: bytes) -> bytes:
        import pyarrow as pa

        from carina.scoring import parts, plan
        from carina.scoring.abstain import checked
        from carina.scoring.rows import Rows
        from carina.scoring.stored import reading

        if self._tools is None:
            self._tools = self._started()
        scorer, decoders, gate = self._tools
        table = pa.ipc.open_stream(listing).read_all()
        at = self._job.plan.first(number)
        answers = scorer.answers(reading(plan.inputs(table)), decoders, at=at)
        form = Rows(scorer.bundle.classes, self._job.sets)
        rows = [form.of(each) for each in (answers if gate is None else checked(answers, gate))]
        return parts.content(rows, form, self._job.plan, number)

    def _started(self) -> tuple[Scorer, Decoders, Gate | None]:
        import ray

        from carina.scoring.abstain import Gate
        from carina.scoring.decoding import Decoders
        from carina.scoring.scorer import Scorer

        self._check_fits()
        folder = Path(tempfile.mkdtemp(prefix="carina-bundle-"))
        try:
            for name, data in ray.get(self._files).items():
                (folder / name).write_bytes(data)
            scorer = Scorer(folder, threads=1)
            gate = Gate.of(scorer.bundle) if self._job.check else None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return scorer, Decoders(scorer.bundle.preparation), gate

    def _check_fits(self) -> None:
        """The same numbers need the same programs; films on disks must be on this machine's, too."""
        for name, wanted in self._job.versions.items():
            if (found := _versions()[name]) != wanted:
                raise ClusterError(
                    f"{_host()}: has {name} {found}, the driver {wanted}; install the same on both"
                )
        for root in self._job.plan.roots:
            if not os.path.lexists(root):
                raise ClusterError(
                    f"{_host()}: does not see {root}; name a folder that all machines see, or a store"
                )


def _answers(ray: Any, table: Parts, job: Job, bundle: Bundle, workers: int) -> Iterator[dict[str, Any]]:
    """What the actors say of the missing parts, as they come; at most ``_WAVE`` listings are held."""
    import pyarrow as pa

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    files, missing = ray.put(_files(bundle)), table.missing()
    for at in range(0, len(missing), _WAVE):
        wave = [_handed(table, number) for number in missing[at : at + _WAVE]]
        actors = min(workers, len(wave))
        data = ray.data.from_blocks(wave).map(
            Actor,
            fn_constructor_args=(files, job),
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        )
        for answer in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from pa.table(answer).to_pylist()


def _handed(table: Parts, number: int) -> Any:
    """One row: the number of a part and its listing. A part is never cut, whatever Ray does with blocks."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    listing = table.listing.table(number)
    with pa.ipc.new_stream(sink, listing.schema) as stream:
        stream.write_table(listing)
    return pa.table({"part": pa.array([number], pa.int64()), "films": [bytes(sink.getvalue())]})


def _files(bundle: Bundle) -> dict[str, bytes]:
    """All files of a bundle, hashed again, to be opened on another machine."""
    try:
        manifest = (bundle.root / BUNDLE_MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{bundle.root}: {BUNDLE_MANIFEST} cannot be read; copy the bundle again"
        ) from error
    return {BUNDLE_MANIFEST: manifest, **{name: bundle.read(name) for name in bundle.manifest.files}}


@contextmanager
def _connected(ray: Any, address: str | None, threads: int | None) -> Iterator[int]:
    """A connection to a cluster, started here where none is named; yields how many actors there may be."""
    from carina.scoring.scorer import cores

    if ray.is_initialized():  # the caller's, and the caller's to end
        yield _room(ray, threads)
        return
    address = address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    try:
        if address:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(num_cpus=threads or cores(), **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterError(
            f"{address or 'Ray on this machine'}: cannot be reached ({first_line}); see whether it runs"
        ) from error
    try:
        yield _room(ray, threads)
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises ``OSError`` where nobody listens; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _room(ray: Any, threads: int | None) -> int:
    found = max(1, int(ray.cluster_resources().get("CPU", 1)))
    return found if threads is None else min(found, threads)


def _ray() -> Any:
    """Ray, which tells its makers nothing of this run, and the user only what went wrong."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes as an exception
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtra("--engine ray", "cluster") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _versions() -> dict[str, str]:
    return {"carina": carina.__version__, **{name: version(name) for name in _SAME}}


def _host() -> str:
    return os.uname().nodename


def _tell(progress: Callable[[Progress], None] | None, tally: Tally, plan: Plan) -> None:
    if progress is not None:
        progress(Progress("films scored", tally.count, plan.films))


def _about(bundle: Bundle, job: Job, tally: Tally, hosts: set[str]) -> dict[str, Any]:
    return {
        "kind": "carina scores",
        "model": {"name": bundle.manifest.name, "sha256": bundle.model_sha256},
        "classes": list(bundle.classes),
        "check": job.check,
        "films": job.plan.films,
        "scored": tally.scored,
        "refused": tally.refused,
        "skipped": job.plan.skipped,
        "versions": {**job.versions, "python": ".".join(map(str, sys.version_info[:3]))},
        "hosts": sorted(hosts),
    }
