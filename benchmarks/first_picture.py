"""Draws the picture of the README: a query from 45 m and the first images of its ranking.

    make demo
    python benchmarks/first_picture.py --model=runs/demo --out=docs/first_search.webp

The query is not chosen by eye: it is the one from 45 m whose average precision is the median of all
queries from 45 m.
"""

import argparse
import pathlib

import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

import g2ajax
from g2ajax.apps import rank
from g2ajax.apps.evaluate import on_dataset
from g2ajax.data.images import decode

HEIGHT, WIDTH, FRAME, GAP = 200, 116, 5, 12
GREEN, RED, INK = (22, 128, 67), (200, 36, 36), (26, 26, 26)
SHOWN = 8
HIGHEST = 2
"""SkyGround's altitude level of 45 m."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--data-dir", default="")
    options = parser.parse_args()
    model = g2ajax.load(options.model, checkpoint="latest")
    embedder = on_dataset(model, data_dir=options.data_dir)
    lists = rank.rank_queries(model.method, embedder, "A2G", "reid", SHOWN)
    result = lists.result
    high = np.flatnonzero(result.valid & (lists.query.altitude_level == HIGHEST))
    order = high[np.argsort(result.average_precision[high], kind="stable")]
    row = int(order[len(order) // 2])
    images = [decode(lists.query.read(row), "query")]
    correct = []
    for entry in result.top[row]:
        images.append(decode(lists.gallery.read(int(entry)), "gallery"))
        correct.append(bool(lists.gallery.identity[entry] == lists.query.identity[row]))
    strip(images, correct).save(options.out, quality=80, method=6)
    precision = 100 * result.average_precision[row]
    print(f"{lists.query.image_id[row]}: AP {precision:.1f}, {correct}; written: {options.out}")


def strip(images: list[np.ndarray], correct: list[bool]) -> Image.Image:
    """The query, then its ranking with a green frame for the query's person and a red one for others."""
    top, query_width = 34, WIDTH + 40
    width = query_width + 2 * GAP + len(correct) * (WIDTH + GAP)
    canvas = Image.new("RGB", (width, top + HEIGHT + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.truetype(findfont("DejaVu Sans"), 16)
    colours = [INK, *(GREEN if right else RED for right in correct)]
    texts = [
        "query, from 45 m",
        *(f"{i} {'✓' if right else '✗'}" for i, right in enumerate(correct, 1)),
    ]
    left = GAP
    for image, colour, text in zip(images, colours, texts, strict=True):
        column = query_width if left == GAP else WIDTH
        picture = Image.fromarray(image)
        scale = min((column - 2 * FRAME) / picture.width, (HEIGHT - 2 * FRAME) / picture.height)
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        x, y = left + (column - size[0]) // 2, top + (HEIGHT - size[1]) // 2
        draw.rectangle(
            (x - FRAME, y - FRAME, x + size[0] + FRAME - 1, y + size[1] + FRAME - 1), fill=colour
        )
        canvas.paste(picture, (x, y))
        draw.text((left + column // 2, 8), text, fill=colour, font=font, anchor="ma")
        left += column + GAP
    return canvas


if __name__ == "__main__":
    main()
