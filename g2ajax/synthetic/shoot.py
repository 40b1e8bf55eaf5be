"""A shot of a person: pose, view, light, occluder, box and picture."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, UInt8

from g2ajax.synthetic import cameras, places, render, sensor
from g2ajax.synthetic.body import body
from g2ajax.synthetic.people import Person, generator
from g2ajax.synthetic.render import Grid, Light
from g2ajax.synthetic.sensor import Sensor
from g2ajax.synthetic.skeleton import GROUND, OTHER, Moment, Shapes, post

# Numbers of random streams; the others are in people.py.
SCENE, BOX, NOISE = 10, 11, 12
_ROWS = 220
"""Number of rays over a person's height; larger crops are enlarged, smaller ones averaged."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in native pixels; the optical axis is at (0, 0)."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """A rendered shot."""

    image: UInt8[np.ndarray, "h w 3"]
    parts: UInt8[np.ndarray, "h w"]
    """Part of each pixel, an index into `skeleton.PART_NAMES`."""
    box: Box
    """Box of the crop: the tight box with a detector's jitter."""
    tight_box: Box
    """Smallest box around the whole person, hidden parts included."""
    visible: float
    """Share of the person's pixels that are not hidden."""
    view: cameras.View
    quality: int
    """JPEG quality."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """Everything that determines a shot's pixels."""

    shapes: Shapes
    front: Shapes | None
    view: cameras.View
    place: places.Place
    wall: float | None
    light: Light
    sensor: Sensor


def light_of(rng: np.random.Generator) -> Light:
    """Draws the light: sun 20° to 70° high, or clouds."""
    high, around = math.radians(rng.uniform(22.0, 68.0)), rng.uniform(0.0, 2 * math.pi)
    sunny = rng.uniform() < 0.65
    warm = rng.uniform(0.0, 1.0)
    return Light(
        sun=(math.cos(high) * math.cos(around), math.cos(high) * math.sin(around), math.sin(high)),
        strength=rng.uniform(0.35, 0.65) if sunny else rng.uniform(0.0, 0.12),
        sun_colour=(1.25, 1.25 - 0.07 * warm, 1.25 - 0.18 * warm),
        sky_colour=(0.90 - 0.08 * sunny, 0.94, 1.0 + 0.08 * sunny),
    )


def sensor_of(rng: np.random.Generator, aerial: bool, light: Light) -> Sensor:
    """Draws a camera's settings; it meters the light on the ground, with errors."""
    level = 1.25 * light.strength * light.sun[2] + 1 - 0.55 * light.strength
    warm, green = rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0)
    return Sensor(
        gain=1.15 * 1.24 ** rng.uniform(0.0, 1.0) / level,
        balance=(1 + 0.055 * warm, 1 + 0.02 * green, 1 - 0.065 * warm),
        contrast=rng.uniform(0.0, 0.4),
        haze=rng.uniform(0.0, 0.09) if aerial else rng.uniform(0.0, 0.05),
        saturation=rng.uniform(0.85, 1.15),
        blur=rng.uniform(0.2, 1.0),
        motion=int(rng.integers(0, 5)) if rng.uniform() < 0.3 else 0,
        noise=rng.uniform(0.004, 0.022),
        quality=int(rng.integers(60, 96)),
    )


def scene(person: Person, key: tuple[int, ...], altitude: float | None, passer_by: Person) -> Scene:
    """Draws a scene. `altitude`: altitude of the drone in metres, None for CCTV."""
    rng = generator(SCENE, *key)
    walks = rng.uniform() < 0.72
    moment = Moment(
        heading=rng.uniform(0.0, 2 * math.pi),
        phase=rng.uniform(0.0, 2 * math.pi),
        speed=rng.uniform(0.45, 1.0) if walks else 0.0,
        turn=rng.uniform(-0.5, 0.5),
        carry=rng.uniform(0.6, 1.5) if rng.uniform() < 0.15 else 0.0,
    )
    if altitude is None:
        view = cameras.cctv(rng)
    else:
        view = cameras.drone(rng, altitude)
    shapes = body(person, moment)
    bounds = render.rectangles(shapes, view)
    # Boxes around shapes are about 4% higher than the silhouette.
    high = 0.96 * float(bounds[:, 3].max() - bounds[:, 1].min())
    view = view.zoomed(high, cameras.HEIGHTS["cctv" if altitude is None else "drone"])
    # Occluders that hide too much are dropped later: 15% remain.
    occluded = rng.uniform() < 0.185
    front = _front(rng, view, passer_by) if occluded else None
    light = light_of(rng)
    return Scene(
        shapes=shapes,
        front=front,
        view=view,
        place=places.place(rng),
        wall=rng.uniform(1.5, 14.0) if altitude is None and rng.uniform() < 0.6 else None,
        light=light,
        sensor=sensor_of(rng, altitude is not None, light),
    )


