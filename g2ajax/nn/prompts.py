"""Sentences for a text tower with vectors in place of some words."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.nn.norm import Buffer


class Prompt(nnx.Module):
    """A sentence of CLIP with `count` free places from `start` on; its other words are frozen.

    `ids`: the words' ids, start and end included, with any id in the free places. Names are
    CoOp's (Zhou et al., IJCV 2022) and its descendants': `token_prefix`, `token_suffix`, the
    embeddings of the other words, which begin as zeros until a file or `embed_words` fills them.
    """

    def __init__(
        self, ids: Sequence[int], *, start: int, count: int, width: int, length: int = 77
    ) -> None:
        self.ids = tuple(ids)
        self.start = start
        self.count = count
        self.end = int(np.argmax(ids))
        """Place of the end token, whose feature is the sentence's."""
        self.token_prefix = Buffer(jnp.zeros((1, start, width)))
        self.token_suffix = Buffer(jnp.zeros((1, length - start - count, width)))

    @property
    def has_words(self) -> bool:
        """True once the other words have embeddings."""
        return bool(np.any(np.asarray(self.token_prefix[...])))

    def embed_words(self, table: Float[Array, "V D"]) -> None:
        """Fills the other words from a table of embeddings, unless a file has done so."""
        length = self.start + self.count + self.token_suffix.shape[1]
        words = jnp.take(table, jnp.asarray([*self.ids, *[0] * (length - len(self.ids))]), axis=0)
        parts = (words[None, : self.start], words[None, self.start + self.count :])
        empty = jnp.all(self.token_prefix[...] == 0)
        for variable, part in zip((self.token_prefix, self.token_suffix), parts, strict=True):
            variable[...] = jnp.where(empty, part, variable[...])

    def around(self, middle: Float[Array, "B M D"]) -> Float[Array, "B L D"]:
        """The whole sentences, padding included, with these vectors in the free places."""
        parts = (self.token_prefix[...], self.token_suffix[...])
        prefix, suffix = (jnp.tile(part, (middle.shape[0], 1, 1)) for part in parts)
        return jnp.concatenate([prefix, middle, suffix], axis=1)
