"""Side information (SIE): a learned vector of an image's camera, view, or pair of the two.

He et al., ICCV 2021 (TransReID). A ViT adds it to all tokens, CLIP-ReID to the class token alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Ids = Int[Array | np.ndarray, " B"]


def check_counts(cameras: int, views: int) -> None:
    """Raises ValueError for counts of 1 or below 0; 0 leaves one out."""
    for what, count in (("cameras", cameras), ("views", views)):
        if count < 0 or count == 1:
            raise ValueError(
                f"{what}={count}: side information needs at least two {what} to tell apart; "
                f"give {what}=0 to leave it out"
            )


def side_vectors(
    table: Float[Array, "pairs ..."] | None,
    cameras: int,
    views: int,
    camera: Ids | None,
    view: Ids | None,
) -> Float[Array, "B ..."] | None:
    """The row camera * views + view of the table for each image; a count of 0 leaves one out, and
    None without both.

    Out-of-range ids raise where their values are known and give NaN under jit, never another
    camera's vector.

    Raises ValueError for ids that are missing, not wanted or out of range.
    """
    index = None
    for what, ids, count in (("camera", camera, cameras), ("view", view, views)):
        if count == 0:
            if ids is not None:
                raise ValueError(
                    f"{what} ids were given, but this network was built with {what}s=0; "
                    f"build it with their number or do not pass {what}"
                )
            continue
        if ids is None:
            raise ValueError(
                f"this network was built with {what}s={count} and needs the {what} of every "
                f"image: pass {what}"
            )
        check_ids(what, ids, count)
        ids = jnp.asarray(ids, jnp.int32)
        ids = jnp.where((ids >= 0) & (ids < count), ids, -1)
        if index is None:
            index = ids
        else:
            index = jnp.where((index < 0) | (ids < 0), -1, index * count + ids)
    if index is None:
        return None
    side = jnp.take(table, jnp.maximum(index, 0), axis=0)
    return jnp.where(jnp.expand_dims(index < 0, tuple(range(1, side.ndim))), jnp.nan, side)


def check_ids(what: str, ids: Int[Array | np.ndarray, " B"], count: int) -> None:
    """Checks that `what` ("camera", "view") ids are 0 .. count-1. Does nothing on traced values.

    Raises:
      ValueError: naming the ids that are not.
    """
    if isinstance(ids, jax.core.Tracer):
        return
    ids = np.asarray(ids)
    wrong = sorted(set(ids[(ids < 0) | (ids >= count)].tolist()))
    if wrong:
        raise ValueError(
            f"{what} ids {wrong} are outside 0..{count - 1}: side information knows only the "
            f"{what}s of training, numbered from 0 without gaps"
        )