def _front(rng: np.random.Generator, view: cameras.View, passer_by: Person) -> Shapes:
    """Draws an occluder, a passer-by or a post, between camera and person."""
    x, y, z = view.position
    away = math.hypot(x, y)
    # Seen from above, an object near the feet, on the camera's side, hides the legs.
    near = rng.uniform(0.35, 0.8) if z > 8 else rng.uniform(0.5, min(2.2, away * 0.4))
    side = rng.uniform(-0.28, 0.28)
    place = (x / away * near - y / away * side, y / away * near + x / away * side)
    if rng.uniform() < 0.3:
        grey = rng.uniform(0.2, 0.6)
        return post(place, rng.uniform(0.04, 0.09), rng.uniform(0.9, 3.0), (grey, grey, grey))
    heading, phase = rng.uniform(0.0, 2 * math.pi), rng.uniform(0.0, 2 * math.pi)
    return body(passer_by, Moment(heading, phase, rng.uniform(0.0, 1.0)), place)


def _limits(parts: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int] | None:
    rows, columns = np.nonzero(parts.any(1))[0], np.nonzero(parts.any(0))[0]
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0) * max(high, 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (area[0] + area[1] - both)


def jitter(tight: Box, rng: np.random.Generator) -> Box:
    """Jitters a box like a detector: each side by a few percent, with an overlap of at least 0.75."""
    wide, high = tight[2] - tight[0], tight[3] - tight[1]
    amounts = rng.uniform(-0.05, 0.085, 4) * [-wide, -high, wide, high]
    for share in (1.0, 0.7, 0.4, 0.2, 0.0):
        box = tuple(edge + round(float(a) * share) for edge, a in zip(tight, amounts, strict=True))
        if overlap(box, tight) >= 0.76:
            return box
    return tight


def draw(person: Person, key: tuple[int, ...], altitude: float | None, passer_by: Person) -> Crop:
    """Renders a shot of a person; equal arguments give equal pixels."""
    return picture(scene(person, key, altitude, passer_by), key)


LEAST_VISIBLE = 0.42
"""Share of a person that an occluder must leave visible."""


def picture(setting: Scene, key: tuple[int, ...], *, keep_front: bool = False) -> Crop:
    """Renders a scene; `key` decides the jitter of the box and the noise.

    An occluder that hides too much of the person is left out, unless `keep_front`.
    """
    view, shapes = setting.view, setting.shapes
    bounds = render.rectangles(shapes, view)
    left, top = np.floor(bounds[:, :2].min(0)).astype(int)
    right, bottom = np.ceil(bounds[:, 2:].max(0)).astype(int)
    high, wide = bottom - top, right - left
    # Rays: 2 × 2 per pixel of a small crop, one for several pixels of a large crop.
    fine, coarse = (2, 1) if high <= _ROWS // 2 else (1, math.ceil(high / (_ROWS * 1.15)))
    margin = np.array([0.11 * wide + 2, 0.11 * high + 2]).astype(int)
    left, top = int(left - margin[0]), int(top - margin[1])
    columns, rows = (
        -(-(int(s) + 2 * int(m)) // coarse) for s, m in ((wide, margin[0]), (high, margin[1]))
    )
    grid = Grid(left, top, columns * fine, rows * fine, coarse / fine)

    hits = render.cast(shapes, view, grid)
    parts = render.compose(shapes, hits.shape)
    inside_body, colour = render.shade(shapes, hits, view, grid, setting.light)
    bodies, visible = [shapes], 1.0
    occluder, front = None, setting.front
    if front is not None:
        nearest = render.cast(front, view, grid)
        hiding = nearest.depth < hits.depth
        visible = 1.0 - float((hiding & inside_body).sum()) / max(int(inside_body.sum()), 1)
        if keep_front or visible >= LEAST_VISIBLE:
            bodies.append(front)
            occluder = render.shade(front, nearest, view, grid, setting.light), hiding
        else:
            visible = 1.0
    image = render.background(view, grid, setting.place, setting.wall, setting.light, bodies)
    image[inside_body] = colour
    silhouette = parts != GROUND
    if occluder is not None:
        (other, tint), hiding = occluder
        image[other & hiding] = tint[hiding[other]]
        parts[hiding] = OTHER
    if fine == 2:
        image = (
            image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]
        ) * np.float32(0.25)
        parts, silhouette = parts[::2, ::2], silhouette[::2, ::2]
    image = sensor.resample(image, coarse)
    if coarse > 1:
        parts, silhouette = (m.repeat(coarse, 0).repeat(coarse, 1) for m in (parts, silhouette))
    x0, y0, x1, y1 = _limits(silhouette)
    tight = (left + x0, top + y0, left + x1, top + y1)
    rng = generator(BOX, *key)
    box = jitter(tight, rng)
    box = (
        max(box[0], left),
        max(box[1], top),
        min(box[2], left + image.shape[1]),
        min(box[3], top + image.shape[0]),
    )
    window = slice(box[1] - top, box[3] - top), slice(box[0] - left, box[2] - left)
    pixels = sensor.expose(image[window], setting.sensor, generator(NOISE, *key))
    parts = np.ascontiguousarray(parts[window])
    return Crop(pixels, parts, box, tight, visible, view, setting.sensor.quality)
