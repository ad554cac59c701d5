"""What decisions are made by: the department's rules from a TOML file, the threshold from a bundle.

Reads files and bundles; decides nothing (:mod:`carina.scoring.triage`). A threshold is taken for one
site only, and "likely clear" only where that site has shown enough for it.
"""

from __future__ import annotations

import os
import tomllib
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carina.errors import ClaimError, RulesError
from carina.scoring.bundle import Bundle
from carina.scoring.manifest import first_fault
from carina.scoring.operating import DEFAULT_SITE, OperatingPoint, operating_point, sites
from carina.scoring.triage import Policy, Rules, Urgency, said

LEAST_TO_CLEAR = 0.95  # the sensitivity that must be *shown* before anything is called likely clear
LEAST_OF_EACH = 0.90  # the same of every single disease: 29 people of whom none is missed


class _RulesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    otherwise: Urgency = Urgency.SOON
    counts_from: float = Field(default=0.1, ge=0, le=1, allow_inf_nan=False)
    urgency: dict[str, Urgency] = {}


def read_rules(path: str | os.PathLike[str] | None = None) -> Rules:
    """The rules of a TOML file, or Carina's own. Raises :class:`~carina.errors.RulesError`."""
    source = Path(path) if path is not None else files("carina.scoring").joinpath("rules.toml")
    try:
        found = _RulesFile.model_validate(tomllib.loads(source.read_text("utf-8")))
    except OSError as error:
        raise RulesError(f"{path}: cannot be read ({error.strerror}); name a TOML file of rules") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RulesError(f"{path}: not valid TOML ({error}); correct the file") from error
    except ValidationError as error:
        raise RulesError(
            f"{path}: {first_fault(error)}; correct it, docs/decisions.md has an example"
        ) from error
    return Rules(MappingProxyType(dict(found.urgency)), found.otherwise, found.counts_from)


def policy(
    bundle: Bundle,
    *,
    site: str | None = None,
    target: float | None = None,
    rules: Rules | None = None,
    clear: float | None = None,
    withdrawn: str | None = None,
) -> Policy:
    """How the films of ``site`` are decided with this bundle.

    ``site`` None means the site called "default", where the bundle has it; a bundle without any operating
    point gives a policy without a threshold. ``target`` chooses among the site's points (default: its
    highest). ``clear`` is the target of the point below which films are suggested as likely clear, and
    ``withdrawn`` a reason not to, at present. Raises :class:`~carina.errors.ClaimError` where the site
    or a target was not shown or cannot carry the suggestion, ``RulesError`` where a rule speaks of a class
    that is no disease.
    """
    rules = rules or read_rules()
    idle = sorted(bundle.healthy.intersection(rules.urgency))
    if idle:
        raise RulesError(
            f"the rules give {idle[0]!r} an urgency, but for {bundle.root} it means that nothing was found, "
            "so the rule would do nothing; remove it"
        )
    known = sites(bundle)
    if site is None and not known:
        if clear is not None or target is not None:
            operating_point(bundle, DEFAULT_SITE)  # says that there is none, and how to get one
        return Policy(rules)
    if site is None and DEFAULT_SITE not in known:
        raise ClaimError(
            f"{bundle.root}: it has operating points for {', '.join(map(repr, known))}; say whose films "
            "these are with --site, a threshold does not travel"
        )
    name = DEFAULT_SITE if site is None else site
    point = operating_point(bundle, name, target)
    clear_below = None
    if clear is not None:
        clear_below = min(point.threshold, _clearing(bundle, name, clear).threshold)
    reason = None if withdrawn is None else said(withdrawn)
    return Policy(rules, point.threshold, _shown(point, name), clear_below, reason)


def _clearing(bundle: Bundle, site: str, target: float) -> OperatingPoint:
    """The point below which films may be called likely clear, or why none may."""
    point = operating_point(bundle, site, target)
    if point.sensitivity.limit < LEAST_TO_CLEAR:
        raise ClaimError(
            f'{bundle.root}: "likely clear" needs a sensitivity of at least {LEAST_TO_CLEAR:.0%} shown for '
            f"{site!r}; {_share(point.sensitivity.limit)} is; calibrate for a higher target"
        )
    diseases = [name for name in bundle.classes if name not in bundle.healthy]
    for name in diseases:
        recall = point.classes.get(name)
        if recall is None or not recall.people:
            raise ClaimError(
                f'{bundle.root}: "likely clear" needs people with {name} among the films of {site!r}; there '
                "was nobody, so nothing is known of how often it is missed: calibrate on films that have it"
            )
        if recall.limit < LEAST_OF_EACH:
            raise ClaimError(
                f'{bundle.root}: "likely clear" needs a sensitivity of at least {LEAST_OF_EACH:.0%} shown '
                f"for each disease; for {name} {_share(recall.limit)} is, on {recall.people:,} people of "
                f"{site!r}: calibrate on more people who have it, with --per-class for all diseases alike"
            )
    return point


def _share(limit: float) -> str:
    return f"{int(1000 * limit) / 10:.1f} %"  # rounded down: what is promised must hold


def _shown(point: OperatingPoint, site: str) -> str:
    limit = _share(point.sensitivity.limit)
    return f"{said(site)}: at least {limit} of disease found, shown on {point.sensitivity.people:,} people"
