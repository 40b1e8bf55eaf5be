"""Charts: well-formed SVG whose shapes are where the values say."""

import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from g2ajax.report import charts, page, ranking
from g2ajax.report.album import Album, size_of
from g2ajax.report.charts import Bar, Point, Threshold
from g2ajax.report.records import Entry, Listed

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    root = xml.fromstring(svg)
    assert root.tag == f"{SVG}svg" and {"viewBox", "width", "height"} <= set(root.attrib)
    return root


def points_of(element):
    return [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]


def test_lines_rise_with_their_values():
    svg = charts.lines(
        {"a <b>": [Point(1, 10, 5, 20), Point(10, 40, 30, 50), Point(100, 40)], "c": [Point(1, 0)]},
        x="size",
        y="score",
        logarithmic=True,
        ticks=(1, 10, 100),
    )
    root = parsed(svg)
    first = points_of(root.findall(f"{SVG}polyline")[0])
    # Even steps of a logarithmic axis, and half the height for the same value twice.
    assert first[1][0] - first[0][0] == pytest.approx(first[2][0] - first[1][0], abs=0.2)
    assert first[0][1] > first[1][1] == first[2][1]
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert {"a <b>", "c", "size", "score", "1", "10", "100"} <= set(texts)


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        ({}, {}, "needs lines, and each line points"),
        ({"a": []}, {}, "needs lines, and each line points"),
        ({"a": [Point(1, float("nan"))]}, {}, "not finite"),
        ({"a": [Point(0, 1)]}, {"logarithmic": True}, "no place for 0"),
    ],
)
def test_lines_that_cannot_be_drawn(series, options, message):
    with pytest.raises(ValueError, match=message):
        charts.lines(series, x="x", y="y", **options)


def test_bars_are_as_long_as_their_values():
    root = parsed(
        charts.bars([Bar("15 m", 80, 70, 90, "8 queries"), Bar("45 m", 40, 0, 100)], x="x")
    )
    widths = [float(rect.get("width")) for rect in root.iter(f"{SVG}rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    # A mark of the same value stands at the bar's end, in the second colour.
    (bar,), marks = (
        list(parsed(charts.bars([Bar("15 m", 80, 70, 90, mark=80)], x="x")).iter(SVG + name))
        for name in ("rect", "path")
    )
    (mark,) = [path.get("d") for path in marks if path.get("stroke") == charts.COLOURS[1]]
    end = float(bar.get("x")) + float(bar.get("width"))
    assert float(mark[1:].split()[0]) == pytest.approx(end, abs=0.2)
    with pytest.raises(ValueError, match="needs bars"):
        charts.bars([], x="x")


def test_a_heat_map_has_a_cell_for_each_value():
    values = np.array([[10.0, np.nan], [90.0, 50.0]])
    svg = charts.heat_map(
        ["a", "b"],
        ["x", "y"],
        values,
        np.array([[1, 0], [2, 3]]),
        row_title="query",
        column_title="gallery",
    )
    shades = [float(rect.get("fill-opacity")) for rect in parsed(svg).iter(f"{SVG}rect")]
    assert len(shades) == 3 and shades[1] == max(shades) and shades[0] == min(shades)
    assert "b, x: 90.0, 2 matches" in svg
    with pytest.raises(ValueError, match="for 1 rows and 2 columns"):
        charts.heat_map(
            ["a"], ["x", "y"], values, np.ones((2, 2), int), row_title="", column_title=""
        )


def test_a_histogram_marks_its_thresholds():
    edges = np.array([0.0, 1.0, 2.0])
    svg = charts.histogram(
        edges,
        {"same": np.array([100.0, 0.0]), "different": np.array([50.0, 50.0])},
        x="distance",
        thresholds=[Threshold(1.0, "10%")],
    )
    root = parsed(svg)
    same, different = (points_of(polygon) for polygon in root.findall(f"{SVG}polygon"))
    assert min(y for _, y in same) < min(y for _, y in different)
    at = float(re.search(r'd="M([\d.]+) [\d.]+V[\d.]+" stroke="currentColor" stroke-dash', svg)[1])
    assert at == pytest.approx((same[0][0] + same[-1][0]) / 2, abs=0.2)
    with pytest.raises(ValueError, match="1 shares for 2 bins"):
        charts.histogram(edges, {"same": np.array([1.0])}, x="")


@pytest.mark.parametrize(("low", "high"), [(0, 100), (0, 0.7), (3, 2017), (-1, 1), (5, 5)])
def test_ticks_are_few_round_numbers_within(low, high):
    ticks = charts.round_ticks(low, high)
    assert 1 <= len(ticks) <= 6 and all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    steps = np.diff(ticks)
    assert len(steps) == 0 or np.allclose(steps, steps[0])


def test_a_strip_shows_images_in_order_and_keeps_one_copy():
    album = Album()
    grey = np.full((200, 100, 3), 90, np.uint8)
    place = album.add("a", lambda: grey)
    assert album.add("a", lambda: 1 / 0) == place and size_of(album.pictures[place]) == (64, 128)
    entries = [Entry(place, "one", 1, 0.25, False), Entry(None, "", 12, 0.5, True, "A red <coat>.")]
    query = Listed(place, "q & a", 50.0, 12, entries)
    root = parsed(ranking.ranking_svg(query, album.pictures))
    assert len(root.findall(f"{SVG}image")) == 2
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert texts[0] == "query" and "✗ 1" in texts and "✓ 12" in texts and "A red <coat>." in texts


@pytest.mark.parametrize(("size", "shown"), [((128, 60), 7), ((60, 160), 3)])
@pytest.mark.parametrize("match", [1, 2, 9, 0])
def test_an_example_fits_one_row_with_its_first_match(size, shown, match):
    album = Album()
    place = album.add("a", lambda: np.full((*size, 3), 90, np.uint8))
    entries = [Entry(place, "", rank, 0.5, rank == match) for rank in range(1, 11)]
    query = Listed(place, "", 50.0, match, entries)
    example = page.first_places(query, album.pictures)
    ranks = [entry.rank for entry in example.entries]
    kept = shown if match <= shown or size == (128, 60) else shown - 1
    assert ranks == [*range(1, kept + 1), *([match] if match > kept else [])]
