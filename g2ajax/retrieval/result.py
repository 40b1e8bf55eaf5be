"""The scores of ranked lists, with their values for each query."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from g2ajax.retrieval.inputs import Whole, count


@dataclasses.dataclass(frozen=True, repr=False)
class RetrievalResult:
    """Scores in 0..1 over the valid queries: those with a match that the filter leaves in the gallery."""

    mAP: float
    mINP: float
    cmc: Float[np.ndarray, " K"]
    """Share of valid queries with a match within rank k, at index k − 1."""
    valid: Bool[np.ndarray, " Q"]
    average_precision: Float[np.ndarray, " Q"]
    """NaN for invalid queries; likewise below."""
    inverse_negative_penalty: Float[np.ndarray, " Q"]
    first_match: Int[np.ndarray, " Q"]
    """Rank (from 1) of the first match in the whole list; 0 for invalid queries."""
    shots: Float[np.ndarray, "Q K"] | None = None
    """CMC of each query under the rule single-gallery-shot; None under the standard rule."""
    top: Int[np.ndarray, "Q T"] | None = None
    """First gallery entries of each ranking, without dropped entries; −1 beyond the end of the ranking
    and for invalid queries. None unless `top` is set."""
    top_distance: Float[np.ndarray, "Q T"] | None = None
    match: Int[np.ndarray, " Q"] | None = None
    """Gallery entry of the first match; −1 for invalid queries. None unless `top` is set."""
    match_distance: Float[np.ndarray, " Q"] | None = None
    gallery: int | None = None
    """Number of gallery entries."""
    match_ranks: tuple[Int[np.ndarray, " _M"], ...] | None = None
    """Ranks (from 1) of all matches of each query, ascending; empty for invalid queries. None unless
    `top` is set."""
    match_entries: tuple[Int[np.ndarray, " _M"], ...] | None = None
    """The gallery entries at these ranks."""
    listed: Int[np.ndarray, " Q"] | None = None
    """Number of entries in each ranking, without dropped entries. None unless `top` is set."""

    def __repr__(self) -> str:
        scores = f"mAP={self.mAP:.4f}, rank-1={self.rank(1):.4f}, mINP={self.mINP:.4f}"
        entries = "" if self.gallery is None else f", {self.gallery} gallery entries"
        return (
            f"RetrievalResult({scores}, {self.valid.sum()} of {len(self.valid)} queries "
            f"valid{entries})"
        )

    def rank(self, k: Whole) -> float:
        """CMC at rank `k`; beyond the gallery it keeps its last value.

        Raises ValueError unless `k` is a whole number from 1 on, and under the rule
        single-gallery-shot for ranks that were not computed.
        """
        k = self._checked_rank(k)
        if k <= len(self.cmc):
            return float(self.cmc[k - 1])
        return float(self.hits(k)[self.valid].mean())

    def hits(self, k: Whole) -> Float[np.ndarray, " Q"]:
        """CMC of each query at rank `k`: 1 or 0, or a share of draws; NaN for invalid queries.

        Raises ValueError as `rank` does.
        """
        k = self._checked_rank(k)
        if self.shots is None:
            return np.where(self.valid, (self.first_match <= k).astype(np.float64), np.nan)
        if k <= self.shots.shape[1]:
            return self.shots[:, k - 1]
        return np.where(self.valid, 1.0, np.nan)

    def _checked_rank(self, k: Whole) -> int:
        most = "" if self.gallery is None else f" to {self.gallery}, the gallery's entries"
        try:
            rank = count("rank", k)
        except ValueError as error:
            raise ValueError(f"rank {k!r}: expected a whole number from 1{most}") from error
        if self.shots is not None and rank > self.shots.shape[1]:
            complete = (self.shots[self.valid, -1] == 1.0).all()
            if not complete and rank < (self.gallery or np.inf):
                raise ValueError(
                    f"rank {rank} was not computed, only ranks 1 to {self.shots.shape[1]}; pass "
                    f"ranks={rank} to the evaluation"
                )
        return rank
