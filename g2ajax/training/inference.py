"""Embedding a dataset's test images with a model, and scoring its protocols."""

from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float

from g2ajax.data.pipeline import eval_batches
from g2ajax.data.source import CropSplit, Dataset
from g2ajax.evaluation.crops import evaluate_crops
from g2ajax.evaluation.results import Result
from g2ajax.training.mesh import batch_sharding, replicated
from g2ajax.training.options import RunOptions

Embed = Callable[[nnx.State, dict[str, jax.Array]], jax.Array]


def make_embed(model: nnx.Module, mesh: Mesh) -> tuple[Embed, nnx.State]:
    """The jitted embedding of `model` in evaluation mode, `(state, batch) -> [B, D]`, and its state."""
    view = nnx.view(
        model, deterministic=True, use_running_average=True, raise_if_not_found=False
    )
    graphdef, state = nnx.split(view)

    def embed(state: nnx.State, batch: dict[str, jax.Array]) -> jax.Array:
        model = nnx.merge(graphdef, state, copy=True)
        return model.embed(
            batch["image"].astype("float32"), camera=batch["camera"], platform=batch["platform"]
        )

    return jax.jit(embed, out_shardings=replicated(mesh)), state


def embed_split(
    embed: Embed,
    state: nnx.State,
    split: CropSplit,
    run: RunOptions,
    mesh: Mesh,
) -> Float[np.ndarray, "N D"]:
    """The embedding of every image of a split, in the order of its rows."""
    features = []
    for batch in eval_batches(
        split,
        batch_size=run.evaluate.batch_size,
        image_size=run.data.image_size,
        interpolation=run.data.test_interpolation,
        num_threads=run.data.num_threads,
        sharding=batch_sharding(mesh),
    ):
        features.append(embed(state, {k: batch[k] for k in ("image", "camera", "platform")}))
    return np.concatenate([np.asarray(part) for part in features])[: len(split)]


def score(
    model: nnx.Module,
    dataset: Dataset,
    run: RunOptions,
    mesh: Mesh,
    *,
    checkpoint: str,
    step: int,
    embed: Embed | None = None,
) -> list[Result]:
    """The results of `model` on the protocols that the run names."""
    made, state = make_embed(model, mesh)
    features = {
        name: embed_split(embed or made, state, dataset.splits[name], run, mesh)
        for name in ("query", "gallery")
    }
    return evaluate_crops(
        features,
        dataset,
        protocols=run.evaluate.protocols,
        metric=model.metric,
        feature_name=model.feature_name,
        seed=run.seed,
        checkpoint=checkpoint,
        bootstrap_samples=run.evaluate.bootstrap_samples,
    )
