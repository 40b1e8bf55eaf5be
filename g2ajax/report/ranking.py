"""A ranking as an SVG figure: the query and the images of its list in one row."""

import base64
from collections.abc import Mapping, Sequence

from g2ajax.report.album import size_of
from g2ajax.report.charts import label, text_of
from g2ajax.report.records import Listed

TALL, GAP, LINE = 128, 12, 16
COLOURS: Mapping[bool | None, str] = {True: "#148042", False: "#d62728", None: "#787878"}
"""Colour of the frame of a ranked image, by `Entry.correct`."""
SIGNS: Mapping[bool | None, str] = {True: "✓", False: "✗", None: "?"}
SENTENCE = 30
"""Letters in a line of a sentence."""


def ranking_svg(query: Listed, pictures: Sequence[bytes]) -> str:
    """The query's list as `<svg>`: green frames are the query's person, dashed red ones are not; below
    each image stand its rank and its distance. `pictures`: as in `Report.pictures`."""
    parts, at = [], float(GAP)
    black = ("#1a1a1a", False, "query", "")
    items = [(query.picture, query.text, query.title, black)]
    for entry in query.entries:
        caption = f"{SIGNS[entry.correct]} {entry.rank}"
        style = COLOURS[entry.correct], entry.correct is False
        number = f"{entry.distance:.3g}"
        items.append((entry.picture, entry.text, entry.title, (*style, caption, number)))
    for picture, text, title, (colour, dashed, caption, number) in items:
        dash = ' stroke-dasharray="6 3"' if dashed else ""
        if picture is None:
            width = 6.4 * SENTENCE
            inside = _sentence(text, at)
        else:
            data = pictures[picture]
            across, down = size_of(data)
            width = across * TALL / down
            uri = base64.b64encode(data).decode("ascii")
            inside = (
                f'<image x="{at:.1f}" y="{GAP}" width="{width:.1f}" height="{TALL}" '
                f'href="data:image/webp;base64,{uri}"><title>{text_of(title)}</title></image>'
            )
        parts += [
            inside,
            f'<rect x="{at:.1f}" y="{GAP}" width="{width:.1f}" height="{TALL}" fill="none" '
            f'stroke="{colour}" stroke-width="3"{dash}/>',
            label(at, GAP + TALL + LINE, caption, "start"),
            label(at, GAP + TALL + 2 * LINE, number, "start", faint=True),
        ]
        at += max(width, 56.0) + GAP
    height = GAP + TALL + 3 * LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {at:.0f} {height}" width="{at:.0f}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="12" '
        f'fill="currentColor">{"".join(parts)}</svg>'
    )


def _sentence(text: str, left: float) -> str:
    """A sentence in lines of `SENTENCE` letters."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= SENTENCE:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    lines.append(line)
    most = TALL // LINE
    if len(lines) > most:
        lines = [*lines[: most - 1], "…"]
    return "".join(
        label(left + 6, GAP + LINE * (i + 1), line, "start") for i, line in enumerate(lines)
    )
