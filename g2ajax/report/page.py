"""A self-contained HTML page of explanations and tables: no network, no scripts, images inside."""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence

from PIL import Image

from g2ajax.report.figure import MARK, SCALE, SIGNS, draw
from g2ajax.report.layout import Explanation, RankedImage

_LARGEST = 3
"""Number of attributes named in the text below a figure."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --faint: #595959; --paper: #ffffff;
  --line: #d4d4d4; --shade: #f4f4f4; --link: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --faint: #b0b0b0; --paper: #16181b;
  --line: #3c4045; --shade: #212429; --link: #86b7f0; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 80rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; }
h2 { margin-top: 2.5rem; padding-top: .6rem; border-top: 1px solid var(--line); font-size: 1.25rem; }
a { color: var(--link); }
nav { padding: .6rem 1rem; background: var(--shade); border-radius: 6px; }
nav ol { margin: .3rem 0; padding-left: 1.6rem; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: none; height: auto; border-radius: 6px;
  background: #ffffff; }
figcaption, .label { color: var(--faint); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { padding: .3rem 0; text-align: left; font-weight: 600; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { background: var(--shade); }
td.number { text-align: right; }
details { margin: .6rem 0; }
summary { cursor: pointer; }
@media print { details { display: block; } .wide { overflow: visible; }
  figure img { max-width: 100%; } }
"""


_CAPTION = """\
<figcaption>Maps show where the model looks for an attribute. Each map has its own scale, so colours
compare places within one image, never two images. Percentages are shares of the sum of all
attributes' distances.</figcaption>
"""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the page. Raises ValueError for a row that is not as long as the head."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    """Floats are printed with four significant digits; pass text for another format."""
    details: str = ""
    """Text about the table, folded away below it."""

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.head):
                raise ValueError(
                    f"table {self.caption!r}: row {i} has {len(row)} cells, its head {len(self.head)}"
                )


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture of the page, with its heading."""

    caption: str
    png: bytes
    alt: str
    """Description for readers who cannot see the picture."""
    scale: int = SCALE
    """Pixels of the PNG per CSS pixel of the page."""


def page(
    title: str,
    explanations: Sequence[Explanation],
    *,
    intro: str,
    tables: Sequence[Table] = (),
    pictures: Sequence[Picture] = (),
    attributes: int = 3,
) -> str:
    """Writes a page: introduction, contents, tables, pictures, then a figure for each explanation.

    All text is escaped; empty lines in `intro` separate paragraphs. Below its figure each ranking is
    repeated as a table, with the labels of ranking and dataset, for readers who cannot see the
    figure. `attributes`: as in `draw`. Returns the HTML.
    """
    entries, parts = [], []
    for i, table in enumerate(tables, start=1):
        entries.append((f"table-{i}", table.caption))
        heading = f"<h2>{escaped(table.caption)}</h2>"
        content = _table(table, captioned=False)
        if table.details:
            content += (
                f"\n<details><summary>Protocol</summary><p>{escaped(table.details)}</p></details>"
            )
        parts.append(f'<section id="table-{i}">\n{heading}\n{content}\n</section>')
    for i, picture in enumerate(pictures, start=1):
        entries.append((f"picture-{i}", picture.caption))
        heading = f"<h2>{escaped(picture.caption)}</h2>"
        figure = _figure(picture.png, escaped(picture.alt), picture.scale)
        parts.append(f'<section id="picture-{i}">\n{heading}\n{figure}\n</section>')
    for i, explanation in enumerate(explanations, start=1):
        entries.append((f"explanation-{i}", f"Query {explanation.query.title}"))
        parts.append(_section(f"explanation-{i}", explanation, attributes))
    return shell(title, intro, entries, parts)


