"""A radiology department as a TOML file says it: arrivals, readers, findings, and what the model is like.

Knows the form and what makes no sense, not how a day goes (:mod:`carina.evaluation.simulate`).
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from carina.errors import ClaimError
from carina.scoring.manifest import first_fault
from carina.scoring.operating import OperatingPoint

Hours = Annotated[tuple[float, ...], Field(min_length=24, max_length=24)]
_Share = Field(ge=0, le=1, allow_inf_nan=False)
_Minutes = Field(gt=0, allow_inf_nan=False)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _of_all(counts: tuple[int, int] | None) -> tuple[int, int] | None:
    if counts is not None and not 0 <= counts[0] <= counts[1] >= 1:
        raise ValueError(f"{counts[0]} of {counts[1]} people")
    return counts


Counts = Annotated[tuple[int, int] | None, AfterValidator(_of_all)]


class Reading(_Part):
    """Minutes a reader spends on a film; log-normal."""

    mean_minutes: float = _Minutes
    sd_minutes: float = _Minutes


class Finding(_Part):
    """A disease: its share of all films, how urgent it is, and how many of its films are flagged.

    ``measured`` are the people found and all people behind the sensitivity; None where it is assumed.
    """

    name: str = Field(min_length=1)
    share: float = _Share
    urgency: Literal["now", "soon"]
    sensitivity: float = _Share
    measured: Counts = None


class Model(_Part):
    """The model on films without a finding, and what it takes and refuses.

    ``measured`` are the people spared and all people behind the specificity; None where it is assumed.
    """

    minutes: float = Field(default=0.5, ge=0, allow_inf_nan=False)  # from arrival to its answer
    not_analysed: float = Field(default=0.0, ge=0, lt=1)
    specificity: float = _Share
    measured: Counts = None
    false_alarms: Literal["now", "soon"] = "soon"


class Department(_Part):
    """All of it. Times are minutes; hours are hours of the day, 0 to 23."""

    name: str = "the department"
    days: int = Field(default=14, ge=2, le=366)
    warm_up_days: int = Field(default=1, ge=0)
    repetitions: int = Field(default=20, ge=2, le=1000)
    seed: int = 0
    arrivals_per_hour: Hours
    readers: Annotated[tuple[int, ...], Field(min_length=24, max_length=24)]
    caps_minutes: tuple[float, ...] = ()  # maximum waits to try; some are chosen where none are named
    reading: Reading
    model: Model
    finding: tuple[Finding, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _makes_sense(self) -> Department:
        if min(self.arrivals_per_hour) < 0 or min(self.readers) < 0 or not sum(self.arrivals_per_hour):
            raise ValueError("arrivals and readers are 0 or more, and some films must arrive")
        if self.warm_up_days >= self.days:
            raise ValueError("warm_up_days must be fewer than days")
        if len({each.name for each in self.finding}) != len(self.finding):
            raise ValueError("each finding has a name of its own")
        if sum(each.share for each in self.finding) > 1:
            raise ValueError("the shares of the findings are more than all films")
        if any(cap <= 0 for cap in self.caps_minutes):
            raise ValueError("a maximum wait is more than 0 minutes")
        if self.load >= 1:
            raise ValueError(
                f"the readers are needed {100 * self.load:.0f} % of their time, so the list would grow for "
                "ever; add readers or shorten the reading"
            )
        return self

    @property
    def load(self) -> float:
        """The share of their time on duty that the readers are busy; above 1 the list only grows."""
        minutes = 60.0 * sum(self.readers)
        return sum(self.arrivals_per_hour) * self.reading.mean_minutes / minutes if minutes else float("inf")


def read_department(path: str | os.PathLike[str], point: OperatingPoint | None = None) -> Department:
    """Read DEPT.toml, with what was measured at an operating point where one is given.

    Findings named like a class of its bundle then take its recall, the model its specificity, with the
    counts behind them, so that a simulation can draw what so few people leave open; both may be left out of
    the file. Raises ClaimError that names the key and what is wrong with it, or says that no finding is
    named like a class.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        fault = getattr(error, "strerror", None) or error
        raise ClaimError(f"{path}: cannot be read ({fault}); name a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ClaimError(f"{path}: is not valid TOML ({error})") from error
    try:
        return Department.model_validate(raw if point is None else _measured(raw, point, path))
    except ValidationError as error:
        raise ClaimError(f"{path}: {first_fault(error)}; correct it, docs/examples has one") from error


def _measured(raw: dict[str, Any], point: OperatingPoint, path: Path) -> dict[str, Any]:
    """The content of the file with the figures of the operating point over its own."""
    known = {name: recall for name, recall in point.classes.items() if recall.people}
    findings = raw.get("finding", [])
    listed = [each for each in findings if isinstance(each, dict)] if isinstance(findings, list) else []
    for finding in listed:
        if finding.get("name") in known:
            recall = known[finding["name"]]
            finding |= {"sensitivity": recall.value, "measured": (recall.found, recall.people)}
    if listed and not any(finding.get("name") in known for finding in listed):
        raise ClaimError(
            f"{path}: no finding is one of the bundle's diseases ({', '.join(known)}); rename them"
        )
    spared = point.specificity
    if spared.value is not None and isinstance(raw.get("model"), dict):
        raw["model"] |= {"specificity": spared.value, "measured": (spared.spared, spared.people)}
    return raw
