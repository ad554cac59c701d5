"""From attenuation to gray values: scatter, quantum noise, the film's curve, and what a source adds.

A ``Look`` is everything that tells two hospitals apart and has nothing to do with the patient: the
stuff of which confounding is made. Knows neither anatomy nor disease.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from carina.images.phantom.canvas import Array, soften, spread
from carina.records import Pixels

CORNERS = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True, slots=True)
class Look:
    """How one source renders its films.

    ``aspect`` is width over height of the film itself; ``stretch`` widens the pixels afterwards, as
    careless resizing does. ``border`` and ``collimation`` are shares of the film's shorter side.
    """

    aspect: float = 1.0
    stretch: float = 1.0
    gamma: float = 1.0  # above 1 darkens the middle grays
    contrast: float = 1.0
    brightness: float = 0.0  # added, in shares of the full range
    noise: float = 0.012  # quantum noise behind the lung, in units of attenuation
    blur: int = 0  # passes of a Gaussian of 0.7 pixels
    border: float = 0.0  # frame burnt into the pixels
    border_shade: float = 0.0  # 0 black, 1 white
    collimation: float = 0.0  # up to this share of each side is shielded
    letters: str = ""  # burnt-in marker
    letters_at: str = "top right"
    letters_size: float = 0.05
    ap_share: float = 0.15  # share of films taken lying, from the front
    bits: int = 8  # stored gray values have 8 to 16 bits

    def __post_init__(self) -> None:
        if self.letters_at not in CORNERS:
            raise ValueError(f"letters_at is {self.letters_at!r}; it must be one of {', '.join(CORNERS)}")
        if not 8 <= self.bits <= 16:
            raise ValueError(f"bits is {self.bits}; a film has 8 to 16")
        if not 0 <= self.border < 0.4 or not 0 <= self.collimation < 0.4:
            raise ValueError("border and collimation are shares of the film below 0.4")
        if min(self.aspect, self.stretch, self.gamma, self.contrast) <= 0:
            raise ValueError("aspect, stretch, gamma and contrast must be above 0")


def expose(attenuation: Array, behind_lung: float, look: Look, rng: np.random.Generator) -> Array:
    """(H, W) attenuation to (H, W) gray in [0, 1], dense bright.

    ``behind_lung`` is the attenuation the exposure is set for: that of healthy lung.

    Scatter adds light that a wide blur of the primary beam describes; quantum noise has the square
    root of what arrives; the curve is the S of film and of every digital imitation of it.
    """
    light = np.exp(-attenuation)
    light += 0.35 * spread(light, 24)
    noise = rng.standard_normal(attenuation.shape, dtype=np.float32)
    dose = 1.25 * math.exp(-behind_lung)  # with its scatter
    light += noise * np.sqrt(light * np.float32(dose)) * np.float32(look.noise)
    density = -np.log(np.maximum(light, np.float32(1e-4)))
    density = soften(density, look.blur)
    latitude = float(rng.normal(1.0, 0.06))
    shift = float(rng.normal(0, 0.08))
    slope = 1.75 * look.contrast / latitude
    gray = 1 / (1 + np.exp(np.float32(0.95 - slope * (math.log(dose) + shift)) - np.float32(slope) * density))
    if look.gamma != 1:
        gray = np.power(gray, np.float32(look.gamma))
    return np.asarray(np.clip(gray + look.brightness, 0, 1), dtype=np.float32)


def frame(gray: Array, look: Look, rng: np.random.Generator) -> Array:
    """Collimate, burn the marker in, and put the border round: (H, W) in, (H, W) out."""
    gray = gray.copy()
    height, width = gray.shape
    short = min(height, width)
    if look.collimation:
        edges = rng.uniform(0.2, 1.0, 4) * look.collimation * short
        inside = np.minimum(
            _shutter(height, edges[0], edges[1])[:, None], _shutter(width, edges[2], edges[3])
        )
        gray *= inside
        gray += np.float32(0.02) * (1 - inside)
    if look.letters:
        _letter(gray, look, rng)
    if look.border:
        b = max(1, round(look.border * short))
        gray[:b], gray[-b:], gray[:, :b], gray[:, -b:] = (look.border_shade,) * 4
    return gray


def quantise(gray: Array, bits: int) -> Pixels:
    """[0, 1] to whole gray values of ``bits`` bits: uint8 for 8, uint16 above."""
    values = np.rint(gray * ((1 << bits) - 1))
    return values.astype(np.uint8) if bits == 8 else values.astype(np.uint16)


def _shutter(length: int, start: float, end: float) -> Array:
    """(length,) 1 inside, 0 behind the shutter, with the soft edge of a real one."""
    at = np.arange(length, dtype=np.float32)
    soft = length / 80
    clear = np.minimum((at - start) / soft, (length - end - at) / soft) + 0.5
    return np.asarray(np.clip(clear, 0, 1), dtype=np.float32)


def _letter(gray: Array, look: Look, rng: np.random.Generator) -> None:
    """Draw the marker into ``gray``, clear of the border, a little elsewhere on every film."""
    height, width = gray.shape
    short = min(height, width)
    stamp = Image.new("L", (width, height))
    draw = ImageDraw.Draw(stamp)
    font = ImageFont.load_default(size=max(8, round(look.letters_size * short)))
    left, top, right, bottom = draw.multiline_textbbox((0, 0), look.letters, font=font)
    margin = (0.04 + look.border + 0.5 * look.collimation + rng.uniform(0, 0.02)) * short
    x = margin if "left" in look.letters_at else width - margin - (right - left)
    y = margin if "top" in look.letters_at else height - margin - (bottom - top)
    draw.multiline_text((x, y), look.letters, font=font, fill=235)
    ink = np.asarray(stamp, dtype=np.float32) / 255
    np.maximum(gray, ink, out=gray)
