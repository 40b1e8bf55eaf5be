"""The dataset in memory with sentences: each aerial image has one, with a ground image beside it."""

import dataclasses

import numpy as np

from g2ajax.data.crop_source import Captions, Dataset, fingerprint
from g2ajax.synthetic.captions import ATTRIBUTES
from tests.fake_data import make_split
from tfds_builders.captions import BOTH_VIEWS, members

WORDS = ("red", "green", "blue", "black", "white", "yellow", "pink", "grey")


def make_captioned(name: str, people: range, per_camera: int = 2):
    """A split whose sentences tell the number of the person in colours."""
    split = make_split(name, people, per_camera)
    aerial = np.flatnonzero(split.camera == 0)
    ground = {p: np.flatnonzero((split.identity == p) & (split.camera == 1)) for p in people}
    number = split.identity[aerial]
    text = tuple(f"A {WORDS[n % 8]} coat, {WORDS[n // 8 % 8]} shoes." for n in number)
    pair = np.array([ground[n][i % per_camera] for i, n in enumerate(number)], np.int64)
    views = np.array([[0, 0, 0, 0, 0, 0, 1 - c] for c in split.camera], np.int8)
    protocols = np.zeros((len(split), len(BOTH_VIEWS)), bool)
    for row, camera in enumerate(split.camera):
        protocols[row, members(BOTH_VIEWS, "ground" if camera else "aerial")] = name == "test"
    return dataclasses.replace(
        split,
        attributes=views,
        protocols=protocols,
        label=split.label if name == "train" else np.full(len(split), -1, np.int32),
        captions=Captions(text, aerial, pair),
    )


def make_captions_dataset() -> Dataset:
    """Six people for training, five for testing; protocols and attributes of TBAGPR."""
    splits = {
        "train": make_captioned("train", range(6)),
        "test": make_captioned("test", range(100, 105)),
    }
    return Dataset(
        name="fake",
        version="1.0.0",
        fingerprint=fingerprint(splits),
        metadata={},
        protocols=BOTH_VIEWS,
        attribute_groups=tuple(ATTRIBUTES.items()),
        splits=splits,
    )
