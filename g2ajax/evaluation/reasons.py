"""Reasons of a distance by groups of attributes, relative to their usual share.

A group's share of a distance is the sum over its classes, those called "unknown" left out. Rare
attributes have larger shares in every distance, so a share is compared with those of the same query's
other distances: a group stands out where it is far above its mean over the gallery. Plain shares
would name the groups with many classes in every pair, and these are also the groups in which most
people differ: they beat a random order without looking at the pair (`group_precision` of their mean).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g2ajax.evaluation.explanation import ranked_precision
from g2ajax.retrieval.decomposition import shares

UNKNOWN = "unknown"
"""Class of people whose attribute could not be told; no reason for a distance."""
STANDS_OUT = 1.5
"""Standard deviations above its mean from which a group's share stands out."""
LARGER = 1.05
"""Ratio to its mean that such a share has at least: among shares that hardly vary none stands out."""
MOST = 3
"""Most reasons of a distance."""

Groups = Sequence[tuple[str, Sequence[str]]]


class Unusual(NamedTuple):
    """Shares of a query's distances relative to the usual ones."""

    ratio: Float[np.ndarray, "N G"]
    """Share divided by its mean over the gallery."""
    deviation: Float[np.ndarray, "N G"]
    """Standard deviations between the share and that mean."""


def group_shares(
    distance: Float[Array | np.ndarray, "*pairs M"], groups: Groups
) -> Float[np.ndarray, "*pairs G"]:
    """The share of each group in the distances of the known classes; they sum to 1.

    `distance`: the distance under each class of each group. A group of unknown classes alone has 0.
    """
    known = np.array([name != UNKNOWN for _, names in groups for name in names])
    owner = np.repeat(np.arange(len(groups)), [len(names) for _, names in groups])
    of_classes = np.asarray(shares(jnp.asarray(distance)[..., known]))
    member = owner[known][:, None] == np.arange(len(groups))[None]
    return of_classes @ member.astype(np.float32)


def unusual(share: Float[np.ndarray, "N G"], kept: Bool[np.ndarray, " N"]) -> Unusual:
    """Compares the shares of one query's distances with their mean over the gallery.

    `kept`: entries that count for mean and spread. A group whose share never changes has deviation 0.
    """
    mean, spread = share[kept].mean(0), share[kept].std(0)
    ratio = np.divide(share, mean, out=np.ones_like(share), where=mean > 0)
    # Shares of float32 that are equal differ by rounding.
    varies = spread > 1e-6
    deviation = np.divide(share - mean, spread, out=np.zeros_like(share), where=varies)
    return Unusual(ratio, deviation)


def telling(groups: Groups, rates: Sequence[float] = ()) -> Bool[np.ndarray, " G"]:
    """True for the groups in which the people of the training differ: two known classes or more occur.

    `rates`: for each class of each group the share of the people who have it; without them a group
    needs two known classes. Any other group has taught the model nothing.
    """
    classes = [(k, name) for k, (_, names) in enumerate(groups) for name in names]
    count = np.zeros(len(groups), int)
    for (group, name), rate in zip(classes, rates or [1.0] * len(classes), strict=True):
        count[group] += name != UNKNOWN and rate > 0
    return count > 1


def standing_out(relative: Unusual, eligible: Bool[np.ndarray, " G"]) -> Bool[np.ndarray, "N G"]:
    """The groups that are the reasons of each distance: the `MOST` that stand out most.

    `eligible`: groups that may be reasons, as from `telling`.
    """
    far = (relative.deviation >= STANDS_OUT) & (relative.ratio >= LARGER) & eligible[None]
    order = np.argsort(np.where(far, -relative.deviation, np.inf), axis=1, kind="stable")
    return far & (np.argsort(order, axis=1) < MOST)


def strongest(relative: Unusual, eligible: Bool[np.ndarray, " G"]) -> list[list[int]]:
    """The reasons of each distance, the strongest first."""
    chosen = standing_out(relative, eligible)
    order = np.argsort(-relative.deviation, axis=1, kind="stable")
    return [[int(k) for k in row if own[k]] for row, own in zip(order, chosen, strict=True)]


