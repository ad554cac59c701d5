"""The boundary to Kaggle: a data set into a folder, and its faults in our words.

kagglehub resumes and verifies its archive, and unpacks it, in a cache. Ours is a folder beside the set, so
that what is half-fetched is found again, and nothing is left in the user's home.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from carina.data.fetching.download import check_room
from carina.data.sources.way import Kaggle
from carina.errors import FetchError, MissingExtra

_CACHE = "KAGGLEHUB_CACHE"


def download(wanted: Kaggle, cache: Path) -> Path:
    """Fetch the newest version of a data set; the folder in ``cache`` that holds its files.

    Raises FetchError when Kaggle does not give it, MissingExtra without kagglehub.
    """
    check_room(cache, 0, wanted.handle)
    with _cache_at(cache), redirect_stdout(sys.stderr):  # it tells what it does on standard output
        try:
            import kagglehub
        except ModuleNotFoundError as error:
            raise MissingExtra(f"{wanted.handle}: fetching from Kaggle", "fetch") from error
        try:
            got = Path(kagglehub.dataset_download(wanted.handle))
        except Exception as error:
            if not _foreseen(error):
                raise
            raise FetchError(f"{wanted.handle}: {_said(error)}; {_cure(error, wanted)}") from error
    if not got.resolve().is_relative_to(cache.resolve()):  # in Kaggle's own notebooks it is attached
        raise FetchError(f"{wanted.handle}: lies at {got} already; give that folder to carina compile")
    return got


@contextmanager
def _cache_at(folder: Path) -> Iterator[None]:
    before = os.environ.get(_CACHE)
    os.environ[_CACHE] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CACHE]
        else:
            os.environ[_CACHE] = before


def _foreseen(error: Exception) -> bool:
    """Whether it is a fault of the network, the disk, the archive or the account, not of our code."""
    own = type(error).__module__.partition(".")[0] == "kagglehub"
    return own or isinstance(error, OSError | ValueError | zipfile.BadZipFile)  # requests' are OSErrors


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _cure(error: Exception, wanted: Kaggle) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or type(error).__name__ in ("UnauthenticatedError", "CredentialError"):
        return f"sign in with a Kaggle token (kaggle.com/settings) and accept its terms at {wanted.where}"
    if status == 404:
        return f"look at {wanted.where}, it may have moved"
    return "run the same command again: it goes on where it stopped"
