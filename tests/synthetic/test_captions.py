"""SkyGround's sentences: what they say, that they leak nothing, and TBAGPR's layout of them."""

import json
import re

from g2ajax.synthetic import layouts
from g2ajax.synthetic.captions import (
    ATTRIBUTES,
    PHRASINGS,
    attribute_codes,
    captions,
    colour_name,
    sentences,
)
from g2ajax.synthetic.people import PALETTE
from g2ajax.synthetic.world import World
from tests.tfds_builders import dummies_crops
from tfds_builders import tbagpr_files

WORLD = World("small")
TINY = World("tiny")


def test_each_view_has_its_own_phrasings():
    for person in TINY.people:
        air, ground = (captions(0, person, aerial=aerial) for aerial in (True, False))
        assert len(air) == len(ground) == PHRASINGS
        assert air != ground
        assert captions(0, person, aerial=True) == air  # drawn from the seed alone
        assert not any("glasses" in text or person.shoes in text for text in air)


def test_sentences_name_no_one():
    said_of = {
        p.number: [t for a in (True, False) for t in captions(0, p, aerial=a)] for p in WORLD.people
    }
    texts = [text for told in said_of.values() for text in told]
    assert not any(re.search(r"\d|P0|None|nan|  ", text) for text in texts)
    assert all(text[0].isupper() and text.endswith(".") and " a a" not in text for text in texts)
    # The words are those of everybody: none is said of one person only.
    people = {}
    for number, told in said_of.items():
        for word in re.findall(r"[a-z-]+", " ".join(told).lower()):
            people.setdefault(word, set()).add(number)
    assert min(map(len, people.values())) > 1


def test_colours_are_named_by_what_is_seen():
    assert all(colour_name(colour) == name for name, colour in PALETTE.items())
    assert colour_name((0.68, 0.18, 0.17)) == "red"


def test_training_images_have_two_sentences_and_take_turns_with_partners():
    shots = TINY.shots("train")
    found = sentences(0, shots)
    first = [told for shot, told in zip(shots, found, strict=True) if shot.camera == 0]
    assert {len(told) for told in first} == {2}
    assert not any(t for s, t in zip(shots, found, strict=True) if s.camera == 1)
    for shot, told in zip(shots, found, strict=True):
        for text, partner in told:
            assert (partner.identity, partner.camera) == (shot.identity, 1)
            assert any(text in captions(0, shot.person, aerial=a) for a in (True, False))
    assert {len(told) for told in sentences(0, TINY.shots("query"))} == {0, 1}


def test_attributes_are_those_of_the_person_and_the_view():
    for shot in TINY.shots("query"):
        known = dict(zip(ATTRIBUTES, attribute_codes(shot), strict=True))
        assert known["altitude"] == 1 - shot.camera
        assert (known["gender"], known["light"], known["angle"]) == (-1, -1, -1)
        assert 0 <= known["weight"] <= 2
        assert known["age"] == (shot.person.stature < 1.45)


def test_tbagpr_layout_reads_back(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "photographs", dummies_crops.undrawn)
    assert layouts.write_tbagpr(TINY, tmp_path) == 160

    def read(path):
        return json.loads((tmp_path / path).read_text())

    pairs = tbagpr_files.read_train(read)
    test = tbagpr_files.read_evaluation(read)
    images = {path for pair in pairs for path in (pair.aerial, pair.ground)}
    assert all((tmp_path / path).is_file() for path in images | {*test.aerial, *test.ground})
    assert {pair.identity for pair in pairs} == set(range(8))
    assert len(pairs) == 80  # two sentences of each of 40 aerial images
    assert len(test.captions) == len(test.aerial) == 8
    by_name = {shot.image_id: shot for shot in TINY.shots("train")}
    for pair in pairs:
        aerial, ground = (by_name[p.rpartition("/")[2]] for p in (pair.aerial, pair.ground))
        assert (aerial.camera, ground.camera) == (0, 1)
        assert aerial.identity == ground.identity
        assert pair.aerial_attributes == attribute_codes(aerial)
        assert pair.aerial.startswith("G2APS-AG/img/" if aerial.person.number % 2 else "AG-ReID/b")