def known_codes(codes: Int[np.ndarray, "N G"], groups: Groups) -> Int[np.ndarray, "N G"]:
    """Class codes with -1 in place of "unknown"."""
    result = codes.astype(np.int64)
    for column, (_, names) in enumerate(groups):
        for code, name in enumerate(names):
            if name == UNKNOWN:
                result[result[:, column] == code, column] = -1
    return result


def group_precision(
    score: Float[np.ndarray, "Q N G"],
    query: Int[np.ndarray, "Q G"],
    gallery: Int[np.ndarray, "N G"],
    mask: Bool[np.ndarray, "Q N"],
) -> tuple[Float[np.ndarray, " Q"], Float[np.ndarray, " Q"]]:
    """Precision at M_E by groups and its value for a random order: the mean over each query's pairs.

    M_E is the number of groups in which the two people are annotated differently; the precision is the
    share of these among the M_E groups with the largest scores. `query`, `gallery`: codes as from
    `known_codes`; groups that one of the two lacks are left out. NaN for a query without pairs that
    differ. `mask` False takes a pair out.
    """
    precision, chance = (np.full(len(score), np.nan) for _ in range(2))
    for row in range(len(score)):
        annotated = (query[row] >= 0)[None] & (gallery >= 0)
        differs = annotated & (query[row][None] != gallery)
        count = differs.sum(1)
        counts = mask[row] & (count > 0)
        if not counts.any():
            continue
        key = jnp.asarray(np.where(annotated, -score[row], np.inf), jnp.float32)
        value, _ = ranked_precision(key[None], jnp.asarray(differs)[None], jnp.asarray(count)[None])
        precision[row] = float(np.asarray(value)[0][counts].mean())
        chance[row] = float((count / np.maximum(annotated.sum(1), 1))[counts].mean())
    return precision, chance


class Truth(NamedTuple):
    """How many of the reasons named for a query's pairs are true, by group."""

    named: Int[np.ndarray, "Q G"]
    """Pairs for which the group is a reason."""
    true: Int[np.ndarray, "Q G"]
    """Those of them that are annotated differently in the group."""
    expected: Float[np.ndarray, "Q G"]
    """Those that would be if the same groups were named for pairs drawn at random."""

    def precision(self, group: int | None = None) -> tuple[Float[np.ndarray, " Q"], ...]:
        """The share of each query's reasons that are true, and its value for pairs drawn at random; of
        one group, or of all. NaN for a query without reasons.
        """
        parts = slice(None) if group is None else slice(group, group + 1)
        named, true, expected = (np.asarray(x[:, parts].sum(1), float) for x in self)
        nothing = np.full(len(named), np.nan)
        return tuple(
            np.divide(x, named, out=nothing.copy(), where=named > 0) for x in (true, expected)
        )


def truth(
    chosen: Bool[np.ndarray, "Q N G"],
    query: Int[np.ndarray, "Q G"],
    gallery: Int[np.ndarray, "N G"],
    mask: Bool[np.ndarray, "Q N"],
) -> Truth:
    """Counts the reasons (`standing_out`) that name a group in which the two people are annotated
    differently.

    Codes and `mask` as in `group_precision`; pairs that differ in no group, and groups that one of
    the two lacks, do not count. At random: how often the query's other pairs differ in the same group,
    so that reasons do not win by naming groups in which most people differ.
    """
    columns: list[list[np.ndarray]] = [[], [], []]
    for row in range(len(chosen)):
        annotated = (query[row] >= 0)[None] & (gallery >= 0)
        differs = annotated & (query[row][None] != gallery)
        counts = annotated & (mask[row] & differs.any(1))[:, None]
        named = (chosen[row] & counts).sum(0)
        rate = (differs & counts).sum(0) / np.maximum(counts.sum(0), 1)
        values = named, (chosen[row] & counts & differs).sum(0), named * rate
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return Truth(*(np.stack(column) for column in columns))
