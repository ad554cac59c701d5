"""The order of a start: what takes longest is begun first.

The model, its self-test and the decoding processes need a second, half of it on another core, and nothing of
what the page and the database are made of. So they are begun before those libraries are imported, and both
go on side by side. What the model's thread imports meanwhile, no other thread does: two that import pydicom
at the same time find it half made (``tests/serving/test_start.py`` holds that it does not).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from carina.serving import folder, memory
from carina.serving.settings import Role, Settings

if TYPE_CHECKING:
    from carina.serving.service import Service


def service(settings: Settings, role: Role) -> Service:
    """The service of ``settings``, ready to be started; its model is being loaded.

    Raises :class:`~carina.errors.ServiceError` where the data folder cannot be made.
    """
    from carina.serving.duty import Duty

    memory.keep_few_heaps()
    folder.take(settings)
    duty = None
    if role in (Role.ALL, Role.WORKER):
        duty = Duty(settings)
        duty.begin_soon()

    from carina.images.examples import without_examples

    with without_examples():
        from carina.serving.service import Service

        if role in (Role.ALL, Role.LISTENER):
            import carina.serving.listener  # noqa: F401

    return Service(settings, role, duty)


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile, nor ever among what is made here: a start makes what stays."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
