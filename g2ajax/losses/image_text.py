"""Losses between images and captions of one batch: SDM, CMPM, ITC and masked words.

SDM and the recipe: IRRA (Jiang and Ye, CVPR 2023); CMPM: Zhang and Lu, ECCV 2018; ITC is CLIP's
(Radford et al., ICML 2021). Features are not normalised; a negative identity or `mask` False takes
a row, and its column, out; no row left: 0. SDM, CMPM and ITC are computed in blocks of rows: memory
does not grow with the square of the batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.blocks import over_rows
from g2ajax.losses.triplet import HIGHEST, normalise

# In the place of a logit of a column that is out.
NEVER = -1e8


def cosines(x: Float[Array, "N D"], y: Float[Array, "M D"]) -> Float[Array, "N M"]:
    """Cosines of every row of x with every row of y, float32."""
    return jnp.matmul(normalise(x, 1e-12), normalise(y, 1e-12).T, precision=HIGHEST)


def row_divergence(
    logits: Float[Array, "N M"],
    target: Float[Array, "N M"],
    *,
    rows: Bool[Array, " N"],
    columns: Bool[Array, " M"],
    epsilon: float = 1e-8,
) -> Float[Array, ""]:
    """mean_i Σ_j p_ij (log p_ij − log(target_ij + epsilon)), p = softmax of the row.

    IRRA's direction: the PREDICTION comes first, so a row may put its mass on any of its positives.
    """
    return mean_of(divergences(logits, target, columns, epsilon), rows)


def divergences(
    logits: Float[Array, "N M"],
    target: Float[Array, "N M"],
    columns: Bool[Array, " M"],
    epsilon: float,
) -> Float[Array, " N"]:
    """Each row's term of `row_divergence`."""
    log_p = jax.nn.log_softmax(jnp.where(columns[None], logits, NEVER), axis=1)
    terms = jnp.exp(log_p) * (log_p - jnp.log(target + epsilon))
    return jnp.sum(jnp.where(columns[None], terms, 0.0), axis=1)


def mean_of(values: Float[Array, " N"], rows: Bool[Array, " N"]) -> Float[Array, ""]:
    """The mean of the values whose `rows` is True; 0 without any."""
    return jnp.sum(jnp.where(rows, values, 0.0)) / jnp.maximum(jnp.sum(rows), 1)


def counted(identity: Int[Array, " B"], mask: Bool[Array, " B"] | None) -> Bool[Array, " B"]:
    """The rows that take part."""
    return identity >= 0 if mask is None else (identity >= 0) & mask


def same_identity(
    identity: Int[Array, " N"],
    rows: Bool[Array, " N"],
    identities: Int[Array, " B"],
    columns: Bool[Array, " B"],
) -> Float[Array, "N B"]:
    """1 where a row and a column that take part are of one identity."""
    same = (identity[:, None] == identities[None, :]) & rows[:, None] & columns[None, :]
    return same.astype(jnp.float32)


