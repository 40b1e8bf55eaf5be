"""CLIP's tokenizer: known ids, limits, bad input."""

import logging
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.data.tokenizer import END, MASK, PAD, START, Tokenizer, clean

RETRIEVAL = Tokenizer()
OPENAI = Tokenizer("openai")


def test_known_ids():
    # The example of CLIP's own page.
    assert OPENAI.encode("a diagram") == [START, 320, 22697, END]
    assert RETRIEVAL.encode("A   Diagram") == OPENAI.encode("a diagram")


def test_crash_word_of_the_reference_is_two_pieces():
    assert OPENAI.encode("jekyll") == [START, 49405, END]
    ids = RETRIEVAL.encode("dr jekyll")
    assert MASK not in ids
    assert RETRIEVAL.decode(ids) == "dr jekyll"


def test_markers_in_a_caption_become_special_ids():
    assert RETRIEVAL.encode("a <|mask|> coat")[2] == MASK
    assert MASK not in OPENAI.encode("a <|mask|> coat")


def test_empty_text_is_start_and_end():
    table = RETRIEVAL(["", " \n"], context_length=5)
    np.testing.assert_array_equal(table, [[START, END, PAD, PAD, PAD]] * 2)


def test_long_text_is_cut_and_said_once(caplog):
    tokenizer = Tokenizer()
    with caplog.at_level(logging.WARNING):
        table = tokenizer(["coat " * 100, "a red coat"])
        tokenizer("coat " * 100)
    assert table.shape == (2, 77) and table.dtype == np.int32
    assert table[0, 0] == START and table[0, -1] == END and (table[0] != PAD).all()
    assert [r.getMessage()[:54] for r in caplog.records] == [
        "1 of 2 texts have more than 77 tokens and are cut, as "
    ]


def test_bad_input():
    with pytest.raises(ValueError, match=r"text 1: .* is not UTF-8 \(byte 3\)"):
        RETRIEVAL(["a coat", b"caf\xe9"])
    with pytest.raises(ValueError, match=r"expected 'retrieval' or 'openai'"):
        Tokenizer("bert")
    with pytest.raises(ValueError, match=r"start and end need 2"):
        RETRIEVAL("coat", context_length=1)


def test_bytes_are_utf8():
    assert RETRIEVAL.encode("café".encode()) == RETRIEVAL.encode("café")


def test_it_pickles():
    assert pickle.loads(pickle.dumps(RETRIEVAL)).encode("red coat") == RETRIEVAL.encode("red coat")


@settings(deadline=None, max_examples=20)
@given(st.text(max_size=60))
def test_any_text_has_ids_and_comes_back(text):
    ids = RETRIEVAL.encode(text)
    assert ids[0] == START and ids[-1] == END
    assert all(0 <= n <= END for n in ids)
    if "!" not in text and "<|" not in text:
        # Spaces between pieces are not part of the ids. U+FFFD: ftfy's for lone surrogates.
        assert RETRIEVAL.decode(ids).replace(" ", "") == clean(text).replace(" ", "")


@settings(deadline=None, max_examples=10)
@given(st.text(max_size=200), st.integers(2, 20))
def test_rows_are_padded_to_the_context(text, length):
    row = RETRIEVAL(text, context_length=length)[0]
    end = int(np.argmax(row))
    assert row.shape == (length,) and row[0] == START
    assert row[end] == END and (row[end + 1 :] == PAD).all()
