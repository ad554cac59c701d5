"""Do the probabilities mean what they say, and which map makes them?

Pure: arrays in, figures and a map out. Candidates are compared by their log loss on people they were
not fitted on; a more flexible map must beat the simpler one by more than the standard error of their
difference, or the simpler one is taken. All figures "after" are of films the map was not fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from sklearn.isotonic import IsotonicRegression

from carina.evaluation.bootstrap import Rate, shares
from carina.evaluation.metrics import Labels, Probabilities, disease_probability, losses
from carina.scoring.probabilities import Method, ProbabilityMap

FOLDS, BINS, DRAWS = 5, 10, 1000
ENOUGH_FOR_ISOTONIC = 1000  # people; below, it follows the noise (Niculescu-Mizil & Caruana 2005, ICML)
_RIDGE = 1.0  # films' worth of belief that a vector map changes nothing

Mask = NDArray[np.bool_]
People = NDArray[np.int64]  # (N,): who each film shows


@dataclass(frozen=True, slots=True)
class Bin:
    """Films of similar p_disease: what was said on average, and how many were diseased."""

    said: float
    share: Rate


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far p_disease is from what it says.

    ``ece`` is the expected calibration error over bins of equally many films (Naeini, Cooper &
    Hauskrecht 2015, AAAI). It is above 0 even for perfect probabilities: with them it would lie below
    ``ece_by_chance`` in 95 of 100 draws of as many people (Bröcker & Smith 2007, Weather and Forecasting
    22:651; all films of a person are ill or well together, the most that chance can do). ``brier`` is of
    healthy against diseased; ``log_loss`` of all classes, in nats.
    """

    ece: float
    ece_by_chance: float
    brier: float
    log_loss: float
    bins: tuple[Bin, ...]

    @property
    def off(self) -> bool:
        """Whether the error is more than chance explains."""
        return self.ece > self.ece_by_chance


@dataclass(frozen=True, slots=True)
class Candidate:
    """One kind of map: its log loss out of fold, and how much it gains on the one before, with its error."""

    method: Method
    log_loss: float
    gain: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Correction:
    """The map that was chosen, what was compared, and the figures before and after."""

    map: ProbabilityMap
    candidates: tuple[Candidate, ...]
    before: Reliability
    after: Reliability


def correct(
    probabilities: Probabilities, labels: Labels, who: People, sick: Mask, *, seed: int = 0
) -> Correction:
    """Choose a map for ``probabilities`` (N, C) of films that show the people ``who`` (N,)."""
    methods: list[Method] = ["none", "temperature", "vector"]
    if len(np.unique(who)) >= ENOUGH_FOR_ISOTONIC:
        methods.append("isotonic")
    folds = _folds(who, seed)
    mapped = {method: _out_of_fold(method, probabilities, labels, folds, sick) for method in methods}
    lost = {method: losses(each, labels) for method, each in mapped.items()}
    chosen, candidates = methods[0], []
    for method in methods:
        gain, error = _mean_and_error(lost[chosen] - lost[method], who)
        candidates.append(Candidate(method, float(lost[method].mean()), gain, error))
        if method != chosen and gain > error:
            chosen = method
    return Correction(
        map=fit(chosen, probabilities, labels, sick),
        candidates=tuple(candidates),
        before=reliability(probabilities, labels, who, sick, seed=seed),
        after=reliability(mapped[chosen], labels, who, sick, seed=seed),
    )


def fit(method: Method, probabilities: Probabilities, labels: Labels, sick: Mask) -> ProbabilityMap:
    """The map of this kind with the least log loss on these films."""
    healthy = tuple(bool(each) for each in ~sick)
    if method == "none":
        return ProbabilityMap(method="none", healthy=healthy)
    if method == "isotonic":
        return _isotonic(probabilities, labels, sick)
    if method == "temperature":

        def lost(log_scale: float) -> float:
            made = ProbabilityMap(method="temperature", scale=(float(np.exp(log_scale)),), healthy=healthy)
            return float(losses(made(probabilities), labels).mean())

        best = minimize_scalar(lost, bounds=(-3.0, 3.0), method="bounded")
        return ProbabilityMap(method="temperature", scale=(float(np.exp(best.x)),), healthy=healthy)
    count, films = probabilities.shape[1], len(labels)

    def vector(parameters: NDArray[np.float64]) -> ProbabilityMap:
        scale, bias = np.exp(parameters[:count]), parameters[count:]
        return ProbabilityMap(method="vector", scale=tuple(scale), bias=tuple(bias), healthy=healthy)

    def penalised(parameters: NDArray[np.float64]) -> float:
        own = float(losses(vector(parameters)(probabilities), labels).mean())
        return own + _RIDGE / films * float((parameters**2).sum())

    found = minimize(penalised, np.zeros(2 * count), method="L-BFGS-B", bounds=[(-3.0, 3.0)] * 2 * count)
    return vector(found.x)


