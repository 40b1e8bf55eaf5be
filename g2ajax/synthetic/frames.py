"""SkyGround's whole frames: a square with many people, seen by two drones and two ground cameras.

    world = FrameWorld("small")
    for frame in world.frames("train"):
        picture = render(world, frame)  # picture.image, picture.boxes, picture.identity

Every frame can be drawn on its own, in any order and process, with the same pixels.
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
"""Version of the renderer; incremented by every change of a pixel."""
SPLITS = ("train", "test")
CAMERAS = ("A1", "A2", "G1", "G2")
"""Two drones, low and high, and two ground cameras, the second held upright."""
PLATFORMS = ("aerial", "aerial", "ground", "ground")
# Numbers of random streams; the others are in people.py and shoot.py.
DEALING, GALLERY = 21, 22
_FIRST_PASSER_BY = 20_000


@dataclasses.dataclass(frozen=True)
class FrameSize:
    """Numbers of people and frames, and ranges of people's heights in pixels."""

    train_people: int
    test_people: int
    train_frames: int
    test_frames: int
    labelled: int
    """People with an identity in each frame; those without a free position are left out."""
    passers_by: int
    """Maximum number of people without an identity in a frame."""
    crowd: int
    """Number of passers-by in the world."""
    frame: tuple[int, int]
    """Height and width of a frame; swapped for the upright camera."""
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
    """A frame before it is drawn."""

    image_id: str
    """File name of camera and number, such as A1_00012.jpg."""
    split: str
    number: int
    """Number among the frames of both splits."""
    camera: int
    """Index into `CAMERAS`."""
    invited: tuple[int, ...]
    """Numbers of the people to place in the frame."""

    @property
    def platform(self) -> str:
        return PLATFORMS[self.camera]


@dataclasses.dataclass(frozen=True)
class FrameQuery:
    """A person to search for, as shown in a frame."""

    frame: Frame
    person: int
    row: int
    """Index of the person's box in the frame."""


@dataclasses.dataclass(frozen=True)
class FrameWorld:
    """A world of frames. `size` is a key of `FRAME_SIZES`. Raises ValueError for an unknown size."""

    size: str = "tiny"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in FRAME_SIZES:
            sizes = ", ".join(FRAME_SIZES)
            raise ValueError(f"no frames of size {self.size!r}; there are {sizes}")

    @property
    def counts(self) -> FrameSize:
        return FRAME_SIZES[self.size]

    @functools.cached_property
    def people(self) -> tuple[Person, ...]:
        """People with an identity (their index here): train people, then test people."""
        first = range(self.counts.train_people)
        rest = range(len(first), len(first) + self.counts.test_people)
        return (*people(self.seed, first), *people(self.seed, rest))

    @functools.cached_property
    def crowd(self) -> tuple[Person, ...]:
        """Passers-by: annotated, without identity."""
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
        people = np.arange(counts.train_people + counts.test_people)
        parts = {
            "train": (people[: counts.train_people], 0, counts.train_frames),
            "test": (people[counts.train_people :], counts.train_frames, counts.test_frames),
        }
        result = {}
        for split, (numbers, first, count) in parts.items():
            frames = []
            for platform in ("aerial", "ground"):
                own = [i for i in range(first, first + count) if _platform(i) == platform]
                key = (DEALING, self.seed, int(numbers[0]), PLATFORMS.index(platform))
                invited = _deal(numbers, len(own), counts.labelled, generator(*key))
                for number, guests in zip(own, invited, strict=True):
                    camera = number % len(CAMERAS)
                    name = f"{CAMERAS[camera]}_{number:05d}.jpg"
                    frames.append(Frame(name, split, number, camera, guests))
            result[split] = sorted(frames, key=lambda frame: frame.image_id)
        return result

    @functools.cached_property
    def _by_name(self) -> dict[str, Frame]:
        return {frame.image_id: frame for split in SPLITS for frame in self.frames(split)}

    def frame(self, image_id: str) -> Frame:
        """The frame with a file name. Raises KeyError if there is none."""
        if image_id not in self._by_name:
            raise KeyError(f"SkyGround frames {self.size}, seed {self.seed}: no {image_id!r}")
        return self._by_name[image_id]

    def setting(self, frame: Frame) -> Setting:
        """Camera, light and positions of people; cheap, because nothing is rendered."""
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
        """image_id of each test frame → identities in the order of its boxes."""
        return {f.image_id: self.setting(f).identities() for f in self.frames("test")}

    @functools.cached_property
    def queries(self) -> list[FrameQuery]:
        """The frame that shows most of each test person on each platform; sorted.

        Only people whom a frame of the other platform shows as well.
        """
        best: dict[tuple[int, str], tuple[float, Frame, int]] = {}
        for frame in self.frames("test"):
            for row, guest in enumerate(self.setting(frame).guests):
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
        """Indices of at most `size` test frames, those that show the person first.

        The query's own frame is excluded; `platform` selects the frames of one platform. At most
        `shown` frames (default: half the size) show the person; the others are drawn from the seed.
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
    """Deals `each` different people to every frame, so that all people appear about equally often."""
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
    """Draws a frame: pixels, boxes, identities and visible shares of people."""
    return frame_shoot.draw(world.setting(frame), (world.seed, frame.number))


@dataclasses.dataclass(frozen=True)
class FramePhotograph:
    """An encoded frame and its annotation."""

    frame: Frame
    jpeg: bytes
    size: tuple[int, int]
    """Height, width."""
    boxes: Float[np.ndarray, "N 4"]
    """x0, y0, x1, y1 in whole pixels, hidden parts included, cut at the frame."""
    identity: Int[np.ndarray, " N"]
    """Index among the world's people; −1 for passers-by."""
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
