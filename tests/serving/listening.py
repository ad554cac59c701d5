"""A listener in a process of its own, to be killed: ``python listening.py FOLDER`` prints its port."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.intake import Intake
from carina.serving.listener import Listener
from carina.serving.settings import Settings
from carina.serving.upgrades import upgrade


def main() -> None:
    """Serve ``FOLDER`` until the standard input ends."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    settings = Settings.model_validate({"data": folder, "free_bytes": 0, "dicom": {"port": 0}})
    database = Database(settings.database_url)
    upgrade(database)
    archive = Archive(settings.archive, settings)
    Intake(database, archive, settings).adopt()
    listener = Listener(settings, database, archive)
    listener.start()
    print(listener.port, flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    ended.wait()
    listener.stop()


if __name__ == "__main__":
    main()
