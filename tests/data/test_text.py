"""Masked words and attribute sentences."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.data.text import (
    ATTRIBUTE_SENTENCES,
    MaskOptions,
    mask_words,
    masked_by,
    sentence_counts,
    sentence_ids,
)
from g2ajax.data.tokenizer import END, MASK, START, Tokenizer

IDS = jnp.array([[START, 10, 20, 30, 40, END, 0, 0], [START, END, 0, 0, 0, 0, 0, 0]])


def test_masking_by_hand():
    # Of 0.15: the mask below 0.12, any word below 0.135, the word itself above.
    uniform = jnp.full((2, 8), 0.5).at[0, 1:5].set(jnp.array([0.11, 0.13, 0.14, 0.16]))
    ids, label = masked_by(uniform, jnp.full((2, 8), 77), IDS)
    assert ids[0].tolist() == [START, MASK, 77, 30, 40, END, 0, 0]
    assert label[0].tolist() == [0, 10, 20, 30, 0, 0, 0, 0]


def test_an_empty_caption_loses_its_end():
    ids, label = masked_by(jnp.full((2, 8), 0.5), jnp.full((2, 8), 77), IDS)
    assert ids[0].tolist() == [START, MASK, 20, 30, 40, END, 0, 0]
    assert ids[1].tolist() == [START, MASK, 0, 0, 0, 0, 0, 0]
    assert label[1].tolist() == [0, END, 0, 0, 0, 0, 0, 0]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_what_masking_may_change(seed):
    ids, label = mask_words(jax.random.key(seed), IDS, MaskOptions(probability=0.5))
    ids, label = np.asarray(ids), np.asarray(label)
    chosen = label != 0
    assert (label[chosen] == np.asarray(IDS)[chosen]).all()
    assert (ids[~chosen] == np.asarray(IDS)[~chosen]).all()
    assert chosen.any(axis=1).all()
    assert (ids[0, [0, 5]] == [START, END]).all()
    assert ((ids > 0) | (np.asarray(IDS) == 0)).all() and (ids <= END).all()


def test_shares_of_many_words():
    ids = jnp.full((50, 200), 10)
    new, label = mask_words(jax.random.key(0), ids)
    chosen = np.asarray(label) != 0
    assert abs(chosen.mean() - 0.15) < 0.015
    new = np.asarray(new)[chosen]
    assert abs((new == MASK).mean() - 0.8) < 0.04
    assert abs((new == 10).mean() - 0.1) < 0.03


def test_sentences():
    counts = sentence_counts()
    assert sum(map(sum, counts)) == 55 and [len(row) for row in counts] == [2, 3, 2, 3, 3, 3, 2]
    assert ATTRIBUTE_SENTENCES["angle"][1] == (
        "The person in the picture is facing the camera.",
        "The picture is taken from the front.",
    )
    assert ATTRIBUTE_SENTENCES["light"][1][2] == "The light in the picture is half-light."
    tokenizer = Tokenizer()
    table = sentence_ids(tokenizer)
    assert table.shape == (55, 77)
    assert tokenizer.decode(table[0]) == "the person in the picture is male ."
