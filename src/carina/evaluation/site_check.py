"""Do the thresholds of a site still hold, and do they hold here? Asked of new films, labelled or not.

Without labels only symptoms can be seen: scores that lie otherwise than those the threshold was chosen
on, and more films refused. With labels the promise itself is tested. Nothing seen is no proof that all is
well; something seen is reason enough to take suggestions back and to calibrate on films from here.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carina.data.catalogue import MANIFEST, Catalogue
from carina.data.confounding.audit import verdict_on
from carina.data.confounding.verdict import Verdict as DataVerdict
from carina.errors import ClaimError, DataError, MissingExtra
from carina.evaluation.answers import cached
from carina.records import Prediction, Progress
from carina.scoring.abstain import Gate
from carina.scoring.bundle import Bundle
from carina.scoring.monitor import Finding, Verdict
from carina.scoring.operating import DEFAULT_SITE, Site, Watch, operating_point, sites
from carina.scoring.scorer import Scorer

try:
    from scipy import stats

    from carina.evaluation.people import Scores, people
    from carina.evaluation.planner import allowed_misses, needed, showing
    from carina.evaluation.promises import Held, held
    from carina.evaluation.selection import ALL, ask, chosen_on_them, side, trained_on, trained_on_them, truth
    from carina.evaluation.shift import SURE, Shift, shift_of
    from carina.evaluation.stability import SHIFT
    from carina.evaluation.wording import at_least, counted, exactly, luck, percent
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("scipy", "sklearn"):
        raise
    raise MissingExtra("carina site-check", "report") from error

FEWEST = 30  # films: with fewer no shift can be told from luck
TARGETS = (0.80, 0.85, 0.90, 0.95, 0.98, 0.99)


@dataclass(frozen=True, slots=True)
class Refusals:
    """Of ``films`` films ``refused``, against ``refused_then`` of ``films_then`` at the site."""

    refused: int
    films: int
    refused_then: int
    films_then: int
    p_value: float  # that so many more are luck

    @property
    def alarm(self) -> bool:
        """Too many more to be luck, and at least twice the share."""
        then = self.refused_then / max(1, self.films_then)
        return self.p_value < SURE and self.refused / max(1, self.films) > 2 * then


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Films that can test nothing: what was asked about are the others.

    ``listed``: the bundle lists its training films; ``remembered``: the site the films it was calibrated on.
    """

    trained: int  # known from training: the film, and in a catalogue a near copy or the patient
    chosen: int  # the thresholds were chosen on them
    films: int  # of so many
    listed: bool
    remembered: bool
    plain: bool = False  # no catalogue: only the very films are known, no near copies and no patients


