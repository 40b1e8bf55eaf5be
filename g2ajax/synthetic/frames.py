"""SkyGround's whole frames: one square, two drones and two ground cameras over it, many people.

    world = FrameWorld("small")
    for frame in world.frames("train"):
        picture = render(world, frame)  # picture.image, picture.boxes, picture.identity

Any frame can be made alone, in any order, in any process, with the same pixels.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from g2ajax.synthetic import frame_shoot, sensor
from g2ajax.synthetic.frame_shoot import Picture, Setting
from g2ajax.synthetic.people import Person, generator, people

FRAME_RENDERER = 1
"""Version of the pixels: raised by every change that alters one."""
SPLITS = ("train", "test")
CAMERAS = ("A1", "A2", "G1", "G2")
"""Two drones, low and high, and two ground cameras, the second held upright."""
PLATFORMS = ("aerial", "aerial", "ground", "ground")
# Purposes of the draws; shoot.py and people.py have the others.
DEALING, GALLERY = 21, 22
_FIRST_PASSER_BY = 20_000


@dataclasses.dataclass(frozen=True)
class FrameSize:
    """How many people and frames. Heights of people in pixels, (least, most)."""

    train_people: int
    test_people: int
    train_frames: int
    test_frames: int
    labelled: int
    """People with an identity in each frame; one who finds no free spot is left out."""
    passers_by: int
    """Most people without an identity in a frame."""
    crowd: int
    """Different passers-by in the world."""
    frame: tuple[int, int]
    """Height and width of a frame; the upright camera's are swapped."""
    aerial: tuple[int, int]
    ground: tuple[int, int]
    galleries: tuple[int, ...]
    """Sizes of the drawn galleries."""


FRAME_SIZES: Mapping[str, FrameSize] = {
    "tiny": FrameSize(6, 4, 24, 16, 2, 2, 8, (144, 192), (20, 50), (28, 110), (3, 6)),
    "small": FrameSize(64, 48, 480, 240, 3, 3, 64, (240, 320), (24, 80), (32, 200), (25, 50, 100)),
    "full": FrameSize(
        *(400, 200, 4000, 2000, 5, 6, 256),
        frame=(768, 1024),
        aerial=(20, 160),
        ground=(30, 400),
        galleries=(50, 100, 500, 1000),
    ),
}


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame, before it is drawn."""

    image_id: str
    """Camera and number, such as A1_00012.jpg."""
    split: str
    number: int
    """Counts the frames of the world, both splits."""
    camera: int
    """Index into `CAMERAS`."""
    invited: tuple[int, ...]
    """Numbers of the people who should be there."""

    @property
    def platform(self) -> str:
        return PLATFORMS[self.camera]


@dataclasses.dataclass(frozen=True)
class FrameQuery:
    """A person to look for, as one frame shows them."""

    frame: Frame
    person: int
    row: int
    """Place of their box among the frame's."""


