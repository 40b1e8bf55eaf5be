"""Scores models of tracklets by clips of one frame and of more, and says what the others add.

    python benchmarks/clip_lengths.py --models=runs/temporal_mean,runs/vsla_clip --frames=1,2,4,8

For each model, protocol and number of frames in a test clip: mAP with its 95% interval, and its difference to
clips of the first number with the interval of the paired bootstrap over people; over all queries, and over the
aerial ones of each altitude level. The model stays as it was trained.
"""

import argparse

import numpy as np
from absl import flags

import g2ajax
from g2ajax.apps.evaluate import evaluate_datasets, own_dataset
from g2ajax.data.source import open_dataset
from g2ajax.evaluation.bootstrap import interval
from g2ajax.evaluation.crops import protocol_rows


def row(name: str, score: np.ndarray, first: np.ndarray, identity: np.ndarray) -> str:
    """The mean of the queries' scores, and that of their differences to the first ones."""
    low, high = interval(score, identity)
    cells = [name, str(len(score)), f"{score.mean():.2f} [{low:.2f}, {high:.2f}]"]
    change = score - first
    if change.any():
        low, high = interval(change, identity)
        cells.append(f"{change.mean():+.2f} [{low:+.2f}, {high:+.2f}]")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", required=True, help="runs or models, separated by commas")
    parser.add_argument("--frames", default="1,8", help="numbers of frames; the first is the base")
    arguments = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    for path in arguments.models.split(","):
        model, base = g2ajax.load(path), {}
        dataset = open_dataset(own_dataset(model), data_dir=model.data_dir or None)
        print(f"{path}: {model.card.name}")
        for frames in map(int, arguments.frames.split(",")):
            for result in evaluate_datasets(model.changed(clip={"frames": frames}), (), ("reid",)):
                scores = result.per_query
                first = base.setdefault(result.protocol, scores.average_precision)
                rows, _ = protocol_rows(dataset, result.protocol)
                level = dataset.splits["query"].altitude_level[rows[scores.row]]
                parts = {"": np.ones(len(level), bool)}
                parts |= {f", altitude {k}": level == k for k in np.unique(level) if k >= 0}
                for name, part in parts.items():
                    print(
                        row(
                            f"{result.protocol}{name}, {frames} frames",
                            scores.average_precision[part],
                            first[part],
                            scores.identity[part],
                        ),
                        flush=True,
                    )


if __name__ == "__main__":
    main()
