"""The model on duty: one verified bundle, by what its films are decided, and whether it may decide at all.

Knows bundles, operating points and the golden films; no database and no film of a patient. Whatever is wrong
with the model (not there, not whole, changed on the disk, other answers than on its first day) makes it *not
ready*, with the reason in words, and nothing else stops: films come in, the worklist works, and every film
is "not analysed: needs a reader". A model that was repaired comes back by itself; another one comes on duty
by a restart only, so that nobody is replaced unseen.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import Any, Self

from carina.children.process import Limits
from carina.errors import BundleError, CarinaError
from carina.records import Prediction, Refusal
from carina.scoring.abstain import Gate
from carina.scoring.bundle import Bundle
from carina.scoring.decoding import Decoders
from carina.scoring.operating import DEFAULT_SITE
from carina.scoring.policy import policy, read_rules
from carina.scoring.receipts import Stamps, stamps
from carina.scoring.scorer import Scorer
from carina.scoring.triage import Decision, Policy, Rules, Urgency, decide
from carina.serving.golden import self_test
from carina.serving.settings import Ladder, Settings

TEST_EVERY = 600.0  # seconds between two self-tests
TRY_EVERY = 20.0  # seconds between two tries to come back
NOT_READY = "no_model"  # the code of a film that no model looked at
_LIMITS = Limits(seconds=20.0)  # a film; two tries within a minute
_STOPS = "Carina stops"
_FEW = 64  # files in the folder of a bundle at most; more are no bundle

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """The model on duty, for people and pages. ``why_not`` is set exactly when it is not ready."""

    ready: bool
    why_not: str | None
    name: str | None = None
    fingerprint: str | None = None
    classes: tuple[str, ...] = ()
    healthy: tuple[str, ...] = ()
    site: str | None = None
    threshold: float | None = None
    shown: str = ""  # what stands behind the threshold
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OnDuty:
    """A model that passed its self-test, and all that its decisions rest on."""

    bundle: Bundle
    scorer: Scorer
    decoders: Decoders
    gate: Gate
    policy: Policy
    fingerprint: str
    site: str | None
    warnings: tuple[str, ...]

    def decide(self, answer: Prediction | Refusal, step: str | None = None) -> Decision:
        """The decision on one film, after the gate. ``step`` is that of the roll-out ladder."""
        refusal = self.gate.refusal(answer) if isinstance(answer, Prediction) else None
        return decide(refusal or answer, self.policy_on(step))

    def policy_on(self, step: str | None) -> Policy:
        """ "Likely clear" is suggested on the last step of the ladder only."""
        if self.policy.clear_below is None or step == Ladder.RULE_OUT:
            return self.policy
        return replace(self.policy, withdrawn=f"the site is not on the step {Ladder.RULE_OUT!s}")


class Duty:
    """The model on duty of this process. A context manager; leaving it ends the decoding processes.

    ``model`` is None while it is not ready, and ``why_not`` says why. Safe to ask from several threads.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._model: OnDuty | None = None
        self._first: str | None = None  # the fingerprint of the model that this process went on duty with
        self._why_not = "the model has not been loaded yet"
        self._stamps: Stamps | None = None
        self._tested = self._tried = 0.0
        self._soon: Future[None] | None = None

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """The duty of a site, its model loaded and tested, or not ready with the reason."""
        duty = cls(settings)
        duty.begin()
        return duty

    @property
    def model(self) -> OnDuty | None:
        """The model, if it is ready."""
        return self._model

    @property
    def ready(self) -> bool:
        """Whether films can be decided."""
        return self._model is not None

    @property
    def why_not(self) -> str | None:
        """Why the model is not ready; None when it is."""
        return None if self._model is not None else self._why_not

    @property
    def status(self) -> Status:
        """What people are told."""
        model = self._model
        if model is None:
            return Status(False, self._why_not)
        manifest = model.bundle.manifest
        return Status(
            True, None, manifest.name, model.fingerprint, model.bundle.classes,
            tuple(sorted(model.bundle.healthy)), model.site, model.policy.threshold, model.policy.shown,
            model.warnings,
        )  # fmt: skip

    def begin(self) -> None:
        """Load and test the model; whatever fails becomes the reason why it is not ready."""
        with self._lock:
            self._tried = time.monotonic()
            try:
                self._load()
            except CarinaError as fault:
                self._leave(str(fault))
            except OSError as fault:
                self._leave(
                    f"{self._settings.model}: {fault.strerror or fault}; see whether the disk is well"
                )

    def begin_soon(self) -> None:
        """Begin in a thread of its own, and come back at once; :meth:`begun` waits for it."""
        soon: Future[None] = Future()

        def run() -> None:
            try:
                self.begin()
            except BaseException as fault:  # whoever waits for it gets to know
                soon.set_exception(fault)
            else:
                soon.set_result(None)

        self._soon = soon
        threading.Thread(target=run, name="carina-model", daemon=True).start()

    def begun(self) -> None:
        """Wait until what was begun is done; begin now where nothing was. Raises what went wrong there."""
        soon, self._soon = self._soon, None
        if soon is not None:
            soon.result()
        elif not self.ready:
            self.begin()

    def check(self) -> bool:
        """See whether the model is still what it was; asked before every few films. Whether it is ready.

        Cheap: the files are looked at, not read. The golden films are asked every ten minutes; a model that
        is not ready is tried again every twenty seconds.
        """
        now = time.monotonic()
        model = self._model
        if model is None:
            if now - self._tried >= TRY_EVERY:
                self.begin()
            return self.ready
        if stamps(model.bundle.root) != self._stamps:
            gone = not (model.bundle.root / "bundle.json").is_file()
            what = "is not there any more; put it back" if gone else "was changed on the disk; put it back"
            self.withdraw(f"{model.bundle.root}: the bundle {what}, or restart Carina with another one")
        elif now - self._tested >= TEST_EVERY:
            self.test()
        return self.ready

    def test(self) -> bool:
        """The self-test, now. Whether the model passes."""
        with self._lock:
            if self._model is None:
                return False
            try:
                self._self_test(self._model)
            except (CarinaError, OSError) as fault:
                self._leave(str(fault))
        return self.ready

    def withdraw(self, why: str) -> None:
        """Take the model off duty: it decides nothing until it has been loaded and tested anew."""
        with self._lock:
            self._tried = time.monotonic()
            self._leave(why)

    def close(self) -> None:
        """End the decoding processes."""
        with self._lock:
            self._leave(_STOPS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self) -> None:
        root = self._settings.model
        if root is None:
            raise BundleError("no model is named; start Carina with --model BUNDLE")
        before = stamps(root)
        if before is not None and len(before) > _FEW:
            raise BundleError(f"{root}: is no bundle; name the folder that `carina train` exported")
        bundle = Bundle.open(root)
        fingerprint = fingerprint_of(bundle)
        if self._first not in (None, fingerprint):
            raise BundleError(
                f"{root}: another model than the one that was on duty; restart Carina to change models"
            )
        chosen = _policy(bundle, self._settings)
        gate = Gate.of(bundle)
        decoders = Decoders(bundle.preparation, _LIMITS)
        try:
            decoders.start()  # they load their libraries while we load the network
            scorer = Scorer(bundle, threads=self._settings.threads)
            decoders.start(scorer.threads - 1)
            site, warnings = _site(chosen, self._settings), _warnings(bundle, chosen, gate)
            model = OnDuty(bundle, scorer, decoders, gate, chosen, fingerprint, site, warnings)
            self._self_test(model)
            if stamps(root) != before:
                raise BundleError(f"{root}: the bundle was changed while it was loaded; it is tried again")
        except BaseException:
            decoders.close()
            raise
        self._stamps, self._first, self._model = before, fingerprint, model
        self._why_not = ""  # so that the next fault is said, also where it is the last one
        _log.info("the model is ready: %s %s", bundle.manifest.name, fingerprint[:12])

    def _self_test(self, model: OnDuty) -> None:
        self_test(model.scorer, model.decoders, self._settings.data, model.fingerprint)
        self._tested = time.monotonic()

    def _leave(self, why: str) -> None:
        if why not in (self._why_not, _STOPS):  # tried again and again, said once
            _log.error("the model is not ready, and nothing is analysed: %s", why)
        model, self._model, self._why_not = self._model, None, why
        if model is not None:
            model.decoders.close()


