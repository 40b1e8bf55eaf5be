"""Content of a figure, and the positions of its parts; drawing is in `figure`.

Lengths are in units: one unit is `figure.SCALE` pixels of the PNG and one CSS pixel of the page.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

FRAME = 4
"""Width of the frame around an image."""
COLUMN, GAP, MARGIN = 160, 14, 20
"""Width of a column, of the gap between columns, and of the margin."""
HIGHEST = 216
"""Maximum height of an image; wide images fill their column."""
TITLE, BAR = 62, 21
"""Heights of the figure's title and of a bar with its name."""
ABOVE, BELOW, ABOVE_MAPS, BELOW_MAPS = 60, 58, 30, 34
"""Space above and below the images of a row, for heading and captions."""
STRIP = 5
"""Ranked images of a line of a plain ranking, so that it fits a page; with attributes below it a
ranking is one line."""
LISTED, ALL_LISTED = 12, 15
"""Number of bars if there are more than `ALL_LISTED` attributes; one more bar sums up the rest."""


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """The query image."""

    image: UInt8[np.ndarray, "H W 3"]
    title: str
    maps: Float[np.ndarray, "M h w"] | None = None
    """Attention of every attribute."""


@dataclasses.dataclass(frozen=True, eq=False)
class RankedImage:
    """A gallery image in a ranking."""

    image: UInt8[np.ndarray, "H W 3"]
    title: str
    """File name and camera, for example."""
    correct: bool | None
    """True if it shows the query's person; None: unknown."""
    distance: float
    shares: Float[np.ndarray, " M"] | None = None
    """Contribution of every attribute to the distance between query and image; sums to 1."""
    exclusive: Bool[np.ndarray, " M"] | None = None
    """True for attributes in which the annotations of both images differ; None: not annotated."""
    maps: Float[np.ndarray, "M h w"] | None = None
    """Attention of every attribute."""
    rank: int | None = None
    """Its rank, if images before it are not shown; None: its place among those shown."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """A query with its ranking by the explained distance and, optionally, by the plain distance.

    Raises ValueError for an empty ranking, for shares, exclusive attributes or maps that do not match
    the number of attributes, and for shares that are negative, not finite or do not sum to 1.
    """

    query: Query
    attributes: tuple[str, ...]
    """Names of the M attributes, in words."""
    ranked: tuple[RankedImage, ...]
    """Nearest first."""
    plain: tuple[RankedImage, ...]
    """The ranking without the explainable stream; may be empty."""
    ranking: str
    """Name of the order of `ranked`."""
    dataset: str
    """Label of the dataset, printed as given."""

    def __post_init__(self) -> None:
        if not self.ranked:
            raise ValueError(f"nothing is ranked for query {self.query.title!r}; pass one or more")
        images = {f"query {self.query.title!r}": self.query}
        images |= {f"ranked[{i}] {r.title!r}": r for i, r in enumerate(self.ranked)}
        images |= {f"plain[{i}] {r.title!r}": r for i, r in enumerate(self.plain)}
        for name, item in images.items():
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
    """A rectangle, in units from the upper left corner of the figure."""

    left: int
    top: int
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """Positions of all parts of a figure."""

    width: int
    height: int
    query: Box
    ranked: tuple[Box, ...]
    plain: tuple[Box, ...]
    shown: tuple[int, ...]
    """Attributes with a row of maps, the largest mean share first; empty without maps."""
    maps: tuple[tuple[Box, ...], ...]
    """For each of `shown`: the box of the query, then of each ranked image."""
    bars: tuple[Box, ...]
    """A chart for each ranked image; empty without shares."""
    rows: tuple[Box, ...]
    """Rows from heading to last caption: ranked (one or more), plain (if any), each of `shown`, charts
    (if any)."""
    strip: int
    """Ranked images of a row."""


def layout(explanation: Explanation, *, attributes: int = 3) -> Layout:
    """Computes the boxes of images (without frames) and charts. Images keep their aspect ratio.

    Raises ValueError for a negative number of attributes.
    """
    if attributes < 0:
        raise ValueError(f"attributes is {attributes}; it is a number of rows, 0 or more")
    query, ranked, plain = explanation.query, explanation.ranked, explanation.plain
    cell = max(_fitted(item.image)[1] for item in (query, *ranked, *plain))
    strip = max(len(ranked), len(plain)) if explanation.attributes else STRIP
    # The legends need four columns.
    width = _left(max(1 + min(len(ranked), strip), 1 + len(plain), 4)) - GAP + MARGIN
    rows: list[Box] = []

    def row(above: int, height: int, below: int) -> int:
        """Adds a row; returns the top of its content, between heading and captions."""
        top = rows[-1].top + rows[-1].height if rows else TITLE
        rows.append(Box(MARGIN, top, width - 2 * MARGIN, above + height + below))
        return top + above

    def place(items: Sequence[Query | RankedImage], top: int, first: int) -> tuple[Box, ...]:
        sizes = [_fitted(item.image) for item in items]
        return tuple(
            Box(_left(first + i) + (COLUMN - w) // 2, top + (cell - h) // 2, w, h)
            for i, (w, h) in enumerate(sizes)
        )

    query_box, *ranked_boxes = place((query, *ranked[:strip]), row(ABOVE, cell, BELOW), 0)
    for start in range(strip, len(ranked), strip):
        ranked_boxes += place(ranked[start : start + strip], row(ABOVE_MAPS, cell, BELOW), 1)
    plain_boxes = place(plain, row(ABOVE, cell, BELOW), 1) if plain else ()
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
    return Layout(
        width,
        height,
        query_box,
        tuple(ranked_boxes),
        plain_boxes,
        shown,
        maps,
        bars,
        tuple(rows),
        strip,
    )


def _fitted(image: np.ndarray) -> tuple[int, int]:
    """Width and height of an image in its cell."""
    high, wide = image.shape[:2]
    scale = min((COLUMN - 2 * FRAME) / wide, HIGHEST / high)
    return max(1, round(wide * scale)), max(1, round(high * scale))


def _left(column: int) -> int:
    """Left edge of a column; the query's column has a wider gap."""
    return MARGIN + column * (COLUMN + GAP) + (GAP if column else 0)


def _largest(explanation: Explanation, count: int) -> tuple[int, ...]:
    """Attributes with the largest mean share over the ranked images; ties by position.

    Empty without shares or without maps.
    """
    shares = [item.shares for item in explanation.ranked if item.shares is not None]
    maps = [item.maps for item in (explanation.query, *explanation.ranked) if item.maps is not None]
    if not shares or not maps:
        return ()
    order = np.argsort(-np.mean(shares, axis=0, dtype=np.float64), kind="stable")
    return tuple(int(k) for k in order[:count])
