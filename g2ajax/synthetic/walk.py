"""A walk of a person past a camera: path, moving camera, occluder, and its frames."""

import dataclasses
import math

import numpy as np

from g2ajax.synthetic import cameras, places, render, shoot
from g2ajax.synthetic.body import body
from g2ajax.synthetic.cameras import View
from g2ajax.synthetic.people import Person, generator
from g2ajax.synthetic.shoot import Crop, Scene
from g2ajax.synthetic.skeleton import Moment, Shapes, post

# Numbers of random streams; the others are in people.py, shoot.py and frame_shoot.py.
WALK, FRAME_OF_WALK = 30, 31
ALTITUDES = ((15.0, 30.0), (30.0, 60.0), (60.0, 120.0))
"""Levels of a drone's altitude, in metres; within a level it climbs or sinks during the walk."""
HEIGHTS = ((90, 400), (48, 200), (26, 100))
"""Heights of a person in pixels, in the middle of the walk, by level."""
GROUND_HEIGHTS = (62, 385)
_SECONDS = 0.2
"""Time between two frames; near a camera on a wall it is shorter, so that nobody walks past it."""
_LOST = 0.06
"""Share of the frames that are missing."""


@dataclasses.dataclass(frozen=True)
class Walk:
    """Everything that is drawn once for a walk."""

    frames: int
    seconds: float
    """Time between two frames."""
    first: Moment
    """Pose at the first frame."""
    metres: float
    """Metres a second."""
    turning: float
    """Change of heading, radians a second."""
    stride: float
    """Metres of a full cycle of the legs."""

    def time(self, frame: int) -> float:
        """Seconds before or after the middle of the walk."""
        return (frame - (self.frames - 1) / 2) * self.seconds

    def moment(self, frame: int) -> Moment:
        """Pose at a frame."""
        past = frame * self.seconds
        return dataclasses.replace(
            self.first,
            heading=self.first.heading + self.turning * self.time(frame),
            phase=self.first.phase + 2 * math.pi * self.metres * past / self.stride,
        )

    def place(self, frame: int) -> tuple[float, float]:
        """Position on the ground; the middle of the walk is at (0, 0)."""
        time = self.time(frame)
        heading = self.first.heading + self.turning * time / 2
        # A body of heading 0 looks along y.
        return -self.metres * time * math.sin(heading), self.metres * time * math.cos(heading)


def walk_of(rng: np.random.Generator, person: Person, frames: int, room: float) -> Walk:
    """Draws a walk that stays within `room` metres of the middle."""
    walks = rng.uniform() < 0.85
    speed = rng.uniform(0.5, 1.0) if walks else 0.0
    metres = 1.5 * speed * (0.5 + 0.5 * person.stature / 1.75)
    first = Moment(
        heading=rng.uniform(0.0, 2 * math.pi),
        phase=rng.uniform(0.0, 2 * math.pi),
        speed=speed,
        turn=rng.uniform(-0.5, 0.5),
        carry=rng.uniform(0.6, 1.5) if rng.uniform() < 0.15 else 0.0,
    )
    seconds = min(_SECONDS, 2 * room / max(metres * frames, 1e-6))
    turning = rng.uniform(-0.25, 0.25) if walks else rng.uniform(-0.8, 0.8)
    return Walk(frames, seconds, first, metres, turning, 0.85 * person.stature)


def drone_views(rng: np.random.Generator, level: int, walk: Walk) -> list[View]:
    """Draws a drone that follows, turns around the person, and climbs or sinks."""
    altitudes = rng.uniform(*ALTITUDES[level]), rng.uniform(*ALTITUDES[level])
    pitches = np.clip(rng.uniform(35.0, 70.0) + np.array([0.0, rng.uniform(-8.0, 8.0)]), 33, 73)
    azimuths = rng.uniform(0.0, 2 * math.pi) + np.array([0.0, rng.uniform(-0.5, 0.5)])
    follows, drift = rng.uniform(0.3, 1.0), rng.uniform(-0.02, 0.02, 4)
    roll, sway = rng.uniform(-0.08, 0.08), rng.uniform(0.0, 0.02)
    views = []
    for frame in range(walk.frames):
        share = frame / max(walk.frames - 1, 1)
        altitude, below, around = (
            float(a + (b - a) * share) for a, b in (altitudes, pitches, azimuths)
        )
        distance = altitude / math.tan(math.radians(below))
        x, y = walk.place(frame)
        base = x * follows, y * follows
        position = (
            base[0] + distance * math.cos(around),
            base[1] + distance * math.sin(around),
            altitude,
        )
        slant = math.hypot(distance, altitude)
        aim = (
            base[0] + (drift[0] + drift[2] * share) * slant,
            base[1] + (drift[1] + drift[3] * share) * slant,
            0.9,
        )
        tilt = roll + sway * math.sin(2.1 * frame)
        view = cameras.look(position, tuple(map(float, aim)), tilt, 1000.0)
        away = math.hypot(position[0] - x, position[1] - y)
        views.append(dataclasses.replace(view, distance=away))
    return views


