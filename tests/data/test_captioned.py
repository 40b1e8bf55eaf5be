"""(image, caption) pairs: expansion, tokens, batches, and what is refused."""

import dataclasses
import logging

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from g2ajax.data import captioned
from g2ajax.data.captioned import TextOptions, captioned_images, tokens
from g2ajax.data.crop_source import Captions, fingerprint
from g2ajax.data.pipeline import load, train_batches
from g2ajax.data.tokenizer import END, PAD, START
from tests.fake_captions import make_captioned

SPLIT = make_captioned("train", range(3))  # rows 4p + 2 camera + i
OPTIONS = TextOptions(length=12)


def said(**changes):
    return dataclasses.replace(SPLIT, captions=dataclasses.replace(SPLIT.captions, **changes))


def test_a_row_is_a_sentence_with_its_image():
    pairs = captioned_images(SPLIT, OPTIONS, paired=True)
    assert len(pairs) == 6
    assert pairs.image_row.tolist() == [0, 1, 4, 5, 8, 9]
    assert pairs.pair_row.tolist() == [2, 3, 6, 7, 10, 11]
    assert pairs.label.tolist() == [0, 0, 1, 1, 2, 2]
    assert pairs.identity.tolist() == pairs.label.tolist()
    assert set(pairs.camera.tolist()) == set(pairs.platform.tolist()) == {0}
    assert pairs.image_id[2] == "train/p001c0i0.png"
    assert pairs.ids.shape == (6, 12)
    assert (pairs.ids[:, 0] == START).all()
    np.testing.assert_array_equal(pairs.ids[0], pairs.ids[1])  # one person, one sentence


@pytest.mark.parametrize(
    ("views", "rows"),
    [("pair", [2, 3, 6, 7, 10, 11]), ("both", [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11])],
)
def test_views_choose_the_image(views, rows):
    pairs = captioned_images(SPLIT, dataclasses.replace(OPTIONS, views=views), paired=False)
    assert pairs.image_row.tolist() == rows
    assert len(pairs.ids) == len(rows)


def test_both_views_where_some_sentences_come_alone():
    pair = SPLIT.captions.pair.copy()
    pair[1:] = -1
    options = dataclasses.replace(OPTIONS, views="both")
    pairs = captioned_images(said(pair=pair), options, paired=False)
    assert pairs.image_row.tolist() == [0, 1, 4, 5, 8, 9, 2]


@pytest.mark.parametrize("resident", [False, True])
def test_batches_have_captions_and_paired_images(resident):
    pairs = captioned_images(SPLIT, OPTIONS, paired=True)
    table = np.array([[3, 0]], np.int32)
    (batch,) = train_batches(
        pairs,
        table,
        sharding=SingleDeviceSharding(jax.devices()[0]),
        image_size=None if resident else (24, 12),
        num_threads=1,
    )
    assert batch["index"].tolist() == [5, 0]
    assert batch["paired_index"].tolist() == [7, 2]
    assert batch["label"].tolist() == [1, 0]
    np.testing.assert_array_equal(batch["caption"], pairs.ids[[3, 0]])
    np.testing.assert_array_equal(batch["attributes"], SPLIT.attributes[[5, 0]])
    np.testing.assert_array_equal(batch["paired_attributes"], SPLIT.attributes[[7, 2]])
    assert ("image" in batch) == ("paired_image" in batch) == (not resident)
    if not resident:
        for name, row in (("image", 5), ("paired_image", 7)):
            expected = load(SPLIT, row, (24, 12), "bicubic")
            np.testing.assert_array_equal(batch[name][0], expected)


def test_batches_of_images_without_partners():
    pairs = captioned_images(SPLIT, OPTIONS, paired=False)
    (batch,) = train_batches(
        pairs,
        np.array([[3, 0]], np.int32),
        sharding=SingleDeviceSharding(jax.devices()[0]),
        image_size=(24, 12),
        num_threads=1,
    )
    assert set(batch) == {
        *("image", "caption", "index", "label", "identity", "camera", "platform"),
        *("attributes", "mask"),
    }


def test_long_captions_are_cut_and_said_once(caplog):
    captioned._tokenizer.cache_clear()  # Another test of this process may have said it.
    long = "a " + "word " * 100
    with caplog.at_level(logging.WARNING):
        ids = tokens((long, "a man", long), 77)
    assert ids.shape == (3, 77)
    assert ids[0, -1] == END
    assert ids[1].tolist() == [START, *ids[1, 1:3], END, *[PAD] * 73]
    np.testing.assert_array_equal(ids[0], ids[2])
    assert "1 of 2 texts have more than 77 tokens and are cut" in caplog.text


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        (dataclasses.replace(SPLIT, captions=None), {}, r"'train' has no captions, and the method"),
        (
            said(text=("", *SPLIT.captions.text[1:])),
            {},
            r"1 captions .* empty \(the first: of train",
        ),
        (said(pair=np.full(6, -1)), {}, r"6 captions of 'train' come with one image"),
        (SPLIT, {"views": "both"}, r"text.views = 'both': the method takes both images"),
    ],
)
def test_what_is_refused(split, options, message):
    with pytest.raises(ValueError, match=message):
        captioned_images(split, dataclasses.replace(OPTIONS, **options), paired=True)


def test_the_fingerprint_knows_the_sentences():
    other = Captions(("A tie.", *SPLIT.captions.text[1:]), SPLIT.captions.row, SPLIT.captions.pair)
    changed = dataclasses.replace(SPLIT, captions=other)
    assert fingerprint({"train": SPLIT}) != fingerprint({"train": changed})
    assert SPLIT.take(np.array([1])).captions is None
