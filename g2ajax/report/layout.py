"""What a figure explains, and where everything stands in it. Draws nothing.

Lengths are units: one unit is `figure.SCALE` pixels of the PNG and one CSS pixel of the page.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

FRAME = 4
"""Width of the frame around an image."""
COLUMN, GAP, MARGIN = 160, 14, 20
"""Widths of a column, between two columns, and around all."""
HIGHEST = 216
"""Height of the highest image; wide ones fill their column."""
TITLE, BAR = 62, 21
"""Heights of the figure's title and of one bar with its name."""
ABOVE, BELOW, ABOVE_MAPS, BELOW_MAPS = 60, 48, 30, 34
"""Room over and under the images of a row, for heading and captions."""
LISTED, ALL_LISTED = 12, 15
"""Bars where there are more than `ALL_LISTED` attributes; a bar more for the others."""


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """The image that was asked for."""

    image: UInt8[np.ndarray, "H W 3"]
    title: str
    maps: Float[np.ndarray, "M h w"] | None = None
    """Attention of every attribute."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ranked:
    """One gallery image of a ranking."""

    image: UInt8[np.ndarray, "H W 3"]
    title: str
    """For example file name and camera."""
    correct: bool | None
    """Whether it shows the query's person; None: not known."""
    distance: float
    shares: Float[np.ndarray, " M"] | None = None
    """Contribution of every attribute to the distance between query and image; they sum to 1."""
    exclusive: Bool[np.ndarray, " M"] | None = None
    """Attributes in which the annotations of the two images differ; None: no annotation."""
    maps: Float[np.ndarray, "M h w"] | None = None
    """Attention of every attribute."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """A query with its ranking by the explained distance, and the ranking without the explanation.

    Raises ValueError for an empty ranking, for shares, exclusive attributes or maps of another
    number than the names, and for shares that are negative, not finite or do not sum to 1.
    """

    query: Query
    attributes: tuple[str, ...]
    """Names of the M attributes, in words."""
    ranked: tuple[Ranked, ...]
    """Nearest first."""
    plain: tuple[Ranked, ...]
    """The ranking without the explainable stream; may be empty."""
    ranking: str
    """What `ranked` is ordered by."""
    dataset: str
    """Label of the dataset, shown as given."""

    def __post_init__(self) -> None:
        if not self.ranked:
            raise ValueError(f"nothing is ranked for query {self.query.title!r}; pass one or more")
        where = {f"query {self.query.title!r}": self.query}
        where |= {f"ranked[{i}] {r.title!r}": r for i, r in enumerate(self.ranked)}
        where |= {f"plain[{i}] {r.title!r}": r for i, r in enumerate(self.plain)}
        for name, item in where.items():
            if min(item.image.shape[:2]) < 1:
                raise ValueError(f"{name}: an image of shape {item.image.shape} has no pixels")
            for field in ("shares", "exclusive", "maps"):
                value = getattr(item, field, None)
                if value is not None and len(value) != len(self.attributes):
                    raise ValueError(
                        f"{name}: {field} of length {len(value)} for {len(self.attributes)} "
                        "attribute names; pass one an attribute, in the order of the names"
                    )
            shares = getattr(item, "shares", None)
            if shares is not None and not (
                np.isfinite(shares).all() and (shares >= 0).all() and abs(shares.sum() - 1) < 1e-2
            ):
                raise ValueError(
                    f"{name}: shares from {shares.min():.4g} to {shares.max():.4g} with sum "
                    f"{shares.sum():.4g}; pass d^k / sum_k d^k, which are ≥ 0 and sum to 1"
                )


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle in units from the upper left corner of the figure."""

    left: int
    top: int
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything stands."""

    width: int
    height: int
    query: Box
    ranked: tuple[Box, ...]
    plain: tuple[Box, ...]
    shown: tuple[int, ...]
    """Attributes that have a row of maps, the largest mean share first; none without maps."""
    maps: tuple[tuple[Box, ...], ...]
    """For each of `shown`: the query's box, then one a ranked image."""
    bars: tuple[Box, ...]
    """One chart a ranked image; empty without shares."""
    rows: tuple[Box, ...]
    """From heading to last caption: ranked, plain (if any), each of `shown`, charts (if any)."""


def layout(explanation: Explanation, *, attributes: int = 3) -> Layout:
    """Boxes of the images (without frames) and charts. Images keep their aspect.

    Raises ValueError for a negative number of attributes.
    """
    if attributes < 0:
        raise ValueError(f"attributes is {attributes}; it is a number of rows, 0 or more")
    query, ranked, plain = explanation.query, explanation.ranked, explanation.plain
    cell = max(_fitted(item.image)[1] for item in (query, *ranked, *plain))
    # The legends need the width of four columns.
    width = _left(max(1 + len(ranked), 1 + len(plain), 4)) - GAP + MARGIN
    rows: list[Box] = []

    def row(above: int, height: int, below: int) -> int:
        """Adds a row; the top of what stands between its heading and its captions."""
        top = rows[-1].top + rows[-1].height if rows else TITLE
        rows.append(Box(MARGIN, top, width - 2 * MARGIN, above + height + below))
        return top + above

    def place(items: Sequence[Query | Ranked], top: int, first: int) -> tuple[Box, ...]:
        sizes = [_fitted(item.image) for item in items]
        return tuple(
            Box(_left(first + i) + (COLUMN - w) // 2, top + (cell - h) // 2, w, h)
            for i, (w, h) in enumerate(sizes)
        )

    asked, *found = place((query, *ranked), row(ABOVE, cell, BELOW), 0)
    others = place(plain, row(ABOVE, cell, BELOW), 1) if plain else ()
    shown = _largest(explanation, attributes)
    maps = tuple(place((query, *ranked), row(ABOVE_MAPS, cell, BELOW_MAPS), 0) for _ in shown)
    bars: tuple[Box, ...] = ()
    if any(item.shares is not None for item in ranked):
        count = len(explanation.attributes)
        height = BAR * (count if count <= ALL_LISTED else LISTED + 1)
        # The legend beside the charts has three lines.
        height = max(height, 3 * BAR)
        top = row(ABOVE_MAPS, height, BELOW_MAPS)
        bars = tuple(Box(_left(1 + i), top, COLUMN, height) for i in range(len(ranked)))
    height = rows[-1].top + rows[-1].height
    return Layout(width, height, asked, tuple(found), others, shown, maps, bars, tuple(rows))


def _fitted(image: np.ndarray) -> tuple[int, int]:
    """Width and height of an image in its cell."""
    high, wide = image.shape[:2]
    share = min((COLUMN - 2 * FRAME) / wide, HIGHEST / high)
    return max(1, round(wide * share)), max(1, round(high * share))


def _left(column: int) -> int:
    """Left edge of a column; the query's stands a little apart."""
    return MARGIN + column * (COLUMN + GAP) + (GAP if column else 0)


def _largest(explanation: Explanation, count: int) -> tuple[int, ...]:
    """The attributes with the largest mean share over the ranked images; ties by position.

    None where there is nothing to show of them.
    """
    shares = [item.shares for item in explanation.ranked if item.shares is not None]
    maps = [item.maps for item in (explanation.query, *explanation.ranked) if item.maps is not None]
    if not shares or not maps:
        return ()
    order = np.argsort(-np.mean(shares, axis=0, dtype=np.float64), kind="stable")
    return tuple(int(k) for k in order[:count])
