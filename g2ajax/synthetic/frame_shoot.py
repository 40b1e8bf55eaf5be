"""A frame of the square: camera, light, positions of people, boxes and picture."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from g2ajax.synthetic import cameras, places, render, sensor, shoot
from g2ajax.synthetic.body import body
from g2ajax.synthetic.cameras import View
from g2ajax.synthetic.people import Person, generator
from g2ajax.synthetic.render import Grid, Light
from g2ajax.synthetic.sensor import Sensor
from g2ajax.synthetic.skeleton import Moment, Shapes, post

# Numbers of random streams; the others are in people.py and shoot.py.
FRAME, SQUARE, FRAME_NOISE = 20, 23, 24
_TRIES = 60
_REACH = 11.0
"""Radius in metres of the area where people walk; the wall is 12.5 m from the centre."""
_WALL = 12.5
_POSTS = 4
_MOST_HIDDEN = 0.5
"""Maximum share of a person's box that nearer boxes may cover."""
_LEAST_INSIDE = 0.8
"""Minimum share of a person's box inside the frame."""
_FINE = 200
"""Maximum height of windows that are drawn with four rays per pixel."""

_GROUND_CAMERAS = {2: (200.0, 13.0, 3.2), 3: (75.0, 11.0, 2.1)}
"""Camera → azimuth in degrees, distance from the centre and height in metres."""
_DRONES = {0: ((12.0, 22.0), (48.0, 74.0)), 1: ((22.0, 40.0), (33.0, 55.0))}
"""Camera → ranges of altitude in metres and of pitch in degrees below the horizon."""


@dataclasses.dataclass(frozen=True)
class Guest:
    """A person with a position in the frame."""

    person: Person
    identity: int
    """Number of the person; −1 for a passer-by."""
    moment: Moment
    place: tuple[float, float]
    clear: float
    """Estimated share of the box that is inside the frame and not covered by nearer boxes."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Everything that determines a frame's pixels."""

    view: View
    size: tuple[int, int]
    """Height, width."""
    square: places.Place
    posts: tuple[Shapes, ...]
    wall: float | None
    light: Light
    sensor: Sensor
    guests: tuple[Guest, ...]

    def identities(self) -> tuple[int, ...]:
        return tuple(guest.identity for guest in self.guests)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A rendered frame."""

    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float[np.ndarray, "N 4"]
    """x0, y0, x1, y1: smallest box around each person, hidden parts included, cut at the frame."""
    identity: Int[np.ndarray, " N"]
    """−1 for passers-by."""
    visible: Float[np.ndarray, " N"]
    """Share of each person's pixels in the frame that are not hidden."""
    view: View
    quality: int
    """JPEG quality."""


def _square(seed: int) -> tuple[places.Place, tuple[tuple[float, float, float, float], ...]]:
    """The square of a world, and its posts (x, y, thickness, height)."""
    rng = generator(SQUARE, seed)
    square = places.place(rng)
    posts = []
    for _ in range(_POSTS):
        angle, away = rng.uniform(0.0, 2 * math.pi), rng.uniform(2.0, 8.0)
        thickness, height = rng.uniform(0.05, 0.12), rng.uniform(1.0, 3.5)
        posts.append((away * math.cos(angle), away * math.sin(angle), thickness, height))
    return square, tuple(posts)


def _view(rng: np.random.Generator, camera: int, heights: tuple[int, int]) -> View:
    """Draws position, aim and zoom; a person at the aim has a height within `heights`."""
    angle, away = rng.uniform(0.0, 2 * math.pi), 6.0 * math.sqrt(rng.uniform(0.0, 1.0))
    aim = (away * math.cos(angle), away * math.sin(angle), 0.9)
    if camera in _DRONES:
        altitudes, below = _DRONES[camera]
        altitude, pitch = rng.uniform(*altitudes), math.radians(rng.uniform(*below))
        around, distance = rng.uniform(0.0, 2 * math.pi), altitude / math.tan(pitch)
        position = (
            aim[0] + distance * math.cos(around),
            aim[1] + distance * math.sin(around),
            altitude,
        )
        roll = rng.uniform(-0.08, 0.08)
    else:
        azimuth, distance, height = _GROUND_CAMERAS[camera]
        around = math.radians(azimuth)
        position = (distance * math.cos(around), distance * math.sin(around), height)
        roll = rng.uniform(-0.03, 0.03)
    low, high = heights[0] * 1.4, heights[1] / 1.25
    target = low * (high / low) ** rng.uniform(0.0, 1.0)
    view = cameras.look(position, aim, roll, 1000.0)
    # A person of 1.7 m height and 0.45 m depth at the aim.
    slope = math.radians(view.pitch)
    apparent = 1.7 * math.cos(slope) + 0.45 * math.sin(slope)
    reach = math.sqrt(sum((p - a) ** 2 for p, a in zip(position, aim, strict=True)))
    return dataclasses.replace(view, focal=target * reach / apparent)


