"""Losses between images and captions: by hand, and finite whatever the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses import image_text
from g2ajax.losses.attribute_matching import attribute_matching, pick_sentences
from g2ajax.losses.elastic_alignment import aea, empty_queue, over_pairs, push
from g2ajax.losses.image_text import cmpm, itc, masked_words, normalised_itc, sdm

X = jnp.array([[3.0, 0.0], [0.0, 2.0]])
Y = jnp.array([[1.0, 0.0], [1.0, 0.0]])
COUNTS = ((2, 1), (1, 3, 2))


def test_sdm_by_hand():
    # Cosines [[1, 1], [0, 0]]; each row is uniform, each column softmax([1, 0]).
    a, b = np.e / (1 + np.e), 1 / (1 + np.e)
    rows = np.log(0.5) - (np.log(1 + 1e-8) + np.log(1e-8)) / 2
    columns = [
        a * (np.log(a) - np.log(1 + 1e-8)) + b * (np.log(b) - np.log(1e-8)),
        a * (np.log(a) - np.log(1e-8)) + b * (np.log(b) - np.log(1 + 1e-8)),
    ]
    got = sdm(X, Y, jnp.array([4, 7]), scale=1.0)
    np.testing.assert_allclose(got, rows + np.mean(columns), rtol=1e-5)


def test_sdm_of_one_identity_wants_equal_shares():
    got = sdm(X, Y, jnp.array([4, 4]), scale=1.0)
    a, b = np.e / (1 + np.e), 1 / (1 + np.e)
    expected = a * np.log(a / 0.5) + b * np.log(b / 0.5)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_itc_by_hand():
    # Rows uniform: log 2. Columns softmax([1, 0]): the first wants row 0, the second row 1.
    columns = [-np.log(np.e / (1 + np.e)), -np.log(1 / (1 + np.e))]
    expected = (np.log(2) + np.mean(columns)) / 2
    np.testing.assert_allclose(itc(X, Y, scale=1.0), expected, rtol=1e-6)


def test_normalised_itc_shares_an_identity():
    np.testing.assert_allclose(
        normalised_itc(X, Y, jnp.array([0, 1]), scale=1.0), itc(X, Y, scale=1.0), rtol=1e-6
    )
    # Rows of one identity want both columns alike: rows log 2; columns the mean of both.
    columns = (-np.log(np.e / (1 + np.e)) - np.log(1 / (1 + np.e))) / 2
    got = normalised_itc(X, Y, jnp.array([4, 4]), scale=1.0)
    np.testing.assert_allclose(got, (np.log(2) + columns) / 2, rtol=1e-6)


def test_masked_words_by_hand():
    logits = jnp.array([[0.0, 0.0, jnp.log(2.0)], [9.0, 9.0, 9.0]])
    np.testing.assert_allclose(masked_words(logits, jnp.array([2, 0])), np.log(2), rtol=1e-6)
    assert masked_words(logits, jnp.array([0, 0])) == 0.0


@jax.jit
def each(x, y, z, identity, queue, mask):
    return {
        "sdm": sdm(x, y, identity, mask=mask),
        "cmpm": cmpm(x, y, identity, mask=mask),
        "itc": itc(x, y, mask=mask),
        "normalised_itc": normalised_itc(x, y, identity, mask=mask),
        "aea": aea(x, y, z, identity, queue, mask=mask),
        "contrastive": aea(x, y, z, identity, queue, form="contrastive", mask=mask),
    }


def test_masked_rows_and_columns_are_as_if_absent():
    rows = jax.random.normal(jax.random.key(0), (3, 4, 5))
    identity, mask = jnp.array([0, 1, 1, 2]), jnp.array([True, True, False, True])
    queue = push(empty_queue(6, 5), *rows, identity)
    kept = jnp.array([0, 1, 3])
    expected = each(*rows[:, kept], identity[kept], queue, jnp.ones(3, jnp.bool_))
    got = each(*rows, identity, queue, mask)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-5, err_msg=name)
    empty = each(*rows, identity, queue, jnp.zeros(4, jnp.bool_))
    assert all(value == 0 for value in empty.values())


@jax.jit
def gradients(x, y, z, identity):
    queue = empty_queue(3, 2)

    def total(x, y, z):
        return (
            sdm(x, y, identity)
            + cmpm(x, y, identity)
            + itc(x, z)
            + normalised_itc(x, y, identity)
            + aea(x, y, z, identity, queue)
            + aea(x, y, z, identity, queue, form="contrastive")
        )

    return jax.value_and_grad(total, argnums=(0, 1, 2))(x, y, z)


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.sampled_from([-1, 0, 3]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0.0, 1.0, -2.5, 1e3]), min_size=24, max_size=24),
)
def test_finite_with_finite_gradients(identity, values):
    x, y, z = jnp.array(values).reshape(3, 4, 2)
    value, grads = gradients(x, y, z, jnp.array(identity))
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


def test_queue_takes_the_newest_in_front_and_has_no_gradient():
    queue = push(empty_queue(3, 2), X, Y, X, jnp.array([5, 6]))
    queue = push(queue, Y, X, X, jnp.array([7, 8]))
    assert queue.identity.tolist() == [7, 8, 5]
    np.testing.assert_allclose(queue.text, [[1, 0], [1, 0], [1, 0]])
    np.testing.assert_allclose(queue.aerial, [[1, 0], [0, 1], [1, 0]])
    grad = jax.grad(lambda x: push(queue, x, x, x, jnp.array([1, 2])).text.sum())(X)
    assert (grad == 0).all()
    longer = push(empty_queue(1, 2), X, Y, X, jnp.array([5, 6]))
    assert longer.identity.tolist() == [5]


def test_empty_places_of_the_queue_are_positives_of_identity_0_unless_masked():
    def of(identity, queue=None, **options):
        return aea(X, Y, X, jnp.array(identity), queue, scale=1.0, **options)

    queue = empty_queue(3, 2)
    # More positives of identity 0, more negatives of all others.
    assert of([2, 1], queue) > of([2, 1]) + 0.1
    assert of([0, 1], queue) < of([2, 1], queue) - 0.1
    np.testing.assert_allclose(of([0, 1], queue, mask_empty=True), of([0, 1]), rtol=1e-5)


def test_over_pairs_averages_two_or_three():
    def first(a, b):
        return a[0, 0] * 10 + b[0, 0]

    one, two, three = (jnp.full((1, 1), v) for v in (1.0, 2.0, 3.0))
    # text 1, aerial 2, ground 3: (a, t) = 21, (g, t) = 31, (a, g) = 23.
    assert over_pairs(first, one, two, three) == 25.0
    assert over_pairs(first, one, two, three, between_views=False) == 26.0


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.sampled_from(["next", "uniform"]))
def test_picked_sentences_say_their_class_and_another(seed, negative):
    aerial, ground = jnp.array([[0, 2], [1, 0]]), jnp.array([[1, 1], [1, 2]])
    pick = pick_sentences(jax.random.key(seed), aerial, ground, COUNTS, negative=negative)
    assert pick.shape == (2, 2, 2, 2)
    class_of = [(a, c) for a, row in enumerate(COUNTS) for c, n in enumerate(row) for _ in range(n)]
    for (a, b, view, role), number in np.ndenumerate(pick):
        label = int((aerial, ground)[view][b, a])
        attribute, said = class_of[number]
        assert attribute == a
        if role == 0:
            assert said == label
        elif negative == "next":
            assert said == (label + 1) % len(COUNTS[a])
        else:
            assert said != label


def test_attribute_matching_by_hand():
    sentence = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    image = jnp.array([[2.0, 3.0]])
    pick = jnp.array([0, 1, 0, 1]).reshape(1, 1, 2, 2)
    # Products [2, 0] (true) and [0, 3] (false); the head takes them for logits.
    expected = -np.log(1 / (1 + np.exp(2))) - np.log(1 / (1 + np.exp(3)))
    got = attribute_matching(lambda x: x, image, image, sentence, pick)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    none = jnp.zeros((1, 1, 2), jnp.bool_)
    assert attribute_matching(lambda x: x, image, image, sentence, pick, mask=none) == 0.0
    wide = attribute_matching(
        lambda x: x[:, 1:3], image, image, sentence, pick, joint="concatenation"
    )
    # [0, 2] and [1, 2] of [sentence; image].
    expected = np.log(1 + np.exp(-2)) + np.log(1 + np.exp(1))
    np.testing.assert_allclose(wide, expected, rtol=1e-6)


def test_cosines_of_a_zero_row_are_0():
    assert (image_text.cosines(jnp.zeros((1, 2)), X) == 0).all()


@pytest.mark.parametrize("loss", [sdm, cmpm])
def test_order_of_rows_does_not_matter(loss):
    x, y = jax.random.normal(jax.random.key(3), (2, 4, 5))
    identity, order = jnp.array([0, 1, 1, 2]), jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        loss(x, y, identity), loss(x[order], y[order], identity[order]), rtol=1e-5
    )
