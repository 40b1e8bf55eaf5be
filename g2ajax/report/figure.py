"""Figure of an explained query: ranked images, attention maps, contributions of attributes.

After Fig. 5 of "Aerial-Ground Person Re-ID" (AG-ReID, Nguyen et al., ICME 2023) and the maps of
"Explainable Person Re-Identification with Attribute-guided Metric Distillation" (AMD, Chen et al.,
ICCV 2021).
"""

import bisect
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.transforms import IdentityTransform
from PIL import Image

from g2ajax.report.layout import (
    ABOVE,
    ABOVE_MAPS,
    ALL_LISTED,
    BAR,
    BELOW,
    BELOW_MAPS,
    COLUMN,
    FRAME,
    LISTED,
    MARGIN,
    Box,
    Explanation,
    RankedImage,
    layout,
)

SCALE = 2
COLOURS: Mapping[bool | None, tuple[int, int, int]] = {
    True: (20, 128, 66),
    False: (214, 39, 40),
    None: (120, 120, 120),
}
"""Colour of the frame of a ranked image, by `RankedImage.correct`."""
SIGNS: Mapping[bool | None, str] = {True: "✓", False: "✗", None: "?"}
EXCLUSIVE, COMMON, REST = "#b8560a", "#4675a3", "#b0b0b0"
"""Colours of the bars."""
MARK = "◆"
"""Precedes an exclusive attribute, so that colour is not the only sign."""

_LEGEND = "✓ green: the query's person   ✗ red: another person   ? grey: not known   d: distance"
_INK, _FAINT = "#1a1a1a", "#5f5f5f"
_TEXT, _SMALL = 11, 10

Length = int | float
"""A length in units; see `layout`."""


def overlay(
    image: UInt8[np.ndarray, "H W 3"], attention: Float[np.ndarray, "h w"], alpha: float = 0.4
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws an attention map over its image, as AMD does.

    The map is resized to the image (bilinear, half-pixel centres, edges repeated), scaled to 0..1 by
    its minimum and maximum, squared, coloured with nipy_spectral and blended with weight `alpha`.
    Colours compare places within one map, not between maps; a constant map is 0 everywhere.
    Raises ValueError for a map that is not finite and for an `alpha` outside 0..1.
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
    """Weights to resize an axis; pixel i of the large one lies at (i + ½) small / large − ½."""
    place = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(small)))


