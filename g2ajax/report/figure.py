"""The figure of one explained query: ranked images, attention maps, contributions of attributes.

After Fig. 5 of "Aerial-Ground Person Re-ID" (AG-ReID, Nguyen et al., ICME 2023) and the maps of
"Explainable Person Re-Identification with Attribute-guided Metric Distillation" (AMD, Chen et al.,
ICCV 2021). Lengths here are units: one unit is `SCALE` pixels of the PNG and one CSS pixel of the
page. Places come from `layout`, which draws nothing.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.transforms import IdentityTransform
from PIL import Image

SCALE = 2
FRAME = 4
"""Width of the frame around an image, in units."""
COLOURS: Mapping[bool | None, tuple[int, int, int]] = {
    True: (26, 152, 80),
    False: (214, 39, 40),
    None: (140, 140, 140),
}
"""Frame of a ranked image, by `Ranked.correct`."""
SIGNS: Mapping[bool | None, str] = {True: "✓", False: "✗", None: "?"}
EXCLUSIVE, COMMON, REST = "#d9730d", "#4c78a8", "#b0b0b0"
"""Colours of the bars."""
MARK = "◆"
"""Stands before an exclusive attribute, so that colour is not the only sign."""
LISTED = 12
"""Bars shown where there are more than `ALL_LISTED` attributes."""
ALL_LISTED = 15

_LEGEND = "✓ green: the query's person   ✗ red: another person   ? grey: not known   d: distance"
_INK, _FAINT = "#1a1a1a", "#5f5f5f"
_COLUMN, _GAP, _MARGIN = 148, 14, 20
_HIGHEST = 230
_TITLE, _BAR = 62, 21
_ABOVE, _BELOW, _ABOVE_MAPS, _BELOW_MAPS = 56, 48, 30, 32
"""Room over and under the images of a row: heading and captions."""
_TEXT, _SMALL = 11.0, 10.0

_GROUPS = {
    "ethnic": "ethnicity",
    "haircolor": "hair colour",
    "hairstyle": "hair style",
}
_NAMES = {
    "gender": {},
    "age": {"middle": "middle-aged"},
    "height": {},
    "weight": {},
    "ethnic": {"asian": "Asian", "india": "Indian"},
    "haircolor": {},
    "hairstyle": {"horsetail": "ponytail"},
    "beard": {"on": "yes", "off": "no"},
    "moustache": {"on": "yes", "off": "no"},
    "glasses": {"normal": "ordinary", "sun": "sunglasses", "off": "none"},
    "head": {"neckless": "necklace"},
    "upper": {"tshirt": "T-shirt", "cardiga": "cardigan"},
    "lower": {"leggins": "leggings"},
    "feet": {"sportshoe": "sport shoe", "classicshoe": "classic shoe", "highheels": "high heels"},
    "bag": {
        "normal": "ordinary",
        "rolling": "rolling bag",
        "sportif": "sports bag",
        "market": "market bag",
        "nothing": "none",
    },
}


def words(group: str, name: str = "") -> str:
    """An attribute column in words: ("upper", "tshirt") → "upper: T-shirt".

    AG-ReID's spellings are written out; any other group and name stay as they are. Without a name it
    is the group alone, without a group the name alone.
    """
    name = _NAMES.get(group, {}).get(name, name)
    return ": ".join(part for part in (_GROUPS.get(group, group), name) if part)


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


def overlay(
    image: UInt8[np.ndarray, "H W 3"], attention: Float[np.ndarray, "h w"], alpha: float = 0.4
) -> UInt8[np.ndarray, "H W 3"]:
    """An attention map over its image, as AMD draws it.

    The map is resized to the image (bilinear, half-pixel centres, edges repeated), scaled to 0..1 by
    its own minimum and maximum, squared, coloured by nipy_spectral and blended with weight `alpha`.
    So colours compare places within one map, never two maps; a constant map is 0 everywhere.
    Raises ValueError for a map that is not finite or an `alpha` outside 0..1.
    """
    if not np.isfinite(attention).all():
        raise ValueError(
            f"an attention map of shape {attention.shape} has values that are not finite"
        )
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; it is a weight from 0 to 1")
    rows, columns = (
        _bilinear(small, large)
        for small, large in zip(attention.shape, image.shape[:2], strict=True)
    )
    value = rows @ attention.astype(np.float64) @ columns.T
    value = (value - value.min()) / max(value.max() - value.min(), 1e-12)
    colour = matplotlib.colormaps["nipy_spectral"](value**2)[..., :3] * 255.0
    return np.rint(alpha * colour + (1.0 - alpha) * image).astype(np.uint8)


def _bilinear(small: int, large: int) -> Float[np.ndarray, "large small"]:
    """Weights that resize one axis: pixel i of the large one lies at (i + ½) small / large − ½."""
    place = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(small)))


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
    """Attributes that have a row of maps, the largest mean share first."""
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
    width = _left(max(1 + len(ranked), 1 + len(plain), 4)) - _GAP + _MARGIN
    rows: list[Box] = []

    def row(above: int, height: int, below: int) -> int:
        """Adds a row; the top of what stands between its heading and its captions."""
        top = rows[-1].top + rows[-1].height if rows else _TITLE
        rows.append(Box(_MARGIN, top, width - 2 * _MARGIN, above + height + below))
        return top + above

    def place(items: Sequence[Query | Ranked], top: int, first: int) -> tuple[Box, ...]:
        sizes = [_fitted(item.image) for item in items]
        return tuple(
            Box(_left(first + i) + (_COLUMN - w) // 2, top + (cell - h) // 2, w, h)
            for i, (w, h) in enumerate(sizes)
        )

    asked, *found = place((query, *ranked), row(_ABOVE, cell, _BELOW), 0)
    others = place(plain, row(_ABOVE, cell, _BELOW), 1) if plain else ()
    shown = _largest(explanation, attributes)
    maps = tuple(place((query, *ranked), row(_ABOVE_MAPS, cell, _BELOW_MAPS), 0) for _ in shown)
    bars: tuple[Box, ...] = ()
    if any(item.shares is not None for item in ranked):
        count = len(explanation.attributes)
        height = _BAR * (count if count <= ALL_LISTED else LISTED + 1)
        # The legend beside the charts needs seven lines.
        height = max(height, 7 * _BAR)
        top = row(_ABOVE_MAPS, height, _BELOW_MAPS)
        bars = tuple(Box(_left(1 + i), top, _COLUMN, height) for i in range(len(ranked)))
    height = rows[-1].top + rows[-1].height
    return Layout(width, height, asked, tuple(found), others, shown, maps, bars, tuple(rows))


def _fitted(image: np.ndarray) -> tuple[int, int]:
    """Width and height of an image in its cell."""
    high, wide = image.shape[:2]
    share = min((_COLUMN - 2 * FRAME) / wide, _HIGHEST / high)
    return max(1, round(wide * share)), max(1, round(high * share))


def _left(column: int) -> int:
    """Left edge of a column; the query's stands a little apart."""
    return _MARGIN + column * (_COLUMN + _GAP) + (_GAP if column else 0)


