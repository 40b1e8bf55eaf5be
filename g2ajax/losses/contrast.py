"""Supervised contrast between two sets of features (Khosla et al., NeurIPS 2020), as CLIP-ReID's."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.blocks import over_rows
from g2ajax.losses.image_text import NEVER, counted, mean_of, same_identity
from g2ajax.losses.triplet import HIGHEST


def supcon(
    anchors: Float[Array, "A D"],
    others: Float[Array, "N D"],
    anchor_label: Int[Array, " A"],
    other_label: Int[Array, " N"],
    *,
    temperature: float = 1.0,
    anchor_mask: Bool[Array, " A"] | None = None,
    other_mask: Bool[Array, " N"] | None = None,
) -> Float[Array, ""]:
    """Mean over the anchors of −mean over their positives of log softmax(a·b / temperature).

    The softmax of an anchor is over all of `others`; its positives are those with its label. Nothing
    is normalised, as in CLIP-ReID (Li et al., AAAI 2023). A negative label or a mask of False takes a
    row out. An anchor without a positive does not count (0/0 in the reference); no anchor left: 0.
    """
    rows, columns = counted(anchor_label, anchor_mask), counted(other_label, other_mask)
    anchors, others = anchors.astype(jnp.float32), others.astype(jnp.float32)

    def terms(
        x: Float[Array, "A D"], label: Int[Array, " A"], counts: Bool[Array, " A"]
    ) -> tuple[Float[Array, " A"], Float[Array, " A"]]:
        logits = jnp.matmul(x, others.T, precision=HIGHEST) / temperature
        log_p = jax.nn.log_softmax(jnp.where(columns[None], logits, NEVER), axis=1)
        positive = same_identity(label, counts, other_label, columns)
        number = jnp.sum(positive, axis=1)
        total = jnp.sum(jnp.where(positive > 0, log_p, 0.0), axis=1)
        return -total / jnp.maximum(number, 1.0), number

    values, number = over_rows(terms, anchors, anchor_label, rows)
    return mean_of(values, number > 0)
