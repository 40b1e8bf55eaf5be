"""A run's attention beside its average over images: how much an explanation depends on the image.

    python benchmarks/average_attention.py --workdir=runs/agreid_vit_skyground

Over all pairs of query images: precision at M_E (how many of the attributes with the largest shares are
those in which the two people differ), by classes and by groups of attributes, ranked as a report's reasons
are, by plain shares and by each image's mean shares, with the run's attention, with the same attention averaged over
the images, with only its height (averaged over places too), and with the attention 1 everywhere. Where
the average does as well, the shares tell which attributes are rare, not who wears what.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax import methods
from g2ajax.evaluation import reasons
from g2ajax.evaluation.explanation import pair_metrics, pair_sums
from g2ajax.losses.attribute_distillation import attribute_distances
from g2ajax.retrieval.attributes import signed
from g2ajax.tasks import crops
from g2ajax.tasks.embedder import split_batches
from g2ajax.training.loop import reopen
from g2ajax.training.workdir import stored_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    config = stored_config(arguments.workdir)
    run, _ = reopen(config, arguments.workdir, "latest", of=crops.Task)
    model = nnx.merge(*methods.evaluated(run.model))
    query = run.task.dataset.splits["query"]
    queries = query.take(np.unique(np.linspace(0, len(query) - 1, arguments.images).astype(int)))
    size = run.task.options.evaluate.batch_size

    @jax.jit
    def maps(images, camera):
        low, features, _ = model._stream1(images, camera)
        return features, model.attention_of(low)

    features, attention = [], []
    for batch in split_batches(queries, run.task.options.data, size, run.mesh):
        mask = np.asarray(batch["mask"])
        outputs = maps(batch["image"].astype("float32"), batch["camera"])
        for values, value in zip((features, attention), outputs, strict=True):
            values.append(np.asarray(value)[mask])
    features, attention = jnp.concatenate(features), jnp.concatenate(attention)
    sizes = [len(names) for _, names in run.task.dataset.attribute_groups]
    attributes = signed(jnp.asarray(queries.attributes), sizes)
    other = ~np.eye(len(queries), dtype=bool)
    groups = run.task.dataset.attribute_groups
    codes = reasons.known_codes(queries.attributes, groups)
    for name, value in (
        ("the run's attention", attention),
        ("its average over images", jnp.mean(attention, 0)),
        ("its average over images and places", jnp.mean(attention, (0, 1, 2))),
        ("1 everywhere", jnp.ones(())),
    ):
        weighed = model.attribute_features(features, jnp.broadcast_to(value, attention.shape))
        distances = attribute_distances(weighed)
        outputs = pair_metrics(pair_sums(distances, attributes, attributes, jnp.asarray(other)))
        print(
            f"{name}: precision at M_E {outputs['precision_exclusive']:.3f} "
            f"(chance {outputs['precision_exclusive_chance']:.3f}), "
            f"mAP of exclusive {outputs['map_exclusive']:.3f}"
        )
        share = reasons.group_shares(distances, groups)
        deviation = np.stack(
            [reasons.unusual(*row).deviation for row in zip(share, other, strict=True)]
        )
        usual = np.stack([row[kept].mean(0) for row, kept in zip(share, other, strict=True)])
        sources = {
            "relative shares": deviation,
            "plain shares": share,
            "usual shares": np.broadcast_to(usual[:, None], share.shape),
        }
        scores = {
            source: reasons.group_precision(score, codes, codes, other)
            for source, score in sources.items()
        }
        said = ", ".join(f"{source} {own.mean():.3f}" for source, (own, _) in scores.items())
        print(f"  groups: {said} (chance {scores['plain shares'][1].mean():.3f})")


if __name__ == "__main__":
    main()
