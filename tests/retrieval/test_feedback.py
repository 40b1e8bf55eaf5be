"""Relevance feedback against its formula by hand."""

import pathlib
import re

import numpy as np
import pytest

from g2ajax.retrieval.distances import pairwise
from g2ajax.retrieval.feedback import rocchio

Q = np.array([1.0, 0.0], np.float32)
NONE = np.zeros((0, 2), np.float32)


def test_marks_move_the_query_as_by_hand():
    right = np.array([[0.0, 1.0], [0.6, 0.8]], np.float32)
    wrong = np.array([[1.0, 0.0]], np.float32)
    # q + 0.75 (0.3, 0.9) - 0.15 (1, 0) = (1.075, 0.675), divided by 1.6
    np.testing.assert_allclose(rocchio(Q, right, wrong), [0.671875, 0.421875], rtol=1e-6)
    # (1 + 0.225, 0.675) / 1.75, and (1 - 0.15, 0) / 0.85
    np.testing.assert_allclose(rocchio(Q, right, NONE), [0.7, 0.675 / 1.75], rtol=1e-6)
    np.testing.assert_allclose(rocchio(Q, NONE, wrong), [1.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(rocchio(Q, NONE, NONE), Q)
    np.testing.assert_allclose(rocchio(Q, right, wrong, beta=0.0, gamma=0.5), [1.0, 0.0])


def test_a_shift_of_all_embeddings_shifts_the_query():
    """The weights sum to one: Euclidean distances after feedback do not depend on the origin."""
    rng = np.random.default_rng(0)
    query, right, wrong = (rng.normal(size=s).astype(np.float32) for s in ((6,), (3, 6), (2, 6)))
    shift = rng.normal(size=6).astype(np.float32)
    moved = rocchio(query + shift, right + shift, wrong + shift)
    np.testing.assert_allclose(moved, rocchio(query, right, wrong) + shift, atol=1e-5)


def test_the_division_changes_no_cosine():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(9, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    plain = rows[0] + 0.75 * rows[1:3].mean(0) - 0.15 * rows[3:5].mean(0)
    expected = pairwise(plain[None], rows, "cosine")
    result = pairwise(rocchio(rows[0], rows[1:3], rows[3:5])[None], rows, "cosine")
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("weights", [{"beta": -0.1}, {"gamma": 1.0}, {"gamma": float("nan")}])
def test_weights_that_do_not_fit(weights):
    with pytest.raises(ValueError, match="expected beta >= 0 and 0 <= gamma < 1"):
        rocchio(Q, NONE, NONE, **weights)


def test_the_example_of_the_page_runs(capsys):
    page = pathlib.Path(__file__).parents[2] / "docs" / "explore.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    exec(code, {})
    assert f"# {capsys.readouterr().out.strip()}" in code
