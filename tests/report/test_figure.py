"""Figures: places, colours of frames, maps over images, words, refused input."""

import dataclasses
import io

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from g2ajax.report.figure import COLOURS, SCALE, _width, _wrapped, draw, overlay, places
from g2ajax.report.layout import COLUMN, FRAME, HIGHEST, layout
from g2ajax.report.names import words
from g2ajax.synthetic.attributes import COLUMNS, GROUPS
from tests.report.fake import explanation, picture


def decoded(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG" and image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(("count", "top"), [(3, 1), (15, 2), (88, 10)])
def test_size_and_frames_are_where_the_layout_says(count, top):
    what = explanation(count, top)
    where = layout(what, attributes=2)
    pixels = decoded(draw(what, attributes=2))
    assert pixels.shape == (where.height * SCALE, where.width * SCALE, 3)
    assert (pixels[0] == 255).all() and (pixels[:, 0] == 255).all()
    rows = [(where.ranked, what.ranked), (where.plain, what.plain)]
    rows += [(boxes[1:], what.ranked) for boxes in where.maps]
    for boxes, items in rows:
        for box, item in zip(boxes, items, strict=True):
            left, top_ = (box.left - FRAME) * SCALE, (box.top - FRAME) * SCALE
            right = (box.left + box.width + FRAME) * SCALE - 1
            bottom = (box.top + box.height + FRAME) * SCALE - 1
            for corner in (pixels[top_, left], pixels[top_, right], pixels[bottom, left]):
                assert tuple(corner) == COLOURS[item.correct]
            assert tuple(pixels[bottom + 1, right]) == (255, 255, 255)


def test_a_long_plain_ranking_fits_a_page():
    """Ten images without attributes are two lines, each with its own ranks."""
    shown = explanation(1, 10)
    bare = [dataclasses.replace(i, shares=None, exclusive=None, maps=None) for i in shown.ranked]
    bare[-1] = dataclasses.replace(bare[-1], rank=345)
    query = dataclasses.replace(shown.query, maps=None)
    shown = dataclasses.replace(shown, query=query, attributes=(), ranked=tuple(bare), plain=())
    where = layout(shown)
    assert where.width <= 1200 and len(where.rows) == 2
    middles = [box.left + box.width / 2 for box in where.ranked]
    assert middles[:5] == middles[5:] == sorted(middles[:5])
    assert where.ranked[5].top > where.ranked[4].top + where.ranked[4].height
    pixels = decoded(draw(shown))
    assert pixels.shape[:2] == (where.height * SCALE, where.width * SCALE)
    for box, item in zip(where.ranked, shown.ranked, strict=True):
        at = pixels[(box.top - FRAME) * SCALE, (box.left - FRAME) * SCALE]
        assert tuple(at) == COLOURS[item.correct]


def test_captions_keep_both_ends_of_a_name():
    figure = Figure(dpi=100 * SCALE)
    FigureCanvasAgg(figure)
    name = "bounding_box_test/0002_c1s1_000451_03.jpg (camera 1)"
    lines = _wrapped(figure, name, 10, COLUMN)
    assert len(lines) <= 3 and "".join(lines).replace(" ", "") == name.replace(" ", "")
    lines = _wrapped(figure, "a" * 200 + "0451.jpg", 10, COLUMN)
    assert len(lines) == 3 and lines[0].startswith("aaa") and lines[2].endswith("0451.jpg")
    assert all(_width(figure, line, 10) <= COLUMN for line in lines)


def test_images_stand_in_order_at_their_pixels():
    what = explanation(3, 3)
    where, pixels = layout(what), decoded(draw(what))
    for box, item in zip((where.query, *where.ranked), (what.query, *what.ranked), strict=True):
        got = pixels[box.top * SCALE :, box.left * SCALE :][
            : box.height * SCALE, : box.width * SCALE
        ]
        # The fake images are of one colour each, another one for each image.
        expected = item.image[0, 0] & 0xFC
        assert (got == expected).all()
    lefts = [box.left for box in (where.query, *where.ranked)]
    assert lefts == sorted(lefts)
    tops = [where.ranked[0].top, where.plain[0].top, *(row[0].top for row in where.maps)]
    assert tops == sorted(tops) and where.bars[0].top > tops[-1]


def test_images_of_any_shape_keep_their_aspect_and_stay_inside():
    what = explanation(3, 4, shapes=[(300, 100), (100, 300), (64, 64), (700, 11)])
    where = layout(what)
    for box, item in zip(where.ranked, what.ranked, strict=True):
        high, wide = item.image.shape[:2]
        assert box.width <= COLUMN and box.height <= HIGHEST
        assert abs(box.width / box.height - wide / high) < 0.02
        assert box.left >= 0 and box.left + box.width <= where.width
    for one, other in zip(where.ranked[:-1], where.ranked[1:], strict=True):
        assert one.left + one.width < other.left
    assert decoded(draw(what)).shape[1] == where.width * SCALE


def test_rows_of_maps_are_the_largest_mean_shares():
    what = explanation(4, 2)
    shares = [np.array([0.4, 0.1, 0.3, 0.2]), np.array([0.1, 0.2, 0.6, 0.1])]
    ranked = tuple(
        dataclasses.replace(item, shares=value)
        for item, value in zip(what.ranked, shares, strict=True)
    )
    what = dataclasses.replace(what, ranked=ranked)
    assert layout(what, attributes=2).shown == (2, 0)
    assert layout(what, attributes=0).maps == ()
    assert len(layout(what, attributes=9).maps) == 4


def test_places_count_from_one_and_break_ties_by_position():
    np.testing.assert_array_equal(places(np.array([0.2, 0.3, 0.3, 0.2])), [3, 1, 2, 4])


def test_less_is_drawn_where_less_is_known():
    full = explanation(15, 2)
    bare = tuple(dataclasses.replace(item, exclusive=None) for item in full.ranked)
    decoded(draw(dataclasses.replace(full, ranked=bare)))
    without_maps = dataclasses.replace(
        full,
        query=dataclasses.replace(full.query, maps=None),
        ranked=tuple(dataclasses.replace(item, maps=None) for item in full.ranked),
    )
    assert layout(without_maps).maps == () and len(layout(without_maps).bars) == 2
    nothing = dataclasses.replace(full, ranked=full.plain, plain=())
    where = layout(nothing)
    assert where.maps == () and where.bars == () and where.plain == ()
    assert decoded(draw(nothing)).shape[0] == where.height * SCALE
    one_without = (full.ranked[0], dataclasses.replace(full.ranked[1], shares=None))
    decoded(draw(dataclasses.replace(full, ranked=one_without)))


def test_an_exclusive_attribute_changes_the_chart_and_nothing_above_it():
    what = explanation(3, 1)
    (item,) = what.ranked
    agree, differ = (
        decoded(
            draw(
                dataclasses.replace(what, ranked=(dataclasses.replace(item, exclusive=x),)),
                attributes=0,
            )
        )
        for x in (np.zeros(3, bool), np.ones(3, bool))
    )
    top = layout(what, attributes=0).rows[-1].top * SCALE
    np.testing.assert_array_equal(agree[:top], differ[:top])
    assert (agree[top:] != differ[top:]).any()


def test_titles_of_any_kind_are_drawn():
    what = explanation(3, 3)
    titles = ["$\\frac{1}", "人物.jpg\ncamera\t1 😀", "a very long name " * 40]
    ranked = tuple(
        dataclasses.replace(item, title=title)
        for item, title in zip(what.ranked, titles, strict=True)
    )
    query = dataclasses.replace(what.query, title="")
    decoded(draw(dataclasses.replace(what, query=query, ranked=ranked, dataset="x_" * 300)))


def test_drawing_is_repeatable_and_leaves_no_figure_open():
    what = explanation(3, 1)
    assert draw(what) == draw(what)
    helpers = getattr(matplotlib, "_pylab_helpers", None)
    assert helpers is None or not helpers.Gcf.figs


def test_overlay_by_hand():
    colours = matplotlib.colormaps["nipy_spectral"]
    image = np.full((1, 4, 3), 200, np.uint8)
    # Half-pixel centres: places −¼, ¼, ¾, 1¼ of a map of two.
    result = overlay(image, np.array([[3.0, 5.0]]))
    for got, value in zip(result[0], [0.0, 0.25, 0.75, 1.0], strict=True):
        expected = 0.4 * np.array(colours(value**2)[:3]) * 255 + 0.6 * 200
        np.testing.assert_allclose(got, expected, atol=0.51)
    np.testing.assert_array_equal(overlay(image, np.array([[3.0, 5.0]]), alpha=0.0), image)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.floats(0.1, 100.0), st.floats(-50.0, 50.0))
