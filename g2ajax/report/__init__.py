"""Explanations for people: one figure a query, one self-contained HTML page. Takes plain arrays.

from g2ajax.report import Explanation, Query, Ranked, draw, page
png = draw(Explanation(query, attributes, ranked, plain, ranking="decomposed", dataset="AG-ReID"))
html = page("A run", explanations, intro="What was asked.", tables=[Table("Scores", head, rows)])
"""

from g2ajax.report.figure import draw, overlay
from g2ajax.report.layout import Explanation, Query, Ranked
from g2ajax.report.names import words
from g2ajax.report.page import Picture, Table, page

__all__ = ["Explanation", "Picture", "Query", "Ranked", "Table", "draw", "overlay", "page", "words"]
