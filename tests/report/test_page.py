"""The page: well formed, self-contained, escaped, and true about its rankings."""

import base64
import dataclasses
import html.parser
import io
import re

import pytest
from PIL import Image

from g2ajax.report import Picture, Table, page
from g2ajax.report.figure import SCALE, draw
from g2ajax.report.layout import layout
from tests.report.fake import explanation

VOID = {"meta", "img", "link", "br", "hr"}


class Parser(html.parser.HTMLParser):
    """Elements in order, and their text; every element must be closed by its own end."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}>"

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def made():
    first = explanation(15, 2)
    evil = dataclasses.replace(
        explanation(3, 1),
        query=dataclasses.replace(explanation(3, 1).query, title='<script>alert("1")</script>'),
        dataset="My <b>people</b> & others",
        plain=(),
    )
    scores = Table("Scores & <i>more</i>", ["direction", "mAP"], [["A→G", 71.23456], ["G→A", 3]])
    return page(
        "Run <script>1</script>",
        [first, evil],
        intro="What was <asked>.\n\nAnd more.",
        tables=[scores],
        attributes=1,
    )


def test_well_formed_and_self_contained(made):
    parsed = Parser(made)
    assert made.startswith("<!DOCTYPE html>\n<html lang=")
    for tag, attributes in parsed.elements:
        assert tag not in {"script", "link", "iframe", "object", "b", "i"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href"}:
                assert value.startswith(("data:image/png;base64,", "#"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]+", "", made))


def test_titles_are_escaped_and_shown(made):
    parsed = Parser(made)
    assert "<script" not in made
    assert parsed.text["h1"] == ["Run <script>1</script>"]
    assert 'Query <script>alert("1")</script>' in parsed.text["h2"]
    assert [text for text in parsed.text["p"] if "asked" in text] == ["What was <asked>."]
    assert "Dataset: My <b>people</b> & others. Ranked by: sum of d^k." in parsed.text["p"]


def test_contents_lead_to_every_part(made):
    parsed = Parser(made)
    targets = [a["href"].removeprefix("#") for a in parsed.all("a")]
    assert targets == ["table-1", "explanation-1", "explanation-2"]
    assert [s["id"] for s in parsed.all("section")] == targets


def test_figures_are_whole_and_described(made):
    what = explanation(15, 2)
    first, second = Parser(made).all("img")
    png = base64.b64decode(first["src"].partition(",")[2])
    assert png == draw(what, attributes=1)
    where = layout(what, attributes=1)
    assert (int(first["width"]), int(first["height"])) == (where.width, where.height)
    assert Image.open(io.BytesIO(png)).size == (where.width * SCALE, where.height * SCALE)
    assert "the query and 2 images of SkyGround (synthetic)" in first["alt"]
    assert "1 of them are known" in first["alt"]
    assert '<script>alert("1")</script>' in second["alt"]


def test_every_list_names_its_ranking_and_dataset(made):
    assert Parser(made).text["caption"] == [
        "SkyGround (synthetic), ranked by: sum of d^k",
        "SkyGround (synthetic), ranked without the explainable stream",
        "My <b>people</b> & others, ranked by: sum of d^k",
    ]


def test_tables_show_numbers(made):
    cells = Parser(made).text["td"]
    assert cells[:4] == ["A→G", "71.23", "G→A", "3"]
    assert cells[4:8] == ["1", "image 0", "✓ yes", "0.5"]


def test_exclusive_contributions_are_marked():
    what = explanation(3, 1)
    (item,) = what.ranked
    ranked = (
        dataclasses.replace(
            item, shares=item.shares * 0 + [0.5, 0.3, 0.2], exclusive=item.shares < 0
        ),
    )
    ranked[0].exclusive[1] = True
    made = page("t", [dataclasses.replace(what, ranked=ranked)], intro="")
    assert "attribute 0 50.0%, ◆ attribute 1 30.0%, attribute 2 20.0%" in made


def test_a_page_without_anything_is_still_a_page():
    parsed = Parser(page("Empty", [], intro=""))
    assert parsed.text["h1"] == ["Empty"] and parsed.all("img") == []


def test_a_row_of_another_length_is_named():
    with pytest.raises(ValueError, match="table 'Scores': row 1 has 1 cells, its head 2"):
        Table("Scores", ["a", "b"], [["1", "2"], ["3"]])


def test_pictures_are_inside_the_page_and_said_in_words():
    png = draw(explanation(3, 1))
    made = Parser(
        page("Run", (), intro="", pictures=[Picture("By <size>", png, "A: 60 at 25", scale=3)])
    )
    (image,) = made.all("img")
    width, height = Image.open(io.BytesIO(png)).size
    assert (image["width"], image["height"]) == (str(width // 3), str(height // 3))
    assert image["alt"] == "A: 60 at 25" and "By <size>" in made.text["h2"]
    assert base64.b64decode(image["src"].partition(",")[2]) == png