def places(shares: Float[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
    """Place of every attribute by its share, 1 for the largest; ties by position."""
    result = np.empty(len(shares), int)
    result[np.argsort(-shares, kind="stable")] = np.arange(1, len(shares) + 1)
    return result


def draw(explanation: Explanation, *, attributes: int = 3) -> bytes:
    """Draws both rankings, maps of the largest attributes and contributions of all; returns a PNG.

    Frames are green (the query's person), red (another person) or grey (unknown), with a sign beside
    the rank. There is a row of maps for each of the `attributes` largest mean shares over the ranked
    images. All percentages are 100 s^k = 100 d^k / sum_k d^k (AMD's own figures print
    100 d^k / mean_k d^k, where an equal share is 100%). Charts list all attributes if there are at
    most 15, else the largest 12 and the rest; all charts of a figure have the same scale.
    Raises ValueError for a negative number of attributes.
    """
    plan = layout(explanation, attributes=attributes)
    # A tenth of a pixel more, because matplotlib truncates the product of inches and dots.
    inches = [(side * SCALE + 0.1) / (100 * SCALE) for side in (plan.width, plan.height)]
    figure = Figure(figsize=inches, dpi=100 * SCALE, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    names, query, ranked = explanation.attributes, explanation.query, explanation.ranked
    rows = iter(plan.rows)

    width = plan.width - 2 * MARGIN
    _write(figure, MARGIN, 28, explanation.dataset, 17, width=width, weight="bold")
    _write(figure, MARGIN, 48, f"Query: {query.title}", 12, width=width, colour=_FAINT)

    row = next(rows)
    _heading(figure, row, f"Ranked by: {explanation.ranking}", _LEGEND)
    _image(figure, plan.query, query.image, frame=_INK)
    _write(figure, _middle(plan.query), row.top + 52, "query", _TEXT, ha="center", weight="bold")
    _title(figure, plan.query, row, query.title)
    _ranking(figure, plan.ranked[: plan.strip], row, ranked[: plan.strip], 1)
    for start in range(plan.strip, len(ranked), plan.strip):
        part = slice(start, start + plan.strip)
        _ranking(figure, plan.ranked[part], next(rows), ranked[part], start + 1, ABOVE_MAPS)
    if explanation.plain:
        row = next(rows)
        text = "the same query and gallery, ranked by the re-identification features alone"
        _heading(figure, row, "Without the explainable stream", text)
        _ranking(figure, plan.plain, row, explanation.plain, 1)

    for k, boxes in zip(plan.shown, plan.maps, strict=True):
        row = next(rows)
        mean = np.mean([item.shares[k] for item in ranked if item.shares is not None])
        text = f"{100 * mean:.1f}% of the distance on average; where the model looks for it"
        _heading(figure, row, names[k], text, beside=True)
        for box, item in zip(boxes, (query, *ranked), strict=True):
            picture = _resized(item.image, box)
            if item.maps is not None:
                picture = overlay(picture, item.maps[k])
            frame, text = _INK, "query"
            if isinstance(item, RankedImage):
                frame, text = _hex(COLOURS[item.correct]), _share(item, k)
            _image(figure, box, picture, frame=frame)
            base = row.top + row.height - BELOW_MAPS + FRAME + 13
            _write(figure, _middle(box), base, text, _SMALL, width=COLUMN, ha="center")
    if plan.bars:
        text = "share of every attribute; the images are those of the first row"
        _heading(figure, next(rows), "What each distance is made of", text, beside=True)
        _charts(figure, explanation, plan.bars)

    canvas.draw()
    data = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(data, "PNG")
    return data.getvalue()


def _ranking(
    figure: Figure,
    boxes: Sequence[Box],
    row: Box,
    items: Sequence[RankedImage],
    first: int,
    above: int = ABOVE,
) -> None:
    """Draws a row of ranked images, the first of them at place `first`."""
    for place, (box, item) in enumerate(zip(boxes, items, strict=True), start=first):
        colour = _hex(COLOURS[item.correct])
        _image(figure, box, item.image, frame=colour)
        text = f"{SIGNS[item.correct]} {item.rank or place}   d = {item.distance:.4g}"
        _write(
            *(figure, _middle(box), row.top + above - 8, text, _TEXT),
            ha="center",
            weight="bold",
            colour=colour if item.correct is not None else _FAINT,
        )
        _title(figure, box, row, item.title)


def _charts(figure: Figure, explanation: Explanation, boxes: Sequence[Box]) -> None:
    """Draws a bar for each attribute, the largest on top, and a legend beside the charts."""
    count = len(explanation.attributes)
    bar_count = count if count <= ALL_LISTED else LISTED
    items = explanation.ranked
    longest = max(float(item.shares.max()) for item in items if item.shares is not None)
    for box, item in zip(boxes, items, strict=True):
        if item.shares is None:
            _write(figure, box.left, box.top + 12, "no shares", _SMALL, colour=_FAINT)
            continue
        order = np.argsort(-item.shares, kind="stable")
        for i, k in enumerate(order[:bar_count]):
            exclusive = item.exclusive is not None and bool(item.exclusive[k])
            name = f"{MARK} " * exclusive + explanation.attributes[k]
            colour = EXCLUSIVE if exclusive else COMMON
            share = float(item.shares[k])
            _bar(figure, box, i, name, share, share / longest, colour)
            _rectangle(figure, box.left + COLUMN / count / longest, *_bar_row(box, i), 1, _INK)
        if bar_count < count:
            rest = float(item.shares[order[bar_count:]].sum())
            name = f"the other {count - bar_count}"
            _bar(figure, box, bar_count, name, rest, min(rest / longest, 1.0), REST)
            if rest > longest:  # beyond the scale: draw the bar broken
                for step in (10, 15):
                    _rectangle(
                        figure, box.left + COLUMN - step, *_bar_row(box, bar_count), 2, "white"
                    )
    top = boxes[0].top + 12
    lines = [(f"| equal share, {100 / count:.1f}%", _INK)]
    if any(item.exclusive is not None for item in items):
        lines += [(f"{MARK} annotations differ", EXCLUSIVE), ("annotations agree", COMMON)]
    else:
        lines += [("no annotation", COMMON)]
    for i, (text, colour) in enumerate(lines):
        _write(figure, MARGIN, top + 18 * i, text, _SMALL, width=COLUMN, colour=colour)


def _bar(
    figure: Figure, box: Box, line: int, name: str, share: float, length: float, colour: str
) -> None:
    """Draws name and percentage, and below them a bar of `length` (share of the width)."""
    base = box.top + line * BAR + 10
    _write(figure, box.left, base, name, _SMALL, width=COLUMN - 36)
    _write(figure, box.left + COLUMN, base, f"{100 * share:.1f}%", _SMALL, ha="right")
    top, height = _bar_row(box, line)
    _rectangle(figure, box.left, top, height, COLUMN, "#ececec")
    _rectangle(figure, box.left, top, height, COLUMN * length, colour)


def _bar_row(box: Box, line: int) -> tuple[int, int]:
    """Top and height of a bar."""
    return box.top + line * BAR + 13, 5


def _share(item: RankedImage, k: int) -> str:
    """Share and rank of an attribute in the distance to one image, as text."""
    if item.shares is None:
        return ""
    mark = f"{MARK} " * (item.exclusive is not None and bool(item.exclusive[k]))
    place = places(item.shares)[k]
    return f"{mark}{100 * item.shares[k]:.1f}%, rank {place} of {len(item.shares)}"


def _heading(figure: Figure, row: Box, text: str, more: str, *, beside: bool = False) -> None:
    """Draws a row's heading below a thin line, with a remark below or beside it."""
    _rectangle(figure, row.left, row.top, 1, row.width, "#d8d8d8")
    wide = _write(figure, row.left, row.top + 18, text, 13, width=row.width, weight="bold")
    left, base = (row.left + wide + 10, row.top + 18) if beside else (row.left, row.top + 32)
    width = row.left + row.width - left
    if width > 60:
        _write(figure, left, base, more, _SMALL, width=width, colour=_FAINT)


def _title(figure: Figure, box: Box, row: Box, text: str) -> None:
    """Draws a caption of at most three lines under the cell of an image."""
    base = row.top + row.height - BELOW + FRAME + 13
    for i, line in enumerate(_wrapped(figure, text, _SMALL, COLUMN)):
        _write(figure, _middle(box), base + 13 * i, line, _SMALL, ha="center", colour=_FAINT)


def _middle(box: Box) -> float:
    return box.left + box.width / 2


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _resized(image: UInt8[np.ndarray, "H W 3"], box: Box) -> UInt8[np.ndarray, "h w 3"]:
    """The image resized to the pixels of its box."""
    size = box.width * SCALE, box.height * SCALE
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _image(figure: Figure, box: Box, image: np.ndarray, *, frame: str) -> None:
    """Draws an image, pixel by pixel, at its box on a coloured frame."""
    left, top = box.left - FRAME, box.top - FRAME
    _rectangle(figure, left, top, box.height + 2 * FRAME, box.width + 2 * FRAME, frame)
    high = round(figure.bbox.height)
    figure.figimage(
        # 64 levels per channel look the same and make the file much smaller.
        _resized(image, box) & 0xFC,
        xo=box.left * SCALE,
        yo=high - (box.top + box.height) * SCALE,
        origin="upper",
        zorder=2,
    )


def _rectangle(
    figure: Figure, left: Length, top: Length, height: Length, width: Length, colour: str
) -> None:
    """Draws a filled rectangle with edges on pixel boundaries."""
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
    left: Length,
    base: Length,
    text: str,
    size: Length,
    *,
    width: Length | None = None,
    ha: str = "left",
    weight: str = "normal",
    colour: str = _INK,
) -> float:
    """Draws a line of text on its baseline, shortened to `width`; returns its width."""
    text = _drawable(text)
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
        # A "$" in a file name does not start a formula.
        parse_math=False,
        usetex=False,
        zorder=3,
    )
    return _width(figure, text, size, weight)


def _drawable(text: str) -> str:
    """The text on one line, with a replacement for characters the font lacks (matplotlib warns)."""
    glyph = get_font(findfont(_font(_TEXT))).get_char_index
    return "".join(" " if c.isspace() else c if glyph(ord(c)) else "�" for c in text)


def _font(size: Length, weight: str = "normal") -> FontProperties:
    """matplotlib's own font; a point is 1/72 inch, a unit 1/100 inch."""
    return FontProperties(family="DejaVu Sans", weight=weight, size=size * 72 / 100)


def _width(figure: Figure, text: str, size: Length, weight: str = "normal") -> float:
    renderer = figure.canvas.get_renderer()
    return renderer.get_text_width_height_descent(text, _font(size, weight), False)[0] / SCALE


def _shortened(figure: Figure, text: str, size: Length, width: Length, weight: str) -> str:
    """The text, with its middle replaced by "…" if it is wider than `width`."""
    if _width(figure, text, size, weight) <= width:
        return text
    for keep in range(min(len(text) - 1, 400), 1, -1):
        short = f"{text[: (keep + 1) // 2].rstrip()}…{text[len(text) - keep // 2 :].lstrip()}"
        if _width(figure, short, size, weight) <= width:
            return short
    return "…"


def _wrapped(figure: Figure, text: str, size: Length, width: Length, most: int = 3) -> list[str]:
    """Breaks a text into at most `most` lines, between words where their ends allow it; what does
    not fit is left out of the middle of the last one, so that a file's name keeps its end."""
    rest, lines = _drawable(text).strip(), []
    while rest and len(lines) < most - 1 and _width(figure, rest, size) > width:
        places = range(1, len(rest))
        cut = bisect.bisect_right(places, width, key=lambda n: _width(figure, rest[:n], size))
        space = rest.rfind(" ", cut // 2, cut + 1)
        cut = max(1, cut if space < 0 else space)
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, _shortened(figure, rest, size, width, "normal")] if rest else lines