def _front(
    rng: np.random.Generator, walk: Walk, view: View, middle: int, passer_by: Person
) -> list[Shapes]:
    """Draws an occluder of each frame: a post that the person passes, or a passer-by who crosses.

    At the frame `middle` it is between camera and person.
    """
    x, y = walk.place(middle)
    dx, dy = view.position[0] - x, view.position[1] - y
    away = math.hypot(dx, dy)
    near = (
        rng.uniform(0.35, 0.8) if view.position[2] > 8 else rng.uniform(0.5, min(2.2, away * 0.4))
    )
    side = rng.uniform(-0.25, 0.25)
    place = x + (dx * near - dy * side) / away, y + (dy * near + dx * side) / away
    if rng.uniform() < 0.3:
        grey = rng.uniform(0.2, 0.6)
        pole = post(place, rng.uniform(0.04, 0.09), rng.uniform(0.9, 3.0), (grey, grey, grey))
        return [pole] * walk.frames
    other = dataclasses.replace(
        walk_of(rng, passer_by, walk.frames, 1e3), seconds=walk.seconds, turning=0.0
    )
    start = other.place(middle)
    shapes = []
    for frame in range(walk.frames):
        u, v = other.place(frame)
        at = place[0] + u - start[0], place[1] + v - start[1]
        shapes.append(body(passer_by, other.moment(frame), at))
    return shapes


def scenes(
    person: Person, key: tuple[int, ...], level: int, passer_by: Person, frames: tuple[int, int]
) -> list[Scene]:
    """Draws the scene of each frame of a walk. `level`: that of the drone, −1 for CCTV."""
    rng = generator(WALK, *key)
    count = int(rng.integers(frames[0], frames[1] + 1))
    aerial = level >= 0
    if aerial:
        walk = walk_of(rng, person, count, 1e3)
        views = drone_views(rng, level, walk)
    else:
        view = cameras.cctv(rng)
        walk = walk_of(rng, person, count, min(5.0, 0.4 * view.distance))
        views = [
            dataclasses.replace(
                view,
                distance=math.hypot(*(view.position[i] - walk.place(frame)[i] for i in (0, 1))),
            )
            for frame in range(count)
        ]
    shapes = [body(person, walk.moment(frame), walk.place(frame)) for frame in range(count)]
    low, high = HEIGHTS[level] if aerial else GROUND_HEIGHTS
    bounds = render.rectangles(shapes[count // 2], views[count // 2])
    # Boxes around shapes are about 4% higher than the silhouette.
    now = 0.96 * float(bounds[:, 3].max() - bounds[:, 1].min())
    target = low * (high / low) ** rng.uniform(0.0, 1.0)
    views = [dataclasses.replace(view, focal=view.focal * target / now) for view in views]
    front: list[Shapes | None] = [None] * count
    if rng.uniform() < 0.35:
        middle = int(rng.integers(count))
        front = [*_front(rng, walk, views[middle], middle, passer_by)]
    light, place = shoot.light_of(rng), places.place(rng)
    wall = rng.uniform(6.0, 14.0) if not aerial and rng.uniform() < 0.6 else None
    settings = shoot.sensor_of(rng, aerial, light)
    shaken = rng.uniform(size=count) < rng.uniform(0.0, 0.5)
    # Blur by motion, in pixels, of at most a twelfth of the person's height.
    smear = np.minimum(1 + rng.integers(0, 8, count), target / 12).astype(int)
    return [
        Scene(
            shapes=shapes[i],
            front=front[i],
            view=views[i],
            place=place,
            wall=wall,
            light=light,
            sensor=dataclasses.replace(settings, motion=int(smear[i]) if shaken[i] else 0),
        )
        for i in range(count)
    ]


def draw(
    person: Person, key: tuple[int, ...], level: int, passer_by: Person, frames: tuple[int, int]
) -> dict[int, Crop]:
    """Renders a walk: its frames by number. Frames are lost at random, and where too little of the
    person is visible; one is always left."""
    settings = scenes(person, key, level, passer_by, frames)
    lost = generator(FRAME_OF_WALK, *key).uniform(size=len(settings)) < _LOST
    crops: dict[int, Crop] = {}
    for number, setting in enumerate(settings):
        if lost[number] and len(settings) > 2:
            continue
        crop = shoot.picture(setting, (*key, number), keep_front=True)
        if crop.visible >= shoot.LEAST_VISIBLE:
            crops[number] = crop
    if not crops:
        bare = dataclasses.replace(settings[0], front=None)
        crops[0] = shoot.picture(bare, (*key, 0))
    return crops
