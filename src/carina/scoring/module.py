"""A processing step in the mercure DICOM orchestrator: a folder of films in, ``result.json`` out.

mercure starts a container for a series or a study, names two folders in ``MERCURE_IN_DIR`` and
``MERCURE_OUT_DIR``, and reads ``result.json`` afterwards (mercure's documentation, "Module Development").
Films are called ``[series UID]#[file UID].dcm``; settings stand in ``task.json``, ``process`` → ``settings``.
A film that cannot be scored needs a reader, and mercure is asked to tell somebody.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import carina
from carina.errors import OutputError, SourceError
from carina.records import Prediction, Refusal
from carina.scoring.abstain import Gate, checked
from carina.scoring.bundle import Bundle
from carina.scoring.operating import OperatingPoint, operating_point
from carina.scoring.scorer import Scorer

RESULT, TASK = "result.json", "task.json"
NOTICE = "Research use. Not a medical device. Every film must be read by a qualified person."
FLAGGED, UNFLAGGED, UNREAD = "flagged", "not flagged: read as usual", "not analysed: needs a reader"
_DICOM = (".dcm", "")
SCORED = "scored"  # where no operating point was asked for, nothing is flagged


@dataclass(frozen=True, slots=True)
class Settings:
    """What a rule of mercure may set for this module."""

    site: str | None = None  # whose operating point flags films; none: they are scored and not judged
    target: float | None = None  # which of its target sensitivities; the highest by default
    pass_on: bool = False  # copy the films to the output folder, for mercure to route them further

    @classmethod
    def of(cls, folder: Path) -> Settings:
        """The settings in ``task.json``; the defaults where there is none.

        Raises :class:`~carina.errors.SourceError` for what is no task, a key that is not known and a value
        of the wrong kind.
        """
        path = folder / TASK
        if not path.exists():
            return cls()
        try:
            process = json.loads(path.read_bytes()).get("process") or {}
            step = process[-1] if isinstance(process, list) and process else process
            given = dict(step.get("settings") or {}) if step else {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise SourceError(f"{path}: is no task of mercure ({error}); send the study again") from error
        kinds: dict[str, type | tuple[type, ...]] = {"site": str, "target": (int, float), "pass_on": bool}
        for key, value in given.items():
            if key not in kinds:
                known = ", ".join(kinds)
                raise SourceError(
                    f"{path}: the setting {key!r} is not known (known: {known}); correct the rule"
                )
            if not isinstance(value, kinds[key]) or (key == "target" and isinstance(value, bool)):
                raise SourceError(f"{path}: the setting {key!r} is {value!r}; correct the rule")
        if "target" in given and "site" not in given:
            raise SourceError(
                f"{path}: a target is that of a site; set 'site' as well, or leave out 'target'"
            )
        return cls(**given)


def run_module(
    bundle: Bundle | str | os.PathLike[str], films: Path, out: Path, *, check: bool = True
) -> dict[str, Any]:
    """Score the films of one task and write ``result.json``; answers with its content.

    With ``check`` a film that the model was not made for (:mod:`carina.scoring.abstain`) is not judged.
    Raises :class:`~carina.errors.SourceError` where the folder or its settings cannot be used,
    ``ClaimError`` for an operating point that was never shown, ``BundleError`` for a bundle that is not
    whole and ``OutputError`` where the result cannot be written.
    """
    if not films.is_dir():
        raise SourceError(f"{films}: no such folder; set MERCURE_IN_DIR to the folder with the films")
    settings = Settings.of(films)
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    point = operating_point(bundle, settings.site, settings.target) if settings.site else None
    paths = sorted(path for path in films.rglob("*") if path.is_file() and path.suffix.lower() in _DICOM)
    answers = Scorer(bundle).score(paths)
    rows = [_row(answer, point) for answer in (checked(answers, Gate.of(bundle)) if check else answers)]
    counts = Counter(row["outcome"] for row in rows)
    result = {
        "carina": carina.__version__,
        "notice": NOTICE,
        "model": {"name": bundle.manifest.name, "sha256": bundle.model_sha256},
        "site": settings.site,
        "threshold": None if point is None else point.threshold,
        "counts": dict(counts),
        "films": rows,
        "__mercure_notification": {
            "text": _told(counts),
            "requested": counts[FLAGGED] + counts[UNREAD] > 0 or not rows,
        },
    }
    passed_on = {path.relative_to(films): path for path in paths} if settings.pass_on else {}
    _write(out, result, passed_on)
    return result


def _row(answer: Prediction | Refusal, point: OperatingPoint | None) -> dict[str, Any]:
    name = Path(answer.path).name
    row: dict[str, Any] = {"file": name, "series": name.partition("#")[0]}
    if isinstance(answer, Refusal):
        return {**row, "outcome": UNREAD, "reason": answer.reason}
    outcome = SCORED
    if point is not None:
        outcome = FLAGGED if answer.p_disease >= point.threshold else UNFLAGGED
    shares = zip(answer.classes, answer.probabilities, strict=True)
    return {
        **row,
        "outcome": outcome,
        "class": answer.top_class,
        "p_disease": round(answer.p_disease, 9),
        "probabilities": {name: float(str(share)) for name, share in shares},
    }


def _told(counts: Counter[str]) -> str:
    """The text of the notification: counts and no word about a patient."""
    if not counts:
        return f"no film was found: nothing was analysed. {NOTICE}"
    order = (UNREAD, FLAGGED, UNFLAGGED, SCORED)
    return f"{'; '.join(f'{counts[each]} {each}' for each in order if counts[each])}. {NOTICE}"


def _write(out: Path, result: dict[str, Any], passed_on: Mapping[Path, Path]) -> None:
    """The films first and ``result.json`` last, whole: where it stands, all is there."""
    try:
        for place, path in passed_on.items():  # in its folder: two series may use one name
            copy = out / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            if copy.resolve() != path.resolve():
                shutil.copyfile(path, copy)
        new = out / f".{RESULT}.part"
        new.write_text(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        new.replace(out / RESULT)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); set MERCURE_OUT_DIR to a folder with room"
        ) from error
