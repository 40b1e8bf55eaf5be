"""Masked words as augmentation and as a task, and attributes as sentences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from g2ajax.config.ranges import Probability, Share
from g2ajax.data.tokenizer import MASK, Tokenizer

PERSON = "The person in the picture is {}."
LIGHT = "The light in the picture is {}."
TAKEN = "The picture is taken from {}."


def _said(template: str, *classes: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(template.format(w.strip()) for w in words.split(",")) for words in classes)


ATTRIBUTE_SENTENCES = {
    "gender": _said(
        PERSON, "male, a man, not female, not a woman", "female, a woman, not male, not a man"
    ),
    "age": _said(
        PERSON,
        "adult, adulthood, come of age, middle age, middle-aged",
        "youth, youngster, the young, young",
        "old, wrinkly, the older",
    ),
    "light": _said(
        LIGHT, "bright, brilliant, light, lighting, brightness", "dark, dim, half-light, gloom"
    ),
    "weight": _said(
        PERSON,
        "medium built, average weight, middle weight, medium size",
        "thin, slim, slender, lean",
        "fat, solid",
    ),
    "height": _said(PERSON, "average height, not tall or short, medium height", "tall", "short"),
    "angle": (
        *_said(TAKEN, "the side, side-shot"),
        (*_said(PERSON, "facing the camera")[0], *_said(TAKEN, "the front")[0]),
        (*_said(PERSON, "away from the camera")[0], *_said(TAKEN, "the back")[0]),
    ),
    "altitude": (
        (
            "This person seems to be at the same altitude as camera.",
            "This person is at the horizontal position of the camera.",
        ),
        (
            "This photo is from a top view.",
            "The picture was taken from a height down.",
            "This person's horizontal position is below the camera.",
        ),
    ),
}
"""AEA-FIRM's seven attributes (Wang et al., TCSVT 2025) and the wordings of each class. They are
inputs of its training and so are kept to the letter."""


def sentence_counts() -> tuple[tuple[int, ...], ...]:
    """Number of wordings of each class of each attribute of `ATTRIBUTE_SENTENCES`."""
    return tuple(tuple(map(len, classes)) for classes in ATTRIBUTE_SENTENCES.values())


def sentence_ids(tokenizer: Tokenizer) -> Int[np.ndarray, "S 77"]:
    """The ids of all of `ATTRIBUTE_SENTENCES`, attribute by attribute and class by class."""
    return tokenizer(
        [s for classes in ATTRIBUTE_SENTENCES.values() for words in classes for s in words]
    )


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """Options of word masking; the shares are BERT's."""

    probability: Probability = 0.15
    masked: Share = 0.8
    """Share of the chosen words that becomes the mask word."""
    random: Share = 0.1
    """Share of the chosen words that becomes a random word; the rest stays unchanged."""


def mask_words(
    key: PRNGKeyArray, ids: Int[Array, "B L"], options: MaskOptions = MaskOptions()
) -> tuple[Int[Array, "B L"], Int[Array, "B L"]]:
    """Captions with words masked, and the words that were there (0 elsewhere).

    IRRA (Jiang and Ye, CVPR 2023) masks a copy for its masked-word loss; its code masks the caption
    itself, and all losses take the masked one. The caller chooses between the two.
    """
    of_choice, of_word = jax.random.split(key)
    uniform = jax.random.uniform(of_choice, ids.shape)
    return masked_by(uniform, jax.random.randint(of_word, ids.shape, 1, MASK), ids, options)


def masked_by(
    uniform: Float[Array, "B L"],
    word: Int[Array, "B L"],
    ids: Int[Array, "B L"],
    options: MaskOptions = MaskOptions(),
) -> tuple[Int[Array, "B L"], Int[Array, "B L"]]:
    """`mask_words` with given draws: one in 0..1 for each position, and the word to put there.

    Start, end, padding and mask are never chosen. If no word is chosen, the one after the start is
    masked; in an empty caption that is its end.
    """
    mask = (ids > 0) & (ids < MASK) & (uniform < options.probability)
    kind = uniform / options.probability
    new = jnp.where(kind < options.masked + options.random, word, ids)
    new = jnp.where(mask, jnp.where(kind < options.masked, MASK, new), ids)
    label = jnp.where(mask, ids, 0)
    none = ~mask.any(axis=1)
    new = new.at[:, 1].set(jnp.where(none, MASK, new[:, 1]))
    label = label.at[:, 1].set(jnp.where(none, ids[:, 1], label[:, 1]))
    return new, label
