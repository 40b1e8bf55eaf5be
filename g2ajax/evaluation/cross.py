"""One model on several datasets: the matrix of its scores, a row for each protocol and ranking."""

import json
import pathlib
from collections.abc import Sequence

from g2ajax.evaluation.results import (
    Result,
    as_csv,
    as_dict,
    dataset_label,
    with_interval,
)
from g2ajax.evaluation.terminal import WIDTH, aligned

HEAD = (
    "dataset and protocol",
    "ranking",
    "mAP [95%]",
    "rank-1 [95%]",
    "rank-5 [95%]",
    "mINP [95%]",
    "queries",
    "gallery",
    "protocol",
)

SHOWN = ((0, 1, 2, 3, 6), (0, 1, 4, 5, 7, 8))
"""Columns of the two tables for a terminal."""


def matrix(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The rows below `HEAD`. Each row is another protocol: read along it, not down a column."""
    return [
        (
            f"{result.label} ({result.direction})",
            result.ranked_by,
            with_interval(result.mAP, result.interval_mAP),
            with_interval(result.rank1, result.interval_rank1),
            with_interval(result.rank5, result.interval_rank5),
            with_interval(result.mINP, result.interval_mINP),
            f"{result.valid_queries} of {result.queries}",
            str(result.gallery),
            result.fingerprint,
        )
        for result in results
    ]


def caption(results: Sequence[Result], trained_on: str) -> str:
    """The model, training set, checkpoint, feature, metric and seed behind a table, in one line."""
    first = results[0]
    return (
        f"{first.name or 'model'}, trained on {dataset_label(trained_on)}, checkpoint "
        f"{first.checkpoint} (step {first.step}); {first.feature}, {first.metric}, seed {first.seed}"
    )


def as_text(results: Sequence[Result], trained_on: str) -> str:
    """Aligned tables for a terminal: the first scores, and below them the others and the counts."""
    rows = [HEAD, *matrix(results)]
    blocks = [aligned([[row[i] for i in columns] for row in rows], WIDTH) for columns in SHOWN]
    return "\n".join([caption(results, trained_on), *blocks[0], "", *blocks[1]])


def as_markdown(results: Sequence[Result], trained_on: str) -> str:
    """The same table in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *matrix(results)]
    # A bar inside a name would open another column.
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"**{caption(results, trained_on)}**", "", *lines]) + "\n"


def write(results: Sequence[Result], trained_on: str, folder: pathlib.Path) -> None:
    """Writes `cross_results.json`, `.md` and `.csv`."""
    content = {"trained_on": trained_on, "results": [as_dict(result) for result in results]}
    (folder / "cross_results.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "cross_results.md").write_text(as_markdown(results, trained_on))
    (folder / "cross_results.csv").write_text(as_csv(results))
