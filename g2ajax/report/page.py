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

from g2ajax.report.album import HEIGHT as HIGH
from g2ajax.report.album import WIDEST, size_of
from g2ajax.report.files import write_whole
from g2ajax.report.ranking import SIGNS
from g2ajax.report.records import Entry, Listed, Reason, Report, Table

LONG_TABLE = 24
"""Rows of a table from which a report folds it away."""
SHOWN_SCORES = 4
"""Protocols on the first screen."""
EXAMPLE, ROW = 7, 1150
"""Places of the ranking on the first screen, and pixels of its one row."""
ANSWERS: Mapping[bool | None, tuple[str, str]] = {
    True: ("right", "the query's person"),
    False: ("wrong", "another person"),
    None: ("unknown", "not known who"),
}
HEIGHT = 288
"""Pixels of an image's height on the page of a search, twice its height on the screen."""


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture of the page, with its heading."""

    caption: str
    png: bytes
    alt: str
    """Description for readers who cannot see the picture."""
    scale: int = 1
    """Pixels of the PNG per CSS pixel of the page."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page."""
        width, height = size_of(self.png)
        return width // self.scale, height // self.scale


def page(
    title: str,
    *,
    intro: str,
    tables: Sequence[Table] = (),
    pictures: Sequence[Picture] = (),
) -> str:
    """Writes a page: introduction, contents, tables, then pictures.

    All text is escaped; empty lines in `intro` separate paragraphs. Returns the HTML.
    """
    sections: list[dict[str, Any]] = [
        {"id": f"table-{i}", "heading": table.caption, "table": table}
        for i, table in enumerate(tables, start=1)
    ]
    sections += [
        {"id": f"picture-{i}", "heading": picture.caption, "picture": picture}
        for i, picture in enumerate(pictures, start=1)
    ]
    return sections_page(title, intro, sections)


def sections_page(
    title: str, intro: str, sections: Sequence[Mapping[str, Any]], **more: Any
) -> str:
    """A page of sections below an introduction; see `templates/sections.html` for what each may have."""
    paragraphs = [part for part in intro.split("\n\n") if part.strip()]
    fields = ("id", "heading", "picture", "table", "finding", "lists")
    complete = [{name: section.get(name) for name in fields} for section in sections]
    template = _environment().get_template("sections.html")
    return template.render(title=title, intro=paragraphs, sections=complete, **more)


def report_page(report: Report) -> str:
    """The page of a report."""
    example = None
    if report.scores and report.rankings and report.rankings[0].queries:
        mean = report.scores[0].value
        nearest = min(report.rankings[0].queries, key=lambda query: abs(query.score - mean))
        example = first_places(nearest, report.pictures)
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=report.title,
            report=report,
            example=example,
            shown_scores=SHOWN_SCORES,
            long_table=LONG_TABLE,
            data=_json(report),
        )
    )


def first_places(query: Listed, pictures: Sequence[bytes]) -> Listed:
    """The query with as many places of its ranking as one row has room for, and the first true match."""
    match = next((entry for entry in query.entries if entry.correct), None)

    def row(count: int) -> list[Entry]:
        first = list(query.entries[:count])
        return first if match is None or match in first else [*first, match]

    def width(place: int | None) -> float:
        if place is None:  # a sentence
            return 220.0
        across, high = size_of(pictures[place])
        return 12.0 + max(90.0, min(WIDEST, across * HIGH / high))  # the name below takes 90

    def room(entries: Sequence[Entry]) -> float:
        return width(query.picture) + sum(width(entry.picture) for entry in entries)

    rows = [row(count) for count in range(EXAMPLE, 0, -1)]
    entries = next((row for row in rows if room(row) <= ROW), rows[-1])
    return dataclasses.replace(query, entries=entries)


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
    """The data of the list of queries, as JSON that may stand inside a script element."""

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
        "remarks": dict(report.remarks),
        "pictures": [base64.b64encode(one).decode("ascii") for one in report.pictures],
        "rankings": [
            {"label": one.label, "note": one.note, "queries": [listed(q) for q in one.queries]}
            for one in report.rankings
        ],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


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
        "reason": _reason,
    }
    return environment


def _reason(reason: Reason) -> str:
    """A reason in words."""
    text = f"{reason.ratio:.2f} times its usual share"
    own, other = reason.classes
    if own and other:
        text += f"; annotated {own} and {other}" if own != other else f"; both annotated {own}"
    return text


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _thumbnail(image: UInt8[np.ndarray, "H W 3"]) -> str:
    picture = Image.fromarray(image)
    width = max(1, round(picture.width * HEIGHT / picture.height))
    picture = picture.resize((min(width, 3 * HEIGHT), HEIGHT), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    return _uri(data.getvalue(), "jpeg")
