"""A disk of our own: an ext4 in a file, mounted over a loop device, that a harness fills, breaks or cuts off.

Needs root and loop devices; :func:`missing` says what is not there. Knows nothing of what lies on it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

_SHUTDOWN, _NO_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
_PROGRAMS = ("mkfs.ext4", "mount", "umount", "losetup")


class Volume:
    """An ext4 of ``megabytes``, mounted at ``path`` from the start. A context manager."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self._image = folder / "volume", folder / "volume.img"
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(megabytes << 20)
        _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        self.mounted = False
        self.mount()

    def mount(self) -> None:
        """Mount it; what its journal holds is replayed, as after any crash."""
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path))
        self.mounted = True

    def unmount(self, seconds: float = 30.0) -> None:
        """Unmount it, as soon as nobody uses it any more."""
        end = time.monotonic() + seconds
        while self.mounted:
            try:
                _run("umount", str(self.path))
                self.mounted = False
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def cut(self) -> None:
        """A power cut: what was not made to last is gone, and every call fails until it is mounted again."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
        finally:
            os.close(handle)

    def fail(self) -> None:
        """A fault of the file system: from now on it can only be read (``errors=remount-ro``)."""
        source = next(
            line.split()[0]
            for line in Path("/proc/mounts").read_text().splitlines()
            if line.split()[1] == str(self.path)
        )
        Path(f"/sys/fs/ext4/{Path(source).name}/trigger_fs_error").write_text("1")

    def free(self) -> int:
        """Bytes that can still be written."""
        facts = os.statvfs(self.path)
        return facts.f_bavail * facts.f_frsize

    def fill(self, name: str, left: int) -> Path:
        """A file that leaves ``left`` bytes free."""
        path = self.path / name
        with path.open("wb") as file:
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, max(1, self.free() - left))
            with suppress(OSError):  # what is left in small pieces
                while self.free() > left:
                    os.write(file.fileno(), bytes(4096))
        return path

    def close(self) -> None:
        """Unmount and remove it."""
        self.unmount()
        self._image.unlink(missing_ok=True)

    def __enter__(self) -> Volume:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def missing() -> str | None:
    """Why there can be no such volume here; None where there can."""
    if os.geteuid() != 0:
        return "needs root, to mount a volume of its own"
    absent = [each for each in _PROGRAMS if shutil.which(each) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    folder = Path(tempfile.mkdtemp(prefix="carina-volume-"))
    try:
        Volume(folder, 8).close()
    except (RuntimeError, OSError) as fault:
        return f"needs loop devices ({fault})"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _run(*line: str) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{line[0]}: {done.stderr.strip()[:200]}")
