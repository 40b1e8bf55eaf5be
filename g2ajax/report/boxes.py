"""Drawing of detected people into a frame."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

BEST, OTHER = (20, 128, 66), (220, 220, 220)
SMALLEST = 640
"""Minimum width in pixels; smaller frames are enlarged, so that text is legible."""


def draw_boxes(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "N 4"],
    labels: Sequence[str],
    best: int = 0,
) -> Image.Image:
    """Draws boxes (x0, y0, x1, y1) with their labels; box number `best` is green and thick.

    Raises ValueError unless there is one label for each box.
    """
    if len(boxes) != len(labels):
        raise ValueError(f"{len(boxes)} boxes, but {len(labels)} labels")
    picture = Image.fromarray(image)
    scale = max(1, -(-SMALLEST // picture.width))
    picture = picture.resize((picture.width * scale, picture.height * scale))
    drawing = ImageDraw.Draw(picture)
    size = max(12, picture.width // 60)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
    # The best box is drawn last, over the others.
    for row in sorted(range(len(boxes)), key=lambda row: row == best):
        colour, line = (BEST, max(3, size // 4)) if row == best else (OTHER, max(1, size // 8))
        left, top, right, bottom = (float(side) * scale for side in boxes[row])
        drawing.rectangle((left, top, right, bottom), outline=colour, width=line)
        if labels[row]:
            wide = drawing.textlength(labels[row], font=font)
            at = min(max(left, 0), max(picture.width - wide, 0)), max(top - size - 4, 0)
            drawing.rectangle((*at, at[0] + wide, at[1] + size + 4), fill=colour)
            ink = "white" if row == best else "black"
            drawing.text(at, labels[row], fill=ink, font=font)
    return picture
