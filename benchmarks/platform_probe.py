"""Tells how much an embedding still says of the platform: a linear probe.

    python benchmarks/platform_probe.py --workdirs=runs/vdt_skyground,runs/agreid_bot_vit_skyground

The gallery of the run's test set is embedded. A linear classifier (least squares with a ridge, on unit
embeddings that are standardised) learns aerial against ground from four fifths of the people and is asked
about the others, for each fifth in turn. Prints the share of images told right, in mean over the two platforms
(0.5: nothing is left of the platform), and its 95% interval by bootstrap over people.
"""

import argparse
import pathlib

import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from g2ajax.evaluation.bootstrap import interval
from g2ajax.tasks import crops
from g2ajax.tasks.embedder import embed_split
from g2ajax.training.loop import reopen
from g2ajax.training.workdir import stored_config

FOLDS = 5
RIDGE = 1.0


def probe(
    embedding: Float[np.ndarray, "N D"], side: Int[np.ndarray, " N"], person: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """1 for each image whose side (0 or 1) the probe of other people's images tells, weighed so that both
    sides count the same, else 0."""
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    people = np.unique(person)
    fold = np.random.default_rng(0).permutation(len(people)) % FOLDS
    fold = fold[np.searchsorted(people, person)]
    weight = 0.5 / np.bincount(side)[side] * len(side)
    right = np.zeros(len(side))
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        centre, scale = unit[train].mean(0), unit[train].std(0) + 1e-6
        x = np.c_[(unit - centre) / scale, np.ones(len(unit))].astype(np.float64)
        a = x[train] * weight[train, None]
        solution = np.linalg.solve(
            a.T @ x[train] + RIDGE * np.eye(x.shape[1]), a.T @ (2.0 * side[train] - 1.0)
        )
        right[test] = (x[test] @ solution > 0) == side[test]
    return right * weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdirs", required=True, help="runs, separated by commas")
    parser.add_argument("--checkpoint", default="latest", choices=("latest", "best"))
    arguments = parser.parse_args()
    for workdir in map(pathlib.Path, arguments.workdirs.split(",")):
        run, _ = reopen(stored_config(workdir), workdir, arguments.checkpoint, of=crops.Task)
        task, gallery = run.task, run.task.dataset.splits["gallery"]
        embedder = task.embedder
        embedding = embed_split(
            embedder.embed,
            nnx.state(run.model),
            gallery,
            task.options.data,
            task.options.evaluate.batch_size,
            run.mesh,
        )
        right = probe(np.asarray(embedding), gallery.platform.astype(int), gallery.identity)
        low, high = interval(right, gallery.identity)
        print(
            f"{workdir}: {right.mean():.3f} [{low:.3f}, {high:.3f}], {len(gallery)} images",
            flush=True,
        )


if __name__ == "__main__":
    main()
