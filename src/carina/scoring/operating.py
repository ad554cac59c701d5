"""Operating points: what a bundle was shown to keep at which threshold, and on which site's films.

They stand in the section ``operating_points`` of ``bundle.json`` and are checked when they are read,
because a stranger may have written them. Knows their form, not how they are chosen
(:mod:`carina.evaluation.thresholds`). A threshold belongs to one model and one site: a section that
speaks of another model is refused, and nothing here ever takes the threshold of one site for another.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from carina.errors import BundleError, ClaimError
from carina.scoring.bundle import Bundle
from carina.scoring.manifest import MODEL, first_fault
from carina.scoring.probabilities import Posterior, ProbabilityMap
from carina.scoring.sets import Sets

SECTION = "operating_points"
DEFAULT_SITE = "default"

_Share = Field(ge=0, le=1, allow_inf_nan=False)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recall(_Part):
    """Of ``people`` diseased people ``found`` are flagged; ``limit`` is the one-sided lower limit."""

    found: int = Field(ge=0)
    people: int = Field(ge=0)
    limit: float = _Share

    @model_validator(mode="after")
    def _not_more_than_all(self) -> Recall:
        if self.found > self.people:
            raise ValueError(f"{self.found} found of {self.people}")
        return self

    @property
    def value(self) -> float | None:
        """The measured share; None where there was nobody to find."""
        return self.found / self.people if self.people else None


class Spared(_Part):
    """Of ``people`` healthy people ``spared`` have no film flagged; a two-sided interval."""

    spared: int = Field(ge=0)
    people: int = Field(ge=0)
    low: float = _Share
    high: float = _Share

    @property
    def value(self) -> float | None:
        """The specificity; None where nobody was healthy."""
        return self.spared / self.people if self.people else None


class OperatingPoint(_Part):
    """A film is flagged when ``p_disease ≥ threshold``; the sensitivity that was shown there.

    ``per_class``: the target holds for each disease by itself, not only for their mixture.
    ``classes`` has the recall of each disease, the worst first.
    """

    target: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    per_class: bool
    threshold: float = _Share
    sensitivity: Recall
    specificity: Spared
    classes: dict[str, Recall]
    films: int = Field(ge=0)
    below: int = Field(ge=0)  # films under the threshold

    @property
    def share_below(self) -> float | None:
        """The share of the calibration films that stay unflagged; it depends on their mixture."""
        return self.below / self.films if self.films else None


class Fit(_Part):
    """How well probabilities fit: calibration error, Brier score and log loss (see evaluation)."""

    ece: float = Field(ge=0, allow_inf_nan=False)
    ece_by_chance: float = Field(ge=0, allow_inf_nan=False)
    brier: float = Field(ge=0, allow_inf_nan=False)
    log_loss: float = Field(ge=0, allow_inf_nan=False)


class Corrected(_Part):
    """Probabilities that mean what they say on the films of the site, ``prevalence`` of them diseased."""

    map: ProbabilityMap
    prevalence: float = Field(gt=0, lt=1)
    before: Fit
    after: Fit  # on people the map was not fitted on


class Watch(_Part):
    """What films of the site looked like: what later films, or those of elsewhere, are held against.

    ``scores`` are p_disease of the calibration films, rising (at most 500 of them, evenly spread over the
    ranks); ``ill`` and ``well`` are those of diseased and of other films apart (at most 250 each; empty where
    an older Carina calibrated). Of ``films`` films ``refused`` were refused before their score could count.
    """

    scores: tuple[float, ...]
    ill: tuple[float, ...] = ()
    well: tuple[float, ...] = ()
    films: int = Field(ge=0)
    refused: int = Field(ge=0)


class Believed(_Part):
    """The audit's verdict on the films behind the figures: its grade, and its sentence."""

    grade: str = Field(min_length=1)
    sentence: str = Field(min_length=1)


class Site(_Part):
    """All operating points of one site, and the films they were chosen on."""

    created: str  # ISO 8601, UTC
    carina: str
    model: str  # sha256 of the model.onnx they were chosen for
    catalogue: str  # fingerprint
    split: str
    films: int = Field(ge=0)
    refused: int = Field(ge=0)  # films that could not be scored: in no figure
    sources: tuple[str, ...]
    points: tuple[OperatingPoint, ...] = Field(min_length=1)
    corrected: Corrected | None = None  # None where there were too few people to learn it from
    sets: Sets | None = None  # None where an older Carina calibrated
    watch: Watch | None = None  # the same
    chosen_on: tuple[str, ...] | None = None  # the same; image_id of each film: no witness any more
    verdict: Believed | None = None  # the same; on these films


