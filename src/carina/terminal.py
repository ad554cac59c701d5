"""How Carina looks in a terminal: bars, tables, and the line after each epoch.

The rooms report :class:`~carina.records.Progress`; this module draws it. Results go to standard
output, everything about the work itself (bars, notes, refusals) to standard error, so that a pipe
gets results only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from carina import records
from carina.lines import printable as printable

_WIDEST = 1000  # columns


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(
            "" if task.speed is None else f"{task.speed:.1f}/s" if task.speed < 10 else f"{task.speed:.0f}/s"
        )


Tell = Callable[[records.Progress], None]

EPOCH_HEAD = (
    f"{'epoch':>5} {'train_loss':>11} {'valid_loss':>11} {'accuracy':>9} {'error_rate':>11} {'time':>6}"
)


def output() -> Console:
    """Where results go; a film's name is never cut or taken for markup."""
    return Console(highlight=False, soft_wrap=True)


def notes() -> Console:
    """Where everything about the work itself goes."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Minutes and seconds as fastai prints them: ``01:07``; hours are added when there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def epoch_line(detail: Mapping[str, float]) -> str:
    """The line a fastai user knows, for one row of ``history.jsonl``."""
    return (
        f"{int(detail['epoch']):>5} {detail['train_loss']:>11.4f} {detail['valid_loss']:>11.4f} "
        f"{detail['accuracy']:>9.4f} {1 - detail['accuracy']:>11.4f} {clock(detail['seconds']):>6}"
    )


@contextmanager
def bars(*, drawn: bool = True) -> Iterator[Tell]:
    """A function to hand to a room as ``progress``: one bar a stage, with the time left.

    Not ``drawn``, it says nothing: for the second process of a training on several devices.
    """
    console = notes()
    console.quiet = not drawn
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        tasks: dict[str, TaskID] = {}

        def tell(event: records.Progress) -> None:
            if event.stage == "stage":
                console.print(f"\n{event.detail['text']}\n{EPOCH_HEAD}", markup=False)
            elif event.stage == "epoch":
                console.print(epoch_line(event.detail), markup=False)
            elif event.stage == "note":
                console.print(str(event.detail["text"]), markup=False)
            else:
                if event.stage not in tasks:
                    tasks[event.stage] = display.add_task(
                        event.stage, total=event.total, completed=event.done
                    )
                display.update(tasks[event.stage], completed=event.done, total=event.total)
                if event.total is not None and event.done >= event.total:
                    display.remove_task(tasks.pop(event.stage))

        yield tell


def show(out: Console, drawn: Table) -> None:
    """Print a table at its natural width: in a narrow terminal lines wrap, words are not cut into pieces."""
    natural = Measurement.get(out, out.options.update(max_width=_WIDEST), drawn).maximum
    out.width = max(out.width, natural)
    out.print(drawn)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> Table:
    """A plain table: text to the left, numbers to the right, nothing cut."""
    out = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold"
    )
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    for name, is_number in zip(columns, numeric, strict=True):
        out.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        out.add_row(*(_cell(value) for value in row))
    return out


def curve(xs: Sequence[float], ys: Sequence[float], *, mark: float, rows: int = 12) -> str:
    """A curve over a logarithmic axis in letters, a column a point; ``mark`` is a place on the axis.

    What lies above the highest of the first nine tenths (a loss that runs away) is cut off.
    """
    low, high = min(ys), max(ys[: max(1, len(ys) * 9 // 10)])
    step = (high - low) / (rows - 1) or 1.0
    at = [min(rows - 1, max(0, round((high - y) / step))) for y in ys]
    marked = min(range(len(xs)), key=lambda place: abs(xs[place] / mark - 1))
    lines = []
    for row in range(rows):
        label = f"{high - row * step:8.3f}" if row % 3 == 0 or row == rows - 1 else " " * 8
        line = "".join(
            "●" if at[place] == row else "┊" if place == marked else " " for place in range(len(xs))
        )
        lines.append(f"{label} │{line}".rstrip())
    lines.append(" " * 9 + "└" + "─" * len(xs))
    ends = f"{xs[0]:.0e}", f"{xs[-1]:.0e}"
    lines.append(" " * 10 + ends[0] + ends[1].rjust(len(xs) - len(ends[0])))
    return "\n".join(lines)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or str(value).replace(".", "", 1).isdecimal()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    from rich.markup import escape

    return escape(printable(str(value)))