def fingerprint_of(bundle: Bundle) -> str:
    """The sha256 of all that a bundle says of itself, the sha256 of each of its files among it."""
    text = json.dumps(bundle.manifest.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _policy(bundle: Bundle, settings: Settings) -> Policy:
    strange = sorted(set(settings.urgent).difference(bundle.classes))
    if strange:
        raise BundleError(
            f"{bundle.root}: the settings call {strange[0]!r} urgent, which is none of its classes "
            f"({', '.join(bundle.classes)}); correct `urgent`"
        )
    return policy(
        bundle,
        site=settings.site,
        target=settings.target_sensitivity,
        rules=_rules(settings),
        clear=settings.suggest_clear,
    )


def _rules(settings: Settings) -> Rules:
    """Carina's own rules, or exactly the urgent classes that the site names."""
    rules = read_rules()
    if not settings.urgent:
        return rules
    urgency = {**dict.fromkeys(rules.urgency, Urgency.SOON), **dict.fromkeys(settings.urgent, Urgency.NOW)}
    return replace(rules, urgency=MappingProxyType(urgency))


def _site(chosen: Policy, settings: Settings) -> str | None:
    if chosen.threshold is None:
        return None
    return settings.site or DEFAULT_SITE


def _warnings(bundle: Bundle, chosen: Policy, gate: Gate) -> tuple[str, ...]:
    found: list[str] = []
    if chosen.threshold is None:
        found.append(
            "Nobody has shown a threshold for this model here: films are flagged from an even chance on, or "
            "when a disease is the most probable class. How much disease that misses is unknown."
        )
    ruled: dict[str, Any] = dict(chosen.rules.urgency)
    unruled = [name for name in bundle.classes if name not in ruled and name not in bundle.healthy]
    if unruled:
        found.append(f"No rule for {', '.join(unruled)}: they count as {chosen.rules.otherwise}.")
    return (*found, *gate.warnings)
