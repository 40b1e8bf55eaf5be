"""Shows whom a model finds: ranked lists as figures (SVG) and as a page (HTML)."""

import argparse

import numpy as np

from g2ajax.apps import rank
from g2ajax.cli.evaluate import with_evaluation, words
from g2ajax.cli.opening import folder_of, open_model
from g2ajax.config import nearest
from g2ajax.data.crop_source import CropSplit
from g2ajax.report.files import write_whole
from g2ajax.report.page import report_page
from g2ajax.report.ranking import ranking_svg
from g2ajax.tasks import tracklets
from g2ajax.tasks.ranked_lists import worst


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    if not 1 <= options.top <= 20:
        raise ValueError(f"--top={options.top}; from 1 to 20 images fit a figure")
    if options.worst < 1:
        raise ValueError(f"--worst={options.worst}; at least 1 query is needed")
    names = words(options.rankings) or ("reid",)
    model = with_evaluation(open_model(options), options)
    folders = {"data_dir": options.data_dir, "manual_dir": options.manual_dir}
    source = rank.source_on(model, options.dataset, names, **folders)
    dataset, protocols = source.dataset, source.protocols
    if options.protocol and options.protocol not in protocols:
        raise ValueError(
            f"no protocol {options.protocol!r}; {nearest(options.protocol, protocols)}"
        )
    protocol = options.protocol or protocols[0]
    queries = words(options.queries)
    rows, _, _ = dataset.protocol(protocol)
    places = _chosen(dataset.splits["query"].take(rows), protocol, queries)
    folder = folder_of(model, options.out, "rank")
    gallery = len(dataset.protocol(protocol)[1])
    noun = "tracklets" if isinstance(source, tracklets.Task) else "images"
    print(f"ranking {gallery:,} {noun} for {len(rows):,} queries of {protocol}", flush=True)
    for name in names:
        lists = rank.rank_queries(model.method, source, protocol, name, options.top)
        if not queries:
            places = worst(lists.result.average_precision, options.worst).tolist()
        report = rank.ranked_report(lists, places, dataset, model.card.name)
        for row, query in zip(places, report.rankings[0].queries, strict=True):
            file = folder / f"{protocol}-{name}-{row}.svg"
            write_whole(file, ranking_svg(query, report.pictures) + "\n")
            marks = "".join("+" if one.correct else "-" for one in query.entries[: options.top])
            scores = f"AP {query.score:.2f}, first match at rank {query.first_match}"
            print(f"{marks}  {row} {query.title}: {scores}")
        file = folder / f"{protocol}-{name}.html"
        write_whole(file, report_page(report))
        print(f"written: {file}, and a figure (SVG) for each query")
    return 0


def _chosen(query: CropSplit, protocol: str, names: tuple[str, ...]) -> list[int]:
    """Places of the queries among those of the protocol."""
    places = []
    for text in names:
        matches = np.flatnonzero(query.image_id == text)
        if text.isdigit() and int(text) < len(query):
            places.append(int(text))
        elif len(matches):
            places.append(int(matches[0]))
        else:
            raise ValueError(
                f"--queries: {text!r} is neither the name of a query of {protocol} (such as "
                f"{query.image_id[0]}) nor a number from 0 to {len(query) - 1}"
            )
    return places
