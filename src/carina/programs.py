"""How programs are called on this machine, in lines that a person copies into a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from shlex import quote


def carina() -> str:
    """``carina``, or its path where the environment that it is installed in has not been activated."""
    beside = Path(sys.executable).with_name("carina")
    found = shutil.which("carina")
    if not beside.is_file() or (found is not None and beside.samefile(found)):
        return "carina"
    here = os.path.relpath(beside)
    return quote(here if not here.startswith("..") else str(beside))


def dcmtk(name: str) -> str:
    """The program of DCMTK: pynetdicom puts others of the same names beside Python's own programs."""
    ours = Path(sys.executable).parent
    if not (ours / name).is_file():
        return name
    others = [folder for folder in os.get_exec_path() if folder and not _same(folder, ours)]
    return quote(shutil.which(name, path=os.pathsep.join(others)) or name)


def _same(folder: str, other: Path) -> bool:
    return os.path.realpath(folder) == os.path.realpath(other)
