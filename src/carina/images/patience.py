"""A stream that pydicom may read a header from, and that does not let it read for ever.

pydicom takes any bytes for elements: eight megabytes of zeros are a million of them and cost seconds, a
file of gigabytes minutes, within sequences too, where no ``stop_when`` is asked. A header costs about three
reads an element, and that of a radiograph has some hundreds of them.
"""

from __future__ import annotations

from typing import BinaryIO

MOST_READS = 150_000  # some 50,000 elements, half a second


class EndlessHeader(ValueError):
    """A header of more elements than any film has."""


class Patience:
    """``file`` for reading; beyond ``MOST_READS`` reads it raises ``EndlessHeader``."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, MOST_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As the file's."""
        self._left -= 1
        if self._left < 0:
            raise EndlessHeader("its header has more elements than any film has")
        return self._file.read(size)
