"""The verbs of the public sets: sources, fetch.

They stand at the top level beside those of the road.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def sources(
    name: Annotated[str | None, typer.Argument(help="One of the sets, for all that is known of it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known, for programs.")] = False,
) -> None:
    """List the public sets that are known: licence, terms, and which are made of each other."""
    from carina.data.sources.family import PUBLIC_SETS, public_set
    from carina.terminal import output, show, table

    chosen = list(PUBLIC_SETS.values()) if name is None else [public_set(name)]
    if as_json:
        plain = [each.to_dict() for each in chosen]
        typer.echo(json.dumps(plain if name is None else plain[0], indent=2, ensure_ascii=False))
    elif name is None:
        rows = [
            (
                each.name,
                _fetched(each.to_dict()["way"]),
                each.reader or "",
                ", ".join(each.made_of),
                each.licence,
            )
            for each in chosen
        ]
        show(output(), table(("set", "carina fetch", "reader", "made of films of", "licence"), rows))
        output().print("\ncarina sources NAME tells all that is known of one.", markup=False)
    else:
        for label, text in _facts(name):
            output().print(f"{label:<17} {text}", markup=False)


def _fetched(way: object) -> str:
    return {"kaggle": "from Kaggle", "download": "yes"}.get(str(way), "by hand")


def _facts(name: str) -> list[tuple[str, str]]:
    from carina.data.fetching.fetch import relatives
    from carina.data.sources.family import public_set

    known = public_set(name)
    ages = f"{known.ages[0]:g} to {known.ages[1]:g} years" if known.ages else "not stated for the whole set"
    plain = known.to_dict()
    return [
        ("title", known.title),
        ("licence", known.licence),
        ("how to get it", known.terms),
        ("where", plain["where"] or "unknown"),
        ("carina fetch", _fetched(plain["way"])),
        ("cite", known.citation),
        ("ages", ages),
        ("scanner", known.scanner or "not stated"),
        ("made of films of", ", ".join(known.made_of) or "no other set"),
        ("reader", known.reader or "none; compile it as a folder for each class, or with a table"),
        *(("relative", words) for words in relatives(name)),
    ]


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="One of the sets that `carina sources` lists.")],
    out: Annotated[Path | None, typer.Option(help="Folder to put it in; its name, here, by default.")] = None,
) -> None:
    """Fetch a public set, whole or not at all; or say where to ask for it."""
    from carina.data.fetching.fetch import fetch as fetch_set
    from carina.terminal import bars, notes, output

    with bars() as tell:
        got = fetch_set(name, out, progress=tell)
    notes().print(f"{got.known.title}: {got.known.licence}", markup=False)
    notes().print(f"cite: {got.known.citation}", markup=False)
    state = "was there already" if got.before else "fetched"
    output().print(f"{got.files} files {state}\n\nset         {got.folder}", markup=False)
    if got.known.reader is not None:
        output().print(
            f"next        carina compile {got.known.reader}={got.folder} --out catalogue", markup=False
        )
