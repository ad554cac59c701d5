"""Stored values → brightness: what a DICOM viewer does, as one table.

The order of DICOM PS3.3 C.11 and PS3.4 N.2: modality LUT or rescale, then VOI LUT or window, then the
polarity. Each step is a function of the stored value alone, and a stored value has at most 16 bits;
so the whole chain is computed once per value that can occur, in float64, and looked up per pixel.

pydicom has functions for the single steps (``apply_modality_lut``, ``apply_voi``); they index a LUT of
8-bit entries with 8-bit indices, which wraps where it has more than 256 entries, and refuse depths
such as 12 in a modality LUT. Both occur in radiographs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from carina.records import Pixels

_ROBUST = (0.005, 0.995)  # shares of the film's pixels; leaves out dead pixels and burnt-in letters


@dataclass(frozen=True, slots=True)
class Lut:
    """A lookup table of DICOM PS3.3 C.11.1.1.1: ``values[0]`` answers every input up to ``first``."""

    first: int
    values: NDArray[np.float64]  # (entries,)

    def __call__(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inputs are rounded to whole numbers; those outside the table take its first or last value."""
        index = np.clip(np.rint(inputs) - self.first, 0, len(self.values) - 1).astype(np.intp)
        return np.asarray(self.values[index], np.float64)

    @property
    def top(self) -> float:
        """The largest value of the least depth that holds all entries, whatever the descriptor claims."""
        return float((1 << max(1, int(self.values.max()).bit_length())) - 1)


@dataclass(frozen=True, slots=True)
class Window:
    """A window of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3."""

    center: float
    width: float
    function: str = "LINEAR"

    @property
    def valid(self) -> bool:
        """Whether the standard gives this window a meaning."""
        least = 1.0 if self.function == "LINEAR" else math.ulp(0.0)
        return math.isfinite(self.center) and math.isfinite(self.width) and self.width >= least

    def __call__(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Brightness in [0, 1]."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4 * (inputs - self.center) / self.width, -700, 700)
            return 1 / (1 + np.exp(exponent))
        center, width = self.center, self.width
        if self.function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width <= 0:  # a LINEAR window of width 1 is a threshold
            return (inputs > center).astype(np.float64)
        return np.clip((inputs - center) / width + 0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class GrayScale:
    """Everything in a header that decides how bright a stored value is shown."""

    low: int  # the least and the largest value that BitsStored and PixelRepresentation allow
    high: int
    slope: float = 1.0
    intercept: float = 0.0
    modality: Lut | None = None
    voi: Lut | Window | None = None
    inverse: bool = False
    padding: tuple[int, int] | None = None  # the stored values, both included, that are no film

    def apply(self, stored: NDArray[np.int32]) -> Pixels:
        """Stored values (H, W) → brightness (H, W) over the full range of uint8 (up to 8 bits) or uint16."""
        index = np.clip(stored, self.low, self.high) - self.low
        counts = np.bincount(index.ravel(), minlength=self.high - self.low + 1)
        values = np.arange(self.low, self.high + 1)
        if self.padding is not None:
            padded = (values >= self.padding[0]) & (values <= self.padding[1])
            counts[padded] = 0
        shown = self._shown(values.astype(np.float64), counts)
        if self.inverse:
            shown = 1 - shown
        if self.padding is not None:
            shown[padded] = 0.0
        top, dtype = (255, np.uint8) if self.high - self.low < 256 else (65535, np.uint16)
        table = np.floor(shown * top + 0.5).astype(dtype)
        return cast("Pixels", table[index])

    def _shown(self, values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Brightness in [0, 1] of every stored value, before the polarity."""
        modality = self.modality(values) if self.modality else values * self.slope + self.intercept
        if self.voi is not None:
            shown = self.voi(modality) / self.voi.top if isinstance(self.voi, Lut) else self.voi(modality)
            if _spread(shown, counts) > 0 or _spread(modality, counts) == 0:
                return shown  # otherwise the header's window hides the whole film, and is not believed
        if len(values) <= 256:  # 8-bit films without a window are made for the screen
            low, high = float(modality.min()), self.modality.top if self.modality else float(modality.max())
            low = 0.0 if self.modality else low
        else:
            low, high = _robust_range(modality, counts)
        return np.clip((modality - low) / (high - low), 0, 1) if high > low else np.zeros_like(modality)


def _spread(values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    used = values[counts > 0]
    return float(used.max() - used.min()) if len(used) else 0.0


def _robust_range(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """The values between which all but one hundredth of the film's pixels lie.

    Where that is a single value (a film with hardly any content) the whole range counts.
    """
    order = np.argsort(values, kind="stable")
    ranked, below = values[order], np.cumsum(counts[order])
    total = int(below[-1])
    if total == 0:
        return 0.0, 0.0
    low, high = (float(ranked[np.searchsorted(below, math.ceil(share * total))]) for share in _ROBUST)
    if high > low:
        return low, high
    used = values[counts > 0]
    return float(used.min()), float(used.max())
