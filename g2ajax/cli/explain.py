"""Explains whom a model finds for an image, and why: a page (HTML)."""

import argparse
import pathlib

import numpy as np

from g2ajax.apps.evaluate import on_dataset
from g2ajax.cli.opening import folder_of, open_model
from g2ajax.config import nearest
from g2ajax.data.builders import PLATFORMS
from g2ajax.data.crop_source import Dataset
from g2ajax.evaluation.crops import protocol_rows
from g2ajax.methods import Explains
from g2ajax.report.album import Album
from g2ajax.report.files import write_whole
from g2ajax.report.page import report_page
from g2ajax.report.records import Report
from g2ajax.tasks import explanation_pages as pages
from g2ajax.tasks import predicted_attributes as predicted


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    if not 1 <= options.top <= 10:
        raise ValueError(f"--top={options.top}; from 1 to 10 images fit a page")
    if options.platform and options.platform not in PLATFORMS:
        raise ValueError(
            f"no platform {options.platform!r}; {nearest(options.platform, PLATFORMS)}"
        )
    model = open_model(options)
    if not isinstance(model.method, Explains) or "decomposed" not in model.card.rankings:
        raise ValueError(
            f"{options.model} has no trained explainable stream (it ranks by "
            f"{', '.join(model.card.rankings)}); train configs/agreid_vit.py to its end"
        )
    embedder = on_dataset(model, data_dir=options.data_dir, manual_dir=options.manual_dir)
    dataset, protocols = embedder.dataset, embedder.protocols
    if options.protocol and options.protocol not in protocols:
        raise ValueError(
            f"no protocol {options.protocol!r}; {nearest(options.protocol, protocols)}"
        )
    protocol = options.protocol or protocols[0]
    query, name = _queries(dataset, protocol, options)
    folder = folder_of(model, options.out, "explain")
    gallery = len(dataset.protocol(protocol)[1])
    print(f"explaining {gallery:,} distances of {protocol} to {query.titles[0]}", flush=True)
    album = Album()
    (explanation,) = pages.explain(model.method, embedder, protocol, query, album, top=options.top)
    title = f"{model.card.name}: {query.titles[0]}"
    remarks = {}
    if predicted.predicts(model.method, dataset):
        sides = predicted.predict_shown(model.method, embedder, album)
        remarks = predicted.remarks(album, sides, dataset.attribute_groups)
    report = Report(
        title, (), (), (), (), album.pictures, explanations=[explanation], remarks=remarks
    )
    write_whole(folder / f"{name}.html", report_page(report))
    for one in explanation.images:
        item = one.entry
        mark = {True: "right", False: "wrong", None: "?"}[item.correct]
        why = ", ".join(f"{r.name} {r.ratio:.2f} times its usual share" for r in one.reasons)
        print(f"{item.distance:9.2f}  {mark:5}  {item.title}  ({why or 'no attribute stands out'})")
    print(f"written: {folder / name}.html")
    return 0


def _queries(
    dataset: Dataset, protocol: str, options: argparse.Namespace
) -> tuple[pages.Queries, str]:
    """The query and a file name for its page."""
    query = dataset.splits["query"]
    rows, _ = protocol_rows(dataset, protocol)
    text, path = options.query, pathlib.Path(options.query)
    if text.isdigit():
        if int(text) >= len(rows):
            raise ValueError(f"--query={text}, but {protocol} has {len(rows)} queries, from 0")
        return pages.from_queries(query, [int(rows[int(text)])]), f"{protocol}-{text}"
    matches = np.flatnonzero(query.image_id == text)
    if len(matches):
        return pages.from_queries(query, matches.tolist()), path.stem
    if not path.is_file():
        raise FileNotFoundError(
            f"--query={text} is neither a number nor a file nor the name of a query image; "
            f"{nearest(text, query.image_id.tolist()[:2000]).partition('known:')[0]}"
            f"names look like {query.image_id[0]}"
        )
    platform = options.platform or dataset.protocol(protocol)[2]["query_platform"]
    if platform not in PLATFORMS:
        raise ValueError(f"say with --platform where {path} is from: {', '.join(PLATFORMS)}")
    return pages.from_file(path, platform=platform), path.stem
