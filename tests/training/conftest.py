"""One thread, and everything small."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from tests.training.small import Small


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """The tests share the machine with each other, and sums in float depend on how many threads share them.

    For the whole session: fixtures that last as long are made before those of a single test.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _no_trace() -> None:
    """The exporter tells torch's trace log every step it takes; pytest would keep it all."""
    logging.getLogger("torch.__trace").propagate = False


@pytest.fixture
def small() -> Small:
    return Small()
