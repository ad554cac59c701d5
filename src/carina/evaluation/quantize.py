"""A bundle with 8-bit whole numbers or bfloat16 inside, that is checked before anybody may have it.

The float bundle and the quantised one are asked about the same films, which are new to both. What that
costs (area under the curve, recall at the operating point, films that change side, each with its interval)
goes into the manifest. Operating points are never carried over: they are shown anew, on the same films, for
the model that will be used, and each model is compared at its own. A recall that falls by more than half a
point there is a refusal; and because a new threshold can buy any recall with false alarms, so is a model
that decides otherwise on more than one film in twenty.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import carina
from carina.data.catalogue import Catalogue
from carina.data.confounding.audit import verdict_on
from carina.data.confounding.verdict import Verdict
from carina.errors import BundleError, ClaimError, DataError, MissingExtra, OutputError
from carina.evaluation.answers import Tell, cached, looks
from carina.evaluation.card import FIGURES, card_files
from carina.evaluation.int8 import METHOD, for_runtime, to_int8
from carina.records import Progress
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.contents import RUNTIME
from carina.scoring.manifest import CARD, CARD_JSON, MANIFEST, MODEL, WEIGHTS, Parity
from carina.scoring.operating import DEFAULT_SITE, SECTION, OperatingPoint, Site, sites
from carina.scoring.scorer import Scorer

try:
    from carina.evaluation.calibrate import calibrate
    from carina.evaluation.metrics import disease_probability
    from carina.evaluation.paired import Difference, area_difference, share_differences
    from carina.evaluation.people import people
    from carina.evaluation.planner import lower_limit, upper_limit
    from carina.evaluation.predictions import Predictions
    from carina.evaluation.selection import ask, known_films, truth
    from carina.evaluation.thresholds import operating_point
    from carina.evaluation.wording import at_least, exactly, percent
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("scipy", "sklearn"):
        raise
    raise MissingExtra("carina quantize", "quantize") from error

Form = Literal["int8", "openvino-int8", "openvino-bfloat16"]
QUANTISED = "quantised"  # the section of the manifest
MOST_LOST = 0.005  # of the recall at the operating point
MOST_CHANGED = 0.05  # of the films
UNCALIBRATED = 0.5  # the threshold where a bundle has no operating point
_INTERVAL = 0.95
_TINY = float(np.finfo(np.float32).tiny)
_FOR_RANGES = 256  # films on which the ranges of activations are measured


@dataclass(frozen=True, slots=True)
class Cost:
    """What the second model's figures are less the first's, on the same ``films``.

    ``changed`` films are flagged by one of the two only; ``apart`` is the largest difference in the logarithm
    of a probability.
    """

    recall: Difference
    specificity: Difference
    area: Difference
    sides: Difference  # the share of films flagged
    changed: int
    films: int
    apart: float

    def values(self, form: str = "int8") -> dict[str, Any]:
        """Plain values for the manifest; the interval of ``changed_share`` is exact (Clopper-Pearson)."""
        tail = (1 - _INTERVAL) / 2
        return {
            "recall": _values(self.recall, form),
            "specificity": _values(self.specificity, form),
            "area_under_the_curve": _values(self.area, form),
            "films_flagged": _values(self.sides, form),
            "changed_side": self.changed,
            "changed_share": {
                "value": self.changed / self.films,
                "low": lower_limit(self.changed, self.films, 1 - tail),
                "high": upper_limit(self.changed, self.films, 1 - tail),
            },
            "films": self.films,
            "apart": self.apart,
        }


@dataclass(frozen=True, slots=True)
class Quantised:
    """The new bundle and what it cost; ``thresholds`` and ``bytes`` (of the model) are before and after.

    ``site`` holds its own operating points, None where none could be shown.
    """

    bundle: Bundle
    thresholds: tuple[float, float]
    cost: Cost
    bytes: tuple[int, int]
    site: Site | None
    warnings: tuple[str, ...]
    verdict: Verdict  # on the films: no figure is shown without it
    form: Form = "int8"

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows: each figure before, after, and the difference with its interval."""
        cost = self.cost
        rows = [_row(each) for each in (cost.recall, cost.specificity, cost.area, cost.sides)]
        return ("", "float32", self.form, "difference", "95 % interval"), rows

    def lines(self) -> tuple[str, ...]:
        """The rest, in words."""
        share = self.cost.values()["changed_share"]
        before, after = self.bytes
        changed = (
            f"{self.cost.changed:,} of {self.cost.films:,} films change side ({percent(share['low'])} to "
            f"{percent(share['high'])} of such films), the threshold being {self.thresholds[0]:.6f} before "
            f"and {self.thresholds[1]:.6f} after."
        )
        said = (changed, f"The model has {after / 1e6:.1f} MB instead of {before / 1e6:.1f}.")
        points = self.site.points if self.site else ()
        shown = tuple(
            f"Shown anew: sensitivity at least {at_least(point.sensitivity.limit)} at the threshold "
            f"{point.threshold:.6f} (target {exactly(point.target)})."
            for point in points
        )
        return (*said, *shown, f"Can this be believed? {self.verdict.sentence}")


