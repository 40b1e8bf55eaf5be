"""SkyGround's crops with sentences, in TBAGPR's form: what the configurations `captions_*` hold."""

from collections.abc import Iterator, Sequence
from typing import Any

from g2ajax.synthetic import captions
from g2ajax.synthetic.world import Shot, World
from tfds_builders.captions import BOTH_VIEWS, members

SPLITS = {"train": ("train",), "test": ("query", "gallery")}
"""Which of the world's splits make which."""


def shots_of(world: World, split: str) -> list[Shot]:
    """The shots of a split of captions, sorted by file name."""
    shots = [shot for part in SPLITS[split] for shot in world.shots(part)]
    return sorted(shots, key=lambda shot: shot.image_id)


def said(world: World, shots: Sequence[Shot]) -> Iterator[dict[str, Any]]:
    """For each shot what its record has besides the crop's fields."""
    for shot, told in zip(shots, captions.sentences(world.seed, shots), strict=True):
        view = "aerial" if shot.camera == 0 else "ground"
        yield {
            "captions": [text for text, _ in told],
            "pair_image_ids": [partner.image_id for _, partner in told],
            "caption_source": "generated",
            "attributes": captions.attribute_codes(shot),
            "protocols": [] if shot.split == "train" else members(BOTH_VIEWS, view),
        }
