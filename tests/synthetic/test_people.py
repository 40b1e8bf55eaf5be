"""Attributes and people: names, shares and differences."""

import collections

import numpy as np
import pytest

from g2ajax.synthetic import attributes
from g2ajax.synthetic.people import people
from g2ajax.synthetic.world import SIZES, World


def test_columns_are_agreids():
    widths = [3, 4, 5, 4, 5, 7, 6, 3, 3, 4, 5, 13, 10, 7, 9]
    assert [len(names) for names in attributes.GROUPS.values()] == widths
    assert len(attributes.COLUMNS) == len(set(attributes.COLUMNS)) == 88
    assert attributes.COLUMNS[:4] == ("gendermale", "genderfemale", "genderunknown", "ageyoung")
    assert {"uppercardiga", "lowerleggins", "headneckless", "ethnicindia", "bagsportif"} < set(
        attributes.COLUMNS
    )
    assert all(names[-1] == "unknown" for names in attributes.GROUPS.values())


def test_one_hot_by_hand():
    codes = np.array([attributes.codes(head="hat", bag="nothing")])
    row = attributes.one_hot(codes)[0]
    assert row.sum() == 15
    named = {name for name, value in zip(attributes.COLUMNS, row, strict=True) if value}
    assert {"headhat", "bagnothing", "upperunknown", "genderunknown"} < named


def test_wrong_attributes_are_named():
    with pytest.raises(ValueError, match="no attribute group"):
        attributes.codes(hats="hat")
    with pytest.raises(ValueError, match="head has no class 'crown'"):
        attributes.codes(head="crown")


@pytest.mark.parametrize(("seed", "count"), [(0, 96), (1, 96), (0, 189), (3, 199)])
def test_attribute_shares(seed, count):
    crowd = people(seed, range(count))
    codes = np.array([person.attributes for person in crowd])
    for i, (group, names) in enumerate(attributes.GROUPS.items()):
        share = np.bincount(codes[:, i], minlength=len(names)) / count
        assert share[share > 0].min() >= 0.03, f"{group}: {share}"
        if group in ("gender", "age", "ethnic", "beard", "moustache"):  # nothing drawn shows them
            assert share[-1] == 1
        else:
            assert (share > 0).sum() >= 2, f"{group} tells nobody apart"
    times = collections.Counter(person.attributes for person in crowd)
    assert sum(times[person.attributes] > 1 for person in crowd) >= 0.3 * count


def test_equal_attributes_still_differ_to_the_eye():
    crowd = people(0, range(96))
    for first in crowd:
        for second in crowd[first.number + 1 :]:
            if first.attributes == second.attributes:
                colours = [
                    np.array([p.upper_colour, p.lower_colour, p.shoe_colour])
                    for p in (first, second)
                ]
                assert np.abs(colours[0] - colours[1]).max() > 0.04
                assert first.stature != second.stature


def test_a_person_does_not_depend_on_the_others():
    many = people(5, range(96))
    assert people(5, range(8)) == many[:8]
    assert people(6, range(96)) != many


@pytest.mark.parametrize("size", list(SIZES))
def test_splits(size):
    world, counts = World(size), SIZES[size]
    splits = {name: world.shots(name) for name in ("train", "query", "gallery")}
    for name, shots in splits.items():
        cameras = [sum(shot.camera == c for shot in shots) for c in (0, 1)]
        assert tuple(cameras) == getattr(counts, name)
        assert all(shot.split == name for shot in shots)
    names = [shot.image_id for shots in splits.values() for shot in shots]
    assert len(names) == len(set(names))
    train, query, gallery = ({s.identity for s in shots} for shots in splits.values())
    assert len(train) == counts.train_people
    assert query == gallery
    assert len(gallery) == counts.test_people
    assert not train & gallery
    numbers = [{s.person.number for s in shots} for shots in splits.values()]
    assert not numbers[0] & numbers[2]


def test_full_has_the_sizes_of_agreid():
    counts = SIZES["full"]
    assert (counts.train_people, counts.test_people) == (199, 189)
    assert sum(counts.train) == 11_554
    assert (counts.query, counts.gallery) == ((1701, 962), (7204, 3331))


def test_unknown_names_are_told():
    with pytest.raises(
        ValueError, match="no world of size 'huge'; there are tiny, small, many, full"
    ):
        World("huge")
    with pytest.raises(ValueError, match="no split 'val'"):
        World().shots("val")
    with pytest.raises(KeyError, match=r"has no image 'x\.jpg'"):
        World().shot("x.jpg")
