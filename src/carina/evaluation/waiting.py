"""What a simulated department says: tables of waits, and the sentences that must stand beside them. Pure."""

from __future__ import annotations

from carina.evaluation.simulate import ANY, Figure, Policy, Simulation, Waits, row
from carina.evaluation.wording import percent

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]

_LITTLE = 5.0  # minutes: a gain that nobody would notice


def about(simulation: Simulation) -> str:
    """What was simulated, in one line."""
    return f"{simulation.department.name}: {load(simulation)}"


def load(simulation: Simulation) -> str:
    """How busy it is, for how long it was simulated, and what a wait is."""
    here = simulation.department
    return (
        f"{sum(here.arrivals_per_hour):.0f} films a day, readers busy "
        f"{percent(here.load)} of their time; {here.repetitions} repetitions of {here.days} days, "
        f"the first {here.warm_up_days} not counted. Minutes from arrival until a reader opens the film."
    )


def rates(simulation: Simulation) -> tuple[str, ...]:
    """Which rates of the model were measured, on how many people, and which the file assumes."""
    here = simulation.department
    known = [(f"recall of {each.name}", each.sensitivity, each.measured) for each in here.finding]
    known.append(("specificity", here.model.specificity, here.model.measured))
    measured = [f"{name} {each[0]:,} of {each[1]:,}" for name, _, each in known if each is not None]
    assumed = [f"{name} {percent(value)}" for name, value, each in known if each is None]
    said = []
    if measured:
        said.append(
            f"Measured: {', '.join(measured)}; what such counts leave open is drawn anew for each repetition."
        )
    if assumed:
        said.append(f"Assumed by the file, not measured: {', '.join(assumed)}.")
    return tuple(said)


def shown(simulation: Simulation) -> tuple[Policy, ...]:
    """The policies worth a table: without order, by urgency, and with the recommended cap."""
    plain = [policy for policy in simulation.outcomes if policy.cap is None]
    return (*plain, *(() if simulation.recommended is None else (simulation.recommended,)))


def table(simulation: Simulation, policy: Policy) -> Table:
    """Mean, 95th percentile and longest wait of each group; missed films stand in rows of their own."""
    head = ("films", "a repetition", "mean", "95th percentile", "longest")
    return head, [
        (
            _named(each),
            f"{each.films:.0f}" if each.films >= 1 else "below 1",
            *(
                _said(figure) if each.films >= 1 else "too few to tell"
                for figure in (each.mean, each.p95, each.longest)
            ),
        )
        for each in simulation.outcomes[policy]
    ]


def caps(simulation: Simulation) -> Table:
    """Every policy by what matters: the wait of flagged disease, and the longest wait of missed disease."""
    head = ("policy", "flagged disease, mean", "missed disease, mean", "missed disease, longest")
    rows: list[tuple[str, ...]] = []
    for policy, waits in simulation.outcomes.items():
        flagged, missed = row(waits, ANY, missed=False), row(waits, ANY, missed=True)
        rows.append((policy.name, _said(flagged.mean), _said(missed.mean), _said(missed.longest)))
    return head, rows


def lines(simulation: Simulation) -> tuple[str, ...]:
    """What changes when the list is ordered, and from which wait on a film should go first."""
    plain, urgent = (next(p for p in simulation.outcomes if p == Policy(by)) for by in (False, True))
    before, after = simulation.outcomes[plain], simulation.outcomes[urgent]
    flagged = (row(before, ANY, missed=False).mean, row(after, ANY, missed=False).mean)
    missed = (row(before, ANY, missed=True).longest, row(after, ANY, missed=True).longest)
    said = [
        f"Ordered by urgency, flagged disease waits {_change(*flagged)}.",
        f"The price: the longest wait of missed disease is {_change(*missed)}.",
    ]
    gained = flagged[1].minus(flagged[0]).value
    if gained is None or gained > -_LITTLE:
        said.append("Here an ordered list gains next to nothing: it is hardly ever long.")
    best = simulation.recommended
    if best is None:
        said.append(
            "None of the waits tried after which a film goes first keeps missed disease from waiting longer; "
            "try shorter ones (caps_minutes), or add readers."
        )
        return tuple(said)
    with_cap = simulation.outcomes[best]
    mean = _change(flagged[0], row(with_cap, ANY, missed=False).mean)
    longest = _change(missed[0], row(with_cap, ANY, missed=True).longest)
    advice = (
        f"Advised: read first what has waited {best.cap:.0f} minutes, after what is urgent now. Then flagged "
        f"disease waits {mean}"
    )
    said.append(f"{advice}, and the longest wait of missed disease is {longest}.")
    return tuple(said)


def _named(each: Waits) -> str:
    if each.group in ("no finding", "not analysed"):
        return each.group
    urgency = f" ({each.urgency})" if each.urgency else ""
    return f"{each.group}{urgency}, {'missed' if each.missed else 'flagged'}"


def _said(figure: Figure) -> str:
    """``51 (35 to 67)``."""
    if figure.interval is None:
        return "–"
    value, low, high = figure.interval
    return f"{value:.0f} ({max(0.0, low):.0f} to {high:.0f})"


def _change(before: Figure, after: Figure) -> str:
    """``5 instead of 85 minutes (-80; 95 % interval -95 to -64)``."""
    difference = after.minus(before).interval
    if difference is None or before.value is None or after.value is None:
        return "as long as before (none was met)"
    value, low, high = difference
    return (
        f"{after.value:.0f} instead of {before.value:.0f} minutes ({value:+.0f}; 95 % interval "
        f"{low:+.0f} to {high:+.0f})"
    )