def test_overlay_does_not_see_scale_and_shift(seed, scale, shift):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    attention = rng.integers(0, 9, (4, 3)).astype(np.float64)
    one, other = overlay(image, attention), overlay(image, attention * scale + shift)
    # A value on the border of two of the 256 colours may take either.
    assert np.abs(one.astype(int) - other).max() <= 5


def test_overlay_of_a_constant_map_has_one_colour_and_bad_ones_are_named():
    image = picture((8, 6), 100)
    assert len(np.unique(overlay(image, np.full((2, 2), 7.0)).reshape(-1, 3), axis=0)) == 1
    with pytest.raises(ValueError, match="not finite"):
        overlay(image, np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        overlay(image, np.ones((2, 2)), alpha=1.5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("shares", np.full(4, 0.25), r"ranked\[1\] 'image 1': shares of length 4 for 3 attribute"),
        ("exclusive", np.zeros(2, bool), r"ranked\[1\] .*exclusive of length 2 for 3"),
        ("maps", np.ones((5, 2, 2)), r"ranked\[1\] .*maps of length 5 for 3"),
        ("shares", np.array([0.5, 0.2, 0.2]), r"ranked\[1\] .* sum 0\.9; pass d\^k"),
        ("shares", np.array([1.5, -0.5, 0.0]), r"shares from -0\.5"),
        ("shares", np.array([np.nan, 0.5, 0.5]), "pass d"),
    ],
)
def test_numbers_that_do_not_fit_are_named(field, value, message):
    what = explanation(3, 2)
    other = {"shares": None, "exclusive": None, "maps": None, field: value}
    ranked = (what.ranked[0], dataclasses.replace(what.ranked[1], **other))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(what, ranked=ranked)


