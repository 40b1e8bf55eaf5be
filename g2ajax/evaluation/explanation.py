"""Measures of how far an explanation can be trusted: attributes of pairs, and attention maps.

Pairs: are the attributes with the largest shares of a distance those in which the two people truly
differ (Chen et al., ICCV 2021, as its code runs)? Maps: do they lie on the part (pointing game:
Zhang et al., ECCV 2016; energy: Wang et al., CVPRW 2020), and does the distance depend on what they
mark (deletion and insertion: Petsiuk et al., BMVC 2018)? Each belongs beside a random map, a
uniform map and Grad-CAM (Selvaraju et al., ICCV 2017).

Arrays in, numbers out. Maps are finite; a map with other values scores 0 on every part.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray, Shaped

from g2ajax.config import nearest
from g2ajax.evaluation.bootstrap import interval
from g2ajax.retrieval.decomposition import exclusive, shares

HIGHEST = jax.lax.Precision.HIGHEST
TINY = float(jnp.finfo(jnp.float32).tiny)
SOURCES = ("attention", "random", "uniform", "grad-cam")
MODES = ("deletion", "insertion")
# Each metric of the pairs, and the count of pairs that it averages.
PAIR_METRICS = {
    "precision_exclusive": "pairs_exclusive",
    "precision_exclusive_chance": "pairs_exclusive",
    "map_exclusive": "pairs_exclusive",
    "precision_common": "pairs_common",
    "map_common": "pairs_common",
}

Sums = dict[str, Float[Array, "..."]]
AnySums = Mapping[str, float | Float[Array | np.ndarray, "..."]]


def pair_sums(
    dk: Float[Array, "Q G M"],
    query_attributes: Num[Array, "Q M"],
    gallery_attributes: Num[Array, "G M"],
    mask: Bool[Array, "Q G"] | None = None,
    *,
    overflow: float = 2.0,
    by_query: bool = False,
) -> Sums:
    """Sums over the pairs of a block; `pair_metrics` turns the sums of all blocks into means.

    Attributes (+1 / −1) are ranked by their share of the distance. Exclusive: largest first, the
    attributes in which the two differ should lead. Common: smallest first, the others should. In a
    pair without any difference a share above `overflow` / M is an error and stands at the head of
    the ranking. Precision is taken at the number of relevant attributes; `map` is the mean of
    average precisions. `precision_exclusive_chance` is the expected precision of a random order:
    the exclusive share of the pair's attributes.

    Attributes that one of the two lacks an annotation for (0) are left out of the pair's ranking.
    Equal shares rank in the order of attributes. `mask` False takes a pair out. `by_query`: sums
    [Q] over the gallery alone, for intervals.

    Memory: at its peak about 7 float32 arrays [Q, G, M], `dk` among them (two sorts and their running
    counts); nothing of a higher order. Hand in as many queries or gallery entries as that allows.
    """
    dk = dk.astype(jnp.float32)
    attributes = dk.shape[-1]
    differs = exclusive(query_attributes, gallery_attributes)
    agrees = query_attributes[:, None, :] * gallery_attributes[None, :, :] > 0
    annotated = differs | agrees
    n_differs, n_agrees = jnp.sum(differs, -1), jnp.sum(agrees, -1)

    exclusive_first = jnp.where(annotated, -dk, jnp.inf)
    precision_e, map_e = ranked_precision(exclusive_first, differs, n_differs)
    common_first = jnp.where(annotated, dk, jnp.inf)
    precision_c, map_c = ranked_precision(common_first, agrees, n_agrees)

    # Without a difference the ranking is the largest first, so the w wrong ones are at its head and
    # the average precision of the n known ones is Σ_{k=w+1..n} (k − w)/k / n: no sort is needed.
    wrong = jnp.sum(annotated & (shares(dk) > overflow / attributes), -1)
    harmonic = jnp.asarray(np.cumsum([0.0, *(1.0 / np.arange(1, attributes + 1))]), jnp.float32)
    right = (n_agrees - wrong).astype(jnp.float32)
    late = wrong * (harmonic[n_agrees] - harmonic[jnp.minimum(wrong, n_agrees)])
    count = jnp.maximum(n_agrees, 1)
    alike = n_differs == 0
    precision_c = jnp.where(alike, right / count, precision_c)
    map_c = jnp.where(alike, (right - late) / count, map_c)

    pair_mask = jnp.ones(alike.shape, bool) if mask is None else mask
    axis = 1 if by_query else None
    with_e, with_c = pair_mask & (n_differs > 0), pair_mask & (n_agrees > 0)

    def total(value: Float[Array, "Q G"], over: Bool[Array, "Q G"]) -> Float[Array, "..."]:
        return jnp.sum(jnp.where(over, value, 0.0), axis)

    return {
        "precision_exclusive": total(precision_e, with_e),
        "precision_exclusive_chance": total(
            n_differs / jnp.maximum(n_differs + n_agrees, 1), with_e
        ),
        "map_exclusive": total(map_e, with_e),
        "precision_common": total(precision_c, with_c),
        "map_common": total(map_c, with_c),
        "pairs_exclusive": jnp.sum(with_e, axis, dtype=jnp.float32),
        "pairs_common": jnp.sum(with_c, axis, dtype=jnp.float32),
    }


def ranked_precision(
    key: Float[Array, "Q G M"], relevant: Bool[Array, "Q G M"], count: Int[Array, "Q G"]
) -> tuple[Float[Array, "Q G"], Float[Array, "Q G"]]:
    """Precision at `count` and average precision of the relevant in ascending order of `key`."""
    _, relevant = jax.lax.sort((key, relevant), dimension=-1, is_stable=True, num_keys=1)
    place = jnp.arange(1, key.shape[-1] + 1)[None, None, :]
    hits = jnp.cumsum(relevant, -1, dtype=jnp.int32)
    precision = jnp.sum(relevant & (place <= count[..., None]), -1) / jnp.maximum(count, 1)
    average = jnp.sum(jnp.where(relevant, hits / place, 0.0), -1) / jnp.maximum(count, 1)
    return precision, average


def pair_metrics(*sums: AnySums) -> dict[str, float]:
    """The metrics in 0..1 of the sums of all blocks together, added in float64.

    0 if no pair counted; the sums `pairs_exclusive` and `pairs_common` count the pairs.
    """
    return {
        name: _total(sums, name) / max(_total(sums, pairs), 1.0)
        for name, pairs in PAIR_METRICS.items()
    }


def distance_gap(
    d: Float[Array, "*pairs"],
    decomposed: Float[Array, "*pairs"],
    mask: Bool[Array, "*pairs"] | None = None,
) -> Sums:
    """Sums of |d − decomposed| / d over the pairs with d > 0, and of these pairs: their quotient is the
    average relative error of the decomposition (the paper's ADRE).

    `decomposed` is the mean (or sum) of d^k, whichever the distillation loss compares with d.
    """
    d, decomposed = d.astype(jnp.float32), decomposed.astype(jnp.float32)
    valid = d > 0 if mask is None else mask & (d > 0)
    gap = jnp.abs(d - decomposed) / jnp.where(valid, d, 1.0)
    return {"gap": jnp.sum(jnp.where(valid, gap, 0.0)), "pairs": jnp.sum(valid, dtype=jnp.float32)}


def _total(sums: Sequence[AnySums], name: str) -> float:
    return float(sum(np.sum(np.asarray(block[name], np.float64)) for block in sums))


def resize_maps(
    maps: Float[Array | np.ndarray, "N h w"], size: tuple[int, int]
) -> Float[Array, "N H W"]:
    """Bilinear with half-pixel centres, edges repeated, no smoothing when shrinking.

    Written as a + t (b − a), so that a constant map stays exactly constant: whether maxima are
    equal decides the pointing game.
    """
    maps = jnp.asarray(maps, jnp.float32)
    for axis, length in ((1, size[0]), (2, size[1])):
        have = maps.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * have / length - 0.5, 0, have - 1)
        low = np.floor(at).astype(np.int32)
        high = np.minimum(low + 1, have - 1)
        share = np.expand_dims((at - low).astype(np.float32), (0, 3 - axis))
        start, end = jnp.take(maps, low, axis), jnp.take(maps, high, axis)
        maps = start + share * (end - start)
    return maps


def pointing_game(
    maps: Float[Array | np.ndarray, "N H W"], parts: Bool[Array | np.ndarray, "N H W"]
) -> Float[Array, " N"]:
    """1 if the map's maximum lies on the part, 0 if not, NaN for an empty part.

    Among equal maxima the fraction on the part counts: a constant map scores the part's share of the
    image.
    """
    maps, parts = jnp.asarray(maps, jnp.float32), jnp.asarray(parts)
    peak = maps == jnp.max(maps, (1, 2), keepdims=True)
    score = jnp.sum(peak & parts, (1, 2)) / jnp.maximum(jnp.sum(peak, (1, 2)), 1)
    return jnp.where(jnp.any(parts, (1, 2)), score, jnp.nan)


def energy_inside(
    maps: Float[Array | np.ndarray, "N H W"], parts: Bool[Array | np.ndarray, "N H W"]
) -> Float[Array, " N"]:
    """The fraction of the map's sum that lies on the part, NaN for an empty part.

    Negative entries count as 0; an all-zero map scores the part's share of the image.
    """
    maps, parts = jnp.maximum(jnp.asarray(maps, jnp.float32), 0.0), jnp.asarray(parts)
    # Divided before the sum, which a large map would overflow.
    maps = maps / (maps.shape[1] * maps.shape[2])
    inside = jnp.sum(jnp.where(parts, maps, 0.0), (1, 2))
    total = inside + jnp.sum(jnp.where(parts, 0.0, maps), (1, 2))
    score = jnp.where(jnp.isfinite(total) & (total > 0), inside / jnp.maximum(total, TINY), 0.0)
    score = jnp.where(total == 0, jnp.mean(parts, (1, 2), dtype=jnp.float32), score)
    return jnp.where(jnp.any(parts, (1, 2)), score, jnp.nan)


def pixel_ranks(maps: Float[Array | np.ndarray, "N H W"], key: PRNGKeyArray) -> Int[Array, "N H W"]:
    """The rank of every pixel, 0 for the highest; equal ones in a pseudo-random order of positions.

    The order depends on `key` alone and is the same for all images, so a constant map ranks at
    random and no image depends on its neighbours in the batch.
    """
    images, height, width = maps.shape
    pixels = height * width
    order = jnp.broadcast_to(jax.random.permutation(key, pixels)[None], (images, pixels))
    falling = -jnp.asarray(maps, jnp.float32).reshape(images, pixels)
    # Shuffle, sort stably, and undo: position order[i] has the i-th place of the shuffle.
    shuffled = jnp.take_along_axis(falling, order, 1)
    _, sorted_positions = jax.lax.sort((shuffled, order), dimension=1, is_stable=True, num_keys=1)
    return jnp.argsort(sorted_positions, axis=1).astype(jnp.int32).reshape(maps.shape)


def occlude(
    images: Shaped[Array | np.ndarray, "N H W 3"],
    ranks: Int[Array, "N H W"],
    fraction: float | int | Float[Array, ""],
    fill: float | int | Num[Array | np.ndarray, "..."],
    mode: str,
) -> Shaped[Array, "N H W 3"]:
    """Images without the `fraction` of pixels ranked highest by `pixel_ranks`, or with those alone.

    "deletion" replaces exactly round(fraction · H · W) pixels by `fill` (a value, or anything that
    broadcasts to the images: a colour, blurred images); "insertion" keeps exactly these and
    replaces the others. Raises ValueError for another mode and for a fraction outside 0..1.
    """
    if mode not in MODES:
        raise ValueError(f"occlusion mode {mode!r} is unknown; {nearest(mode, MODES)}")
    pixels = ranks.shape[1] * ranks.shape[2]
    if isinstance(fraction, float | int):
        if not 0 <= fraction <= 1:
            raise ValueError(f"the fraction of occluded pixels is {fraction}; expected 0..1")
        count = round(fraction * pixels)
    else:
        count = jnp.round(fraction * pixels)
    top = (ranks < count)[..., None]
    images = jnp.asarray(images)
    filled = jnp.broadcast_to(jnp.asarray(fill).astype(images.dtype), images.shape)
    return jnp.where(top, filled, images) if mode == "deletion" else jnp.where(top, images, filled)


def curve_area(
    values: Float[Array | np.ndarray, "*curves S"], fractions: Float[Array | np.ndarray, " S"]
) -> Float[Array, "*curves"]:
    """The area under a curve over fractions (trapezoids); over 0..1 it is the mean height."""
    values, fractions = jnp.asarray(values, jnp.float32), jnp.asarray(fractions, jnp.float32)
    width = jnp.diff(fractions).reshape((1,) * (values.ndim - 1) + (-1,))
    return jnp.sum((values[..., 1:] + values[..., :-1]) / 2.0 * width, -1)


def random_maps(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Maps of independent values, uniform in 0..1: a map that knows nothing but points somewhere."""
    return jax.random.uniform(key, shape, jnp.float32)


def uniform_maps(shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Constant maps, which score by the size of a part alone."""
    return jnp.ones(shape, jnp.float32)


def gradcam(
    features: Float[Array, "N h w C"], gradients: Float[Array, "N h w C"]
) -> Float[Array, "N h w"]:
    """Grad-CAM: relu(Σ_c mean_hw(gradient_c) · feature_c), not rescaled.

    `gradients` are those of the score to be explained by `features`; for a distance, hand in the
    gradient of its negative to mark what makes two images alike.
    """
    weight = jnp.mean(gradients.astype(jnp.float32), (1, 2))
    features = features.astype(jnp.float32)
    return jax.nn.relu(jnp.einsum("nhwc,nc->nhw", features, weight, precision=HIGHEST))


@dataclasses.dataclass(frozen=True)
class Measure:
    """One measure of one source of maps on one part."""

    part: str
    """"bag", "head", …"""
    measure: str
    """"pointing game", "energy inside part", "deletion", "insertion", …"""
    source: str
    """"attention", or a baseline: "random", "uniform", "grad-cam"."""
    value: float
    """The mean over images, not in percent."""
    interval: tuple[float, float]
    """95% interval, bootstrap over identities."""
    images: int
    """Number of images averaged: those on which the part is visible."""


def summarise(
    values: Float[np.ndarray, " N"],
    identities: Int[np.ndarray, " N"],
    *,
    part: str,
    measure: str,
    source: str,
    samples: int = 1000,
    seed: int = 0,
) -> Measure | None:
    """The mean of an image's values and its interval; NaN values (empty parts) are left out.

    None if no image has a value. Raises ValueError for an infinite one.
    """
    if np.isinf(values).any():
        raise ValueError(
            f"{measure} of {part} ({source}): {np.isinf(values).sum()} of {len(values)} values are "
            "infinite; expected numbers, or NaN for images without the part"
        )
    valid = ~np.isnan(values)
    if not valid.any():
        return None
    values = values[valid].astype(np.float64)
    bounds = interval(values, identities[valid], samples=samples, seed=seed)
    return Measure(part, measure, source, float(values.mean()), bounds, len(values))


def as_rows(measures: Sequence[Measure]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table: one row for each (part, measure), the sources side by side.

    Sources stand in the order of `SOURCES`, others after them; one that was not measured is "–".
    The last cell counts the images, as "3–5" if the sources do not agree. Raises ValueError if a
    source is there twice.
    """
    table: dict[tuple[str, str], dict[str, Measure]] = {}
    for entry in measures:
        row = table.setdefault((entry.part, entry.measure), {})
        if entry.source in row:
            raise ValueError(f"{entry.measure} of {entry.part} has two values of {entry.source!r}")
        row[entry.source] = entry
    names = dict.fromkeys(entry.source for entry in measures)
    sources = [
        *(name for name in SOURCES if name in names),
        *(n for n in names if n not in SOURCES),
    ]
    head = ["part", "measure", *(f"{source} [95%]" for source in sources), "images"]
    rows = []
    for (part, measure), row in table.items():
        cells = [_cell(row[source]) if source in row else "–" for source in sources]
        counts = sorted({entry.images for entry in row.values()})
        rows.append([part, measure, *cells, "–".join(map(str, counts[:1] + counts[1:][-1:]))])
    return head, rows


def _cell(measure: Measure) -> str:
    low, high = measure.interval
    return f"{measure.value:.3f} [{low:.3f}, {high:.3f}]"