def sdm(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    identity: Int[Array, " B"],
    *,
    scale: float = 50.0,
    image_id: Int[Array, " B"] | None = None,
    factor: float = 0.3,
    epsilon: float = 1e-8,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Similarity distribution matching (IRRA, equations 6 to 8), both directions.

    The softmax over the batch of `scale` times the cosines is drawn to the distribution that gives
    equal shares to all of the same identity. With `image_id`, other images of the identity count
    `factor` only; IRRA's code then divides COLUMN j by the sum of row j, and so does this.
    """
    counts = counted(identity, mask)
    number = identity if image_id is None else image_id

    def labels(
        identities: Int[Array, " N"], numbers: Int[Array, " N"], rows: Bool[Array, " N"]
    ) -> Float[Array, "N B"]:
        label = same_identity(identities, rows, identity, counts)
        if image_id is not None:
            own = same_identity(numbers, rows, number, counts)
            label = (label - own) * factor + own
        return label

    batch = (identity, number, counts)
    sums = over_rows(lambda *rows: jnp.sum(labels(*rows), axis=1), *batch)

    def direction(x: Float[Array, "B D"], y: Float[Array, "B D"]) -> Float[Array, ""]:
        def terms(x: Float[Array, "N D"], *rows: Array) -> Float[Array, " N"]:
            target = labels(*rows) / jnp.maximum(sums, 1e-12)[None, :]
            logits = scale * cosines(x, y)
            return divergences(logits, target, counts, epsilon)

        return mean_of(over_rows(terms, x, *batch), counts)

    return direction(image, text) + direction(text, image)


def cmpm(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    identity: Int[Array, " B"],
    *,
    epsilon: float = 1e-8,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Cross-modal projection matching: each feature's projections on the other kind's directions.

    As in IRRA's code the target is the identity indicator divided by its L2 norm, hence no
    distribution where an identity occurs twice; the paper divides by the sum.
    """
    counts = counted(identity, mask)

    def direction(x: Float[Array, "B D"], y: Float[Array, "B D"]) -> Float[Array, ""]:
        def terms(
            x: Float[Array, "N D"], identities: Int[Array, " N"], rows: Bool[Array, " N"]
        ) -> Float[Array, " N"]:
            label = same_identity(identities, rows, identity, counts)
            target = label / jnp.maximum(jnp.linalg.norm(label, axis=1, keepdims=True), 1e-12)
            logits = jnp.matmul(x, y.T, precision=HIGHEST)
            return divergences(logits, target, counts, epsilon)

        return mean_of(over_rows(terms, x, identity, counts), counts)

    image, text = image.astype(jnp.float32), text.astype(jnp.float32)
    return direction(image, normalise(text, 1e-12)) + direction(text, normalise(image, 1e-12))


def itc(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    *,
    scale: float | Float[Array, ""] = 50.0,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """CLIP's contrastive loss: mean of both directions' cross-entropies of `scale` times cosines.

    Row i belongs to row i alone; another row of the same identity is a negative.
    """
    counts = jnp.ones(len(image), jnp.bool_) if mask is None else mask

    def direction(x: Float[Array, "B D"], y: Float[Array, "B D"]) -> Float[Array, ""]:
        def terms(x: Float[Array, "N D"], own: Int[Array, " N"]) -> Float[Array, " N"]:
            logits = scale * cosines(x, y)
            log_p = jax.nn.log_softmax(jnp.where(counts[None], logits, NEVER), axis=1)
            return -jnp.take_along_axis(log_p, own[:, None], axis=1)[:, 0]

        return mean_of(over_rows(terms, x, jnp.arange(len(x))), counts)

    return (direction(image, text) + direction(text, image)) / 2.0


def normalised_itc(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    identity: Int[Array, " B"],
    *,
    scale: float = 50.0,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """N-ITC: `itc` with equal shares of all rows of the same identity as the target (TBPS-CLIP, Cao et
    al., AAAI 2024). With identities that occur once it is `itc`."""
    counts = counted(identity, mask)

    def direction(x: Float[Array, "B D"], y: Float[Array, "B D"]) -> Float[Array, ""]:
        def terms(
            x: Float[Array, "N D"], identities: Int[Array, " N"], rows: Bool[Array, " N"]
        ) -> Float[Array, " N"]:
            same = same_identity(identities, rows, identity, counts)
            target = same / jnp.maximum(jnp.sum(same, axis=1, keepdims=True), 1.0)
            log_p = jax.nn.log_softmax(
                jnp.where(counts[None], scale * cosines(x, y), NEVER), axis=1
            )
            return -jnp.sum(jnp.where(target > 0, target * log_p, 0.0), axis=1)

        return mean_of(over_rows(terms, x, identity, counts), counts)

    return (direction(image, text) + direction(text, image)) / 2.0


def masked_words(
    logits: Float[Array, "N V"], label: Int[Array, " N"], *, ignore: int = 0
) -> Float[Array, ""]:
    """Cross-entropy over the positions whose label is not `ignore`; none: 0."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    of_word = jnp.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
    return mean_of(-of_word, label != ignore)