def _largest(explanation: Explanation, count: int) -> tuple[int, ...]:
    """The attributes with the largest mean share over the ranked images; ties by position."""
    shares = [item.shares for item in explanation.ranked if item.shares is not None]
    if not shares:
        return ()
    order = np.argsort(-np.mean(shares, axis=0, dtype=np.float64), kind="stable")
    return tuple(int(k) for k in order[:count])


def places(shares: Float[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
    """Place of every attribute by its share, 1 the largest; ties by position."""
    result = np.empty(len(shares), int)
    result[np.argsort(-shares, kind="stable")] = np.arange(1, len(shares) + 1)
    return result


def draw(explanation: Explanation, *, attributes: int = 3) -> bytes:
    """The figure as PNG: both rankings, maps of the largest attributes, contributions of all.

    Frames are green (the query's person), red (another one) or grey (not known), with a sign beside
    the rank. A row of maps stands for each of the `attributes` largest mean shares over the ranked
    images; "%" is everywhere 100 s^k = 100 d^k / sum_k d^k (AMD's own figures print
    100 d^k / mean_k d^k, where an equal share is 100%). Charts list all of at most 15 attributes,
    else the largest 12 and the rest; the charts of a figure have one scale.
    Raises ValueError for a negative number of attributes.
    """
    where = layout(explanation, attributes=attributes)
    # A tenth of a pixel more: matplotlib cuts the product of inches and dots, it does not round it.
    inches = [(side * SCALE + 0.1) / (100 * SCALE) for side in (where.width, where.height)]
    figure = Figure(figsize=inches, dpi=100 * SCALE, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    names, query, ranked = explanation.attributes, explanation.query, explanation.ranked
    rows = iter(where.rows)

    width = where.width - 2 * _MARGIN
    _write(figure, _MARGIN, 28, explanation.dataset, 17, width=width, weight="bold")
    _write(figure, _MARGIN, 48, f"Query: {query.title}", 12, width=width, colour=_FAINT)

    row = next(rows)
    _heading(figure, row, f"Ranked by: {explanation.ranking}", _LEGEND)
    _image(figure, where.query, query.image, frame=_INK)
    _write(figure, _middle(where.query), row.top + 48, "query", _TEXT, ha="center", weight="bold")
    _title(figure, where.query, row, query.title)
    _ranking(figure, where.ranked, row, ranked)
    if explanation.plain:
        row = next(rows)
        _heading(figure, row, "Without the explainable stream", "The same query and gallery.")
        _ranking(figure, where.plain, row, explanation.plain)

    for k, boxes in zip(where.shown, where.maps, strict=True):
        row = next(rows)
        mean = np.mean([item.shares[k] for item in ranked if item.shares is not None])
        text = f"{100 * mean:.1f}% of the distance on average; where the model looks for it"
        _heading(figure, row, names[k], text, beside=True)
        for box, item in zip(boxes, (query, *ranked), strict=True):
            picture = _resized(item.image, box)
            if item.maps is not None:
                picture = overlay(picture, item.maps[k])
            _image(figure, box, picture)
            text = "query" if isinstance(item, Query) else _share(item, k)
            base = row.top + row.height - _BELOW_MAPS + 14
            _write(figure, _middle(box), base, text, _SMALL, width=_COLUMN, ha="center")
    if where.bars:
        text = "share of every attribute; the images are those of the first row"
        _heading(figure, next(rows), "What each distance is made of", text, beside=True)
        _charts(figure, explanation, where.bars)

    canvas.draw()
    data = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(data, "PNG")
    return data.getvalue()


def _ranking(figure: Figure, boxes: Sequence[Box], row: Box, items: Sequence[Ranked]) -> None:
    for place, (box, item) in enumerate(zip(boxes, items, strict=True), start=1):
        colour = _hex(COLOURS[item.correct])
        _image(figure, box, item.image, frame=colour)
        text = f"{SIGNS[item.correct]} {place}   d = {item.distance:.4g}"
        _write(
            *(figure, _middle(box), row.top + 48, text, _TEXT),
            ha="center",
            weight="bold",
            colour=colour if item.correct is not None else _FAINT,
        )
        _title(figure, box, row, item.title)


def _charts(figure: Figure, explanation: Explanation, boxes: Sequence[Box]) -> None:
    """A bar an attribute, the largest on top, and beside the charts what the signs mean."""
    count = len(explanation.attributes)
    listed = count if count <= ALL_LISTED else LISTED
    items = explanation.ranked
    longest = max(item.shares.max() for item in items if item.shares is not None)
    for box, item in zip(boxes, items, strict=True):
        if item.shares is None:
            _write(figure, box.left, box.top + 12, "no shares", _SMALL, colour=_FAINT)
            continue
        order = np.argsort(-item.shares, kind="stable")
        for i, k in enumerate(order[:listed]):
            exclusive = item.exclusive is not None and bool(item.exclusive[k])
            name = f"{MARK} " * exclusive + explanation.attributes[k]
            colour = EXCLUSIVE if exclusive else COMMON
            share = float(item.shares[k])
            _bar(figure, box, i, name, share, share / longest, colour)
            _rectangle(figure, box.left + _COLUMN / count / longest, *_bar_row(box, i), 1, _INK)
        if listed < count:
            rest = float(item.shares[order[listed:]].sum())
            name = f"the other {count - listed}"
            _bar(figure, box, listed, name, rest, min(rest / longest, 1.0), REST)
            if rest > longest:  # longer than the scale: the bar is broken
                for step in (10, 15):
                    _rectangle(
                        figure, box.left + _COLUMN - step, *_bar_row(box, listed), 2, "white"
                    )
    top = boxes[0].top + 12
    lines = [(f"| equal share, {100 / count:.1f}%", _INK)]
    if any(item.exclusive is not None for item in items):
        lines += [(f"{MARK} annotations differ", EXCLUSIVE), ("annotations agree", COMMON)]
    else:
        lines += [("no annotation", COMMON)]
    for i, (text, colour) in enumerate(lines):
        _write(figure, _MARGIN, top + 18 * i, text, _SMALL, width=_COLUMN, colour=colour)


def _bar(
    figure: Figure, box: Box, line: int, name: str, share: float, length: float, colour: str
) -> None:
    """Name and percentage, under them a bar of `length` of the width."""
    base = box.top + line * _BAR + 10
    weight = "bold" if name.startswith(MARK) else "normal"
    _write(figure, box.left, base, name, _SMALL, width=_COLUMN - 38, weight=weight)
    _write(figure, box.left + _COLUMN, base, f"{100 * share:.1f}%", _SMALL, ha="right")
    top, height = _bar_row(box, line)
    _rectangle(figure, box.left, top, height, _COLUMN, "#ececec")
    _rectangle(figure, box.left, top, height, _COLUMN * length, colour)


def _bar_row(box: Box, line: int) -> tuple[int, int]:
    """Top and height of a bar."""
    return box.top + line * _BAR + 13, 5


def _share(item: Ranked, k: int) -> str:
    """Share and place of an attribute in the distance to one image."""
    if item.shares is None:
        return ""
    mark = f"{MARK} " * (item.exclusive is not None and bool(item.exclusive[k]))
    place = places(item.shares)[k]
    return f"{mark}{100 * item.shares[k]:.1f}%, rank {place} of {len(item.shares)}"


def _heading(figure: Figure, row: Box, text: str, more: str, *, beside: bool = False) -> None:
    """A row's heading over a thin line, with a remark under it or beside it."""
    _rectangle(figure, row.left, row.top, 1, row.width, "#d8d8d8")
    wide = _write(figure, row.left, row.top + 18, text, 13, width=row.width, weight="bold")
    left, base = (row.left + wide + 10, row.top + 18) if beside else (row.left, row.top + 32)
    width = row.left + row.width - left
    if width > 60:
        _write(figure, left, base, more, _SMALL, width=width, colour=_FAINT)


def _title(figure: Figure, box: Box, row: Box, text: str) -> None:
    """A caption of at most two lines under the cell of an image."""
    base = row.top + row.height - _BELOW + FRAME + 13
    for i, line in enumerate(_wrapped(figure, text, _SMALL, _COLUMN)):
        _write(figure, _middle(box), base + 13 * i, line, _SMALL, ha="center", colour=_FAINT)


def _middle(box: Box) -> float:
    return box.left + box.width / 2


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _resized(image: UInt8[np.ndarray, "H W 3"], box: Box) -> UInt8[np.ndarray, "h w 3"]:
    """The image at the pixels of its box."""
    size = box.width * SCALE, box.height * SCALE
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _image(figure: Figure, box: Box, image: np.ndarray, *, frame: str | None = None) -> None:
    """An image pixel by pixel at its box, on a frame around it."""
    if frame is not None:
        left, top = box.left - FRAME, box.top - FRAME
        _rectangle(figure, left, top, box.height + 2 * FRAME, box.width + 2 * FRAME, frame)
    high = round(figure.bbox.height)
    figure.figimage(
        _resized(image, box),
        xo=box.left * SCALE,
        yo=high - (box.top + box.height) * SCALE,
        origin="upper",
        zorder=2,
    )


def _rectangle(
    figure: Figure, left: float, top: float, height: float, width: float, colour: str
) -> None:
    """A filled rectangle whose edges are those of pixels."""
    high = round(figure.bbox.height)
    figure.add_artist(
        Rectangle(
            (round(left * SCALE), high - round((top + height) * SCALE)),
            *(round(width * SCALE), round(height * SCALE)),
            transform=IdentityTransform(),
            facecolor=colour,
            linewidth=0,
            antialiased=False,
        )
    )


def _write(
    figure: Figure,
    left: float,
    base: float,
    text: str,
    size: float,
    *,
    width: float | None = None,
    ha: str = "left",
    weight: str = "normal",
    colour: str = _INK,
) -> float:
    """One line of text on its baseline, shortened to `width`; its width."""
    if width is not None:
        text = _shortened(figure, text, size, width, weight)
    figure.text(
        left * SCALE,
        round(figure.bbox.height) - base * SCALE,
        text,
        transform=IdentityTransform(),
        fontproperties=_font(size, weight),
        color=colour,
        ha=ha,
        va="baseline",
        # A "$" in a file name is no formula.
        parse_math=False,
        usetex=False,
        zorder=3,
    )
    return _width(figure, text, size, weight)


def _font(size: float, weight: str = "normal") -> FontProperties:
    """The font that comes with matplotlib; a point is 1/72 inch, a unit 1/100."""
    return FontProperties("DejaVu Sans", weight=weight, size=size * 72 / 100)


def _width(figure: Figure, text: str, size: float, weight: str = "normal") -> float:
    renderer = figure.canvas.get_renderer()
    return renderer.get_text_width_height_descent(text, _font(size, weight), False)[0] / SCALE


def _shortened(figure: Figure, text: str, size: float, width: float, weight: str) -> str:
    """The text with its middle left out, if it is wider than `width`."""
    if _width(figure, text, size, weight) <= width:
        return text
    for keep in range(min(len(text) - 1, 400), 1, -1):
        short = f"{text[: (keep + 1) // 2].rstrip()}…{text[len(text) - keep // 2 :].lstrip()}"
        if _width(figure, short, size, weight) <= width:
            return short
    return "…"


def _wrapped(figure: Figure, text: str, size: float, width: float) -> list[str]:
    """At most two lines, broken between words."""
    parts = text.split()
    for cut in range(len(parts), 0, -1):
        first = " ".join(parts[:cut])
        if cut == 1 or _width(figure, first, size) <= width:
            lines = [first, " ".join(parts[cut:])]
            return [_shortened(figure, line, size, width, "normal") for line in lines if line]
    return []
