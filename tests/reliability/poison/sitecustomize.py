"""In a decoding process: films that say so kill it, hang in it, or fill its memory.

Python imports a module of this name at its start, from the folders that the parent names. What a damaged
stream does to native code only now and then, such a film does every time. Changes nothing in any other
process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

if "carina.children.child" in sys.orig_argv:
    from carina.scoring import child

    _load = child.load

    def load(head: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """As the decoder's own, unless the film is poisoned."""
        content = data or Path(head["path"]).read_bytes()
        if b"POISON-KILLS" in content:
            os.kill(os.getpid(), signal.SIGSEGV)
        while b"POISON-HANGS" in content:
            time.sleep(1)
        if b"POISON-FILLS" in content:
            import numpy as np

            filled = []
            while True:  # until the limit of the address space; untouched pages take no memory of the machine
                filled.append(np.empty(1 << 28, np.uint8))
        return _load(head, data)

    child.load = load