def quantize(
    bundle: Bundle | str | os.PathLike[str],
    catalogue: Catalogue | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    site: str | None = None,
    split: str = "valid",
    seed: int = 0,
    form: Form = "int8",
    progress: Callable[[Progress], None] | None = None,
) -> Quantised:
    """Quantise the network of ``bundle`` on the films of ``split`` and write the new bundle at ``out``.

    ``form`` is what the new network computes in, and by what: 8-bit whole numbers by ONNX Runtime, or, with
    the extra ``openvino``, those or bfloat16 by OpenVINO.

    ``site`` names whose operating points count (default: the only site's, else ``default``): its highest
    target is where recall is compared, and all its targets are shown anew. Raises ``ClaimError`` where
    recall falls by more than :data:`MOST_LOST`, more than :data:`MOST_CHANGED` of the films change side or
    the films are not new to the model, ``BundleError`` where the network cannot be quantised, ``DataError``
    and ``OutputError`` as ``calibrate`` does, and ``MissingExtra`` without the parts it needs.
    """
    if form not in get_args(Form):
        raise ClaimError(f"form is {form!r}; give one of {', '.join(get_args(Form))}")
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    out = Path(out)
    name = _site(bundle, site)
    _check_request(bundle, out)
    films = catalogue.table(split)
    labels = truth(films, bundle, catalogue)
    known = known_films(films, bundle, catalogue)
    if known.known:
        raise ClaimError(
            f"{catalogue.root}: {known.known:,} of {known.films:,} films ({split}) are not new to this "
            "bundle; what quantising costs can only be seen on films of other patients"
        )
    cache, scorer = cached(catalogue, bundle.preparation), Scorer(bundle)
    before = ask(films, labels, scorer, cache, _named(progress, "float32"))
    for_ranges = films.take(pa.array(_spread(len(films), _FOR_RANGES)))
    squares = [look.prepared for look in looks(scorer, for_ranges, cache) if look is not None]
    if not squares:
        raise DataError(f"{catalogue.root}: none of the films for the ranges can be read")
    model = bundle.model()
    quantised = _made(form, model, np.stack(squares), bundle.root)
    shown = sites(bundle).get(name)
    point = max(shown.points, key=lambda each: each.target) if shown else None

    with tempfile.TemporaryDirectory(prefix="carina-int8-") as folder:
        trial = _write(bundle, Path(folder) / "trial", quantised, form, {}, 0.0)
        after = ask(films, labels, Scorer(trial), cache, _named(progress, form))
        here = shown is not None and (shown.catalogue, shown.split) == (catalogue.fingerprint, split)
        thresholds = _thresholds(before, after, point, here=here)
        cost = _compare(before, after, thresholds, seed)
        _check(bundle, cost, form)
        about = {
            "from": bundle.model_sha256,
            "form": form,
            "method": METHOD if form.endswith("int8") else "bfloat16 in place of float32, by OpenVINO",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "carina": carina.__version__,
            "catalogue": catalogue.fingerprint,
            "split": split,
            "films_for_ranges": len(squares),
            "site": name if point else None,
            "thresholds": {"float32": thresholds[0], form: thresholds[1]},
            "cost": cost.values(form),
        }
        made = _write(bundle, out, quantised, form, about, cost.apart)
    derived: Site | None = None
    warnings: tuple[str, ...] = ("The new bundle has no operating point, as that it was made from has none.",)
    if shown is not None:
        derived, warnings = _shown_again(made, catalogue, name, shown, split, seed, progress)
    sizes = len(model), len(quantised)
    warnings += _lost(bundle, name)
    verdict = verdict_on(catalogue)
    return Quantised(Bundle.open(out), thresholds, cost, sizes, derived, warnings, verdict, form)


