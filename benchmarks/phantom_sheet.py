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

CELL, TITLE = 232, 20
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


def outlined(made: Phantom) -> Image.Image:
    """The film with its lesion outlined in colour."""
    mask = Image.fromarray(made.lesion.astype(np.uint8) * 255)
    mask = mask.filter(ImageFilter.MedianFilter(5))
    edge: NDArray[np.bool_] = np.asarray(mask.filter(ImageFilter.MaxFilter(3))) != np.asarray(mask)
    colours = np.repeat(made.pixels[..., None], 3, axis=2)
    colours[edge] = LESION
    return Image.fromarray(colours)


def sheet() -> Image.Image:
    """Six classes by three severities, plain above and outlined below."""
    page = Image.new("RGB", (CELL * 6, (CELL * 2) * 3 + TITLE), "black")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    for column, (class_name, findings) in enumerate(COLUMNS.items()):
        draw.text((column * CELL + 6, 2), class_name, fill="white", font=font)
        for row, (finding, severity) in enumerate(zip(findings, SEVERITIES, strict=True)):
            wanted = None if finding == "none" else severity
            seed = 40 + 10 * column + row
            made = phantom(class_name, finding=finding, severity=wanted, seed=seed, size=CELL * 2)
            for line, picture in enumerate((Image.fromarray(made.pixels).convert("RGB"), outlined(made))):
                small = picture.resize((CELL, CELL), Image.Resampling.LANCZOS)
                page.paste(small, (column * CELL, TITLE + (2 * row + line) * CELL))
    return page


if __name__ == "__main__":
    target = Path(sys.argv[1])
    sheet().quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        target, optimize=True
    )
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
