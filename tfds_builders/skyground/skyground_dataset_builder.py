"""SkyGround: the embedded synthetic world, as crops in the schema of the real datasets."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from g2ajax.synthetic.attributes import GROUPS
from g2ajax.synthetic.captions import ATTRIBUTES
from g2ajax.synthetic.frames import FRAME_RENDERER, FrameWorld
from g2ajax.synthetic.pool import photographs
from g2ajax.synthetic.tracklets import TRACKLET_RENDERER, TRACKLET_SIZES, TrackletWorld
from g2ajax.synthetic.world import CAMERAS, RENDERER, SPLITS, Shot, World
from tfds_builders.base import labels_of, protocol
from tfds_builders.captions import BOTH_VIEWS, caption_features
from tfds_builders.frames import FrameBuilder
from tfds_builders.skyground import captioned, framed, walking
from tfds_builders.tracklets import TrackletBuilder

PROTOCOLS = [
    protocol("A2G", "aerial", "ground"),
    protocol("G2A", "ground", "aerial"),
    protocol("ALL", "any", "any"),
]


@dataclasses.dataclass
class SkyGroundConfig(tfds.core.BuilderConfig):
    """A configuration of the world: size, seed and kind of records."""

    size: str = "tiny"
    seed: int = 0
    captions: bool = False
    frames: bool = False
    tracklets: bool = False


class Builder(FrameBuilder, TrackletBuilder):
    """Draws the world's crops, whole frames or tracklets; needs no download."""

    COUNTED = "images"
    SHOWS_PROGRESS = True

    VERSION = tfds.core.Version(f"1.0.{RENDERER}")
    RELEASE_NOTES = {f"1.0.{RENDERER}": f"Renderer version {RENDERER}."}
    BUILDER_CONFIGS = [
        SkyGroundConfig(name=f"crops_{size}", description=f"Crops, {size}.", size=size)
        for size in ("tiny", "small", "many", "full")
    ] + [
        SkyGroundConfig(
            name=f"captions_{size}", description=f"With captions, {size}.", size=size, captions=True
        )
        for size in ("tiny", "small")
    ]
    BUILDER_CONFIGS += [
        SkyGroundConfig(
            name=f"frames_{size}",
            version=tfds.core.Version(f"1.0.{FRAME_RENDERER}"),
            description=f"Whole frames, {size}.",
            size=size,
            frames=True,
        )
        for size in ("tiny", "small", "full")
    ]

    BUILDER_CONFIGS += [
        SkyGroundConfig(
            name=f"tracklets_{size}",
            version=tfds.core.Version(f"1.0.{TRACKLET_RENDERER}"),
            description=f"Tracklets, {size}.",
            size=size,
            tracklets=True,
        )
        for size in TRACKLET_SIZES
    ]

    def frame_world(self) -> FrameWorld:
        return FrameWorld(self.builder_config.size, self.builder_config.seed)

    def galleries(self) -> tuple[int, ...]:
        """Sizes of the drawn galleries."""
        return self.frame_world().counts.galleries

    def _info(self) -> tfds.core.DatasetInfo:
        if self.builder_config.frames:
            return self.frame_info(
                homepage="",
                protocols=framed.protocols(self.frame_world()),
                world_size=self.builder_config.size,
                world_seed=str(self.builder_config.seed),
                renderer=str(FRAME_RENDERER),
            )
        if self.builder_config.tracklets:
            return self.tracklet_info(
                homepage="",
                protocols=PROTOCOLS,
                attribute_groups=GROUPS,
                world_size=self.builder_config.size,
                world_seed=str(self.builder_config.seed),
                renderer=str(TRACKLET_RENDERER),
            )
        captions = self.builder_config.captions
        return self.crop_info(
            homepage="",
            protocols=list(BOTH_VIEWS) if captions else PROTOCOLS,
            attribute_groups=ATTRIBUTES if captions else GROUPS,
            features=caption_features() if captions else None,
            world_size=self.builder_config.size,
            world_seed=str(self.builder_config.seed),
            renderer=str(RENDERER),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        if self.builder_config.frames:
            world = self.frame_world()
            labels = {number: number for number in range(world.counts.train_people)}
            return {
                split: self.frame_examples(split, records, labels if split == "train" else {})
                for split, records in framed.splits(world).items()
            }
        if self.builder_config.tracklets:
            walks = TrackletWorld(self.builder_config.size, self.builder_config.seed)
            return {
                split: self.tracklet_examples(split, walking.records(walks, split))
                for split in SPLITS
            }
        world = World(self.builder_config.size, self.builder_config.seed)
        if self.builder_config.captions:
            shots = {split: captioned.shots_of(world, split) for split in captioned.SPLITS}
        else:
            shots = {split: world.shots(split) for split in SPLITS}
        parts = {split: _records(world, split, part) for split, part in shots.items()}
        if self.builder_config.captions:
            parts = {
                split: map(dict.__or__, records, captioned.caption_fields(world, shots[split]))
                for split, records in parts.items()
            }
        return {split: self.crop_examples(split, part) for split, part in parts.items()}


def _records(world: World, split: str, shots: Sequence[Shot]) -> Iterator[dict[str, Any]]:
    """Yields the crops of a split, drawn while they are written."""
    labels = labels_of(shot.identity for shot in world.shots("train"))
    for photograph in photographs(world, shots, progress=f"SkyGround {split}"):
        shot = photograph.shot
        yield {
            "image": photograph.jpeg,
            "image_id": shot.image_id,
            "identity": shot.identity,
            "identity_raw": shot.image_id.partition("C")[0],
            "label": labels[shot.identity] if split == "train" else -1,
            "camera": shot.camera,
            "camera_raw": CAMERAS[shot.camera],
            "platform": "aerial" if shot.camera == 0 else "ground",
            "time_of_day": "day",
            "altitude_m": photograph.altitude_m,
            "distance_m": photograph.distance_m,
            "angle_deg": photograph.angle_deg,
            "altitude_level": shot.altitude_level,
            "session": shot.session,
            "frame": shot.frame,
            "attributes": shot.person.attributes,
            "protocols": _protocols(shot),
        }


def _protocols(shot: Shot) -> list[int]:
    """Indices of the protocols that include a shot."""
    # Camera 0 is the drone: its queries belong to A2G (0), its gallery images to G2A (1).
    as_query, as_gallery = shot.camera, 1 - shot.camera
    return {"train": [], "query": [as_query, 2], "gallery": [as_gallery, 2]}[shot.split]