_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (0, 1)], np.float64)


def _rough_box(
    view: View, size: tuple[int, int], place: tuple[float, float], stature: float, wide: float
) -> Float[np.ndarray, "4"]:
    """Left, top, right, bottom, in the frame, of a cuboid of the person's size."""
    corners = _CORNERS * [wide, wide, stature] + [*place, 0.0]
    pixels = view.project(corners) + np.array([size[1] / 2, size[0] / 2])
    return np.concatenate([pixels.min(0), pixels.max(0)])


def _overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return max(float(wide), 0.0) * max(float(high), 0.0)


def _area(box: Float[np.ndarray, "4"]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _distance_squared(view: View, place: tuple[float, float]) -> float:
    x, y, z = view.position
    return (x - place[0]) ** 2 + (y - place[1]) ** 2 + z * z


class _Spots:
    """Positions taken so far, and how much each box hides of the others."""

    def __init__(self, view: View, size: tuple[int, int], heights: tuple[int, int]) -> None:
        self.view, self.size, self.heights = view, size, heights
        self.boxes: list[np.ndarray] = []
        self.distances: list[float] = []
        self.hidden: list[float] = []
        """Number of covered pixels of each box."""

    def take(self, place: tuple[float, float], stature: float, wide: float = 0.27) -> bool:
        """Takes a position; returns False if a person of this stature has no room there."""
        box = _rough_box(self.view, self.size, place, stature, wide)
        if not self.heights[0] <= box[3] - box[1] <= self.heights[1]:
            return False
        frame = np.array([0.0, 0.0, self.size[1], self.size[0]])
        if _overlap(box, frame) < _LEAST_INSIDE * _area(box):
            return False
        distance, own, others = _distance_squared(self.view, place), 0.0, list(self.hidden)
        for i, (other, other_distance) in enumerate(zip(self.boxes, self.distances, strict=True)):
            overlap = _overlap(box, other)
            if other_distance < distance:
                own += overlap
            else:
                others[i] += overlap
            if others[i] > _MOST_HIDDEN * _area(other):
                return False
        if own > _MOST_HIDDEN * _area(box):
            return False
        self._add(box, distance, own)
        self.hidden[:-1] = others
        return True

    def obstacle(self, place: tuple[float, float], thickness: float, height: float) -> None:
        """Adds an obstacle, before any person."""
        box = _rough_box(self.view, self.size, place, height, thickness)
        self._add(box, _distance_squared(self.view, place), 0.0)

    def _add(self, box: np.ndarray, distance: float, hidden: float) -> None:
        self.boxes.append(box)
        self.distances.append(distance)
        self.hidden.append(hidden)

    def clear(self, i: int) -> float:
        """Share of a box that is inside the frame and not covered."""
        frame = np.array([0.0, 0.0, self.size[1], self.size[0]])
        return (_overlap(self.boxes[i], frame) - self.hidden[i]) / _area(self.boxes[i])


def _spot(
    rng: np.random.Generator, view: View, size: tuple[int, int], near: Sequence[Guest]
) -> tuple[float, float] | None:
    """Draws a visible point of the ground, one time in four beside a person; None if there is none."""
    if near and rng.uniform() < 0.25:
        x, y = near[int(rng.integers(len(near)))].place
        angle, away = rng.uniform(0.0, 2 * math.pi), rng.uniform(0.5, 1.6)
        place = (x + away * math.cos(angle), y + away * math.sin(angle))
    else:
        u, v = rng.uniform(-0.5, 0.5) * size[1], rng.uniform(-0.5, 0.5) * size[0]
        ray = view.rotation().T @ np.array([u / view.focal, v / view.focal, 1.0])
        if ray[2] > -1e-3:
            return None
        t = -view.position[2] / float(ray[2])
        place = (view.position[0] + t * float(ray[0]), view.position[1] + t * float(ray[1]))
    return place if math.hypot(*place) < _REACH else None


def setting(
    *,
    key: tuple[int, int],
    camera: int,
    size: tuple[int, int],
    heights: tuple[int, int],
    guests: Sequence[Person],
    crowd: Sequence[Person],
    passers_by: int,
) -> Setting:
    """Draws a setting. `key`: seed of the world and number of the frame."""
    rng = generator(FRAME, *key)
    square, obstacles = _square(key[0])
    aerial = camera in _DRONES
    view = _view(rng, camera, heights)
    light = shoot.light_of(rng)
    sensor_of_frame = shoot.sensor_of(rng, aerial, light)
    # People in frames are too small for the motion blur of a close crop.
    sensor_of_frame = dataclasses.replace(
        sensor_of_frame, motion=0, blur=0.7 * sensor_of_frame.blur
    )
    spots = _Spots(view, size, heights)
    for x, y, thickness, height in obstacles:
        spots.obstacle((x, y), thickness, height)
    strangers = rng.permutation(len(crowd))[: int(rng.integers(passers_by + 1))]
    candidates = [(person, person.number) for person in guests]
    candidates += [(crowd[int(i)], -1) for i in strangers]
    placed: list[Guest] = []
    for person, identity in candidates:
        moment = Moment(
            heading=rng.uniform(0.0, 2 * math.pi),
            phase=rng.uniform(0.0, 2 * math.pi),
            speed=rng.uniform(0.45, 1.0) if rng.uniform() < 0.72 else 0.0,
            turn=rng.uniform(-0.5, 0.5),
        )
        for _ in range(_TRIES):
            place = _spot(rng, view, size, placed)
            if place is not None and spots.take(place, person.stature):
                placed.append(Guest(person, identity, moment, place, 0.0))
                break
    placed = [
        dataclasses.replace(guest, clear=spots.clear(len(obstacles) + i))
        for i, guest in enumerate(placed)
    ]
    posts = tuple(post((x, y), thick, high, (0.35, 0.35, 0.36)) for x, y, thick, high in obstacles)
    wall = None if aerial else _WALL
    return Setting(view, size, square, posts, wall, light, sensor_of_frame, tuple(placed))


def _window(shapes: Shapes, view: View, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Rectangle of the frame that contains the shapes; None if they are outside."""
    bounds = render.rectangles(shapes, view) + [size[1] / 2, size[0] / 2] * 2
    left, top = np.floor(bounds[:, :2].min(0)).astype(int)
    right, bottom = np.ceil(bounds[:, 2:].max(0)).astype(int)
    left, top = max(int(left), 0), max(int(top), 0)
    right, bottom = min(int(right), size[1]), min(int(bottom), size[0])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _body(
    shapes: Shapes, view: View, size: tuple[int, int], window: tuple[int, int, int, int], light
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w 3"]]:
    """Share of each pixel of the window that the shapes cover, and the light they send."""
    left, top, right, bottom = window
    high, wide = bottom - top, right - left
    fine = 2 if high <= _FINE else 1
    grid = Grid(left - size[1] / 2, top - size[0] / 2, wide * fine, high * fine, 1 / fine)
    hits = render.cast(shapes, view, grid)
    cover = np.zeros((high * fine, wide * fine), np.float32)
    light_of_body = np.zeros((*cover.shape, 3), np.float32)
    if (hits.shape >= 0).any():
        inside, colour = render.shade(shapes, hits, view, grid, light)
        cover[inside] = 1.0
        light_of_body[inside] = colour
    if fine == 2:
        parts = [(cover[i::2, j::2], light_of_body[i::2, j::2]) for i in (0, 1) for j in (0, 1)]
        cover, light_of_body = (sum(part) * np.float32(0.25) for part in zip(*parts, strict=True))
    return cover, light_of_body


def draw(setting: Setting, key: tuple[int, int]) -> Picture:
    """Renders a frame from the farthest body to the nearest; equal arguments give equal pixels."""
    view, size = setting.view, setting.size
    grid = Grid(-size[1] / 2, -size[0] / 2, size[1], size[0], 1)
    shapes = [body(g.person, g.moment, g.place) for g in setting.guests] + list(setting.posts)
    image = render.background(view, grid, setting.square, setting.wall, setting.light, shapes)
    middles = [s.centre[:, :2].mean(0) for s in shapes]
    order = sorted(range(len(shapes)), key=lambda i: -_distance_squared(view, tuple(middles[i])))
    owner = np.full(size, -1, np.int16)
    boxes: dict[int, tuple[int, int, int, int]] = {}
    pixels: dict[int, int] = {}
    for i in order:
        window = _window(shapes[i], view, size)
        if window is None:
            continue
        left, top, right, bottom = window
        cover, colour = _body(shapes[i], view, size, window, setting.light)
        part = image[top:bottom, left:right]
        part *= (np.float32(1.0) - cover)[..., None]
        part += colour
        mask = cover >= 0.5
        owner[top:bottom, left:right][mask] = i
        if i < len(setting.guests) and mask.any():
            pixels[i], boxes[i] = int(mask.sum()), _limits(mask, left, top)
    kept = sorted(boxes)
    visible = [float((owner == i).sum()) / pixels[i] for i in kept]
    return Picture(
        sensor.expose(image, setting.sensor, generator(FRAME_NOISE, *key)),
        np.array([boxes[i] for i in kept], np.float32).reshape(-1, 4),
        np.array([setting.guests[i].identity for i in kept], np.int64),
        np.array(visible, np.float32),
        view,
        setting.sensor.quality,
    )


def _limits(mask: Bool[np.ndarray, "h w"], left: int, top: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return (
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
    )
