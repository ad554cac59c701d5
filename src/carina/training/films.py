"""The films of one split at one size, as the loop sees them: packed pixels, rows, labels.

Knows nothing of catalogues or files: ``pixels`` is any (M, S, S) uint8 array, usually the packed
cache's memory map, of which ``rows`` picks this split's films.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Films:
    """All but ``pixels`` are (n,). ``ids`` name the films for good: never an index.

    ``copies``, where there are any, tells which of them are changed copies; ``sources`` which films come
    from one place, for a recipe that balances sources.
    """

    pixels: NDArray[np.uint8]  # (M, S, S)
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    ids: NDArray[np.uint64]
    copies: NDArray[np.bool_] | None = None
    sources: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)


def sent(values: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """The values on a device. A GPU is not waited for: ordinary memory has been read when this returns."""
    return torch.from_numpy(values).to(device, non_blocking=device.type == "cuda")


class Feed:
    """Films on their way to a device. Where a GPU has the room, all of them wait there from the start."""

    def __init__(self, films: Films, device: torch.device) -> None:
        self.films, self.device = films, device
        self._resident = self._move() if device.type == "cuda" else None

    def batch(self, which: NDArray[np.int64]) -> torch.Tensor:
        """The films at these places of the split. (B,) → (B, 1, S, S) float32 in [0, 255]"""
        if self._resident is not None:
            chosen = self._resident[sent(which, self.device)]
        else:
            chosen = sent(self.films.pixels[self.films.rows[which]], self.device)
        return chosen.unsqueeze(1).float()

    def _move(self) -> torch.Tensor | None:
        size = int(np.prod(self.films.pixels.shape[1:])) * len(self.films)
        free, _ = torch.cuda.mem_get_info(self.device)
        if size > free // 3:
            return None
        return torch.from_numpy(self.films.pixels[self.films.rows]).to(self.device)
