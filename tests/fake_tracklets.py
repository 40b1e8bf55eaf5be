"""A dataset of tracklets in memory: people of one colour each, walking from left to right."""

import dataclasses

import numpy as np

from g2ajax.data.crop_source import Dataset, fingerprint
from g2ajax.data.tracklet_source import TrackletSplit
from tests.fake_data import encode, make_dataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryTracklets(TrackletSplit):
    """A split whose encoded frames are at hand."""

    images: tuple[tuple[bytes, ...], ...]

    def stored(self, row: int) -> tuple[bytes, ...]:
        return self.images[int(self.position[row])]


def make_split(name: str, whole) -> MemoryTracklets:
    """The rows of a split of crops, each with one to seven frames in place of its image."""
    count = len(whole)
    numbers = (1 + 3 * np.arange(count) % 7).astype(np.int32)
    columns = {column: getattr(whole, column) for column in whole.ROWS}
    columns["image_id"] = np.array([str(n).replace(".png", "") for n in whole.image_id])
    frames = []
    for row in range(count):
        colour = np.random.default_rng(int(whole.identity[row])).integers(40, 216, (4, 1, 3))
        rng = np.random.default_rng((row, len(name)))
        body = np.repeat(colour, 6, axis=0).repeat(10, axis=1)
        frames.append(
            tuple(
                encode((body + rng.normal(0, 12, body.shape)).clip(0, 255).astype(np.uint8))
                for _ in range(numbers[row])
            )
        )
    return MemoryTracklets(
        name=name, folder="", num_frames=numbers, images=tuple(frames), **columns
    )


def make_tracklets() -> Dataset:
    """The whole, with the people and protocols of `fake_data.make_dataset`, without attributes."""
    crops = make_dataset()
    splits = {name: make_split(name, split) for name, split in crops.splits.items()}
    return dataclasses.replace(
        crops, name="fake tracklets", splits=splits, fingerprint=fingerprint(splits)
    )
