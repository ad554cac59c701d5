"""How large and how small a film may be, and what is said when it is not.

Every limit of the room stands here. Limits are checked against headers, before anything is decoded.
"""

from __future__ import annotations

from carina.errors import ImageTooLarge, MultiFrame, UnreadableImage, UnsupportedImage

MAX_PIXELS = 40_000_000
MIN_SIDE = 16  # pixels; below this nothing of a chest can be seen
MAX_SCANS = 100  # a progressive JPEG has about ten; each scan costs a pass over all pixels
MAX_STRETCH = 5.0  # the most that one side of a pixel may be longer than the other
BYTES_PER_PIXEL = 8  # of a file: 16-bit RGBA without compression
AGAIN = "fetch the file again from its source"
EXPORT_AGAIN = "export the film again from its source"


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse a film that is too large to decode, or too small to be a film.

    Raises ``ImageTooLarge``, ``UnreadableImage`` (no area) or ``UnsupportedImage`` (too small).
    """
    if width < 1 or height < 1:
        raise UnreadableImage(name, f"its header says {width}×{height} pixels", AGAIN)
    if width * height > max_pixels:
        fault = f"{width}×{height} pixels are more than the {max_pixels / 1e6:g} megapixels that are read"
        raise ImageTooLarge(name, fault, "reduce the film, or raise max_pixels if it is what it claims to be")
    if min(width, height) < MIN_SIDE:
        fault = f"{width}×{height} pixels are too few for a film (at least {MIN_SIDE} on each side)"
        raise UnsupportedImage(name, fault, "give the film itself, not an icon of it")


def check_file_size(name: str, size: int, max_pixels: int) -> None:
    """Refuse a file that is larger than any film of ``max_pixels`` could be; raises ``ImageTooLarge``."""
    most = max_pixels * BYTES_PER_PIXEL + 16_000_000
    if size > most:
        fault = f"a file of {size / 1e6:.0f} MB is larger than any film that is read ({most / 1e6:.0f} MB)"
        raise ImageTooLarge(name, fault, "give one film per file, of at most 40 megapixels")


def check_frames(name: str, frames: int) -> None:
    """Refuse more than one frame; raises ``MultiFrame``."""
    if frames > 1:
        fault = "several frames: a cine, a volume or pages, not one film"
        raise MultiFrame(name, fault, "give the frame to read as a file of its own")