def sites(bundle: Bundle) -> dict[str, Site]:
    """The sites a bundle has operating points for; empty where it was never calibrated.

    Raises :class:`~carina.errors.BundleError` for a section that cannot be read, and for one that was
    shown for another model.
    """
    section: dict[str, Any] = bundle.manifest.sections.get(SECTION, {})
    found = {}
    for name, raw in section.items():
        try:
            site = Site.model_validate(raw)
        except ValidationError as error:
            raise BundleError(
                f"{bundle.root}: operating points of {name!r}: {first_fault(error)}; calibrate it again"
            ) from error
        if site.model != bundle.manifest.files[MODEL]:
            raise BundleError(
                f"{bundle.root}: the operating points of {name!r} were shown for another model; "
                "calibrate this one"
            )
        if site.corrected is not None:
            _check_map(bundle, name, site.corrected.map)
        named = {each for point in site.points for each in point.classes}
        strange = sorted((named | set(site.sets.floors if site.sets else ())) - set(bundle.classes))
        if strange:
            raise BundleError(
                f"{bundle.root}: operating points of {name!r} speak of {strange[0]!r}, which is no class of "
                "this bundle; calibrate it again"
            )
        found[name] = site
    return found


def operating_point(bundle: Bundle, site: str, target: float | None = None) -> OperatingPoint:
    """The point of a site for this target sensitivity (default: its highest).

    Raises :class:`~carina.errors.ClaimError` where the site, or the target, was never shown.
    """
    known = sites(bundle)
    if site not in known:
        have = f"it has {', '.join(map(repr, known))}" if known else "it has none at all"
        raise ClaimError(
            f"{bundle.root}: no operating point for the site {site!r} ({have}); a threshold does not travel, "
            f"run: carina calibrate BUNDLE CATALOGUE --site {site}"
        )
    points = known[site].points
    if target is None:
        return max(points, key=lambda point: point.target)
    for point in points:
        if abs(point.target - target) < 1e-9:
            return point
    shown = ", ".join(f"{point.target:g}" for point in points)
    raise ClaimError(
        f"{bundle.root}: a sensitivity of {target:g} was not shown for {site!r} (shown: {shown}); "
        "choose one of these, or calibrate for it"
    )


def prediction_sets(bundle: Bundle, site: str) -> Sets:
    """The prediction sets of a site.

    Raises :class:`~carina.errors.ClaimError` where the site is unknown, or was calibrated without them.
    """
    operating_point(bundle, site)  # says what there is when the site is unknown
    found = sites(bundle)[site].sets
    if found is None:
        raise ClaimError(
            f"{bundle.root}: the site {site!r} was calibrated by an older Carina, without prediction sets; "
            f"run: carina calibrate BUNDLE CATALOGUE --site {site}"
        )
    return found


def posterior(bundle: Bundle, site: str, prevalence: float) -> Posterior:
    """What the site's corrected probabilities say where this share of the people is diseased.

    Raises :class:`~carina.errors.ClaimError` for what is no share between 0 and 1, and where the site is
    unknown or had too few people to correct probabilities with.
    """
    if not 0 < prevalence < 1:
        raise ClaimError(f"a prevalence of {prevalence:g}: give a share between 0 and 1, such as 0.05")
    operating_point(bundle, site)  # says what there is when the site is unknown
    corrected = sites(bundle)[site].corrected
    if corrected is None:
        raise ClaimError(
            f"{bundle.root}: too few people of {site!r} to correct probabilities with, so nothing is known "
            "at a prevalence; calibrate on more people, diseased and well"
        )
    return Posterior(corrected.map, corrected.prevalence, prevalence)


def _check_map(bundle: Bundle, site: str, map_: ProbabilityMap) -> None:
    if map_.healthy != tuple(name in bundle.healthy for name in bundle.classes):
        raise BundleError(
            f"{bundle.root}: the probabilities of {site!r} were corrected for other classes; "
            "calibrate it again"
        )