def shell(
    title: str,
    intro: str,
    entries: Sequence[tuple[str, str]],
    parts: Sequence[str],
    *,
    style: str = "",
) -> str:
    """A page of parts (HTML) with an introduction and, where there are entries (id, text), contents."""
    contents = "\n".join(f'<li><a href="#{to}">{escaped(text)}</a></li>' for to, text in entries)
    paragraphs = "\n".join(
        f"<p>{escaped(part)}</p>" for part in intro.split("\n\n") if part.strip()
    )
    navigation = f"""<nav aria-label="Contents">
<strong>Contents</strong>
<ol>
{contents}
</ol>
</nav>
"""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
<header>
<h1>{escaped(title)}</h1>
{paragraphs}
</header>
{navigation * bool(entries)}<main>
{chr(10).join(parts)}
</main>
</body>
</html>
"""


def _section(name: str, explanation: Explanation, attributes: int) -> str:
    """The section of an explanation: heading, figure, and the rankings as tables."""
    png = draw(explanation, attributes=attributes)
    caption = _CAPTION if explanation.attributes else ""
    dataset, ranking = explanation.dataset, explanation.ranking
    tables = [_ranking_table(f"{dataset}, ranked by: {ranking}", explanation, explanation.ranked)]
    if explanation.plain:
        plain = f"{dataset}, ranked without the explainable stream"
        tables.append(_ranking_table(plain, explanation, explanation.plain))
    return f"""<section id="{name}">
<h2>Query {escaped(explanation.query.title)}</h2>
<p class="label">Dataset: {escaped(dataset)}. Ranked by: {escaped(ranking)}.</p>
{_figure(png, _alt(explanation), SCALE, caption)}
<details>
<summary>The rankings as text</summary>
{chr(10).join(_table(table) for table in tables)}
</details>
</section>"""


def _figure(png: bytes, alt: str, scale: int, caption: str = "") -> str:
    """An embedded picture; `alt` and `caption` must be escaped."""
    width, height = (side // scale for side in Image.open(io.BytesIO(png)).size)
    data = base64.b64encode(png).decode("ascii")
    return f"""<figure>
<div class="wide" tabindex="0" role="group" aria-label="Figure; scrolls sideways">
<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{alt}">
</div>
{caption}</figure>"""


def _ranking_table(caption: str, explanation: Explanation, items: Sequence[RankedImage]) -> Table:
    """A ranking as a table, with contributions if there are any."""
    head = ["rank", "image", "the query's person", "distance"]
    rows = [
        [x.rank or i, x.title, _answer(x), float(x.distance)] for i, x in enumerate(items, start=1)
    ]
    if any(item.shares is not None for item in items):
        head.append(f"largest contributions ({MARK} annotations differ)")
        for row, item in zip(rows, items, strict=True):
            row.append(_contributions(explanation.attributes, item))
    return Table(caption, head, rows)


def _contributions(attributes: Sequence[str], item: RankedImage) -> str:
    if item.shares is None:
        return ""
    order = (-item.shares).argsort(kind="stable")[:_LARGEST]
    return ", ".join(
        f"{MARK} " * (item.exclusive is not None and bool(item.exclusive[k]))
        + f"{attributes[k]} {100 * item.shares[k]:.1f}%"
        for k in order
    )


def _answer(item: RankedImage) -> str:
    word = {True: "yes", False: "no", None: "not known"}[item.correct]
    return f"{SIGNS[item.correct]} {word}"


def _alt(explanation: Explanation) -> str:
    """Description of the figure in a sentence or two; the tables below hold the rest."""
    right = sum(bool(item.correct) for item in explanation.ranked)
    text = (
        f"Query {explanation.query.title} and {len(explanation.ranked)} images of "
        f"{explanation.dataset}, ranked by: {explanation.ranking}; {right} of them are known to show "
        "the query's person."
    )
    first = explanation.ranked[0]
    if first.shares is not None:
        largest = _contributions(explanation.attributes, first)
        text += f" Largest contributions to the first distance: {largest}."
    if explanation.plain:
        right = sum(bool(item.correct) for item in explanation.plain)
        text += (
            f" Below, {len(explanation.plain)} images ranked without the explainable stream, "
            f"{right} of them known to show the person."
        )
    return escaped(text)


def _table(table: Table, *, captioned: bool = True) -> str:
    caption = f"<caption>{escaped(table.caption)}</caption>\n" * captioned
    head = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in table.head)
    rows = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.rows)
    return f"""<div class="wide"><table>
{caption}<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>"""


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return f"<td>{escaped(value)}</td>"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f'<td class="number">{text}</td>'


def escaped(value: str) -> str:
    """Text for HTML, also inside an attribute."""
    return html.escape(value, quote=True)
