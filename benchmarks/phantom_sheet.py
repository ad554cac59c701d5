"""Draw the contact sheet of the phantoms: every class at three severities, below it the lesion outlined.

python benchmarks/phantom_sheet.py docs/images/phantoms.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from carina.images.phantom import Phantom, phantom
from carina.taxonomy import BACTERIAL, COVID19, NORMAL, OTHER, TUBERCULOSIS, VIRAL

CELL, TITLE = 172, 20
LESION = (255, 196, 0)
SEVERITIES = (0.4, 0.7, 1.0)
COLUMNS = {
    BACTERIAL: ("consolidation",) * 3,
    VIRAL: ("interstitial",) * 3,
    COVID19: ("ground glass",) * 3,
    TUBERCULOSIS: ("apical cavity",) * 3,
    OTHER: ("effusion", "cardiomegaly", "pneumothorax"),
    NORMAL: ("none",) * 3,
}


def small(made: Phantom, outline: bool) -> Image.Image:
    """The film at the sheet's size, with its lesion outlined in colour where asked."""
    size = (CELL, CELL)
    film = Image.fromarray(made.pixels).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    if not outline:
        return film
    mask = Image.fromarray(made.lesion.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    mask = mask.filter(ImageFilter.MedianFilter(5)).point(lambda value: 255 * (value > 127))
    edge: NDArray[np.bool_] = np.asarray(mask.filter(ImageFilter.MaxFilter(3))) != np.asarray(mask)
    colours = np.array(film)
    colours[edge] = LESION
    return Image.fromarray(colours)


def sheet() -> Image.Image:
    """Six classes by three severities, plain above and outlined below."""
    page = Image.new("RGB", (CELL * 6, CELL * 6 + TITLE), "black")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    for column, (class_name, findings) in enumerate(COLUMNS.items()):
        draw.text((column * CELL + 6, 2), class_name, fill="white", font=font)
        for row, (finding, severity) in enumerate(zip(findings, SEVERITIES, strict=True)):
            wanted = None if finding == "none" else severity
            made = phantom(
                class_name, finding=finding, severity=wanted, seed=40 + 10 * column + row, size=CELL * 2
            )
            for line in (0, 1):
                place = (column * CELL, TITLE + (2 * row + line) * CELL)
                page.paste(small(made, outline=bool(line)), place)
    return page


def palette() -> Image.Image:
    """40 grays and the outline's colour: what keeps the file small."""
    colours = [value for gray in np.linspace(0, 255, 40).round() for value in (int(gray),) * 3]
    image = Image.new("P", (1, 1))
    image.putpalette([*colours, *LESION])
    return image


if __name__ == "__main__":
    target = Path(sys.argv[1])
    sheet().quantize(palette=palette(), dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
