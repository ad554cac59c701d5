"""What the attacks measured: printed, and kept for docs/promises.md where ``--write`` says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests import promises

Tell = Callable[[str, str], None]  # the promise's name, a sentence with the figure


@dataclass
class Figures:
    """The sentences of each promise, the modules they came from, and which modules had a test that failed."""

    said: dict[str, list[str]] = field(default_factory=dict)
    modules: dict[str, set[str]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def tell(self, promise: str, sentence: str, module: str) -> None:
        """One figure of one promise."""
        self.said.setdefault(promise, []).append(sentence)
        self.modules.setdefault(promise, set()).add(module)
        print(f"{promise}: {sentence}")

    def keep(self, *, soak: bool, share: float) -> None:
        """Write all of them beside the page of promises."""
        options = ["--soak"] if soak else []
        options += [f"--share {share:g}"] if share != 1 else []
        for promise, sentences in self.said.items():
            modules = sorted(self.modules[promise])
            paths = " ".join(f"tests/security/{module}.py" for module in modules)
            promises.keep(
                promise,
                "; ".join(sentences),
                met=self.failed.isdisjoint(modules),
                load="the full load" if soak and share == 1 else "with the counts named",
                command=" ".join(["pytest", *options, "--write", paths]),
            )
