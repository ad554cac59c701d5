"""The card of a bundle as Markdown, for people. Pure: knows how the card reads, not what is on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from carina.evaluation.wording import at_least, exactly
from carina.scoring.manifest import TRAINING_IMAGES

BLANK = "**to be written by a person**"


def markdown(content: Mapping[str, Any]) -> str:
    """The card for people."""
    return "\n".join(_lines(content)) + "\n"


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    use, data = content["intended_use"], content["data"]
    yield from (
        f"# {_plain(content['name'])}",
        "",
        f"A classifier made with Carina. **{content['notice']}**",
        "",
    )
    yield from ("## Intended use", "")
    yield f"- Films: {use['films']}"
    ages = use["ages"]
    stated = f"{ages[0]:g} to {ages[1]:g} years" if ages else "not stated by all of its training films"
    yield f"- Ages: {stated}"
    yield f"- For: {use['task']}"
    yield f"- Classes: {_plain(', '.join(use['classes']))}"
    yield f"- Classes that mean that nothing was found: {_plain(', '.join(use['healthy']) or 'none')}"
    yield from ("", "## Can figures on its data be believed?", "")
    unasked = "Nobody has asked whether figures on these films can be believed."
    yield f"**{_plain(data['verdict'] or unasked)}**"
    yield from ("", "## What was shown", "")
    yield from _points(content["operating_points"])
    yield from _figures(content["figures"])
    yield from _validation(content["validation"])
    yield from ("## Training films", "")
    yield from _counts(data["counts"], use["classes"])
    yield from ("", *(_source(name, facts) for name, facts in sorted(data["sources"].items())), "")
    yield (
        f"The sha256 of each of its {data['training_films']:,} training films stands in `{TRAINING_IMAGES}` "
        f"(sha256 `{data['training_images'][:16]}…`), so that anybody can test whether a film is new to it."
    )
    yield from ("", "## Limits", "", *(f"- {each}" for each in content["limits"]), "")
    for title, items in content["checklists"].items():
        known = sum(each["answer"] is not None for each in items)
        yield from (f"## {title}", "", f"{known} of {len(items)} items are filled in from the run.", "")
        yield from ("| item | asks for | answer |", "| --- | --- | --- |")
        yield from (
            _row([each["item"], each["asks"], BLANK if each["answer"] is None else each["answer"]])
            for each in items
        )
        yield ""
    yield f"Written {content['created']} by Carina {content['carina']}."


def _points(sites: Mapping[str, Any]) -> Iterator[str]:
    if not sites:
        yield from ("No operating point: nobody has shown at which threshold how much disease is found.", "")
        return
    head = ("site", "target", "shown at least", "people found", "specificity (95 % interval)", "threshold")
    yield from (_row([*head]), _rule(6))
    for name, site in sites.items():
        for point in site["points"]:
            found, spared = point["sensitivity"], point["specificity"]
            yield _row(
                [
                    name,
                    f"{point['target']:.1%}",
                    _limit(found),
                    f"{found['found']:,} of {found['people']:,}",
                    _interval(spared),
                    f"{point['threshold']:.6f}",
                ]
            )
    yield from ("", "Each disease at the highest target of each site, the worst first:", "")
    for name, site in sites.items():
        top = max(site["points"], key=lambda point: float(point["target"]))
        said = (
            f"{_plain(disease)} {recall['found']:,} of {recall['people']:,}"
            + (f", shown at least {_limit(recall)}" if recall["people"] else "; nothing is known")
            for disease, recall in top["classes"].items()
        )
        yield f"- {_plain(name)} at {top['target']:.1%}: {'; '.join(said)}"
        if site.get("verdict"):
            yield f"- {_plain(name)}, can this be believed? {_plain(site['verdict']['sentence'])}"
        yield from _refused(site)
    yield ""


def _refused(site: Mapping[str, Any]) -> Iterator[str]:
    """A line for the calibration films that got no score, or would have got none."""
    watch = site.get("watch")
    gated = watch["refused"] - site["refused"] if watch else 0
    if site["refused"] or gated:
        yield (
            f"  - Of {site['films'] + site['refused']:,} calibration films {site['refused']:,} could not be "
            f"scored and are in no figure; {gated:,} more the bundle refuses as none it was made for, and "
            "they are in these figures all the same."
        )


def _interval(spared: Mapping[str, Any]) -> str:
    counts = f"{spared['spared']:,} of {spared['people']:,}"
    return f"{counts} ({spared['low']:.1%} to {spared['high']:.1%})"


def _limit(recall: Mapping[str, Any]) -> str:
    """A lower limit, rounded down: what is promised must hold."""
    return f"{int(1000 * recall['limit']) / 10:.1f} %"


def _figures(measured: Mapping[str, Any]) -> Iterator[str]:
    for name, found in measured.items():
        yield from (f"### Measured on {_plain(name)}", "", f"**{_plain(found['verdict'])}**", "")
        yield from (f"- {_plain(each)}" for each in found.get("warnings", ()))
        yield ""
        yield from (_row(["", "value", "95 % interval", "behind it"]), _rule(4))
        for label, rate in found["rates"].items():
            yield _row([label, *_rate(rate)])
        if "rule" in found:
            yield from ("", f"Recall of disease and specificity stand at no threshold here: {found['rule']}.")
        yield from _tested(found)
        yield from ("", _row(["group", "recall of disease", "95 % interval", "behind it"]), _rule(4))
        for group in found["subgroups"]:
            yield _row([f"{group['kind']}: {group['name']}", *_rate(group["recall"])])
        yield ""


def _tested(found: Mapping[str, Any]) -> Iterator[str]:
    """What the operating points did on these films: recall beside the specificity that it cost."""
    if not found.get("points"):
        return
    yield from ("", f"The operating points of {_plain(found['site'])}, on these films:", "")
    yield from (
        _row(["target", "shown at least", "people found", "healthy people spared", "promise"]),
        _rule(5),
    )
    for point in found["points"]:
        yield _row(
            [
                exactly(point["target"]), at_least(point["promised"]), _counted(point["sensitivity"]),
                _counted(point["specificity"]), point["verdict"],
            ]
        )  # fmt: skip


def _counted(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "nobody"
    return f"{found['hits']:,} of {found['people']:,} ({found['low']:.1%} to {found['high']:.1%})"


def _validation(valid: Mapping[str, Any]) -> Iterator[str]:
    rows = {
        "recall of disease": valid.get("recall_disease"),
        "specificity": valid.get("specificity"),
        "area under ROC, disease against none": valid.get("auc_disease"),
        "accuracy over all classes": valid.get("accuracy"),
        **{f"recall of {name}": value for name, value in (valid.get("recall") or {}).items()},
    }
    known = {label: value for label, value in rows.items() if value is not None}
    if known:
        yield from (
            "### While training",
            "",
            "On films that its recipe may have been chosen on; no intervals.",
            "",
        )
        yield from (f"- {_plain(label)}: {value:.3f}" for label, value in known.items())
        yield ""


def _counts(counts: Mapping[str, Mapping[str, int]], classes: list[str]) -> Iterator[str]:
    yield from (_row(["source", *classes]), _rule(1 + len(classes)))
    for source, found in sorted(counts.items()):
        yield _row([source, *(f"{found.get(name, 0):,}" for name in classes)])


def _source(name: str, facts: Mapping[str, Any]) -> str:
    """A line for one set: licence, terms, citation, ages and scanner where known."""
    ages = facts.get("ages")
    said = [
        f"licence: {facts.get('licence') or 'not stated'}",
        facts.get("terms") if facts.get("terms") != facts.get("licence") else None,
        f"ages {ages[0]:g} to {ages[1]:g} years" if ages else None,
        f"taken with {facts['scanner']}" if facts.get("scanner") else None,
        f"holds films of {', '.join(facts['made_of'])}" if facts.get("made_of") else None,
        facts.get("citation") if facts.get("citation") != "none" else None,
    ]
    return _plain(f"- {name}: {facts.get('title', name)}. " + "; ".join(str(text) for text in said if text))


def _rate(rate: Mapping[str, Any]) -> list[str]:
    if rate["value"] is None:
        return ["not measured", "", str(rate.get("why") or "")]
    interval = f"{rate['low']:.1%} to {rate['high']:.1%}" if rate["low"] is not None else ""
    if "films" not in rate:
        text = f"{rate['low']:.3f} to {rate['high']:.3f}" if rate["low"] is not None else ""
        return [f"{rate['value']:.3f}", text, f"{rate['positives']:,} against {rate['negatives']:,} films"]
    return [
        f"{rate['value']:.1%}",
        interval,
        f"{rate['hits']:,} of {rate['films']:,} films, {rate['patients']:,} patients",
    ]


def _rule(columns: int) -> str:
    return _row(["---"] * columns)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: object) -> str:
    """One line of Markdown that means itself: class names and sources come from strangers."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
