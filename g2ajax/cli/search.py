"""Finds people in a folder of crops, by images or by sentences; writes a page (HTML), CSV and JSON.

Models of tracklets are served by `search_tracklets`.
"""

import argparse
import dataclasses
import pathlib
import re

from g2ajax.apps import search
from g2ajax.cli import search_tracklets
from g2ajax.cli.opening import folder_of, open_model
from g2ajax.cli.search_tracklets import write_rows
from g2ajax.report.files import shown, write_whole
from g2ajax.report.findings import findings_page

INTRO = """\
The images of a folder, the most similar first. Nobody has said who they show: the order is the \
model's, and the nearest image need not show the person."""
SHOWN = 100
"""Most images of a query on the page; the CSV has all."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """The images found for one query."""

    query: str
    """Path of the image, or the sentence."""
    is_image: bool
    found: tuple[search.Found, ...]


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    if not options.query and not options.text:
        raise ValueError("give --query=IMAGE (or a folder), --text=SENTENCE, or several of them")
    # Everything that can be wrong with a query is checked before the gallery is embedded.
    if options.top < 1:
        raise ValueError(f"--top={options.top}; at least 1 image can be found")
    model = open_model(options)
    if search.embeds_tracklets(model):
        return search_tracklets.run(options, model)
    if options.track:
        raise ValueError(
            f"--track={options.track[0]} names a track of a video, for models of tracklets "
            f"(configs/vsla_clip.py); {model.card.name} is a model of crops: give --query=IMAGE"
        )
    skipped: list[tuple[pathlib.Path, str]] = []
    paths = [path for query in options.query for path in _queries(query, skipped)]
    search.files_of(options.gallery)
    texts = model.embed_text(options.text) if options.text else None
    folder = folder_of(model, options.out, "search")
    gallery = search.open_gallery(model, options.gallery)
    for path, why in (*skipped, *gallery.skipped):
        print(f"skipped: {path} ({why})")
    cached = len(gallery.files) - gallery.embedded
    print(f"{len(gallery.files)} images, {cached} of them embedded before or twice there")
    answers = []
    if paths:
        lists = gallery.find(gallery.embed_queries(paths), options.top)
        answers += [Answer(str(p), True, one) for p, one in zip(paths, lists, strict=True)]
    if texts is not None:
        lists = gallery.find(texts, options.top)
        answers += [Answer(t, False, one) for t, one in zip(options.text, lists, strict=True)]
    for answer in answers:
        if len(answers) > 1:
            print(f"\n{answer.query}")
        for item in answer.found:
            print(f"{item.distance:9.4f}  {item.path}")
    _write(answers, gallery, folder)
    return 0


def _queries(path: pathlib.Path, skipped: list[tuple[pathlib.Path, str]]) -> list[pathlib.Path]:
    """The image itself, or the files of a folder, whose broken links go to `skipped`."""
    if path.is_dir():
        return list(search.files_of(path, skipped))
    if not path.is_file():
        raise FileNotFoundError(f"--query={path} is neither a file nor a folder")
    return [path]


def _write(answers: list[Answer], gallery: search.Gallery, folder: pathlib.Path) -> None:
    """Writes NAME.html, .csv and .json; NAME is that of the query, or `search` for several."""
    first = answers[0]
    name, title = "search", f"{len(answers)} queries"
    if len(answers) == 1:
        name, title = (
            (pathlib.Path(first.query).stem, pathlib.Path(first.query).name)
            if first.is_image
            else (re.sub(r"\W+", "-", first.query)[:60].strip("-") or "text", first.query)
        )
    file = folder / f"{name}.html"
    findings = [
        search.finding(answer.found[:SHOWN], image=pathlib.Path(answer.query))
        if answer.is_image
        else search.finding(answer.found[:SHOWN], text=answer.query)
        for answer in answers
    ]
    method = gallery.model.method
    heading = f"{title} in {len(gallery.files)} images"
    by = f"{method.metric.replace('_', ' ')}, {method.feature_name}, {gallery.model.card.name}"
    write_whole(file, findings_page(heading, findings, intro=INTRO, ranked_by=by))
    rows = [
        {
            "query": shown(answer.query),
            "rank": rank,
            "path": shown(item.path),
            "distance": item.distance,
        }
        for answer in answers
        for rank, item in enumerate(answer.found, start=1)
    ]
    write_rows(folder, name, rows, gallery.model)
