"""The verbs of watching: reports, monitor, step, deliveries. They work on the database, served or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carina.cli.sites import Config, Data, site

if TYPE_CHECKING:
    from carina.serving.database import Database
    from carina.serving.settings import Settings

app = typer.Typer()
reports = typer.Typer(help="The hospital's own reports: what was found in the end.", no_args_is_help=True)
app.add_typer(reports, name="reports")


@reports.callback()
def _reports() -> None:
    """The hospital's own reports."""


@reports.command("import")
def reports_import(
    table: Annotated[Path, typer.Argument(help="CSV: study_uid or accession, disease (yes/no), finding.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Take in a table of reports; the same table a second time adds nothing."""
    from carina.terminal import notes, output

    with _site(config, data) as (_, database), database.write() as session:
        from carina.serving import auditlog, feedback

        now = datetime.now(UTC)
        done = feedback.import_reports(session, table, now)
        later = feedback.match(session)
        detail = {"new": done.new, "matched": done.matched, "known": done.known, "left out": len(done.faults)}
        auditlog.append(session, "command line", "reports taken", None, detail, now=now)
    for fault in done.faults:
        notes().print(f"left out: {fault}", markup=False)
    output().print(
        f"{done.new:,} new reports, {done.matched:,} of them matched to a study; {later:,} older ones "
        f"matched now; {done.known:,} were known",
        markup=False,
    )


@app.command()
def monitor(config: Config = None, data: Data = None) -> None:
    """Is disease missed more often than promised, and do films still look alike? Exit code 3: an alarm."""
    from carina.terminal import output

    with _site(config, data) as (settings, database), database.write() as session:
        from carina.evaluation.wording import at_least, at_most, percent
        from carina.serving import drift, feedback, ladder, monitoring

        feedback.match(session)
        now = datetime.now(UTC)
        watch, shifts = monitoring.watch(session, settings), drift.measure(session, settings, now)
        lines = [f"Step: {ladder.current(session)}", *watch.lines()]
        for row in monitoring.npv(session):
            where = "everywhere" if row.place is None else row.place
            between = f"{at_least(row.low)} to {at_most(row.high)}"
            lines.append(
                f"Unflagged studies without disease (NPV), {where}: {percent(row.value)} of {row.read:,} "
                f"read twice or reported (95 % interval {between})"
            )
        lines += [each.says for each in shifts]
    for line in lines:
        output().print(line, markup=False, highlight=False, soft_wrap=True)
    if watch.alarm or any(each.alarm for each in shifts):
        raise typer.Exit(3)


@app.command()
def step(
    to: Annotated[
        str | None,
        typer.Argument(help="audit, silent, prioritise or 'rule-out suggestion'; none: where we are."),
    ] = None,
    by: Annotated[str, typer.Option(help="Who takes it.")] = "command line",
    evidence: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="What is stated; may be repeated.")
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """The roll-out: which step the site is on, what the next asks for, and how it is taken."""
    from carina.terminal import output, show, table

    stated = dict(_pair(each) for each in evidence or ())
    with _site(config, data) as (settings, database), database.write() as session:
        from carina.serving import ladder
        from carina.serving.settings import Ladder

        now, here = datetime.now(UTC), ladder.current(session)
        if to is not None:
            if to not in list(Ladder):
                raise typer.BadParameter(f"{to!r} is none of {', '.join(Ladder)}", param_hint="TO")
            ladder.take(session, settings, Ladder(to), by, stated, now)
            output().print(f"the site is on the step {to}", markup=False)
            return
        output().print(f"the site is on the step {here}", markup=False)
        if here == ladder.STEPS[-1]:
            return
        above = ladder.STEPS[ladder.STEPS.index(here) + 1]
        asked = ladder.demands(session, settings, above, stated, now)
        rows = [("there" if each.met else "missing", each.line, each.found) for each in asked]
    show(output(), table((above, "asks for", "found"), rows))


@app.command()
def deliveries(
    state: Annotated[
        list[str] | None, typer.Option(help="waiting, taken, done or dead; may be repeated.")
    ] = None,
    again: Annotated[
        list[int] | None, typer.Option(help="Send this dead letter once more; may be repeated.")
    ] = None,
    all_again: Annotated[bool, typer.Option("--all-again", help="Send all dead letters once more.")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Results on their way out: what waits, what was sent, and what needs a person."""
    from carina.terminal import output, show, table

    with _site(config, data) as (_, database), database.write() as session:
        from carina.serving import auditlog
        from carina.serving.results import plan
        from carina.serving.schema import JobState

        unknown = sorted(set(state or ()) - set(JobState))
        if unknown:
            raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(JobState)}", param_hint="--state")
        if again or all_again:
            count = plan.again(session, datetime.now(UTC), None if all_again else again)
            detail = {"deliveries": sorted(again or ()), "all": all_again}
            auditlog.append(session, "command line", "dead letters sent again", None, detail)
            output().print(f"{count:,} dead letters are on their way again", markup=False)
            return
        rows = [
            (each.id, each.study_id, each.destination, each.kind, each.state, each.attempts, each.error or "")
            for each in plan.listed(session, state or ())
        ]
        counts = plan.counts(session)
    show(output(), table(("number", "study", "destination", "kind", "state", "tries", ""), rows))
    for name, states in sorted(counts.items()):
        said = ", ".join(f"{count:,} {each}" for each, count in sorted(states.items()))
        output().print(f"{name}: {said}", markup=False)


def _pair(argument: str) -> tuple[str, str]:
    name, mark, value = argument.partition("=")
    if not mark or not name.strip():
        raise typer.BadParameter(f"{argument!r} is not NAME=VALUE", param_hint="--evidence")
    return name.strip(), value.strip()


@contextmanager
def _site(config: Path | None, data: Path | None) -> Iterator[tuple[Settings, Database]]:
    """The settings and the database of a site that is there."""
    with site(
        config, data, who="carina reports, monitor, step and deliveries", needs="scipy", exists=True
    ) as found:
        yield found
