"""Predicted beside annotated attributes in a report, by hand."""

import dataclasses

import numpy as np

from g2ajax.data.crop_source import KINDS
from g2ajax.report.album import Album
from g2ajax.tasks.predicted_attributes import accuracy_chart, differences, remarks
from tests.fake_data import GROUPS, make_dataset

GREY = np.full((8, 8, 3), 90, np.uint8)


def test_differences_are_said_in_words():
    groups = (("upper", ("tshirt", "coat", "unknown")), *GROUPS, ("head", ("hat", "scarf")))
    every = differences(np.zeros(4, int), np.array([1, 1, 1, 1]), groups)
    assert every == (
        "upper: predicted T-shirt, annotated coat; bag: predicted backpack, annotated none; "
        "hat: predicted yes, annotated no; 1 more"
    )
    assert differences(np.array([1, 0, 0, 0]), np.array([-1, 0, 0, 0]), groups) == ""


def test_remarks_are_about_pictures_that_are_there():
    query = make_dataset().splits["query"]
    codes = query.attributes.astype(int)
    codes[:, 0] = np.minimum(codes[:, 0], 1)  # "unknown" is not predicted
    codes[1, 1] = 1 - codes[1, 1]
    codes[2, 1] = 1 - codes[2, 1]
    album = Album()
    for row in (0, 2):
        album.add(("query", str(query.image_id[row])), lambda: GREY)
    album.add(("gallery", str(query.image_id[1])), lambda: GREY)
    said = remarks(album, [(query, codes)], GROUPS)
    names = GROUPS[1][1]
    text = f"hat: predicted {names[codes[2, 1]]}, annotated {names[1 - codes[2, 1]]}"
    assert said == {1: text}


def test_an_image_of_both_sides_counts_once_and_junk_never():
    dataset = make_dataset()
    query, gallery = dataset.splits["query"], dataset.splits["gallery"]
    right = query.attributes.astype(int)
    once = accuracy_chart([(query, right)], GROUPS, 20)
    twice = accuracy_chart([(query, right), (query, 1 - right)], GROUPS, 20)
    assert once == twice and once.name == "attributes"
    assert "hat: 100.0 (100.0 to 100.0) of 10 images, always yes: 60.0" in once.alt
    junk = dataclasses.replace(gallery, kind=np.full_like(gallery.kind, KINDS.index("junk")))
    beside = [(query, right), (junk, gallery.attributes.astype(int))]
    assert accuracy_chart(beside, GROUPS, 20).alt == once.alt
    alike = dataclasses.replace(query, attributes=np.zeros_like(query.attributes))
    assert accuracy_chart([(alike, right)], GROUPS, 20) is None
