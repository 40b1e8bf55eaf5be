"""The verification view of a ranking: true against false positives over pairs."""

import dataclasses

import numpy as np
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Roc:
    """A curve from (0, 0) to (1, 1); points inside a straight run are left out."""

    fpr: Float[np.ndarray, " N"]
    tpr: Float[np.ndarray, " N"]

    @property
    def auc(self) -> float:
        """Area under the curve, by trapezoids."""
        return float(np.trapezoid(self.tpr, self.fpr))

    def tpr_at(self, fpr: float) -> float:
        """TPR of the curve's point nearest to `fpr` (the first of equally near ones)."""
        return float(self.tpr[np.argmin(np.abs(self.fpr - fpr))])


def pairs(
    distance: Float[Array | np.ndarray, "Q G"],
    query_identity: Int[Array | np.ndarray, " Q"],
    gallery_identity: Int[Array | np.ndarray, " G"],
    query_camera: Int[Array | np.ndarray, " Q"],
    gallery_camera: Int[Array | np.ndarray, " G"],
) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Distances of all pairs but those of one identity in one camera, and which are of one identity.

    Queries without a match keep their pairs, as in fast-reid.
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
    """The curve of accepting pairs by their distance.

    "usual": a pair of one identity is positive, and small distances are accepted first. "fastreid":
    a pair of DIFFERENT identities is positive, and large distances are accepted first; its
    published "TPR at FPR" figures are of this kind.

    Raises ValueError for another convention, or when one of the two kinds of pairs is absent.
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
