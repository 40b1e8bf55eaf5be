"""SkyGround: the embedded synthetic world, as crops in the schema of the real datasets."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from g2ajax.synthetic.attributes import GROUPS
from g2ajax.synthetic.world import RENDERER, SPLITS, Shot, World, encode
from tfds_builders.base import ManualBuilder, crop, labels_of, protocol

PROTOCOLS = [
    protocol("A2G", "aerial", "ground"),
    protocol("G2A", "ground", "aerial"),
    protocol("ALL", "any", "any"),
]


@dataclasses.dataclass
class SkyGroundConfig(tfds.core.BuilderConfig):
    """A size of the world."""

    size: str = "tiny"
    seed: int = 0


class Builder(ManualBuilder):
    """Draws the world's crops; needs no download."""

    VERSION = tfds.core.Version(f"1.0.{RENDERER}")
    RELEASE_NOTES = {f"1.0.{RENDERER}": f"Renderer version {RENDERER}."}
    BUILDER_CONFIGS = [
        SkyGroundConfig(name=f"crops_{size}", description=f"Crops, {size}.", size=size)
        for size in ("tiny", "small", "full")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.crop_info(
            homepage="",
            protocols=PROTOCOLS,
            attribute_groups=GROUPS,
            world_size=self.builder_config.size,
            world_seed=str(self.builder_config.seed),
            renderer=str(RENDERER),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        world = World(self.builder_config.size, self.builder_config.seed)
        return {split: self._generate_examples(world, split) for split in SPLITS}

    def _generate_examples(self, world: World, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        shots = world.shots(split)
        labels = labels_of(shot.identity for shot in world.shots("train"))
        for shot, image in zip(shots, _drawn(world, split, len(shots)), strict=True):
            yield (
                shot.image_id,
                crop(
                    image,
                    shot.image_id,
                    shot.identity,
                    identity_raw=shot.image_id.partition("C")[0],
                    label=labels[shot.identity] if split == "train" else -1,
                    camera=shot.camera,
                    camera_raw="C0" if shot.camera == 0 else "C3",
                    platform="aerial" if shot.camera == 0 else "ground",
                    altitude_m=float("nan") if shot.altitude is None else shot.altitude,
                    altitude_level=shot.altitude_level,
                    session=shot.session,
                    frame=shot.frame,
                    attributes=shot.person.attributes,
                    protocols=_protocols(shot),
                ),
            )


def _protocols(shot: Shot) -> list[int]:
    """A2G asks aerial queries of a ground gallery; everything is in ALL."""
    as_query = {0: 0, 1: 1}[shot.camera]
    return {"train": [], "query": [as_query, 2], "gallery": [1 - as_query, 2]}[shot.split]


def _drawn(world: World, split: str, total: int) -> Iterator[bytes]:
    """The encoded images in order, drawn by as many processes as there are cores."""
    workers = os.cpu_count() or 1
    start = last = time.monotonic()
    arguments = [(world.size, world.seed, split, i) for i in range(total)]
    if total < 200 or workers == 1:
        yield from map(_draw, arguments)
        return
    # Spawned, not forked: the parent may hold threads of JAX.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        for done, image in enumerate(pool.map(_draw, arguments, chunksize=16), start=1):
            if time.monotonic() - last > 5:
                last = time.monotonic()
                rate = done / (last - start)
                print(
                    f"SkyGround {split}: {done} of {total} drawn, {rate:.0f} a second, "
                    f"{(total - done) / rate:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
            yield image


_worlds: dict[tuple[str, int], World] = {}


def _draw(arguments: tuple[str, int, str, int]) -> bytes:
    size, seed, split, index = arguments
    world = _worlds.setdefault((size, seed), World(size, seed))
    return encode(world, world.shots(split)[index])
