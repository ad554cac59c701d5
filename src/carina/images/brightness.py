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
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from carina.records import Pixels

_BAND = 32  # rows of blocks that are averaged at once
_STEPS = 256  # stored values between black and white; with fewer, rounding them would show
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

    def apply(self, stored: NDArray[Any]) -> Pixels:
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

    def apply_reduced(self, stored: NDArray[Any], reduce: int) -> NDArray[np.uint16] | None:
        """Stored values (H, W) → mean brightness of each ``reduce`` × ``reduce`` block, over all of uint16.

        Shape (ceil(H / reduce), ceil(W / reduce)). Between its ends a linear window is a straight line, so
        values that are clipped to the ends first may be averaged before it or after it: the result is the
        same but for rounding. ``None`` where the brightness is no such window, or where it hides the film.
        """
        ends = self._ends()
        if ends is None:
            return None
        least, most = max(self.low, math.floor(min(ends))), min(self.high, math.ceil(max(ends)))
        if least >= most:
            return None
        means = _block_means(stored, reduce, least, most)
        if means.min() >= most or means.max() <= least:
            return None
        first, last = ends[::-1] if self.inverse else ends
        means -= np.float32(first)
        means *= np.float32(65535 / (last - first))
        np.clip(means, 0, 65535, out=means)
        means += np.float32(0.5)
        return means.astype(np.uint16)

    def bend(self, stored: NDArray[Any]) -> float:
        """How many of 256 gray levels it makes, on average, to average 2 × 2 before the window and not after.

        ``stored`` (H, W) unsigned; infinite where the brightness is no linear window.
        """
        after = self.apply_reduced(stored, 2)
        if after is None:
            return math.inf
        means = np.rint(_block_means(stored, 2, 0, self.high)).astype(np.uint16)
        before = self.apply_reduced(means, 1)
        if before is None:
            return math.inf
        return float(np.abs(after.astype(np.int32) - before).mean()) / 257

    def wide(self, stored: NDArray[Any]) -> tuple[NDArray[np.uint16], tuple[float, float]] | None:
        """Stored values (H, W) → every value that occurs, evenly over uint16, and the window in it.

        ``None`` where the header brings a curve (a VOI LUT, a sigmoid) and no window. Without a window, or
        with one that hides the film, it is the one between which all but one hundredth of the pixels lie.
        """
        if isinstance(self.voi, Lut) or (self.voi is not None and self.voi.function == "SIGMOID"):
            return None
        index = np.clip(stored, self.low, self.high) - self.low
        counts = np.bincount(index.ravel(), minlength=self.high - self.low + 1)
        values = np.arange(self.low, self.high + 1)
        padded = np.zeros(len(values), bool)
        if self.padding is not None:
            padded = (values >= self.padding[0]) & (values <= self.padding[1])
            counts[padded] = 0
        linear = values.astype(np.float64)
        modality = self.modality(linear) if self.modality else linear * self.slope + self.intercept
        used = modality[counts > 0]
        least, most = (float(used.min()), float(used.max())) if len(used) else (0.0, 0.0)
        spread = most - least or 1.0
        ends = _robust_range(modality, counts)
        if isinstance(self.voi, Window):
            shift, less = (0.5, 1.0) if self.voi.function == "LINEAR" else (0.0, 0.0)
            half = max(self.voi.width - less, 1.0) / 2
            asked = self.voi.center - shift - half, self.voi.center - shift + half
            ends = asked if asked[1] > least and asked[0] < most else ends
        elif len(values) <= 256:
            ends = float(modality.min()), float(modality.max())
        shares = np.clip((modality - least) / spread, 0, 1)
        window = sorted((end - least) / spread for end in ends)
        if self.inverse:
            shares, window = 1 - shares, [1 - window[1], 1 - window[0]]
        shares[padded] = 0.0
        table = np.floor(shares * 65535 + 0.5).astype(np.uint16)
        return table[index], (window[0] * 65535, window[1] * 65535)

    def _ends(self) -> tuple[float, float] | None:
        """The stored values that a linear window shows as 0 and as 1, before the polarity."""
        window = self.voi
        if not isinstance(window, Window) or window.function == "SIGMOID" or self.modality or self.padding:
            return None
        exact = window.function == "LINEAR_EXACT"
        center, width = (window.center, window.width) if exact else (window.center - 0.5, window.width - 1)
        first, last = ((center + side * width / 2 - self.intercept) / self.slope for side in (-1, 1))
        return (first, last) if abs(last - first) >= _STEPS and math.isfinite(first + last) else None

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


def _block_means(values: NDArray[Any], reduce: int, least: int, most: int) -> NDArray[np.float32]:
    """The mean of each block of values clipped to [``least``, ``most``].

    What is missing of the blocks at the right and lower edges repeats the edge. A band of rows at a time,
    so that what is being summed stays in the processor's cache.
    """
    missing = [(0, -side % reduce) for side in values.shape]
    if any(after for _, after in missing):
        values = np.pad(values, missing, mode="edge")
    height, width = values.shape
    unsigned = values.dtype.kind == "u" and least >= 0
    rows, sums = (np.uint16, np.uint32) if unsigned and most * reduce < 1 << 16 else (np.int64, np.int64)
    means = np.empty((height // reduce, width // reduce), np.float32)
    for top in range(0, len(means), _BAND):
        band = np.clip(values[top * reduce : (top + _BAND) * reduce], least, most)
        total: NDArray[Any] = band[0::reduce].astype(rows)
        for row in range(1, reduce):
            total += band[row::reduce]
        blocks: NDArray[Any] = total[:, 0::reduce].astype(sums)
        for column in range(1, reduce):
            blocks += total[:, column::reduce]
        np.multiply(blocks, np.float32(1 / (reduce * reduce)), out=means[top : top + _BAND], casting="unsafe")
    return means


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