@dataclass(frozen=True, slots=True)
class Witnesses:
    """People whose films are new to the model, and what `carina calibrate` needs to find the same ones."""

    ill: int
    well: int
    split: str | None  # None where the side asked about holds training films: calibrate refuses it
    site: str


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """What was found. ``held`` is empty where the films have no labels."""

    name: str
    site: Site
    shift: Shift | None  # None where no film was scored, or the site remembers no scores
    refusals: Refusals
    held: tuple[Held, ...]
    people: Witnesses | None = None  # where there are labels; those that chose the thresholds among them
    left_out: LeftOut | None = None
    unread: int = 0  # files that could not be read: no films, so in no count
    believed: DataVerdict | None = None  # on the films, where they are a catalogue
    scores: Scores | None = None  # p_disease of the films that were not refused, (N,)
    diseased: NDArray[np.bool_] | None = None  # (N,), where there are labels

    @property
    def verdict(self) -> Verdict:
        """The gravest that was found."""
        if any(each.verdict == "broken" for each in self.held):
            return "broken"
        enough = self.refusals.films >= FEWEST
        if self.refusals.alarm or (enough and self.shift is not None and self.shift.alarm):
            return "shifted"
        if not enough:
            return "too few to tell"
        return "another mixture" if self.shift is not None and self.shift.differs else "nothing seen"

    def lines(self) -> list[str]:
        """What a terminal shows: the verdict first, then why."""
        said = {
            "broken": f"BROKEN: thresholds of {self.name!r} do not keep their promise on these films.",
            "shifted": f"SHIFTED: films here are unlike those of {self.name!r}; thresholds may not hold.",
            "too few to tell": f"Too few films to tell: at least {FEWEST} are needed.",
            "another mixture": f"ANOTHER MIXTURE: scores lie otherwise than at {self.name!r}, as another "
            "share of disease explains; a sensitivity does not depend on that, PPV and NPV do.",
            "nothing seen": "Nothing seen speaks against the thresholds; that is no proof that they hold.",
        }
        lines = [said[self.verdict]]
        if self.shift is not None:
            whose, now, then = self.shift.medians
            lines.append(
                f"Scores{whose}: median {now}, at {self.name!r} {then}; "
                f"stability index {self.shift.index:.2f} (from {SHIFT} on it matters); chance that the "
                f"difference is luck {luck(self.shift.p_value)}{_mark(self.shift.alarm)}"
            )
            lines += self._mixture(self.shift)
        found = self.refusals
        lines.append(
            f"Refused: {found.refused:,} of {counted(found.films, 'film')} "
            f"({percent(found.refused / max(1, found.films))}), at {self.name!r} {found.refused_then:,} of "
            f"{found.films_then:,}; chance that it is luck {luck(found.p_value)}{_mark(found.alarm)}"
        )
        if self.unread:
            lines.append(
                f"{counted(self.unread, 'file')} could not be read and count nowhere; see why: carina score"
            )
        lines += [_held(each) for each in self.held]
        if self.left_out is not None:
            lines += _left_out(self.left_out, self.name)
        if self.believed is not None:
            lines.append(f"Can this be believed? {self.believed.sentence}")
        if self.verdict in ("broken", "shifted"):
            lines.append(
                'Take the suggestion "likely clear" back until this is settled: carina site-check … --out '
                "check.json and carina triage … --monitor check.json, or --withdrawn "
                f'"the site check found: {self.verdict}"'
            )
        return lines

    def _mixture(self, shift: Shift) -> list[str]:
        """What another share of disease explains, and what that does not prove."""
        if shift.explained is None:
            return []
        if self.people is not None:
            said = (
                f"{percent(shift.explained)} of these films show disease; diseased and other films by "
                f"themselves score as at {self.name!r}."
            )
            return [said]
        said = (
            f"With about {percent(shift.explained)} diseased films the scores of {self.name!r} would lie "
            "like these. Without labels that cannot be told from disease that scores lower here: where the "
            "share is not known to be so, have films labelled."
        )
        return [said]

    def finding(self) -> Finding:
        """What `carina triage --monitor` reads."""
        return Finding(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            model=self.site.model,
            site=self.name,
            films=self.refusals.films,
            verdict=self.verdict,
            lines=tuple(self.lines()),
        )

    def advice(self, bundle: Path, catalogue: Path | None) -> list[str]:
        """How to calibrate here: what the labelled films can show, or how many to label."""
        confidence = self.site.points[0].confidence
        if self.people is None:
            rows = [f"{count} diseased people show {_shows(count, confidence)}" for count in (50, 75, 100)]
            text = (
                f"To calibrate here, let a reader label films of new patients. At {exactly(confidence)} "
                f"confidence, if none is missed: {'; '.join(rows)}. Take every film of some weeks, not only "
                "clear cases; then compile them, and run this command on the catalogue."
            )
            return [text]
        ill, well = self.people.ill, self.people.well
        allowed = {each: allowed_misses(ill, each, confidence) for each in TARGETS}
        carried = {each: misses for each, misses in allowed.items() if misses is not None}
        if not carried:
            text = (
                f"{_people(ill)} cannot show a sensitivity of {exactly(TARGETS[0])} at {exactly(confidence)} "
                f"confidence: label at least {_people(needed(TARGETS[0], confidence))}."
            )
            return [text]
        advised = max((each for each, misses in carried.items() if misses), default=max(carried))
        shown = ", ".join(f"{exactly(each)} with {misses} missed" for each, misses in carried.items())
        further = next((each for each in TARGETS if each not in carried), None)
        more = f" For {exactly(further)} label {_people(needed(further, confidence))}." if further else ""
        text = (
            f"The {ill:,} diseased and {well:,} healthy people of these films that are new to the model can "
            f"show, at {exactly(confidence)} confidence: {shown}.{more} Advised: {exactly(advised)}."
        )
        if self.people.split is None:
            again = (
                "This side of the catalogue holds films that the model was trained on, so no threshold can "
                "be chosen on it: run this command without --split to see what all new films can show."
            )
            return [text, again]
        words = ["carina", "calibrate", str(bundle), str(catalogue), "--site", self.people.site]
        words += ["--target-sensitivity", f"{advised:g}", "--split", self.people.split]
        return [text, shlex.join(words)]


