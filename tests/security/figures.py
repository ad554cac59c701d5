"""What the attacks measured: printed, and after full loads kept for docs/promises.md (``--soak --write``)."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, str], None]  # the promise's name, a sentence with the figure


class Figures:
    """The sentences of each promise, and which promises had a test that failed."""

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}

    def tell(self, promise: str, sentence: str) -> None:
        """One figure of one promise."""
        self.said.setdefault(promise, []).append(sentence)
        print(f"{promise}: {sentence}")