def _made(form: Form, model: bytes, films: NDArray[np.uint8], root: Path) -> bytes:
    """The model in another form; films are (N, S, S)."""
    made = to_int8(model, films, root) if form.endswith("int8") else model
    return for_runtime(made, form) if form != "int8" else made


def runtime_section(form: str) -> dict[str, dict[str, Any]]:
    """What a bundle of this form says of what runs it."""
    library, _, numbers = form.rpartition("-")
    return {RUNTIME: {"library": library, "numbers": numbers}} if library else {}


def _thresholds(
    before: Predictions, after: Predictions, point: OperatingPoint | None, *, here: bool
) -> tuple[float, float]:
    """The threshold of the float32 model and that of the int8 model, both shown on the same films.

    ``here``: the float32 model's was shown on these very films. On others it would differ by luck alone, and
    that difference would be charged to the numbers.
    """
    if point is None:
        return UNCALIBRATED, UNCALIBRATED
    first, second = (
        operating_point(people(each), point.target, point.confidence, per_class=point.per_class).threshold
        for each in (before, after)
    )
    return point.threshold if here else first, second


def _compare(before: Predictions, after: Predictions, thresholds: tuple[float, float], seed: int) -> Cost:
    """Both models on the films that both could score, each at its threshold."""
    rows = np.intersect1d(before.scored, after.scored)
    labels, sick = before.labels[rows], before.sick
    ill = sick[labels]
    patients = np.array(before.column("patient"))[rows]
    one, other = (disease_probability(each.probabilities[rows], sick) for each in (before, after))
    first, second = one >= thresholds[0], other >= thresholds[1]
    everything = np.ones(len(rows), dtype=np.bool_)
    recall, specificity, sides = share_differences(
        patients,
        [
            ("recall", first, second, ill),
            ("specificity", ~first, ~second, ~ill),
            ("films flagged", first, second, everything),
        ],
        seed=seed,
    )
    area = area_difference("area under the curve", patients, one, other, ill, seed=seed)
    logs = [np.log(np.maximum(each.probabilities[rows], _TINY)) for each in (before, after)]
    apart = float(np.abs(logs[0] - logs[1]).max())
    changed = int((first != second).sum())
    return Cost(recall, specificity, area, sides, changed, len(rows), apart)


def _check(bundle: Bundle, cost: Cost, form: Form = "int8") -> None:
    recall, nothing = cost.recall, "nothing was written: use the bundle as it is"
    if recall.value is None or recall.first is None or recall.second is None:
        raise ClaimError(
            f"{bundle.root}: no diseased film among these, so what quantising costs cannot be seen; "
            "name a catalogue with disease"
        )
    if recall.value < -MOST_LOST - 1e-12:
        raise ClaimError(
            f"{bundle.root}: in {form} recall at the operating point falls from {percent(recall.first)} to "
            f"{percent(recall.second)}, by more than {percent(MOST_LOST)}; {nothing}"
        )
    if cost.changed > MOST_CHANGED * cost.films:
        raise ClaimError(
            f"{bundle.root}: in {form} {cost.changed:,} of {cost.films:,} films change side, more than "
            f"{percent(MOST_CHANGED)}; {nothing}"
        )