def site_check(
    bundle: Bundle | str | os.PathLike[str],
    films: Catalogue | Iterable[str | os.PathLike[str]],
    *,
    site: str = DEFAULT_SITE,
    split: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> SiteCheck:
    """Hold the operating points of ``site`` against new films.

    ``films`` is a catalogue (its labels test the promise; ``split`` is a side of it, all films by default)
    or paths without labels. Films that the model was trained on, or that the thresholds were chosen on, test
    nothing and are left out; among paths only the very same files are known. Files that cannot be read are
    counted apart. Raises ``ClaimError`` where the site is unknown or no other film is there, ``DataError``
    where the classes do not fit or a catalogue is one of several paths, ``BundleError`` and ``SourceError``
    for what cannot be opened.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    operating_point(bundle, site)  # says what there is when the site is unknown
    known = sites(bundle)[site]
    if known.watch is None:
        raise ClaimError(
            f"{bundle.root}: {site!r} was calibrated by an older Carina and remembers no scores to compare "
            f"with; run: carina calibrate BUNDLE CATALOGUE --site {site}"
        )
    if isinstance(films, Catalogue):
        return _labelled(bundle, films, site, known, known.watch, split, progress)
    paths = list(films)
    for each in paths:
        if (Path(each) / MANIFEST).is_file():
            raise DataError(f"{each}: is a catalogue; name it alone, or the folders of its films")
    if split is not None:
        raise DataError(f"{split}: sides are those of a catalogue; leave out --split, or name a catalogue")
    return _unlabelled(bundle, paths, site, known, known.watch, progress)


def _unlabelled(
    bundle: Bundle,
    paths: list[str | os.PathLike[str]],
    name: str,
    known: Site,
    watch: Watch,
    progress: Callable[[Progress], None] | None,
) -> SiteCheck:
    scorer, gate = Scorer(bundle), Gate.of(bundle)
    learned, chosen = trained_on(bundle), frozenset(known.chosen_on or ())
    scores = list[float]()
    count = unread = refused = of_training = of_choosing = 0
    for answer in scorer.score(paths):
        count += 1
        if not isinstance(answer, Prediction):
            unread += 1
        elif answer.sha256 in learned:
            of_training += 1
        elif answer.sha256[:16] in chosen:  # an image_id
            of_choosing += 1
        elif gate.refusal(answer) is None:
            scores.append(answer.p_disease)
        else:
            refused += 1
        if progress is not None:
            progress(Progress("films scored", count, None))
    if not count:
        raise DataError("no film was found; name a folder of films")
    if not scores and not refused:
        raise ClaimError(
            f"of {counted(count, 'file')} {unread:,} could not be read, the model was trained on "
            f"{of_training:,}, and the thresholds of {name!r} were chosen on {of_choosing:,}: none is left "
            "to test them; take films of other patients"
        )
    left_out = LeftOut(
        of_training, of_choosing, count - unread, bool(learned), known.chosen_on is not None, plain=True
    )
    found = np.array(scores)
    refusals = _refusals(refused, refused + len(scores), watch)
    return SiteCheck(
        name, known, shift_of(found, watch), refusals, (), left_out=left_out, scores=found, unread=unread
    )


def _labelled(
    bundle: Bundle,
    catalogue: Catalogue,
    name: str,
    known: Site,
    watch: Watch,
    split: str | None,
    progress: Callable[[Progress], None] | None,
) -> SiteCheck:
    films = side(catalogue, split)
    trained, chosen = trained_on_them(films, bundle, catalogue), chosen_on_them(films, known, catalogue)
    left_out = LeftOut(
        trained=int(trained.sum()),
        chosen=int((chosen & ~trained).sum()),
        films=len(trained),
        listed=bool(trained_on(bundle)),
        remembered=known.chosen_on is not None or known.catalogue == catalogue.fingerprint,
    )
    if (trained | chosen).all():
        raise ClaimError(
            f"{catalogue.root}: the model was trained on {left_out.trained:,} of these "
            f"{counted(left_out.films, 'film')}, and the thresholds of {name!r} were chosen on "
            f"{left_out.chosen:,}: none is left to test them; take films of other patients"
        )
    films = films.filter(pa.array(~trained))
    labels = truth(films, bundle, catalogue)
    asked = ask(films, labels, Scorer(bundle), cached(catalogue, bundle.preparation), progress)
    new, predictions = people(asked), asked.only(~chosen[~trained])
    shown = people(predictions)
    refused = sum(
        one is not None or other is not None
        for one, other in zip(predictions.refused, predictions.abstained, strict=True)
    )
    ill = predictions.sick[predictions.labels[predictions.scored]]
    return SiteCheck(
        name=name,
        site=known,
        shift=shift_of(shown.films, watch, ill),
        refusals=_refusals(refused, len(predictions.refused), watch),
        held=tuple(held(point, shown) for point in known.points),
        people=Witnesses(
            ill=len(new.ill),
            well=len(new.well),
            split=(split or ALL) if split in (None, ALL) or not left_out.trained else None,
            site=_place(asked.column("source")),
        ),
        left_out=left_out,
        believed=verdict_on(catalogue),
        scores=shown.films,
        diseased=ill,
    )


def _place(sources: list[str]) -> str:
    """A name for the site of these films: that of their only source."""
    return sources[0] if len(set(sources)) == 1 else "here"


def _refusals(refused: int, films: int, watch: Watch) -> Refusals:
    """Fisher's exact test, one-sided: more refused than at the site."""
    table = [[refused, films - refused], [watch.refused, watch.films - watch.refused]]
    luck = float(stats.fisher_exact(table, alternative="greater").pvalue)
    return Refusals(refused, films, watch.refused, watch.films, luck)


def _held(point: Held) -> str:
    found = point.sensitivity
    return (
        f"Target {exactly(point.target)}: {found.hits:,} of {_people(found.people)} found; shown was "
        f"{at_least(point.promised)}: {point.verdict}{_mark(point.verdict == 'broken')}"
        + ("; no better than drawing lots" if point.useless and point.specificity.people else "")
    )


def _left_out(films: LeftOut, name: str) -> list[str]:
    """Which films were not asked, and what cannot be told."""
    said = []
    if films.trained or films.chosen:
        kin = "the very files; near copies and patients are known in a catalogue only"
        kin = kin if films.plain else "or their near copies or patients"
        said.append(
            f"Left out, of {counted(films.films, 'film')}: {films.trained:,} that the model was trained on "
            f"({kin}), {films.chosen:,} that the thresholds were chosen on."
        )
    if not films.listed:
        said.append(
            "The bundle does not list the films it was trained on. If these are among them, they test "
            "nothing."
        )
    if not films.remembered:
        said.append(
            f"{name!r} was calibrated by an older Carina and does not remember on which films. If these are "
            "among them, they test nothing."
        )
    return said


def _people(count: int) -> str:
    return f"{count:,} diseased {'person' if count == 1 else 'people'}"


def _shows(count: int, confidence: float) -> str:
    return f"at least {showing(count, confidence, (0,))[0][1]}"


def _mark(alarm: bool) -> str:
    return "  << ALARM" if alarm else ""
