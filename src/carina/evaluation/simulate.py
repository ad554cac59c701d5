"""A department for some weeks: who waits how long, first come first served and by urgency.

Re-ordering a list shortens no wait without lengthening another, and the longest are those of diseased
people whom the model missed: they lose their place to every flagged film. So each disease is counted
twice, flagged and missed, means and maxima are shown side by side, and a cap is tried: a film that
has waited longer than that is overdue and read before all others but those that are urgent now.

Films arrive as a Poisson process by hour of the day and are read by the readers on duty (a film that
was begun is finished). Every policy meets the same films, the same model and the same reading times,
so that differences are those of the order. Intervals are over the repetitions. Rates that were measured on
people are drawn anew for each repetition from their Beta posterior (Jeffreys' prior), so that the intervals
hold what small counts leave open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import MissingExtra
from carina.evaluation.department import Department
from carina.records import Progress

try:
    import simpy
    from scipy import stats
except ModuleNotFoundError as error:
    raise MissingExtra("carina simulate", "report") from error

DAY = 24 * 60.0
NOW, SOON, NOT_ANALYSED, UNFLAGGED = range(4)  # the order in which an urgent list is read
ANY = "any disease"
_LEVELS = {"now": NOW, "soon": SOON}
_CAPS = (0.25, 0.5, 0.75, 1.0)  # caps to try, as shares of the longest wait without any order
_NO_LONGER = 1.05  # missed films may wait this much longer at most than without any order

Minutes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Policy:
    """In which order films are read: by urgency or not, and the wait after which one goes first.

    ``cap`` is no maximum: an overdue film still waits for a free reader, and for those that are urgent now.
    """

    by_urgency: bool
    cap: float | None = None  # minutes

    @property
    def name(self) -> str:
        """As a reader of the table would say it."""
        if not self.by_urgency:
            return "first come first served"
        return "by urgency" if self.cap is None else f"by urgency, overdue after {self.cap:.0f} min"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of each repetition, in minutes; NaN where the group had no film in it."""

    values: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float, float] | None:
        """The mean over the repetitions and its 95 % t interval; None where there is nothing to say."""
        known = np.array(self.values)[~np.isnan(self.values)]
        if not len(known):
            return None
        mean, half = float(known.mean()), 0.0
        if len(known) > 1:
            half = float(stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5)
        return mean, mean - half, mean + half

    @property
    def value(self) -> float | None:
        """The mean over the repetitions."""
        return None if self.interval is None else self.interval[0]

    def minus(self, other: Figure) -> Figure:
        """The difference, repetition by repetition: both policies met the same films."""
        return Figure(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))


@dataclass(frozen=True, slots=True)
class Waits:
    """The waits of one group of films under one policy. ``films`` is the mean number a repetition."""

    group: str
    urgency: str
    missed: bool
    films: float
    mean: Figure
    p95: Figure
    longest: Figure


@dataclass(frozen=True, slots=True)
class Films:
    """The films of one repetition, in order of arrival; all arrays are (n,)."""

    arrival: Minutes
    reading: Minutes
    finding: NDArray[np.int64]  # index into the department's findings, -1 for none
    level: NDArray[np.int64]  # NOW … UNFLAGGED


@dataclass(frozen=True, slots=True)
class Simulation:
    """What each policy did; ``recommended`` is one of ``outcomes``' policies, None where no cap helps."""

    department: Department
    outcomes: dict[Policy, tuple[Waits, ...]]
    recommended: Policy | None


def simulate(department: Department, progress: Callable[[Progress], None] | None = None) -> Simulation:
    """Run the department under every policy. The same department and seed give the same figures."""
    runs = [
        _draw(department, np.random.default_rng([department.seed, n])) for n in range(department.repetitions)
    ]
    plain, urgent = Policy(by_urgency=False), Policy(by_urgency=True)
    outcomes: dict[Policy, tuple[Waits, ...]] = {}

    def play(policy: Policy) -> None:
        waits = []
        for number, films in enumerate(runs):
            waits.append(_waits(department, films, policy))
            if progress is not None:
                progress(Progress(policy.name, number + 1, len(runs)))
        outcomes[policy] = _summary(department, runs, waits)

    play(plain)
    play(urgent)
    for cap in department.caps_minutes or _caps(outcomes[plain]):
        play(Policy(by_urgency=True, cap=cap))
    return Simulation(department, outcomes, _recommended(outcomes, plain))


def _draw(department: Department, rng: np.random.Generator) -> Films:
    """The films of one repetition, and what the model says of them."""
    hourly = np.tile(department.arrivals_per_hour, department.days)
    counts = rng.poisson(hourly)
    arrival = np.sort(np.repeat(np.arange(len(hourly)) * 60.0, counts) + 60.0 * rng.random(counts.sum()))
    count = len(arrival)
    mean, sd = department.reading.mean_minutes, department.reading.sd_minutes
    spread = np.log1p((sd / mean) ** 2)
    shares = [each.share for each in department.finding]
    finding = rng.choice(np.arange(-1, len(shares)), size=count, p=[1 - sum(shares), *shares])
    rates = [_rate(each.sensitivity, each.measured, rng) for each in department.finding]
    chance = np.array([*rates, 1 - _rate(department.model.specificity, department.model.measured, rng)])
    urgency = np.array(
        [*(_LEVELS[each.urgency] for each in department.finding), _LEVELS[department.model.false_alarms]]
    )  # index -1 is "no finding"
    level = np.where(rng.random(count) < chance[finding], urgency[finding], UNFLAGGED)
    level[rng.random(count) < department.model.not_analysed] = NOT_ANALYSED
    return Films(
        arrival=arrival,
        reading=rng.lognormal(np.log(mean) - spread / 2, np.sqrt(spread), size=count),
        finding=finding,
        level=level,
    )


