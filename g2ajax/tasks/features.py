"""Training on features: every training image is embedded once, and batches are rows of the result."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from flax import nnx
from jax.sharding import Sharding
from jaxtyping import Float, Int

from g2ajax.data.captioned import CaptionedImages
from g2ajax.data.crop_source import CropSplit
from g2ajax.data.pipeline import caption_columns, columns, local_rows, sharded_batches
from g2ajax.methods import Method
from g2ajax.tasks.base import Say
from g2ajax.tasks.embedder import INPUTS, Embed, Embedder, embed_split, make_embed, split_batches


def embed_training_images(
    model: Method,
    embedder: Embedder,
    phase: str,
    function: str,
    trained: Callable[..., bool],
    say: Say,
) -> Float[np.ndarray, "N D"]:
    """The feature of every image of the training split, by a function of the method in evaluation
    mode; images are resized as in training and not augmented.

    Raises ValueError if the parameters trained in the phase (the NNX filter `trained`) change the
    features: a resumed run computes them again and would continue with other features.
    """
    options, split = embedder.options, embedder.dataset.splits["train"]
    size, resize = options.evaluate.batch_size, options.data.interpolation
    embed, state = make_embed(model, embedder.mesh, function), nnx.state(model)
    say(f"{function} of {len(split)} training images")
    first = next(iter(split_batches(split.take(np.arange(1)), options.data, size, embedder.mesh)))
    if depends(embed, state, {name: first[name] for name in INPUTS}, trained):
        raise ValueError(
            f"phase.{phase} trains parts on which its features (the method's {function!r}) depend; "
            "freeze them (phase.trainable, phase.frozen), or set source='images'"
        )
    return embed_split(embed, state, split, options.data, size, embedder.mesh, resize)


def depends(
    embed: Embed, state: nnx.State, batch: dict[str, jax.Array], trained: Callable[..., bool]
) -> bool:
    """True if an embedding changes by a bit when the parameters selected by `trained` change.

    They are moved by one rather than made NaN: the maximum in a ReLU may swallow a NaN.
    """
    moved, rest = nnx.split_state(state, trained, ...)
    other = nnx.merge_state(jax.tree.map(lambda x: x + 1.0, moved), rest)
    features = (np.asarray(embed(values, batch)) for values in (state, other))
    return not np.array_equal(*features)


def feature_batches(
    examples: CropSplit | CaptionedImages,
    features: Float[np.ndarray, "N D"],
    table: Int[np.ndarray, "S B"],
    *,
    sharding: Sharding,
) -> Iterator[dict[str, jax.Array]]:
    """The batches of the table: the columns of a batch of images, and `feature` [B,D] (of pairs
    also `paired_feature`)."""
    describe = caption_columns if isinstance(examples, CaptionedImages) else columns

    def host() -> Iterator[dict[str, np.ndarray]]:
        for rows in local_rows(table):
            batch = describe(examples, rows)
            for kind in ("", "paired_"):
                if f"{kind}index" in batch:
                    batch[f"{kind}feature"] = features[batch[f"{kind}index"]]
            yield batch

    return sharded_batches(host(), sharding)
