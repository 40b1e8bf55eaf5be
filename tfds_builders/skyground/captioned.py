"""SkyGround's crops with captions, in TBAGPR's form, for the configurations `captions_*`."""

from collections.abc import Iterator, Sequence
from typing import Any

from g2ajax.synthetic import captions
from g2ajax.synthetic.world import Shot, World
from tfds_builders.captions import BOTH_VIEWS, members

SPLITS = {"train": ("train",), "test": ("query", "gallery")}
"""Split of the dataset → splits of the world."""


def shots_of(world: World, split: str) -> list[Shot]:
    """Shots of a split of captions, sorted by file name."""
    shots = [shot for part in SPLITS[split] for shot in world.shots(part)]
    return sorted(shots, key=lambda shot: shot.image_id)


def caption_fields(world: World, shots: Sequence[Shot]) -> Iterator[dict[str, Any]]:
    """Yields for each shot the fields that its record has besides those of a crop."""
    for shot, pairs in zip(shots, captions.sentences(world.seed, shots), strict=True):
        view = "aerial" if shot.camera == 0 else "ground"
        yield {
            "captions": [text for text, _ in pairs],
            "pair_image_ids": [partner.image_id for _, partner in pairs],
            "caption_source": "generated",
            "attributes": captions.attribute_codes(shot),
            "protocols": [] if shot.split == "train" else members(BOTH_VIEWS, view),
        }