def _rate(assumed: float, measured: tuple[int, int] | None, rng: np.random.Generator) -> float:
    """The rate of one repetition: a draw of what its counts leave open (Jeffreys), else as assumed.

    11 of 11 found is no rate of 1: the next department of the same model misses somebody.
    """
    if measured is None:
        return assumed
    hits, people = measured
    return float(rng.beta(hits + 0.5, people - hits + 0.5))


_Belongs = Callable[[Films], NDArray[np.bool_]]


class _Worklist:
    """Films that wait, oldest first within each level."""

    def __init__(self, films: Films, policy: Policy) -> None:
        self._films, self._policy = films, policy
        self._waiting: list[deque[int]] = [deque() for _ in range(UNFLAGGED + 1)]

    def add(self, film: int) -> None:
        self._waiting[int(self._films.level[film]) if self._policy.by_urgency else 0].append(film)

    def take(self, now: float) -> int | None:
        """The next film to read: one that is urgent now, else the longest overdue, else the most urgent."""
        filled = [films for films in self._waiting if films]
        if not filled:
            return None
        if self._policy.cap is not None and not self._waiting[NOW]:
            oldest = min(filled, key=lambda films: films[0])
            if now - self._films.arrival[oldest[0]] > self._policy.cap:
                return oldest.popleft()
        return filled[0].popleft()


def _waits(department: Department, films: Films, policy: Policy) -> Minutes:
    """Minutes from arrival until a reader opens the film, (n,)."""
    env = simpy.Environment()
    worklist = _Worklist(films, policy)
    begun = np.zeros(len(films.arrival))
    read, bell = 0, env.event()
    everything = env.event()
    delay = department.model.minutes if policy.by_urgency else 0.0

    def arrivals() -> Generator[simpy.Event, Any, None]:
        nonlocal bell
        for film, arrival in enumerate(films.arrival.tolist()):
            yield env.timeout(arrival + delay - env.now)
            worklist.add(film)
            bell.succeed()
            bell = env.event()

    def reader(number: int) -> Generator[simpy.Event, Any, None]:
        nonlocal read
        while True:
            hour = int(env.now // 60)
            on_duty = number < department.readers[hour % 24]
            film = worklist.take(env.now) if on_duty else None
            if film is None:
                next_hour = env.timeout((hour + 1) * 60 - env.now)
                yield bell | next_hour if on_duty else next_hour
                continue
            begun[film] = env.now
            read += 1
            if read == len(begun):
                everything.succeed()
            yield env.timeout(films.reading[film])

    if len(begun):
        env.process(arrivals())
        for number in range(max(department.readers)):
            env.process(reader(number))
        env.run(until=everything)
    waits: Minutes = begun - films.arrival
    return waits


def _summary(department: Department, runs: Sequence[Films], waits: Sequence[Minutes]) -> tuple[Waits, ...]:
    """Figures of each group: every finding flagged and missed, films without a finding."""
    start = department.warm_up_days * DAY
    groups: list[tuple[str, str, bool, _Belongs]] = [
        (ANY, "", False, lambda f: (f.finding >= 0) & (f.level <= SOON)),
        (ANY, "", True, lambda f: (f.finding >= 0) & (f.level == UNFLAGGED)),
    ]
    for index, each in enumerate(department.finding):
        groups += [(each.name, each.urgency, missed, _of(index, missed=missed)) for missed in (False, True)]
    groups.append(("no finding", "", False, lambda f: (f.finding < 0) & (f.level != NOT_ANALYSED)))
    groups.append(("not analysed", "", False, lambda f: f.level == NOT_ANALYSED))
    rows = []
    for name, urgency, missed, belongs in groups:
        mine = [
            wait[belongs(films) & (films.arrival >= start)] for films, wait in zip(runs, waits, strict=True)
        ]
        rows.append(
            Waits(
                group=name,
                urgency=urgency,
                missed=missed,
                films=float(np.mean([len(each) for each in mine])),
                mean=_figure(mine, np.mean),
                p95=_figure(mine, lambda wait: np.quantile(wait, 0.95)),
                longest=_figure(mine, np.max),
            )
        )
    return tuple(rows)


def _of(index: int, *, missed: bool) -> _Belongs:
    """The films with a finding that were missed, or flagged."""
    return lambda f: (f.finding == index) & ((f.level == UNFLAGGED) if missed else (f.level <= SOON))


def _figure(waits: Sequence[Minutes], of: Callable[[Minutes], Any]) -> Figure:
    return Figure(tuple(float(of(each)) if len(each) else float("nan") for each in waits))


def row(rows: Sequence[Waits], group: str, *, missed: bool) -> Waits:
    """The waits of one group."""
    return next(each for each in rows if (each.group, each.missed) == (group, missed))


def _longest_missed(rows: Sequence[Waits]) -> float:
    """The longest wait of a diseased film that was not flagged, in minutes; 0 where none was missed."""
    return row(rows, ANY, missed=True).longest.value or 0.0


def _caps(plain: Sequence[Waits]) -> tuple[float, ...]:
    """Caps to try: shares of the longest wait without any order, in steps of five minutes."""
    longest = max((row.longest.value or 0.0) for row in plain)
    return tuple(sorted({max(5.0, 5.0 * round(share * longest / 5)) for share in _CAPS}))


def _recommended(outcomes: dict[Policy, tuple[Waits, ...]], plain: Policy) -> Policy | None:
    """The longest cap under which a missed film waits hardly longer than without any order."""
    bound = _NO_LONGER * _longest_missed(outcomes[plain])
    kept = [p for p, rows in outcomes.items() if p.cap is not None and _longest_missed(rows) <= bound]
    return max(kept, key=lambda policy: policy.cap or 0.0, default=None)
