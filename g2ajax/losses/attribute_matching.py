"""FIRM: matching of attribute sentences with images (AEA-FIRM, Wang et al., TCSVT 2025).

Attributes are written as sentences; a head classifies whether the feature of a sentence matches
that of an image. Name in the published code: "match2" with "dot" or "cat".
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from g2ajax.losses.image_text import mean_of

Counts = Sequence[Sequence[int]]
"""Number of sentences of each class of each attribute; sentences are numbered in this order."""


def pick_sentences(
    key: PRNGKeyArray,
    aerial: Int[Array, "B M"],
    ground: Int[Array, "B M"],
    counts: Counts,
    *,
    negative: Literal["next", "uniform"] = "next",
) -> Int[Array, "M B 2 2"]:
    """Draws a sentence number for each attribute, sample, view (aerial, ground) and role (true, false).

    `aerial` and `ground` are the classes of the two images of each pair. The wording is drawn
    uniformly from the sentences of the class. `negative`: "next" takes the next class, cyclically,
    as the false one, like the reference's code; "uniform" any other class, like the paper's figure.
    """
    classes = jnp.asarray([len(row) for row in counts])
    table = _table(counts)
    label = jnp.stack([aerial, ground], axis=-1).transpose(1, 0, 2)
    class_key, word_key = jax.random.split(key)
    number = classes[:, None, None]
    shift = jnp.ones_like(label)
    if negative == "uniform":
        shift = jax.random.randint(class_key, label.shape, 1, jnp.broadcast_to(number, label.shape))
    roles = jnp.stack([label, (label + shift) % number], axis=-1)
    attribute = jnp.arange(len(counts))[:, None, None, None]
    offset, count = table[0][attribute, roles], table[1][attribute, roles]
    return offset + jax.random.randint(word_key, roles.shape, 0, count)


def attribute_matching(
    head: Callable[[Float[Array, "N F"]], Float[Array, "N 2"]],
    aerial: Float[Array, "B D"],
    ground: Float[Array, "B D"],
    sentence: Float[Array, "S D"],
    pick: Int[Array, "M B 2 2"],
    *,
    joint: Literal["product", "concatenation"] = "product",
    mask: Bool[Array, "M B 2"] | None = None,
) -> Float[Array, ""]:
    """Mean cross-entropy of the true sentences (class 1) plus that of the false ones (class 0).

    Features are not normalised. `head` maps sentence * image (`joint` "product") or
    [sentence; image] to two logits. `pick` comes from `pick_sentences`; entries with `mask` False
    are ignored. The reference loops over the 2 M B pairs; here they are one product.
    """
    image = jnp.stack([aerial, ground], axis=1)[None, :, :, None]
    words = sentence[pick]
    image = jnp.broadcast_to(image, words.shape)
    if joint == "product":
        pairs = words * image
    else:
        pairs = jnp.concatenate([words, image], axis=-1)
    logits = head(pairs.reshape(-1, pairs.shape[-1])).astype(jnp.float32)
    log_p = jax.nn.log_softmax(logits.reshape(*pick.shape, 2), axis=-1)
    rows = jnp.ones(pick.shape[:3], jnp.bool_) if mask is None else mask
    rows = rows.reshape(-1)
    true, false = -log_p[..., 0, 1].reshape(-1), -log_p[..., 1, 0].reshape(-1)
    return mean_of(true, rows) + mean_of(false, rows)


def _table(counts: Counts) -> Int[Array, "2 M C"]:
    """First sentence and number of sentences of each class of each attribute."""
    width = max(len(row) for row in counts)
    count = np.zeros((len(counts), width), np.int32)
    for line, row in zip(count, counts, strict=True):
        line[: len(row)] = row
    first = np.concatenate([[0], np.cumsum(count)[:-1]]).reshape(count.shape)
    return jnp.asarray(np.stack([first, count]), jnp.int32)
