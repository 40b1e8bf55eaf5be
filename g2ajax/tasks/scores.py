"""The parts of a report that results give: scores of the first screen, tables, the lines of its title."""

from collections.abc import Sequence

import numpy as np

from g2ajax.data.crop_source import Dataset
from g2ajax.data.frame_source import FrameDataset
from g2ajax.evaluation import published
from g2ajax.evaluation.results import Result, dataset_label, tables
from g2ajax.report.records import Score, Table


def score_of(result: Result, chance: tuple[float, float] | None = None) -> Score:
    """The score of a protocol for the first screen, beside the published one and that of chance."""
    counts = f"{result.protocol}: {result.counts}"
    direction = result.direction.replace("->", "→")
    others = [(name, f"{value:.1f}") for name, value in result.measures if "altitude" not in name]
    if result.mAP is None:
        (name, _), *others = others or [("", "")]
        return Score(direction, counts, name, dict(result.measures)[name], None, others)
    low, high = result.interval_rank1
    others.insert(0, ("rank-1", f"{result.rank1:.1f} ({low:.1f} to {high:.1f})"))
    if row := published.same_protocol(result):
        others.append(("published", f"mAP {row.mAP:.1f}, rank-1 {row.rank1:.1f}"))
    if chance:
        others.append(("random order", f"mAP {chance[0]:.1f}, rank-1 {chance[1]:.1f}"))
    return Score(direction, counts, "mAP", result.mAP, result.interval_mAP, others)


def result_tables(results: Sequence[Result]) -> list[Table]:
    """All results, a table for each protocol."""
    return [Table(text, head, rows, details) for text, details, (head, *rows) in tables(results)]


def summary_of(
    dataset: Dataset | FrameDataset, results: Sequence[Result], noun: str, trained_on: str
) -> list[str]:
    """The lines below a report's title."""
    first = results[0]
    lines = [f"Nothing is known of its training data; tested on {dataset_label(dataset.name)}."]
    if trained_on == dataset.name and "train" in dataset.splits:
        train = dataset.splits["train"]
        people = len(np.unique(train.identity[train.identity >= 0]))
        text = f"Trained on {len(train):,} {noun} of {people:,} people"
        lines = [f"{text} of {dataset_label(trained_on)}."]
    elif trained_on:
        tested = dataset_label(dataset.name)
        lines = [f"Trained on {dataset_label(trained_on)}, tested on {tested}."]
    lines.append(
        f"Checkpoint: {first.checkpoint} (step {first.step:,}), seed {first.seed}. "
        f"Ranking: {first.ranked_by}, {first.metric.replace('_', ' ')}, {first.feature}."
    )
    return lines


def title_of(results: Sequence[Result]) -> str:
    """The title of a report: method and dataset."""
    return f"{results[0].name} on {dataset_label(results[0].dataset)}"