def test_other_refused_input():
    what = explanation(3, 2)
    with pytest.raises(
        ValueError, match="query 'the query': maps of length 3 for 2 attribute names"
    ):
        dataclasses.replace(what, attributes=("a", "b"))
    with pytest.raises(ValueError, match="nothing is ranked for query 'the query'"):
        dataclasses.replace(what, ranked=())
    with pytest.raises(ValueError, match="attributes is -1"):
        draw(what, attributes=-1)
    empty = dataclasses.replace(what.query, image=np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="has no pixels"):
        dataclasses.replace(what, query=empty)


def test_words_for_every_column_of_agreid():
    names = [words(group, name) for group, classes in GROUPS.items() for name in classes]
    assert len(set(names)) == len(COLUMNS) == 88
    raw = (
        "haircolor hairstyle tshirt cardiga leggins sportshoe highheels sportif neckless horsetail"
    )
    assert not [name for name in names for part in raw.split() if part in name.split()]
    assert words("bag", "backpack") == "bag: backpack"
    assert words("upper", "tshirt") == "upper: T-shirt"
    assert words("feet", "sportshoe") == "feet: sport shoe"
    assert words("upper", "cardiga") == "upper: cardigan"
    assert words("beard", "on") == "beard: yes"


def test_other_names_stay_as_they_are():
    assert words("sleeve", "long_1") == "sleeve: long_1"
    assert words("haircolor") == "hair colour"
    assert words("", "tshirt") == "tshirt"
