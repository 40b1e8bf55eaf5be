"""Self-contained HTML pages: no network, images inside, from the templates of this folder.

jinja2 is imported with the first page, so that what only names the records stays light.
"""

import base64
import dataclasses
import functools
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from g2ajax.report.album import as_webp, size_of
from g2ajax.report.figure import MARK, SCALE, SIGNS, draw
from g2ajax.report.files import write_whole
from g2ajax.report.layout import Explanation, RankedImage
from g2ajax.report.records import Listed, Report, Table

_LARGEST = 3
"""Number of attributes named in the text below a figure."""
SHOWN_SCORES = 4
"""Protocols on the first screen."""
EXAMPLE = 7
"""Places of the ranking on the first screen."""
ANSWERS: Mapping[bool | None, tuple[str, str]] = {
    True: ("right", "the query's person"),
    False: ("wrong", "another person"),
    None: ("unknown", "not known who"),
}
_CAPTION = """\
Maps show where the model looks for an attribute. Each map has its own scale, so colours compare places \
within one image, never two images. Percentages are shares of the sum of all attributes' distances."""
HEIGHT = 288
"""Pixels of an image's height on the page of a search, twice its height on the screen."""


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture of the page, with its heading."""

    caption: str
    png: bytes
    alt: str
    """Description for readers who cannot see the picture."""
    scale: int = SCALE
    """Pixels of the PNG per CSS pixel of the page."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page."""
        width, height = size_of(self.png)
        return width // self.scale, height // self.scale


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
    sections: list[dict[str, Any]] = [
        {"id": f"table-{i}", "heading": table.caption, "table": table}
        for i, table in enumerate(tables, start=1)
    ]
    sections += [
        {"id": f"picture-{i}", "heading": picture.caption, "picture": picture}
        for i, picture in enumerate(pictures, start=1)
    ]
    sections += explained_sections(explanations, attributes)
    return sections_page(title, intro, sections)


def sections_page(
    title: str, intro: str, sections: Sequence[Mapping[str, Any]], **more: Any
) -> str:
    """A page of sections below an introduction; see `templates/sections.html` for what each may have."""
    paragraphs = [part for part in intro.split("\n\n") if part.strip()]
    fields = ("id", "heading", "label", "picture", "caption", "table", "finding", "folded")
    complete = [{name: section.get(name) for name in fields} for section in sections]
    template = _environment().get_template("sections.html")
    return template.render(title=title, intro=paragraphs, sections=complete, **more)


def report_page(report: Report, *, attributes: int = 3) -> str:
    """The page of a report. `attributes`: as in `draw`."""
    example = None
    if report.scores and report.rankings and report.rankings[0].queries:
        queries = sorted(report.rankings[0].queries, key=lambda query: query.score)
        example = queries[len(queries) // 2]
        later = [entry for entry in example.entries[EXAMPLE:] if entry.correct][:1]
        if any(entry.correct for entry in example.entries[:EXAMPLE]):
            later = []
        entries = [*example.entries[:EXAMPLE], *later]
        example = dataclasses.replace(example, entries=entries)
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=report.title,
            report=report,
            example=example,
            shown_scores=SHOWN_SCORES,
            explained=[
                {**section, "picture": dataclasses.replace(drawn, png=as_webp(drawn.png))}
                for section in explained_sections(report.explanations, attributes)
                if (drawn := section["picture"])
            ],
            data=_json(report),
        )
    )


def write_report(report: Report, file: pathlib.Path) -> None:
    """Writes the page of a report, and its charts beside it as SVG, those of `report.html` in the folder
    `figures`."""
    charts = [*([report.learning] if report.learning else []), *report.charts]
    folder = file.with_name(file.stem.replace("report", "figures"))
    if charts:
        folder.mkdir(exist_ok=True)
    for chart in charts:
        write_whole(folder / f"{chart.name}.svg", chart.svg + "\n")
    write_whole(file, report_page(report))


def _json(report: Report) -> str:
    """What the list of queries is drawn from, as JSON that may stand inside a script element."""

    def listed(query: Listed) -> dict[str, Any]:
        return {
            "p": query.picture,
            "t": query.title,
            "x": query.text,
            "s": round(query.score, 2),
            "f": query.first_match,
            "v": dict(query.facts),
            "a": list(query.attributes),
            "e": [
                [e.picture, e.rank, f"{e.distance:.3g}", e.correct, e.title, e.text]
                for e in query.entries
            ],
        }

    content = {
        "distance": report.distance,
        "pictures": [base64.b64encode(one).decode("ascii") for one in report.pictures],
        "rankings": [
            {"label": one.label, "note": one.note, "queries": [listed(q) for q in one.queries]}
            for one in report.rankings
        ],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def explained_sections(
    explanations: Sequence[Explanation], attributes: int
) -> list[dict[str, Any]]:
    """The section of each explanation: heading, figure, and the rankings as tables."""
    sections = []
    for i, explanation in enumerate(explanations, start=1):
        dataset, ranking = explanation.dataset, explanation.ranking
        label = f"{dataset}, ranked by: {ranking}"
        folded = [_ranking_table(label, explanation, explanation.ranked)]
        if explanation.plain:
            label = f"{dataset}, ranked without the explainable stream"
            folded.append(_ranking_table(label, explanation, explanation.plain))
        sections.append(
            {
                "id": f"explanation-{i}",
                "heading": f"Query {explanation.query.title}",
                "label": f"Dataset: {dataset}. Ranked by: {ranking}.",
                "picture": Picture("", draw(explanation, attributes=attributes), _alt(explanation)),
                "caption": _CAPTION if explanation.attributes else "",
                "folded": folded,
            }
        )
    return sections


def _ranking_table(caption: str, explanation: Explanation, items: Sequence[RankedImage]) -> Table:
    """A ranking as a table, with contributions if there are any."""
    head = ["rank", "image", "the query's person", "distance"]
    rows: list[list[Any]] = [
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
    return text


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "uri": _uri,
        "thumbnail": _thumbnail,
        "cell": lambda value: f"{value:.4g}" if isinstance(value, float) else value,
        "kind": lambda correct: ANSWERS[correct][0],
        "answer": lambda correct: ANSWERS[correct][1],
        "sign": SIGNS.__getitem__,
    }
    return environment


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _thumbnail(image: UInt8[np.ndarray, "H W 3"]) -> str:
    picture = Image.fromarray(image)
    width = max(1, round(picture.width * HEIGHT / picture.height))
    picture = picture.resize((min(width, 3 * HEIGHT), HEIGHT), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    return _uri(data.getvalue(), "jpeg")
