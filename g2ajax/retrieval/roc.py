"""ROC curves: verification of pairs by their distance."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Shaped

from g2ajax.retrieval.inputs import Distances, read_distances
from g2ajax.retrieval.labels import Flags, Labels, camera_pair, flags, label_pair


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
    distance: Distances,
    query_identity: Labels,
    gallery_identity: Labels,
    query_camera: Labels | None = None,
    gallery_camera: Labels | None = None,
) -> tuple[Shaped[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Distances of the pairs to verify, and whether each shows one identity.

    Pairs of one identity in one camera are left out; none are without cameras. Queries without a match
    keep their pairs, as in fast-reid.

    Raises ValueError for distances that are not [Q, G] or hold NaN, and for labels that do not fit them
    or are of different kinds.
    """
    distance = read_distances(distance)
    if distance.ndim != 2:
        raise ValueError(f"distances have shape {distance.shape}; expected [Q, G]")
    identity = label_pair(query_identity, gallery_identity, distance.shape, "identity")
    camera = camera_pair(query_camera, gallery_camera, distance.shape)
    same = identity.query[:, None] == identity.gallery[None, :]
    if camera is None:
        return distance.ravel(), same.ravel()
    kept = ~(same & (camera.query[:, None] == camera.gallery[None, :]))
    return distance[kept], same[kept]


def roc(
    distance: Distances,
    same: Flags,
    *,
    convention: str = "usual",
) -> Roc:
    """ROC curve of accepting pairs by their distance.

    `distance`: one a pair, [N]; `same`: whether the pair shows one identity, [N].

    `convention`: with "usual", pairs of one identity are positive and small distances are accepted
    first. With "fastreid", pairs of different identities are positive and large distances are
    accepted first; fast-reid's published "TPR at FPR" figures use it.

    Raises ValueError for another convention, for NaN, for arrays that do not fit, and when one of the two
    kinds of pairs is missing.
    """
    if convention not in ("usual", "fastreid"):
        raise ValueError(f"convention {convention!r}: expected 'usual' or 'fastreid'")
    distance = read_distances(distance)
    if distance.ndim != 1:
        raise ValueError(f"distances have shape {distance.shape}; expected one a pair, [N]")
    same = flags(same, len(distance), "same")
    if same.all() or not same.any():
        raise ValueError("a curve needs pairs of one identity and pairs of two")
    order = np.argsort(distance, kind="stable")
    if convention == "fastreid":
        order, same = order[::-1], ~same
    accepted, positive = distance[order], same[order]
    last_of_ties = np.append(np.flatnonzero(accepted[1:] != accepted[:-1]), len(accepted) - 1)
    true = np.cumsum(positive)[last_of_ties]
    false = 1 + last_of_ties - true
    bends = (np.diff(true, 2) != 0) | (np.diff(false, 2) != 0)
    corner = np.concatenate([[True], bends, [True]]) if len(true) > 1 else np.array([True])
    true, false = true[corner], false[corner]
    return Roc(
        fpr=np.concatenate([[0.0], false / false[-1]]), tpr=np.concatenate([[0.0], true / true[-1]])
    )
