"""Figures of explained queries and self-contained HTML pages, drawn from plain arrays.

from g2ajax.report import Explanation, Query, RankedImage, Table, draw, page
png = draw(Explanation(query, attributes, ranked, plain, ranking="decomposed", dataset="AG-ReID"))
html = page("A run", explanations, intro="The question.", tables=[Table("Scores", head, rows)])
"""

from g2ajax.report.figure import draw, overlay
from g2ajax.report.layout import Explanation, Query, RankedImage
from g2ajax.report.names import words
from g2ajax.report.page import Picture, page
from g2ajax.report.records import Table

__all__ = [
    "Explanation",
    "Picture",
    "Query",
    "RankedImage",
    "Table",
    "draw",
    "overlay",
    "page",
    "words",
]
