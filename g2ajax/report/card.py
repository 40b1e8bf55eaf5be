"""A sentence as an image, for places that show the image of a query."""

import textwrap

import numpy as np
from jaxtyping import UInt8
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT, _SIZE, _LINE, _LETTERS, _LINES = 320, 432, 26, 34, 20, 11


def card(text: str) -> UInt8[np.ndarray, "H W 3"]:
    """Draws the first lines of a sentence, dark on white."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    drawing = ImageDraw.Draw(image)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), _SIZE)
    lines = textwrap.wrap(text, _LETTERS, max_lines=_LINES, placeholder=" …")
    for row, line in enumerate(lines):
        drawing.text((16, 16 + _LINE * row), line, fill="black", font=font)
    return np.array(image)
