"""Finds a person among tracklets, for `g2ajax search` with a model of tracklets."""

import argparse
import csv
import io
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from g2ajax.apps import search_tracklets as searching
from g2ajax.cli.opening import folder_of
from g2ajax.data.tracklet_files import Tracklet
from g2ajax.models.model import Model
from g2ajax.report.files import shown, write_whole
from g2ajax.report.findings import Finding, Picked, findings_page
from g2ajax.report.strips import strip

INTRO = """\
The tracklets of a folder, the most similar first, each as a strip of some of its images in order of time. \
Nobody has said who they show: the order is the model's, and the nearest tracklet need not show the person."""
MOST = 100
"""Most tracklets of a query on the page; the CSV has all."""


def run(options: argparse.Namespace, model: Model) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    if options.text:
        raise ValueError(
            f"{model.card.name} is a model of tracklets, which answers tracklets, not sentences; give "
            "--query=FOLDER, or --query=VIDEO --track=ID"
        )
    if options.track and len(options.query) != 1:
        raise ValueError(
            f"--track is a number of the one query video, but {len(options.query)} queries are given; "
            "search for the tracks of each video by a command of its own"
        )
    # Everything that can be wrong with a query is checked before the gallery is embedded.
    searching.check_tracklets(model)
    skipped: list[tuple[pathlib.Path, str]] = []
    queries = [
        tracklet
        for query in options.query
        for tracklet in searching.query_tracklets(query, options.track, skipped)
    ]
    folder = folder_of(model, options.out, "search")
    gallery = searching.open_tracklet_gallery(model, options.gallery)
    for path, why in dict.fromkeys((*skipped, *gallery.skipped)):
        print(f"skipped: {path} ({why})")
    cached = len(gallery.tracklets) - gallery.embedded
    print(f"{len(gallery.tracklets)} tracklets, {cached} of them embedded before or twice there")
    lists = gallery.find(gallery.embed_queries(queries), options.top)
    for query, matches in zip(queries, lists, strict=True):
        if len(queries) > 1:
            print(f"\n{_described(query)}")
        for item in matches:
            print(f"{item.distance:9.4f}  {_described(item.tracklet)}")
    name = _file_name(queries)
    file = folder / f"{name}.html"
    title = _described(queries[0]) if len(queries) == 1 else f"{len(queries)} queries"
    write_whole(
        file, _page(f"{title} in {len(gallery.tracklets)} tracklets", queries, lists, gallery)
    )
    rows = [
        {"query": shown(_described(query)), "rank": rank, **_row(item)}
        for query, matches in zip(queries, lists, strict=True)
        for rank, item in enumerate(matches, start=1)
    ]
    write_rows(folder, name, rows, model)
    return 0


def write_rows(
    folder: pathlib.Path, name: str, rows: Sequence[dict[str, Any]], model: Model
) -> None:
    """Writes the results of a search as NAME.csv and NAME.json, beside the page."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / f"{name}.csv", stream.getvalue())
    about = {"model": model.card.name, "origin": model.card.origin, "metric": model.method.metric}
    write_whole(
        folder / f"{name}.json", json.dumps({**about, "results": list(rows)}, indent=2) + "\n"
    )
    print(f"written: {folder / name}.html, .csv, .json")


def _described(tracklet: Tracklet) -> str:
    if tracklet.span is None:
        return str(tracklet.source)
    first, last = tracklet.span
    return f"{tracklet.source} track {tracklet.track}, frames {first} to {last}"


def _row(item: searching.FoundTracklet) -> dict[str, Any]:
    tracklet = item.tracklet
    first, last = tracklet.span or ("", "")
    return {
        "path": shown(tracklet.source),
        "track": "" if tracklet.track is None else tracklet.track,
        "first_frame": first,
        "last_frame": last,
        "images": len(tracklet),
        "distance": item.distance,
    }


def _file_name(queries: Sequence[Tracklet]) -> str:
    if len(queries) > 1:
        return "search"
    (query,) = queries
    name = query.source.resolve().name if query.source.is_dir() else query.source.stem
    return name if query.track is None else f"{name}-track-{query.track}"


def _page(
    title: str,
    queries: Sequence[Tracklet],
    lists: Sequence[Sequence[searching.FoundTracklet]],
    gallery: searching.TrackletGallery,
) -> str:
    first = [matches[:MOST] for matches in lists]
    items = [(query, None) for query in queries]
    items += [(item.tracklet, item.distance) for matches in first for item in matches]
    # All at once: a video is read once for all its tracks.
    images = gallery.images([tracklet for tracklet, _ in items])
    pictures = iter(
        Picked(strip(own), _caption(tracklet), tracklet.source.absolute().as_uri(), distance)
        for (tracklet, distance), own in zip(items, images, strict=True)
    )
    of_queries = list(itertools.islice(pictures, len(queries)))
    findings = [
        Finding(query.title, query, list(itertools.islice(pictures, len(matches))))
        for query, matches in zip(of_queries, first, strict=True)
    ]
    model = gallery.model
    metric, feature = model.method.metric.replace("_", " "), model.method.feature_name
    ranked_by = f"{metric}, {feature}, {model.card.name}"
    return findings_page(title, findings, intro=INTRO, ranked_by=ranked_by)


def _caption(tracklet: Tracklet) -> str:
    if tracklet.span is None:
        return f"{tracklet.name}, {len(tracklet)} images"
    first, last = tracklet.span
    return f"{tracklet.name}, frames {first} to {last}, {len(tracklet)} images"