@dataclasses.dataclass(frozen=True)
class FrameWorld:
    """A size of `FRAME_SIZES` and a seed. Raises ValueError for a size that does not exist."""

    size: str = "tiny"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in FRAME_SIZES:
            known = ", ".join(FRAME_SIZES)
            raise ValueError(f"no frames of size {self.size!r}; there are {known}")

    @property
    def counts(self) -> FrameSize:
        return FRAME_SIZES[self.size]

    @functools.cached_property
    def people(self) -> tuple[Person, ...]:
        """Everybody with an identity, which is their place here: train, then test people."""
        first = range(self.counts.train_people)
        rest = range(len(first), len(first) + self.counts.test_people)
        return (*people(self.seed, first), *people(self.seed, rest))

    @functools.cached_property
    def crowd(self) -> tuple[Person, ...]:
        """Passers-by: annotated, but without an identity."""
        numbers = range(_FIRST_PASSER_BY, _FIRST_PASSER_BY + self.counts.crowd)
        return tuple(people(self.seed, numbers))

    def frames(self, split: str) -> list[Frame]:
        """The frames of "train" or "test", sorted by image_id.

        Raises ValueError for another split.
        """
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        return self._frames[split]

    @functools.cached_property
    def _frames(self) -> dict[str, list[Frame]]:
        counts = self.counts
        everybody = np.arange(counts.train_people + counts.test_people)
        parts = {
            "train": (everybody[: counts.train_people], 0, counts.train_frames),
            "test": (everybody[counts.train_people :], counts.train_frames, counts.test_frames),
        }
        result = {}
        for split, (numbers, first, count) in parts.items():
            found = []
            for platform in ("aerial", "ground"):
                mine = [i for i in range(first, first + count) if _platform(i) == platform]
                key = (DEALING, self.seed, int(numbers[0]), PLATFORMS.index(platform))
                invited = _deal(numbers, len(mine), counts.labelled, generator(*key))
                for number, guests in zip(mine, invited, strict=True):
                    camera = number % len(CAMERAS)
                    name = f"{CAMERAS[camera]}_{number:05d}.jpg"
                    found.append(Frame(name, split, number, camera, guests))
            result[split] = sorted(found, key=lambda frame: frame.image_id)
        return result

    @functools.cached_property
    def _by_name(self) -> dict[str, Frame]:
        return {frame.image_id: frame for split in SPLITS for frame in self.frames(split)}

    def frame(self, image_id: str) -> Frame:
        """The frame of a file name. Raises KeyError if the world has none of it."""
        if image_id not in self._by_name:
            raise KeyError(f"SkyGround frames {self.size}, seed {self.seed}: no {image_id!r}")
        return self._by_name[image_id]

    def setting(self, frame: Frame) -> Setting:
        """Camera, light and who stands where; no pixels, so it is cheap."""
        counts = self.counts
        height, width = counts.frame if frame.camera != 3 else counts.frame[::-1]
        return frame_shoot.setting(
            key=(self.seed, frame.number),
            camera=frame.camera,
            size=(height, width),
            heights=counts.aerial if frame.platform == "aerial" else counts.ground,
            guests=[self.people[number] for number in frame.invited],
            crowd=self.crowd,
            passers_by=counts.passers_by,
        )

    @functools.cached_property
    def present(self) -> dict[str, tuple[int, ...]]:
        """image_id of each test frame → the identities in it, in the order of its boxes."""
        return {f.image_id: self.setting(f).identities() for f in self.frames("test")}

    @functools.cached_property
    def queries(self) -> list[FrameQuery]:
        """For each test person the frame of each platform that shows most of them, sorted.

        Only people whom another frame of the other platform shows too.
        """
        best: dict[tuple[int, str], tuple[float, Frame, int]] = {}
        for frame in self.frames("test"):
            placed = self.setting(frame)
            for row, guest in enumerate(placed.guests):
                key = (guest.identity, frame.platform)
                if guest.identity >= 0 and (key not in best or guest.clear > best[key][0]):
                    best[key] = (guest.clear, frame, row)
        other = {"aerial": "ground", "ground": "aerial"}
        return [
            FrameQuery(frame, person, row)
            for (person, platform), (_, frame, row) in sorted(best.items())
            if (person, other[platform]) in best
        ]

    def gallery(
        self, query: FrameQuery, size: int, platform: str | None = None, shown: int | None = None
    ) -> Int[np.ndarray, " G"]:
        """Places among the test frames: at most `size`, those that show the person first.

        Without the query's own frame; `platform` leaves only its frames. At most `shown` frames
        (default: half the size) show the person; the others are drawn from the seed.
        """
        frames = self.frames("test")
        rows = [
            i
            for i, frame in enumerate(frames)
            if frame != query.frame and platform in (None, frame.platform)
        ]
        shows = [i for i in rows if query.person in self.present[frames[i].image_id]]
        without = [i for i in rows if i not in set(shows)]
        rng = generator(GALLERY, self.seed, query.frame.number, query.person)
        shows = shows[: max(size // 2, 1) if shown is None else shown]
        drawn = rng.permutation(np.array(without, np.int32))[: size - len(shows)]
        return np.concatenate([np.array(shows, np.int32), drawn]).astype(np.int32)


def _platform(number: int) -> str:
    return PLATFORMS[number % len(PLATFORMS)]


def _deal(
    numbers: Int[np.ndarray, " P"], frames: int, each: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """`each` different people for every frame; over all frames each person about as often."""
    stack: list[int] = []
    result = []
    for _ in range(frames):
        guests: list[int] = []
        while len(guests) < min(each, len(numbers)):
            fresh = [n for n in stack if n not in guests]
            if not fresh:
                stack += [int(n) for n in rng.permutation(numbers)]
                continue
            stack.remove(fresh[0])
            guests.append(fresh[0])
        result.append(tuple(guests))
    return result


def render(world: FrameWorld, frame: Frame) -> Picture:
    """Draws a frame: pixels, boxes, identities and how much of each person can be seen."""
    return frame_shoot.draw(world.setting(frame), (world.seed, frame.number))


@dataclasses.dataclass(frozen=True)
class FramePhotograph:
    """An encoded frame and its annotation."""

    frame: Frame
    jpeg: bytes
    size: tuple[int, int]
    """Height, width."""
    boxes: Float[np.ndarray, "N 4"]
    """x0, y0, x1, y1: whole pixels, hidden parts included, cut at the frame."""
    identity: Int[np.ndarray, " N"]
    """Place among the world's people; −1 for passers-by."""
    altitude_m: float


def photograph(world: FrameWorld, frame: Frame) -> FramePhotograph:
    """Draws and encodes one frame."""
    picture = render(world, frame)
    return FramePhotograph(
        frame,
        sensor.jpeg(picture.image, picture.quality),
        picture.image.shape[:2],
        picture.boxes,
        picture.identity,
        picture.view.position[2],
    )
