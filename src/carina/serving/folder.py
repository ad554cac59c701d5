"""The data folder of a site: made where it is missing, and its owner's alone."""

from __future__ import annotations

import os

from carina.errors import ServiceError
from carina.serving.settings import Settings


def take(settings: Settings) -> None:
    """Make the data folder; from now on nothing that this process writes is for others to read.

    Raises :class:`~carina.errors.ServiceError` where it cannot be made.
    """
    os.umask(0o077)
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise ServiceError(
            f"{settings.data}: cannot be made ({fault.strerror}); name another folder with --data"
        ) from fault
