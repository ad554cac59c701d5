"""``carina score FILM --model BUNDLE`` before the command line has even been loaded.

One film and no option beside it is what a script asks a thousand times, and what a person waits for. It is
answered by the same :func:`carina.scoring.run.score_films` and in the same words as every other call; only
the parsing is shorter. Whatever looks different in any way is left to :mod:`carina.cli`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def request(arguments: Sequence[str]) -> tuple[str, str] | None:
    """The film and the bundle, where nothing else is asked for; ``None`` leaves it to the command line."""
    if len(arguments) not in (3, 4) or arguments[0] != "score":
        return None
    rest = list(arguments[1:])
    for at, word in enumerate(rest):
        if word == "--model" and at + 1 < len(rest):
            model = rest[at + 1]
            del rest[at : at + 2]
            break
        if word.startswith("--model="):
            model = rest.pop(at).removeprefix("--model=")
            break
    else:
        return None
    if len(rest) != 1 or rest[0].startswith("-") or model.startswith("-"):
        return None
    film = rest[0]
    plain = os.path.isfile(film) and not film.lower().endswith(".zip")  # noqa: PTH113
    return (film, model) if plain else None


def score(film: str, model: str) -> None:
    """Score one film and print the answer; raises what ``score_films`` raises."""
    from carina import lines
    from carina.scoring.bundle import Bundle
    from carina.scoring.run import score_films

    summary = score_films([film], Bundle.known(model) or Bundle.open(model))
    for line in lines.refusals(summary):
        print(line, file=sys.stderr)
    for line in lines.results(summary):
        print(line)
    for line in lines.totals(summary, [film]):
        print(line, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is said and every child has ended; taking the network apart would be time for nothing
