"""ROC curves: verification of pairs by their distance."""

import dataclasses

import numpy as np
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Roc:
    """A curve from (0, 0) to (1, 1), without the inner points of straight segments."""

    fpr: Float[np.ndarray, " N"]
    tpr: Float[np.ndarray, " N"]

    @property
    def auc(self) -> float:
        """Area under the curve, by trapezoids."""
        return float(np.trapezoid(self.tpr, self.fpr))

    def tpr_at(self, fpr: float) -> float:
        """TPR at the point of the curve nearest to `fpr` (the first one if several are)."""
        return float(self.tpr[np.argmin(np.abs(self.fpr - fpr))])


def pairs(
    distance: Float[Array | np.ndarray, "Q G"],
    query_identity: Int[Array | np.ndarray, " Q"],
    gallery_identity: Int[Array | np.ndarray, " G"],
    query_camera: Int[Array | np.ndarray, " Q"],
    gallery_camera: Int[Array | np.ndarray, " G"],
) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Distances of the pairs to verify, and whether each shows one identity.

    Pairs of one identity in one camera are left out. Queries without a match keep their pairs, as in
    fast-reid.
    """
    distance = np.asarray(distance)
    same = np.asarray(query_identity)[:, None] == np.asarray(gallery_identity)[None, :]
    camera = np.asarray(query_camera)[:, None] == np.asarray(gallery_camera)[None, :]
    kept = ~(same & camera)
    return distance[kept], same[kept]


def roc(
    distance: Float[np.ndarray, " N"],
    same: Bool[np.ndarray, " N"],
    *,
    convention: str = "usual",
) -> Roc:
    """ROC curve of accepting pairs by their distance.

    `convention`: with "usual", pairs of one identity are positive and small distances are accepted
    first. With "fastreid", pairs of different identities are positive and large distances are
    accepted first; fast-reid's published "TPR at FPR" figures use it.

    Raises ValueError for another convention, and when one of the two kinds of pairs is missing.
    """
    if convention not in ("usual", "fastreid"):
        raise ValueError(f"convention {convention!r}: expected 'usual' or 'fastreid'")
    if same.all() or not same.any():
        raise ValueError("a curve needs pairs of one identity and pairs of two")
    score, positive = (-distance, same) if convention == "usual" else (distance, ~same)
    order = np.argsort(-score, kind="stable")
    score, positive = score[order], positive[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    true = np.cumsum(positive)[last_of_ties]
    false = 1 + last_of_ties - true
    bends = (np.diff(true, 2) != 0) | (np.diff(false, 2) != 0)
    corner = np.concatenate([[True], bends, [True]]) if len(true) > 1 else np.array([True])
    true, false = true[corner], false[corner]
    return Roc(
        fpr=np.concatenate([[0.0], false / false[-1]]), tpr=np.concatenate([[0.0], true / true[-1]])
    )