def reliability(
    probabilities: Probabilities, labels: Labels, who: People, sick: Mask, *, seed: int = 0
) -> Reliability:
    """The figures of p_disease, in bins of equally many films; intervals are by person."""
    p_disease, ill = disease_probability(probabilities, sick), sick[labels]
    places = _bins(p_disease)
    rates = shares(
        who.astype(str),
        [(ill & (places == place), places == place) for place in range(int(places.max()) + 1)],
        seed=seed,
    )
    rng = np.random.default_rng(seed)
    _, person = np.unique(who, return_inverse=True)
    count = int(person.max()) + 1
    truthful = (rng.random(count)[person] < p_disease for _ in range(DRAWS))  # worlds where it is right
    chance = np.array([_ece(p_disease, ill_there, places) for ill_there in truthful])
    return Reliability(
        ece=_ece(p_disease, ill, places),
        ece_by_chance=float(np.quantile(chance, 0.95)),
        brier=float(((p_disease - ill) ** 2).mean()),
        log_loss=float(losses(probabilities, labels).mean()),
        bins=tuple(Bin(float(p_disease[places == place].mean()), rate) for place, rate in enumerate(rates)),
    )


def _isotonic(probabilities: Probabilities, labels: Labels, sick: Mask) -> ProbabilityMap:
    p_disease, ill = disease_probability(probabilities, sick), sick[labels]
    edge = 0.5 / len(labels)  # nobody is certain because a few films agreed
    curve = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(p_disease, ill)
    knots, values = curve.X_thresholds_, curve.y_thresholds_
    if len(knots) < 2:
        return ProbabilityMap(method="none", healthy=tuple(bool(each) for each in ~sick))
    return ProbabilityMap(
        method="isotonic",
        knots=tuple(map(float, knots)),
        values=tuple(map(float, values)),
        healthy=tuple(bool(each) for each in ~sick),
    )


def _folds(who: People, seed: int) -> NDArray[np.int64]:
    """A fold for each film, (N,); all films of a person are in one."""
    names, inverse = np.unique(who, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    dealt: NDArray[np.int64] = (order % FOLDS)[inverse].astype(np.int64)
    return dealt


def _out_of_fold(
    method: Method, probabilities: Probabilities, labels: Labels, folds: NDArray[np.int64], sick: Mask
) -> Probabilities:
    """Each film through the map that was fitted without its fold, (N, C)."""
    mapped = np.empty_like(probabilities)
    for fold in np.unique(folds):
        held = folds == fold
        mapped[held] = fit(method, probabilities[~held], labels[~held], sick)(probabilities[held])
    return mapped


def _mean_and_error(difference: NDArray[np.float64], who: People) -> tuple[float, float]:
    """The mean over films and its standard error with people as units."""
    mean = float(difference.mean())
    _, inverse = np.unique(who, return_inverse=True)
    sums = np.bincount(inverse, weights=difference - mean)
    units = len(sums)
    error = np.sqrt((sums**2).sum() * units / max(1, units - 1)) / len(difference)
    return mean, float(error)


def _bins(p_disease: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each film, (N,): equally many films each; tied films stay together."""
    edges = np.unique(np.quantile(p_disease, np.linspace(0, 1, BINS + 1)[1:-1]))
    _, places = np.unique(np.searchsorted(edges, p_disease, side="right"), return_inverse=True)
    return places.astype(np.int64)


def _ece(p_disease: NDArray[np.float64], ill: Mask, places: NDArray[np.int64]) -> float:
    gaps = np.bincount(places, weights=p_disease - ill)
    return float(np.abs(gaps).sum() / len(p_disease))
