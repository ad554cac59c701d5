"""Log lines: one JSON object each, on standard error, with nothing of a patient.

What a line says is written by us and holds our own study numbers at most. Of an exception it has the kind and
the places in the code, never its text: a database or a decoder may quote what was sent. Control characters
are escaped, so that nobody can write a line of his own.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, TextIO

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_STRANGERS = ("pydicom", "pynetdicom", "PIL", "uvicorn.access")  # they would say what was sent
_TALKATIVE = ("alembic", "uvicorn")


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; fields given with ``extra`` stand beside what is said."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("carina.serving."),
            "says": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info and record.exc_info[0] is not None:
            line["fault"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["where"] = [f"{PurePath(each.filename).name}:{each.lineno} {each.name}" for each in frames]
        return json.dumps(line, default=str)


def start_logging(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Let all of this process write JSON lines to ``stream`` (default: standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _STRANGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
