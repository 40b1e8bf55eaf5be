"""Compares two models: differences with intervals, and the queries that changed most."""

import argparse
import csv
import io
import json
import pathlib
from typing import Any

from g2ajax.apps import compare
from g2ajax.cli.evaluate import words
from g2ajax.cli.opening import folder_of, open_model
from g2ajax.evaluation import comparison
from g2ajax.models.model import Model
from g2ajax.report.album import Album
from g2ajax.report.files import write_whole
from g2ajax.report.page import sections_page
from g2ajax.report.records import Table

INTRO = """\
A: {a}

B: {b}

Differences are B minus A. The 95% interval is from the paired bootstrap over identities: each draw takes \
the same people for A and for B. Below stand the queries whose average precision changed most, each with \
its ranked list in A and then in B: green frames are the query's person, dashed red ones are not."""


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    if not 1 <= options.top <= 20:
        raise ValueError(f"--top={options.top}; from 1 to 20 images fit a figure")
    if options.changed < 0:
        raise ValueError(f"--changed={options.changed}; give 0 or the number of queries to show")
    if options.samples < 1:
        raise ValueError(f"--samples={options.samples}; at least 1 bootstrap draw is needed")
    rankings = words(options.rankings)
    if len(rankings) not in (1, 2):
        raise ValueError(
            f"--rankings={options.rankings}; name one for both models, or that of A and that of B"
        )
    a, b = _opened(options.a, options), _opened(options.b, options)
    folder = folder_of(b, options.out, "compare")
    compared = compare.compare_models(
        a,
        b,
        dataset=options.dataset,
        rankings=(rankings[0], rankings[-1]),
        protocol=options.protocol,
        top=options.top,
        samples=options.samples,
        data_dir=options.data_dir,
        manual_dir=options.manual_dir,
    )
    sides = (_described(options.a, a, rankings[0]), _described(options.b, b, rankings[-1]))
    print(f"A: {sides[0]}\nB: {sides[1]}")
    for one in compared:
        print(comparison.as_text(one.comparison))
    _write(compared, folder, sides)
    for one in compared:
        album = Album()
        changed = compare.changed_queries(one, options.changed, album)
        if changed:
            title = f"{a.card.name} and {b.card.name}: {one.comparison.a.protocol}"
            intro = INTRO.format(a=sides[0], b=sides[1])
            sections = [{"id": "difference", **_table(one)}]
            sections += [
                {
                    "id": f"query-{i}",
                    "heading": query.title,
                    "lists": zip("AB", query.lists, strict=True),
                }
                for i, query in enumerate(changed, start=1)
            ]
            file = folder / f"{one.comparison.a.protocol}.html"
            write_whole(file, sections_page(title, intro, sections, pictures=album.pictures))
            print(f"written: {file}")
    return 0


def _table(compared: compare.Compared) -> dict[str, Any]:
    """The section of a page with the differences."""
    result, one = compared.comparison.a, compared.comparison
    name = f"{result.protocol}: B minus A on {result.label}"
    table = Table(name, comparison.HEAD, comparison.rows_of(one), comparison.details(one))
    return {"heading": name, "table": table}


def _opened(source: str, options: argparse.Namespace) -> Model:
    return open_model(argparse.Namespace(**{**vars(options), "model": source, "architecture": ""}))


def _described(source: str, model: Model, ranking: str) -> str:
    card = model.card
    return f"{source} ({card.name}, {card.checkpoint}, step {card.step}, ranking {ranking})"


def _write(compared: list[compare.Compared], folder: pathlib.Path, sides: tuple[str, str]) -> None:
    """Writes `compare.json` and `compare.csv`."""
    comparisons = [one.comparison for one in compared]
    content = {
        "a": sides[0],
        "b": sides[1],
        "protocols": [comparison.as_dict(c) for c in comparisons],
    }
    write_whole(folder / "compare.json", json.dumps(content, indent=2) + "\n")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(comparison.COLUMNS)
    writer.writerows(comparison.query_rows(comparisons))
    write_whole(folder / "compare.csv", buffer.getvalue())
    print(f"written: {folder / 'compare'}.json, .csv")
