"""SkyGround: a world of people seen from drones and from the ground, generated from a seed.

    world = World("small")
    for shot in world.shots("train"):
        crop = render(world, shot)

Every shot can be drawn on its own, in any order and process, with the same pixels.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from g2ajax.synthetic import sensor, shoot
from g2ajax.synthetic.cameras import ALTITUDES
from g2ajax.synthetic.people import SHOOTING, SPLITTING, Person, generator, people
from g2ajax.synthetic.shoot import Crop

RENDERER = 1
"""Version of the renderer; incremented by every change of a pixel."""
SPLITS = ("train", "query", "gallery")
CAMERAS = ("C0", "C3")
"""Drone and CCTV, with AG-ReID's names."""
_SESSIONS = ("04041", "04040", "02140", "02141", "05091", "11230")
_CROWD = 64


@dataclasses.dataclass(frozen=True)
class Size:
    """Numbers of people, and of images for each camera (aerial, ground)."""

    train_people: int
    test_people: int
    train: tuple[int, int]
    query: tuple[int, int]
    gallery: tuple[int, int]


SIZES: Mapping[str, Size] = {
    "tiny": Size(8, 8, (40, 40), (8, 8), (32, 32)),
    "small": Size(96, 96, (1056, 960), (192, 192), (864, 768)),
    "many": Size(1920, 96, (3840, 3840), (192, 192), (864, 768)),
    "full": Size(199, 189, (6613, 4941), (1701, 962), (7204, 3331)),
}


@dataclasses.dataclass(frozen=True)
class Shot:
    """An image of a person before it is drawn."""

    image_id: str
    """File name in AG-ReID's form, such as P0001T04041A0C0F31.jpg."""
    person: Person
    identity: int
    """Digits of P, T and A as one number, as in AG-ReID."""
    session: str
    altitude_level: int
    """0 low, 1 medium, 2 high; a property of the person, so ground images have it too."""
    camera: int
    """Index into `CAMERAS`: 0 aerial, 1 ground."""
    split: str
    number: int
    """Number among the shots of the person by this camera."""
    frame: int
    altitude: int | None
    """Altitude of the drone in metres; None for the ground camera."""


@dataclasses.dataclass(frozen=True)
class World:
    """A world of crops. `size` is a key of `SIZES`. Raises ValueError for an unknown size."""

    size: str = "tiny"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"no world of size {self.size!r}; there are {', '.join(SIZES)}")

    @functools.cached_property
    def people(self) -> tuple[Person, ...]:
        """All people: those of the train split, then those of the test splits."""
        counts = SIZES[self.size]
        first = range(counts.train_people)
        rest = range(counts.train_people, counts.train_people + counts.test_people)
        return (*people(self.seed, first), *people(self.seed, rest))

    @functools.cached_property
    def crowd(self) -> tuple[Person, ...]:
        """Passers-by, who appear only as occluders."""
        return tuple(people(self.seed, range(10_000, 10_000 + _CROWD)))

    def shots(self, split: str) -> list[Shot]:
        """The shots of "train", "query" or "gallery", sorted by file name.

        Raises ValueError for another split.
        """
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        return self._shots[split]

    @functools.cached_property
    def _shots(self) -> dict[str, list[Shot]]:
        size = SIZES[self.size]
        train, test = self.people[: size.train_people], self.people[size.train_people :]
        result: dict[str, list[Shot]] = {split: [] for split in SPLITS}
        for camera in range(2):
            for i, person in enumerate(train):
                counts = {"train": _part(size.train[camera], len(train), i)}
                self._photograph(person, camera, counts, result)
            for i, person in enumerate(test):
                counts = {s: _part(getattr(size, s)[camera], len(test), i) for s in SPLITS[1:]}
                self._photograph(person, camera, counts, result)
        return {s: sorted(shots, key=lambda shot: shot.image_id) for s, shots in result.items()}

    def _photograph(
        self, person: Person, camera: int, counts: Mapping[str, int], result: dict[str, list[Shot]]
    ) -> None:
        rng = generator(self.seed, SPLITTING, person.number)
        session = _SESSIONS[int(rng.integers(len(_SESSIONS)))]
        level = int(rng.integers(3))
        token = f"P{person.number:04d}T{session}A{level}"
        rng = generator(self.seed, SHOOTING, person.number, camera)
        splits = [split for split, count in counts.items() for _ in range(count)]
        splits = [splits[i] for i in rng.permutation(len(splits))]
        steps = np.cumsum(rng.integers(1, 4, len(splits)))
        for number, split in enumerate(splits):
            frame = 1 + 30 * int(steps[number])
            altitudes = {0: ALTITUDES[:1], 1: ALTITUDES[1:3], 2: ALTITUDES[3:]}[level]
            result[split].append(
                Shot(
                    image_id=f"{token}{CAMERAS[camera]}F{frame}.jpg",
                    person=person,
                    identity=int(f"{person.number:04d}{session}{level}"),
                    session=session,
                    altitude_level=level,
                    camera=camera,
                    split=split,
                    number=number,
                    frame=frame,
                    altitude=altitudes[int(rng.integers(len(altitudes)))] if camera == 0 else None,
                )
            )

    @functools.cached_property
    def _by_name(self) -> dict[str, Shot]:
        return {shot.image_id: shot for split in SPLITS for shot in self.shots(split)}

    def shot(self, image_id: str) -> Shot:
        """The shot with a file name. Raises KeyError if there is none."""
        if image_id not in self._by_name:
            raise KeyError(f"SkyGround {self.size}, seed {self.seed}, has no image {image_id!r}")
        return self._by_name[image_id]


def _part(total: int, people: int, index: int) -> int:
    """Part of a total for person `index` of `people`, as even as integers allow."""
    return total // people + (index < total % people)


def key(world: World, shot: Shot) -> tuple[int, ...]:
    """Key of the random streams of a shot."""
    return (world.seed, shot.person.number, shot.camera, shot.number)


def render(world: World, shot: Shot) -> Crop:
    """Draws a shot: pixels, part map and boxes."""
    passer_by = world.crowd[(31 * shot.person.number + 17 * shot.number + shot.camera) % _CROWD]
    altitude = None if shot.altitude is None else float(shot.altitude)
    return shoot.draw(shot.person, key(world, shot), altitude, passer_by)


def encode(world: World, shot: Shot) -> bytes:
    """Draws a shot and returns its JPEG."""
    crop = render(world, shot)
    return sensor.jpeg(crop.image, crop.quality)


def parts(world: World, image_id: str) -> UInt8[np.ndarray, "h w"]:
    """Part map of an image (indices into `skeleton.PART_NAMES`); rendered again, not stored."""
    return render(world, world.shot(image_id)).parts
