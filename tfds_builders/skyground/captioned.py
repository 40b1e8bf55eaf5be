"""SkyGround's crops with sentences, in TBAGPR's form: what the configurations `captions_*` hold.

An aerial image comes with sentences and, for each, a ground image of the same person. Ground images
are records of their own, without sentences. Training images have one sentence said from the air and
one from the ground, test images one of the two in turn.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from g2ajax.synthetic.captions import attribute_codes, captions
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
    ground: dict[int, list[Shot]] = {}
    for shot in shots:
        if shot.camera == 1:
            ground.setdefault(shot.identity, []).append(shot)
    turn: dict[int, int] = {}
    for shot in shots:
        texts: list[str] = []
        pairs: list[str] = []
        if shot.camera == 0:
            number = turn.setdefault(shot.identity, 0)
            turn[shot.identity] += 1
            views = (True, False) if shot.split == "train" else (number % 2 == 1,)
            for aerial in views:
                phrasings = captions(world.seed, shot.person, aerial=aerial)
                texts.append(phrasings[number % len(phrasings)])
                others = ground[shot.identity]
                pairs.append(others[(len(views) * number + len(texts) - 1) % len(others)].image_id)
        view = "aerial" if shot.camera == 0 else "ground"
        yield {
            "captions": texts,
            "pair_image_ids": pairs,
            "caption_source": "generated",
            "attributes": attribute_codes(shot),
            "protocols": [] if shot.split == "train" else members(BOTH_VIEWS, view),
        }
