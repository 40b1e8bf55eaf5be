"""Finds a person in whole frames, a folder of images or a video, and draws where (PNG and HTML)."""

import argparse
import io
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from g2ajax.apps import search_frames as searching
from g2ajax.cli.opening import folder_of, open_model
from g2ajax.data.footage import footage
from g2ajax.data.images import decode
from g2ajax.models.pictures import check_box
from g2ajax.report.boxes import draw_boxes
from g2ajax.report.files import write_whole
from g2ajax.report.page import Picture, page
from g2ajax.report.records import Table

WIDEST = 1280
INTRO = """\
Frames with the people most similar to the query, the most similar first; in each the most similar \
person is green. Nobody has said who they are: the order is the model's, and the first need not be the \
person.

Similarity is the inner product of the embeddings times the detector's score; both stand at a box."""


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    # Everything that can be wrong with the query is checked before a frame is read.
    if options.top < 1:
        raise ValueError(f"--top={options.top}; at least 1 frame can be shown")
    if not options.query.is_file():
        raise FileNotFoundError(f"--query={options.query} is not a file")
    query, box = decode(options.query.read_bytes(), str(options.query)), _box(options.box)
    check_box(box, query)
    model = open_model(options)
    searching.check_searches(model)
    folder = folder_of(model, options.out, f"search-frames/{options.query.stem}")
    skipped: list[str] = []
    frames = footage(options.frames, skipped, every=options.every)
    sightings, count = searching.search_frames(model, query, box, frames, top=options.top)
    for name in skipped:
        print(f"skipped: {name} cannot be read")
    print(f"{count} frames searched, {len(skipped)} skipped")
    pictures = [
        _picture(folder / "query.png", f"Query {options.query.name}", query, np.array([box]), [""])
    ]
    rows = []
    for rank, one in enumerate(sightings, start=1):
        print(f"{one.similarity[0]:9.4f}  {one.name}")
        labels = [f"{s:.2f} ({p:.2f})" for s, p in zip(one.similarity, one.scores, strict=True)]
        file = folder / f"{rank:03d}_{re.sub(r'[^A-Za-z0-9._-]+', '_', one.name)}.png"
        pictures.append(_picture(file, f"{rank}: {one.name}", one.image, one.boxes, labels))
        rows.append([rank, one.name, float(one.similarity[0]), float(one.scores[0])])
    if not sightings:
        print("nobody was found in any frame")
    head = ("rank", "frame", "similarity of its most similar person", "score of the detector")
    tables = [Table(f"{len(sightings)} of {count} frames, {len(skipped)} skipped", head, rows)]
    title = f"{model.card.name}: {options.query.name} in {options.frames.name}"
    file = folder / "frames.html"
    write_whole(file, page(title, intro=INTRO, tables=tables, pictures=pictures))
    print(f"written: {file}")
    return 0


def _box(text: str) -> searching.Box:
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--box={text}; expected four numbers x0,y0,x1,y1 in pixels") from None
    return left, top, right, bottom


def _picture(
    file: pathlib.Path,
    caption: str,
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "N 4"],
    labels: Sequence[str],
) -> Picture:
    """The frame with its boxes, written to `file`; for the page at most `WIDEST` pixels wide."""
    picture = draw_boxes(image, boxes, labels)
    data = io.BytesIO()
    picture.save(data, "PNG")
    write_whole(file, data.getvalue())
    picture.thumbnail((WIDEST, WIDEST))
    data = io.BytesIO()
    picture.save(data, "PNG")
    text = ", ".join(filter(None, labels)) or "the person in the box"
    return Picture(caption, data.getvalue(), f"{caption}: {text}")
