"""SkyGround's tracklets: its people walk, seen by CCTV and by drones that move and change altitude.

    world = TrackletWorld("small")
    for tracklet in world.tracklets("train"):
        crops = render(world, tracklet)

Every tracklet can be drawn on its own, in any order and process, with the same pixels.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from g2ajax.synthetic import sensor, walk
from g2ajax.synthetic.people import Person, people
from g2ajax.synthetic.shoot import Crop

TRACKLET_RENDERER = 1
"""Version of the tracklets; incremented by every change of a pixel."""
SPLITS = ("train", "query", "gallery")
CAMERAS = ("C0", "C3")
"""Drone and CCTV, with AG-ReID's names."""
_CROWD = 64


@dataclasses.dataclass(frozen=True)
class TrackletSize:
    """Numbers of people, of tracklets of each person by camera (aerial, ground), and of frames.

    The aerial tracklets of a person go round the levels of altitude.
    """

    train_people: int
    test_people: int
    frames: tuple[int, int]
    """Fewest and most frames of a walk."""
    train: tuple[int, int]
    query: tuple[int, int] = (3, 1)
    gallery: tuple[int, int] = (3, 2)


TRACKLET_SIZES: Mapping[str, TrackletSize] = {
    "tiny": TrackletSize(4, 4, (2, 6), (2, 1), (1, 1), (1, 1)),
    "small": TrackletSize(64, 48, (8, 16), (3, 2)),
    "full": TrackletSize(300, 200, (8, 32), (3, 2)),
}


@dataclasses.dataclass(frozen=True)
class Tracklet:
    """A tracklet before it is drawn."""

    tracklet_id: str
    """Person, camera and number, as P0001C0T02."""
    person: Person
    split: str
    camera: int
    """Index into `CAMERAS`: 0 aerial, 1 ground."""
    number: int
    """Number among the tracklets of the person by this camera."""
    level: int
    """Index into `walk.ALTITUDES`; −1 for CCTV."""

    @property
    def identity(self) -> int:
        return self.person.number


@dataclasses.dataclass(frozen=True)
class TrackletWorld:
    """A world of tracklets. `size` is a key of `TRACKLET_SIZES`. Raises ValueError for an unknown
    size."""

    size: str = "tiny"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in TRACKLET_SIZES:
            raise ValueError(
                f"no world of size {self.size!r}; there are {', '.join(TRACKLET_SIZES)}"
            )

    @functools.cached_property
    def people(self) -> tuple[Person, ...]:
        """All people: those of the train split, then those of the test splits."""
        counts = TRACKLET_SIZES[self.size]
        first, total = counts.train_people, counts.train_people + counts.test_people
        return (*people(self.seed, range(first)), *people(self.seed, range(first, total)))

    @functools.cached_property
    def crowd(self) -> tuple[Person, ...]:
        """Passers-by, who appear only as occluders."""
        return tuple(people(self.seed, range(10_000, 10_000 + _CROWD)))

    def tracklets(self, split: str) -> list[Tracklet]:
        """The tracklets of "train", "query" or "gallery", sorted by name.

        Raises ValueError for another split.
        """
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        counts = TRACKLET_SIZES[self.size]
        of_train = range(counts.train_people)
        own = of_train if split == "train" else range(counts.train_people, len(self.people))
        return [
            self._tracklet(self.people[i], split, camera, number)
            for i in own
            for camera in range(len(CAMERAS))
            for number in range(getattr(counts, split)[camera])
        ]

    def _tracklet(self, person: Person, split: str, camera: int, number: int) -> Tracklet:
        if split == "gallery":  # the numbers go on after those of the queries
            number += TRACKLET_SIZES[self.size].query[camera]
        return Tracklet(
            tracklet_id=f"P{person.number:04d}{CAMERAS[camera]}T{number:02d}",
            person=person,
            split=split,
            camera=camera,
            number=number,
            level=number % len(walk.ALTITUDES) if camera == 0 else -1,
        )

    @functools.cached_property
    def _by_name(self) -> dict[str, Tracklet]:
        return {one.tracklet_id: one for split in SPLITS for one in self.tracklets(split)}

    def tracklet(self, tracklet_id: str) -> Tracklet:
        """The tracklet with a name. Raises KeyError if there is none."""
        if tracklet_id not in self._by_name:
            raise KeyError(
                f"SkyGround {self.size}, seed {self.seed}, has no tracklet {tracklet_id!r}"
            )
        return self._by_name[tracklet_id]


def render(world: TrackletWorld, tracklet: Tracklet) -> dict[int, Crop]:
    """Draws a tracklet: its frames by number. Some numbers are missing, as a tracker loses people."""
    passer_by = world.crowd[(31 * tracklet.identity + 17 * tracklet.number) % _CROWD]
    key = (world.seed, tracklet.identity, tracklet.camera, tracklet.number)
    frames = TRACKLET_SIZES[world.size].frames
    return walk.draw(tracklet.person, key, tracklet.level, passer_by, frames)


@dataclasses.dataclass(frozen=True)
class TrackletPhotograph:
    """An encoded tracklet and the metadata of its camera."""

    tracklet: Tracklet
    frames: tuple[bytes, ...]
    frame_ids: tuple[int, ...]
    altitude_m: float
    """Height of the camera, as a mean over the frames; so are the others."""
    distance_m: float
    """Distance along the ground."""
    angle_deg: float
    """Pitch below the horizon."""


def photograph(world: TrackletWorld, tracklet: Tracklet) -> TrackletPhotograph:
    """Draws and encodes one tracklet."""
    crops = render(world, tracklet)
    views = [crop.view for crop in crops.values()]
    return TrackletPhotograph(
        tracklet,
        tuple(sensor.jpeg(crop.image, crop.quality) for crop in crops.values()),
        tuple(crops),
        float(np.mean([view.position[2] for view in views])),
        float(np.mean([view.distance for view in views])),
        float(np.mean([view.pitch for view in views])),
    )
