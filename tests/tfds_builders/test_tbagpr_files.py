"""TBAGPR's annotation files: merging, voting, and what is refused."""

import copy

import pytest

from tfds_builders.tbagpr_files import (
    attribute_key,
    read_evaluation,
    read_train,
)


def item(pid, number, folder, stem, caption="a man"):
    return [pid, number, [folder, f"{stem}_a.jpg"], [folder, f"{stem}_g.jpg"], caption]


def evaluation_set(*pids):
    return {
        "image_pids": list(pids),
        "img_paths": [["img", f"{n}_a.jpg"] for n in range(len(pids))],
        "pair_img_paths": [["img", f"{n}_g.jpg"] for n in range(len(pids))],
        "caption_pids": list(pids),
        "captions": [f"person {pid}" for pid in pids],
    }


LONG = "frame_0000000000_"  # with one digit and "_a.jpg": longer than 22 characters

FILES = {
    "AG-ReID/agtext_train.json": [item(0, 0, "train", "P1"), item(1, 1, "train", "P2")],
    "G2APS-AG/g2aps_train.json": [item(0, 0, "img", f"{LONG}1"), item(0, 1, "img", f"{LONG}2")],
    "AG-ReID/agtext_test.json": evaluation_set(0, 0, 1),
    "G2APS-AG/g2aps_test.json": evaluation_set(0, 1),
    "attrs.json": [
        {"train_P1_a": [0, 0, 0, 0, 0, 0, 0]},
        {"train_P1_g": [1, 1, 1, 1, 1, 1, 1]},
        {"train_P2_a": [1, 2, 0, 0, 0, 2, 0]},
        {"train_P2_g": [1, 2, 0, 0, 0, 0, 1]},
        {f"{LONG}1_a.jpg"[-22:]: [0, 1, 1, 1, 1, 0, 0]},
        {f"{LONG}2_a.jpg"[-22:]: [1, 1, 0, 0, 0, 1, 0]},
        {f"{LONG}1_g.jpg"[-22:]: [1, 0, 0, 1, 2, 2, 1]},
        {f"{LONG}2_g.jpg"[-22:]: [1, 0, 0, 0, 2, 1, 1]},
    ],
}


def read_all(read):
    return read_train(read), read_evaluation(read)


@pytest.fixture
def files():
    return copy.deepcopy(FILES)


def test_second_source_is_numbered_after_the_first(files):
    pairs = read_train(files.__getitem__, attributes=False)
    assert [pair.identity for pair in pairs] == [0, 1, 2, 2]
    assert pairs[0].aerial == "AG-ReID/train/P1_a.jpg"
    assert pairs[2].ground == f"G2APS-AG/img/{LONG}1_g.jpg"
    test = read_evaluation(files.__getitem__)
    assert test.identity == test.caption_identity == (0, 0, 1, 2, 3)
    assert test.captions[3] == "person 0"


def test_first_five_attributes_are_voted(files):
    pairs = read_train(files.__getitem__)
    # Equal votes: the aerial image comes first. Angle and altitude are the image's own.
    assert pairs[0].aerial_attributes == (0, 0, 0, 0, 0, 0, 0)
    assert pairs[0].ground_attributes == (0, 0, 0, 0, 0, 1, 1)
    # [0, 1 | 1, 1], [1, 1 | 0, 0], [1, 0 | 0, 0], [1, 0 | 1, 0], [1, 0 | 2, 2].
    assert pairs[2].aerial_attributes == (1, 1, 0, 1, 2, 0, 0)
    assert pairs[3].ground_attributes == (1, 1, 0, 1, 2, 1, 1)


def test_a_source_is_told_by_its_own_folder():
    assert attribute_key("AG-ReID/query/P1_a.jpg") == "query_P1_a"
    assert attribute_key("G2APS-AG/AG-ReID/0123456789012345678901.jpg") == "456789012345678901.jpg"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("AG-ReID/agtext_train.json", lambda c: c[1].pop(), r"train\.json, item 1: expected \["),
        ("AG-ReID/agtext_train.json", lambda c: c[0].__setitem__(4, " "), r"item 0: the caption"),
        ("attrs.json", lambda c: c.pop(3), r"attrs.json has None for train_P2_g"),
        (
            "G2APS-AG/g2aps_test.json",
            lambda c: c["img_paths"].pop(),
            r"g2aps_test\.json: lists .* 'img_paths': 1",
        ),
        (
            "G2APS-AG/g2aps_test.json",
            lambda c: c["caption_pids"].__setitem__(1, 9),
            r"1 identities have captions but no image \(the first: \[9\]\)",
        ),
        (
            "AG-ReID/agtext_test.json",
            lambda c: c["captions"].__setitem__(2, ""),
            r"agtext_test\.json, caption 2: the caption is ''",
        ),
    ],
)
def test_what_is_refused(files, file, change, message):
    change(files[file])
    with pytest.raises(ValueError, match=message):
        read_all(files.__getitem__)
