"""The run folder: what a training writes, and whose it is.

    run.json         what the run is: catalogue, recipe, versions; written again until there is a checkpoint
    recipe.json      the recipe, every default spelt out
    history.jsonl    one line an epoch; a view of what the newest checkpoint holds
    rates.json       the sweeps of stages whose rate was found; a view, too
    checkpoints/     the newest two
    bundle/          the model; its presence means that the run is complete

Knows nothing of torch. One process at a time may train in a folder.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from carina.errors import OutputError, RecipeError, RunError
from carina.folders import claimed
from carina.training.checkpoint import write_whole
from carina.training.recipe import Recipe, parse_recipe

FORMAT = 1
_OURS = {"lock", "run.json", "run.json.tmp", "recipe.json", "recipe.json.tmp"}


class Run:
    """A run folder that this process holds the lock of."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.root / "checkpoints"

    @property
    def bundle(self) -> Path:
        """Where the model lies once the run is complete."""
        return self.root / "bundle"

    def write_rates(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Replace rates.json. Raises RunError when the disk is full."""
        self._write("rates.json", json.dumps(found, indent=1, allow_nan=False) + "\n")

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to do. The bundle is written last and in one piece."""
        return (self.bundle / "bundle.json").is_file()

    def write_history(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace history.jsonl. Raises RunError when the disk is full."""
        self._write(
            "history.jsonl", "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        )

    def _write(self, name: str, text: str) -> None:
        try:
            write_whole(self.root / name, text.encode())
        except OSError as error:
            raise RunError(
                f"{self.root}: {name} cannot be written ({error.strerror}); make room and give the "
                "same command again: it resumes from the newest checkpoint"
            ) from error


@contextmanager
def opened(root: Path, recipe: Recipe, fingerprint: str, about: Mapping[str, Any]) -> Iterator[Run]:
    """A new run, or the run of the same recipe and the same catalogue that lies there, locked.

    A run that stopped before its first checkpoint holds nothing yet: it starts over, with whatever recipe
    and catalogue are given now. ``fingerprint`` is the catalogue's; ``about`` is written into run.json beside
    it. Raises RunError when another process trains there, or the folder holds something else, and
    OutputError when it cannot be written.
    """
    with claimed(root), _locked(root):
        identity = _identity(root)
        try:
            if identity is None or not _has_begun(root):
                _start(root, recipe, fingerprint, about)
            else:
                _check_same(root, identity, recipe, fingerprint)
                _check_precision(root, identity, about)
        except OSError as error:
            raise OutputError(
                f"{root}: may not be written ({error.strerror}); name another folder with --out"
            ) from error
        yield Run(root)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    strangers = sorted(path.name for path in root.iterdir() if path.name not in _OURS)
    if strangers and not (root / "run.json").exists():
        raise RunError(
            f"{root}: holds {strangers[0]} and is no run of Carina's; name a new or an empty folder"
        )
    try:
        handle = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(
            f"{root}: may not be written ({error.strerror}); name another folder with --out"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{root}: another process trains here; wait for it, or name another folder"
            ) from None
        yield
    finally:
        os.close(handle)


def _identity(root: Path) -> Mapping[str, Any] | None:
    """What run.json says; None where there is none yet. Raises RunError for a damaged or a foreign one."""
    try:
        identity = json.loads((root / "run.json").read_bytes())
        identity["catalogue"], identity["recipe"], identity["format"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{root}: run.json cannot be read ({error}); name another folder with --out"
        ) from error
    return identity


def _has_begun(root: Path) -> bool:
    """Whether there is anything to go on from: a checkpoint, or the bundle."""
    return (root / "bundle").exists() or any((root / "checkpoints").glob("step-*.json"))


def _start(root: Path, recipe: Recipe, fingerprint: str, about: Mapping[str, Any]) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    identity = {
        "format": FORMAT,
        "catalogue": fingerprint,
        "recipe": recipe.to_dict(),
        "started": started,
        **about,
    }
    write_whole(root / "recipe.json", _pretty(recipe.to_dict()))
    write_whole(root / "run.json", _pretty(identity))


def _check_same(root: Path, identity: Mapping[str, Any], recipe: Recipe, fingerprint: str) -> None:
    """Refuse to resume a run that began as something else, and say as what."""
    known, there = identity["catalogue"], identity["recipe"]
    cure = "give what it began with to resume it, or name another folder with --out"
    if known != fingerprint:
        began, this = str(known)[:12], fingerprint[:12]
        raise RunError(f"{root}: the run began on another catalogue ({began}…, this one is {this}…); {cure}")
    with suppress(RecipeError):  # keys that a run of an earlier version did not know are at their defaults
        there = parse_recipe(there).to_dict()
    differing = list(_differences(there, recipe.to_dict()))
    if differing:
        key, was, now = differing[0]
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise RunError(f"{root}: the run began with {key} = {was!r}, this recipe has {now!r}{more}; {cure}")


def _check_precision(root: Path, identity: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Refuse to go on in other numbers than those a run began in: another processor may choose others."""
    began, now = identity.get("precision"), about.get("precision")
    if began != now and None not in (began, now) and not (root / "bundle").exists():
        raise RunError(
            f"{root}: the run began in {began}, and would go on in {now}; give --precision {began}, or name "
            "another folder with --out"
        )


def check_beginning(finished: Path, recipe: Recipe, fingerprint: str) -> None:
    """Raises RunError unless ``finished`` is a complete run of the recipe's first stages on these films."""
    if not Run(finished).is_complete:
        raise RunError(f"{finished}: this run is not finished; finish it before another goes on from it")
    try:
        identity = json.loads((finished / "run.json").read_bytes())
        stages = len(identity["recipe"]["stage"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{finished}: run.json cannot be read ({error}); train it again") from error
    if stages >= len(recipe.stage):
        raise RunError(
            f"{finished}: has {stages} stages, and the run that is to go on from it {len(recipe.stage)}; "
            "name a run of its first stages"
        )
    beginning = recipe.model_copy(update={"stage": recipe.stage[:stages]})
    _check_same(finished, identity, beginning, fingerprint)


# What may change between a run and its resumption: it decides no weight.
_FREE = {"name", "data.workers", "train.checkpoint_minutes"}


def _differences(was: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if key in _FREE:
        return
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in sorted(set(was) | set(now)):
            yield from _differences(was.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for place, (old, new) in enumerate(zip(was, now, strict=True), 1):
            yield from _differences(old, new, f"{key}.{place}")
    elif was != now:
        yield key, was, now


def _pretty(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
