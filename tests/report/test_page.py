"""Pages: well formed, self-contained, escaped, and true about their records."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from g2ajax.report.album import small
from g2ajax.report.page import Picture, page, report_page
from g2ajax.report.records import Entry, Explained, Explanation, Reason, Report, Table

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


GREY = small(np.full((64, 32, 3), 90, np.uint8))


def png_of(size):
    data = io.BytesIO()
    Image.new("RGB", size, "grey").save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def made():
    scores = Table("Scores & <i>more</i>", ["direction", "mAP"], [["A→G", 71.23456], ["G→A", 3]])
    return page(
        "Run <script>1</script>",
        intro="What was <asked>.\n\nAnd more.",
        tables=[scores],
        pictures=[Picture("By <size>", png_of((60, 30)), "A: 60 at 25", scale=3)],
    )


def explained():
    """A report of one explained query: an image with a reason, and one without."""
    reason = Reason("upper", 1.84, 2.5, (0, 0), ("T-shirt", "coat"))
    images = [
        Explained(Entry(0, "<b>one</b>", 1, 0.25, False), [reason], 0),
        Explained(Entry(0, "two", 2, 0.5, True), [], 0),
    ]
    explanation = Explanation(0, "the <query>", images, "SkyGround A2G")
    return Report("A <run>", ["By & by."], (), (), (), [GREY], explanations=[explanation])


def test_well_formed_and_self_contained(made):
    for text in (made, report_page(explained())):
        parsed = Parser(text)
        assert text.startswith("<!DOCTYPE html>\n<html lang=")
        for tag, attributes in parsed.elements:
            assert tag not in {"script", "link", "iframe", "object", "i"}
            for name, value in attributes.items():
                assert not name.startswith("on")
                if name in {"src", "href"}:
                    assert value.startswith(("data:image/", "#"))
        assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]+", "", text))


def test_text_is_escaped_and_shown(made):
    parsed = Parser(made)
    assert "<script" not in made
    assert parsed.text["h1"] == ["Run <script>1</script>"]
    assert [text for text in parsed.text["p"] if "asked" in text] == ["What was <asked>."]
    shown = Parser(report_page(explained()))
    assert shown.text["h1"] == ["A <run>"] and "the <query>" in shown.text["span"]


def test_contents_lead_to_every_part(made):
    parsed = Parser(made)
    targets = [a["href"].removeprefix("#") for a in parsed.all("a")]
    assert targets == ["table-1", "picture-1"]
    assert [s["id"] for s in parsed.all("section")] == targets


def test_tables_show_numbers(made):
    assert Parser(made).text["td"] == ["A→G", "71.23", "G→A", "3"]


def test_pictures_are_inside_the_page_and_said_in_words(made):
    (image,) = Parser(made).all("img")
    assert (image["width"], image["height"], image["alt"]) == ("20", "10", "A: 60 at 25")
    assert base64.b64decode(image["src"].partition(",")[2]) == png_of((60, 30))
    assert "By <size>" in Parser(made).text["h2"]


def test_reasons_are_said_in_words_with_their_maps():
    parsed = Parser(report_page(explained()))
    captions = " ".join(parsed.text["figcaption"])
    assert "1.84 times its usual share; annotated T-shirt and coat" in captions
    assert [text for text in parsed.text["p"] if "stands out" in text] == [
        "No attribute stands out."
    ]
    alts = [image["alt"] for image in parsed.all("img")]
    assert "Attention for upper on the query" in alts and all(alts)
    assert alts.count("Rank 1, another person: <b>one</b>") == 1
    assert len(alts) == 1 + 2 + 2 + 2  # the query, two images, two maps, Grad-CAM of both


def test_a_page_without_anything_is_still_a_page():
    parsed = Parser(page("Empty", intro=""))
    assert parsed.text["h1"] == ["Empty"] and parsed.all("img") == []


def test_a_row_of_another_length_is_named():
    with pytest.raises(ValueError, match="table 'Scores': row 1 has 1 cells, its head 2"):
        Table("Scores", ["a", "b"], [["1", "2"], ["3"]])


def test_the_truth_of_reasons_and_other_predictions_are_said():
    report = explained()
    text = Parser(report_page(report)).text
    assert any(text_.lstrip().startswith("Not measured on this page.") for text_ in text["p"])
    measured = dataclasses.replace(
        report, trust="A2G: 60.0%.", remarks={0: "upper: predicted <coat>, annotated T-shirt"}
    )
    text = Parser(report_page(measured)).text
    assert " A2G: 60.0%." in text["p"]
    # The query and both images are one picture.
    said = [one for one in text["span"] if one == "upper: predicted <coat>, annotated T-shirt"]
    assert len(said) == 3


def test_long_tables_are_folded():
    def page_of(rows):
        table = Table("All", ["a"], [[str(row)] for row in range(rows)])
        return Parser(report_page(Report("A", (), (), (), (), (), tables=[table])))

    assert page_of(24).all("details") == []
    assert page_of(25).text["summary"] == ["25 rows"]