def _write(
    bundle: Bundle, out: Path, model: bytes, form: Form, about: dict[str, Any], apart: float
) -> Bundle:
    """The bundle with the quantised model: without float weights, and without promises made for another."""
    old = bundle.manifest
    kept = [name for name in old.files if name not in (MODEL, WEIGHTS, CARD, CARD_JSON)]
    sections = {name: value for name, value in old.sections.items() if name not in (SECTION, FIGURES)}
    manifest = old.model_copy(
        update={
            "name": f"{old.name}, {form}",
            "sections": {**sections, **runtime_section(form), **({QUANTISED: about} if about else {})},
            "parity": Parity(max_abs_diff=apart, images=old.parity.images),
        }
    )
    files: dict[str, bytes | Path] = {name: bundle.root / name for name in kept}
    try:
        return write_bundle(out, manifest, {**files, MODEL: model, **card_files(manifest)})
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); free space or name another folder"
        ) from error


def _shown_again(
    made: Bundle,
    catalogue: Catalogue,
    name: str,
    shown: Site,
    split: str,
    seed: int,
    progress: Tell | None,
) -> tuple[Site | None, tuple[str, ...]]:
    """Operating points for the new model, chosen on these films; a warning where none can be shown."""
    points = shown.points
    try:
        done = calibrate(
            made,
            catalogue,
            targets=[point.target for point in points],
            confidence=points[0].confidence,
            per_class=any(point.per_class for point in points),
            out=made.root,
            site=name,
            split=split,
            seed=seed,
            progress=_named(progress, "operating point"),
        )
    except ClaimError as error:
        return None, (f"The new bundle has no operating point: {error}",)
    return done.site, tuple(f"An operating point was lost: {each}" for each in done.refused)


def _lost(bundle: Bundle, name: str) -> tuple[str, ...]:
    others = sorted(set(sites(bundle)) - {name})
    if not others:
        return ()
    said = (
        f"The operating points of {', '.join(map(repr, others))} were shown for the float32 model and are "
        "not carried over; calibrate the new bundle on their films."
    )
    return (said,)


def _site(bundle: Bundle, site: str | None) -> str:
    """The site whose points count; raises ``ClaimError`` where one must be named."""
    known = sites(bundle)
    if site is not None and known and site not in known:
        raise ClaimError(
            f"{bundle.root}: no operating point for the site {site!r} (it has "
            f"{', '.join(map(repr, known))}); name one of these"
        )
    if site is None and len(known) > 1:
        raise ClaimError(
            f"{bundle.root}: has operating points for {', '.join(map(repr, known))}; say with --site whose "
            "films these are"
        )
    return site or next(iter(known), DEFAULT_SITE)


def _check_request(bundle: Bundle, out: Path) -> None:
    if out.resolve().is_relative_to(bundle.root.resolve()):
        raise OutputError(f"{out}: is the float32 bundle or lies in it, which is kept; name another folder")
    if QUANTISED in bundle.manifest.sections:
        raise ClaimError(f"{bundle.root}: is quantised already; name the float32 bundle it came from")
    if (out / MANIFEST).is_file():
        with suppress(BundleError):  # with a damaged one nothing can be done
            there = Bundle.open(out).manifest.sections.get(QUANTISED, {})
            if there.get("from") != bundle.model_sha256:
                raise OutputError(
                    f"{out}: another model stands there; name another folder, or remove that one"
                )


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` rows, evenly spread."""
    taken = min(count, most)
    return [row * count // taken for row in range(taken)]


def _named(progress: Tell | None, stage: str) -> Tell | None:
    if progress is None:
        return None
    return lambda event: progress(Progress(stage, event.done, event.total))


def _row(found: Difference) -> tuple[str, ...]:
    if found.first is None or found.second is None or found.value is None:
        return found.name, "not measured", "not measured", "", found.why or ""
    if found.low is None or found.high is None:
        return found.name, f"{found.first:.4f}", f"{found.second:.4f}", f"{found.value:+.4f}", "not known"
    interval = f"{found.low:+.4f} to {found.high:+.4f}"
    return found.name, f"{found.first:.4f}", f"{found.second:.4f}", f"{found.value:+.4f}", interval


def _values(found: Difference, form: str) -> dict[str, float | None]:
    return {
        "float32": found.first,
        form: found.second,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
    }
