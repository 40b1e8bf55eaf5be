"""Embedding a dataset's test images with a model, and scoring its protocols."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float

from g2ajax.data.pipeline import eval_batches
from g2ajax.data.source import CropSplit
from g2ajax.evaluation.crops import evaluate_crops
from g2ajax.evaluation.results import Result
from g2ajax.training.mesh import batch_sharding, replicated
from g2ajax.training.options import DataOptions

Embed = Callable[[nnx.State, dict[str, jax.Array]], jax.Array]


def make_embed(model: nnx.Module, mesh: Mesh) -> Embed:
    """The jitted embedding of `model` in evaluation mode, `(state, batch) -> [B, D]`."""
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    graphdef, _ = nnx.split(view)

    def embed(state: nnx.State, batch: dict[str, jax.Array]) -> jax.Array:
        model = nnx.merge(graphdef, state, copy=True)
        return model.embed(
            batch["image"].astype("float32"), camera=batch["camera"], platform=batch["platform"]
        )

    return jax.jit(embed, out_shardings=replicated(mesh))


def embed_split(
    embed: Embed, state: nnx.State, split: CropSplit, data: DataOptions, batch_size: int, mesh: Mesh
) -> Float[np.ndarray, "N D"]:
    """The embedding of every image of a split, in the order of its rows."""
    features = []
    for batch in eval_batches(
        split,
        batch_size=batch_size,
        image_size=data.image_size,
        interpolation=data.test_interpolation,
        num_threads=data.num_threads,
        sharding=batch_sharding(mesh),
    ):
        features.append(embed(state, {k: batch[k] for k in ("image", "camera", "platform")}))
    return np.concatenate([np.asarray(part) for part in features])[: len(split)]


def score(model: nnx.Module, setup: Any, *, checkpoint: str, step: int) -> list[Result]:
    """The results of `model` on the protocols that the run names."""
    options = setup.options
    state = nnx.state(model)
    features = {
        name: embed_split(
            setup.embed,
            state,
            setup.dataset.splits[name],
            options.data,
            options.evaluate.batch_size,
            setup.mesh,
        )
        for name in ("query", "gallery")
    }
    return evaluate_crops(
        features,
        setup.dataset,
        protocols=options.evaluate.protocols,
        metric=model.metric,
        feature_name=model.feature_name,
        name=options.name,
        checkpoint=checkpoint,
        step=step,
        seed=options.seed,
        bootstrap_samples=options.evaluate.bootstrap_samples,
    )
