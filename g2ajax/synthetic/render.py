"""Ray casting: exact intersection of each pixel's ray with each shape, light and shadows.

Arithmetic per pixel uses only +, -, *, / and square roots in NumPy, which IEEE 754 rounds alike on
every machine, so that a shot has the same pixels everywhere. Intersections are float64: from a drone
50 m away the discriminant of a hat's brim is the difference of two large numbers.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from g2ajax.synthetic import places
from g2ajax.synthetic.cameras import View
from g2ajax.synthetic.cloth import surface
from g2ajax.synthetic.places import Place
from g2ajax.synthetic.skeleton import GROUND, Shapes

_FAR = 1e9


@dataclasses.dataclass(frozen=True)
class Light:
    """Sun and sky."""

    sun: tuple[float, float, float]
    """Unit vector towards the sun."""
    strength: float
    """Share of sunlight on a lit surface that faces the sun; 0 on an overcast day."""
    sun_colour: tuple[float, float, float]
    sky_colour: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Rays of a rectangle of native pixels; the optical axis is at (0, 0)."""

    left: float | int
    top: float | int
    width: int
    height: int
    step: float | int
    """Distance between rays, in native pixels."""

    def columns(self) -> Float[np.ndarray, "w"]:
        return (self.left + (np.arange(self.width) + 0.5) * self.step).astype(np.float32)

    def rows(self) -> Float[np.ndarray, "h"]:
        return (self.top + (np.arange(self.height) + 0.5) * self.step).astype(np.float32)


@dataclasses.dataclass
class Hits:
    """First hit of each ray: distance along the ray, and number of the shape (-1 for none)."""

    depth: Float[np.ndarray, "h w"]
    shape: Int[np.ndarray, "h w"]


_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (0, 1)], np.float64)


def rectangles(shapes: Shapes, view: View) -> Float[np.ndarray, "N 4"]:
    """Left, top, right, bottom of each shape in the image, from the corners of its local box."""
    wide = np.maximum(shapes.radius.max(1), np.where(shapes.box, 1.0, 0.0))
    low = np.where(shapes.capped, -shapes.radius[:, 0], 0.0)
    high = shapes.length + np.where(shapes.capped, shapes.radius[:, 1], 0.0)
    corners = np.empty((len(wide), 8, 3))
    corners[:, :, :2] = _CORNERS[None, :, :2] * wide[:, None, None]
    corners[:, :, 2] = low[:, None] + _CORNERS[None, :, 2] * (high - low)[:, None]
    # Local to world: the rows of to_local are orthogonal, which makes the inverse cheap.
    back = np.transpose(shapes.to_local * (shapes.scale**2)[:, :, None], (0, 2, 1))
    world = np.einsum("nij,nkj->nki", back, corners) + shapes.centre[:, None]
    pixels = view.project(world)
    return np.concatenate([pixels.min(1), pixels.max(1)], axis=1)


def cast(shapes: Shapes, view: View, grid: Grid) -> Hits:
    """Finds the first shape that each ray of the grid hits."""
    depth = np.full((grid.height, grid.width), 1e9)
    number = np.full((grid.height, grid.width), -1, np.int16)
    columns, rows = grid.columns().astype(np.float64), grid.rows().astype(np.float64)
    boxes = rectangles(shapes, view)
    first = np.floor((boxes[:, :2] - [grid.left, grid.top]) / grid.step).astype(int)
    last = np.ceil((boxes[:, 2:] - [grid.left, grid.top]) / grid.step).astype(int) + 1
    first = np.maximum(first, 0)
    last = np.minimum(last, [grid.width, grid.height])
    # Rays in local coordinates: d = B (u, v, 1) for the pixel (u, v).
    lens = view.rotation().T / np.array([view.focal, view.focal, 1.0])
    rays = np.einsum("nij,jk->nik", shapes.to_local, lens)
    origins = np.einsum("nij,nj->ni", shapes.to_local, np.asarray(view.position) - shapes.centre)
    for i in range(len(boxes)):
        (x0, y0), (x1, y1) = first[i], last[i]
        if x0 >= x1 or y0 >= y1:
            continue
        u, v = columns[None, x0:x1], rows[y0:y1, None]
        b = rays[i]
        d = [(b[k, 0] * u + b[k, 2]) + b[k, 1] * v for k in range(3)]
        if shapes.box[i]:
            t = _box(d, origins[i])
        else:
            t = _cone(d, origins[i], shapes.length[i], shapes.radius[i], bool(shapes.capped[i]))
        if shapes.clip[i, 3] > -5:
            n, o = shapes.clip[i], origins[i]
            side = n[0] * (o[0] + t * d[0]) + n[1] * (o[1] + t * d[1]) + n[2] * (o[2] + t * d[2])
            t = np.where(side >= n[3], t, _FAR)
        window = depth[y0:y1, x0:x1]
        nearer = t < window
        np.copyto(window, t, where=nearer)
        np.copyto(number[y0:y1, x0:x1], np.int16(i), where=nearer)
    return Hits(depth, number)


def _cone(
    d: list[np.ndarray], origin: np.ndarray, length: float, radius: np.ndarray, capped: bool
) -> np.ndarray:
    """Distances to a round cone along the local z axis; `_FAR` for rays that miss it."""
    o = origin.astype(np.float64)
    ra, rb = float(radius[0]), float(radius[1])
    q = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    od = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    oo = float(o[0] * o[0] + o[1] * o[1] + o[2] * o[2])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if length < 1e-6:
            inside = od * od - q * (oo - ra * ra)
            return np.where(inside > 0, (-od - np.sqrt(np.maximum(inside, 0))) / q, _FAR)
        # The body (a cone that touches both spheres): k2 t² + 2 k1 t + k0 = 0.
        rr = ra - rb
        h2 = length * length
        d2 = h2 - rr * rr
        m1 = length * float(o[2])
        m2 = length * d[2]
        k2 = d2 * q - m2 * m2
        k1 = d2 * od + (rr * ra - m1) * m2
        k0 = d2 * oo - m1 * m1 + 2 * m1 * rr * ra - h2 * ra * ra
        inside = k1 * k1 - k0 * k2
        root = np.sqrt(np.maximum(inside, 0))
        t = (-root - k1) / k2
        y = (m1 - ra * rr) + t * m2
        body = (inside > 0) & (y > 0) & (y < d2) & (t > 0)
        t = np.where(body, t, _FAR)
        if not capped:
            # An open tube: rays that miss the near wall may hit the far one from inside.
            far = (root - k1) / k2
            y = (m1 - ra * rr) + far * m2
            return np.where((inside > 0) & (y > 0) & (y < d2) & (far > 0) & ~body, far, t)
        for at, r in ((0.0, ra), (length, rb)):
            c = oo - 2 * at * float(o[2]) + at * at - r * r
            od_ = od - at * d[2]
            inside = od_ * od_ - q * c
            s = (-od_ - np.sqrt(np.maximum(inside, 0))) / q
            t = np.where((inside > 0) & (s < t) & (s > 0), s, t)
    return t


def _box(d: list[np.ndarray], origin: np.ndarray) -> np.ndarray:
    """Distances to the cube [-1, 1]³; `_FAR` for rays that miss it."""
    near, far = None, None
    with np.errstate(invalid="ignore", divide="ignore"):
        for k in range(3):
            inverse = 1 / d[k]
            middle, reach = -origin[k] * inverse, np.abs(inverse)
            near = middle - reach if near is None else np.maximum(near, middle - reach)
            far = middle + reach if far is None else np.minimum(far, middle + reach)
        return np.where((near < far) & (near > 0), near, _FAR)


def shade(
    shapes: Shapes, hits: Hits, view: View, grid: Grid, light: Light
) -> tuple[Bool[np.ndarray, "h w"], Float[np.ndarray, "n 3"]]:
    """Mask of the pixels that show a body, and the light it sends to the camera there."""
    inside_body = hits.shape >= 0
    number = hits.shape[inside_body].astype(np.intp)
    t = hits.depth[inside_body]
    row, column = np.nonzero(inside_body)
    u, v = grid.columns()[column], grid.rows()[row]
    lens = view.rotation().T / np.array([view.focal, view.focal, 1.0])
    rays = np.einsum("nij,jk->nik", shapes.to_local, lens)[number]
    origin = np.einsum("nij,nj->ni", shapes.to_local, np.asarray(view.position) - shapes.centre)
    direction = rays[:, :, 0] * u[:, None] + rays[:, :, 1] * v[:, None] + rays[:, :, 2]
    p = (origin[number] + t[:, None] * direction).astype(np.float32)
    # The normal points away from the nearest point of the axis.
    h, ra, rb = shapes.length, shapes.radius[:, 0], shapes.radius[:, 1]
    slope = (ra - rb) / np.maximum(h, 1e-6)
    grow = 1.0 / np.maximum(1 - slope * slope, 0.05)
    z = (p[:, 2] - (ra * slope).astype(np.float32)[number]) * grow.astype(np.float32)[number]
    local = p.copy()
    local[:, 2] -= np.clip(z, 0, h.astype(np.float32)[number])
    boxes = shapes.box[number]
    if boxes.any():
        cube = p[boxes]
        cube = cube * cube * cube
        local[boxes] = cube * cube * np.sign(p[boxes]) * 1.5 + cube * 0.2
    inverse = shapes.to_local.astype(np.float32)[number]
    normal = (
        local[:, 0:1] * inverse[:, 0]
        + local[:, 1:2] * inverse[:, 1]
        + local[:, 2:3] * inverse[:, 2]
    )
    length = np.sqrt(normal[:, 0] ** 2 + normal[:, 1] ** 2 + normal[:, 2] ** 2) + np.float32(1e-12)
    normal = normal / length[:, None]
    sun = np.asarray(light.sun, np.float32)
    facing = np.maximum(normal[:, 0] * sun[0] + normal[:, 1] * sun[1] + normal[:, 2] * sun[2], 0)
    # Light of the sky comes from above; the ground reflects a part of it.
    sky = np.float32(0.72) + np.float32(0.28) * normal[:, 2]
    colour = surface(shapes, number, p)
    return inside_body, colour * irradiance(facing, sky, light)


def irradiance(
    facing: Float[np.ndarray, "n"], sky: Float[np.ndarray, "n"], light: Light
) -> Float[np.ndarray, "n 3"]:
    """Light on a surface; `facing`: cosine to the sun, `sky`: visible share of the sky."""
    sun = np.asarray(light.sun_colour, np.float32) * np.float32(light.strength)
    ambient = np.asarray(light.sky_colour, np.float32) * np.float32(1 - 0.55 * light.strength)
    return facing[:, None] * sun + sky[:, None] * ambient


def background(
    view: View, grid: Grid, place: Place, wall: float | None, light: Light, bodies: Sequence[Shapes]
) -> Float[np.ndarray, "h w 3"]:
    """Draws the ground with shadows and, unless `wall` is None, a wall that many metres behind."""
    u, v = grid.columns()[None, :], grid.rows()[:, None]
    lens = (view.rotation().T / np.array([view.focal, view.focal, 1.0])).astype(np.float32)
    d = [(lens[k, 0] * u + lens[k, 2]) + lens[k, 1] * v for k in range(3)]
    o = np.asarray(view.position, np.float32)
    t = np.where(d[2] < -1e-4, -o[2] / np.minimum(d[2], np.float32(-1e-4)), _FAR)
    t = np.minimum(t, np.float32(400.0))
    x, y = o[0] + t * d[0], o[1] + t * d[1]
    (c, s), (dx, dy) = place.turn, place.shift
    turned = (
        x * np.float32(c) - y * np.float32(s) + np.float32(dx),
        x * np.float32(s) + y * np.float32(c) + np.float32(dy),
    )
    image = places.paint(place.ground, place.ground_tones, place.cell, place.noise, *turned)
    lit = np.full(x.shape, max(light.sun[2], 0.0), np.float32)
    sky = np.ones(x.shape, np.float32)
    for shapes in bodies:
        shadows(shapes, view, grid, light, x, y, lit, sky)
    image *= irradiance(lit.ravel(), sky.ravel(), light).reshape(image.shape)
    if wall is not None:
        # The wall faces the camera's azimuth; coordinates along it and up it.
        flat = np.array([-o[0], -o[1]], np.float32)
        flat /= np.sqrt(flat[0] * flat[0] + flat[1] * flat[1]) + np.float32(1e-9)
        along = d[0] * flat[0] + d[1] * flat[1]
        reach = np.float32(wall) - (o[0] * flat[0] + o[1] * flat[1])
        tw = reach / np.maximum(along, np.float32(1e-4))
        behind = tw < t
        if behind.any():
            tw = tw[behind]
            side = (o[1] + tw * d[1][behind]) * flat[0] - (o[0] + tw * d[0][behind]) * flat[1]
            up = o[2] + tw * d[2][behind]
            colour = places.paint(
                place.wall, place.wall_tones, place.cell, place.noise, side + np.float32(dx), up
            )
            facing = np.float32(max(0.0, -float(flat[0] * light.sun[0] + flat[1] * light.sun[1])))
            image[behind] = colour * irradiance(
                np.full(tw.shape, facing), np.full(tw.shape, np.float32(0.8)), light
            )
    return image


def shadows(
    shapes: Shapes,
    view: View,
    grid: Grid,
    light: Light,
    x: np.ndarray,
    y: np.ndarray,
    lit: np.ndarray,
    sky: np.ndarray,
) -> None:
    """Darkens `lit` in the sun's shadow and `sky` near the feet, in place.

    The shadow of a shape is its silhouette from the sun: the ground points whose line to the sun passes
    the axis within the radius, in local coordinates.
    """
    centre = shapes.centre.mean(0)
    near = (x - np.float32(centre[0])) ** 2 + (y - np.float32(centre[1])) ** 2
    sky *= np.float32(1.0) - np.float32(0.35) / (np.float32(1.0) + near * np.float32(14.0))
    feet = np.nonzero((shapes.centre[:, 2] < 0.16) & shapes.casts)[0]
    for i in feet:
        cx, cy, _ = shapes.centre[i]
        near = (x - np.float32(cx)) ** 2 + (y - np.float32(cy)) ** 2
        near *= np.float32(120.0)
        sky *= np.float32(1.0) - np.float32(0.55) / (np.float32(1.0) + near)
    if light.strength < 0.05:
        return
    sun = np.asarray(light.sun, np.float64)
    casting = np.nonzero(shapes.casts)[0]
    m, centre, scale = shapes.to_local[casting], shapes.centre[casting], shapes.scale[casting]
    length = shapes.length[casting]
    radius = np.where(shapes.box[casting, None], 1.15, shapes.radius[casting])
    # Two axes across the sun's direction, in local coordinates.
    d = np.einsum("nij,j->ni", m, sun)
    d /= np.sqrt((d * d).sum(1, keepdims=True))
    e1 = np.cross(d, np.where(np.abs(d[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]))
    e1 /= np.sqrt((e1 * e1).sum(1, keepdims=True))
    e = np.stack([e1, np.cross(d, e1)], 1)
    rows = np.einsum("nij,njk->nik", e, m)
    start = -np.einsum("nij,nj->ni", rows, centre)
    end = (e[:, :, 2] * length[:, None]).astype(np.float32)
    # The rectangle of pixels that holds the shadow.
    reach = (radius.max(1) * scale.max(1) * (1 + 1 / sun[2]))[:, None]
    tip = centre + m[:, 2] * (scale[:, 2] ** 2 * length)[:, None]
    ends = [point[:, :2] - sun[:2] * (point[:, 2:] / sun[2]) for point in (centre, tip)]
    sides = np.minimum(*ends) - reach, np.maximum(*ends) + reach
    corners = np.zeros((len(casting), 4, 3))
    for k in range(4):
        corners[:, k, 0], corners[:, k, 1] = sides[k & 1][:, 0], sides[k >> 1][:, 1]
    pixels = (view.project(corners) - [grid.left, grid.top]) / grid.step
    first = np.clip(np.floor(pixels.min(1)), 0, [grid.width, grid.height]).astype(int)
    last = np.clip(np.ceil(pixels.max(1)), 0, [grid.width, grid.height]).astype(int)
    rows, start, radius = (v.astype(np.float32) for v in (rows, start, radius))
    for i in range(len(casting)):
        (x0, y0), (x1, y1) = first[i], last[i]
        if x0 >= x1 or y0 >= y1:
            continue
        window = slice(y0, y1), slice(x0, x1)
        gx, gy = x[window], y[window]
        p = start[i, 0] + rows[i, 0, 0] * gx + rows[i, 0, 1] * gy
        q = start[i, 1] + rows[i, 1, 0] * gx + rows[i, 1, 1] * gy
        (ra, rb), (ex, ey) = radius[i], end[i]
        size = ex * ex + ey * ey
        if size > 1e-9:
            along = np.clip((p * ex + q * ey) * (1 / size), 0, 1)
            p -= along * ex
            q -= along * ey
            ra = ra + (rb - ra) * along
        # A soft edge, a seventh of the radius wide.
        away = np.sqrt(p * p + q * q)
        dark = np.clip((ra - away) * (np.float32(7.0) / radius[i].max()) + np.float32(0.5), 0, 1)
        lit[window] *= np.float32(1.0) - dark


def compose(shapes: Shapes, number: Int[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Part map of a body; `GROUND` elsewhere."""
    return np.where(number >= 0, shapes.part[np.maximum(number, 0)], GROUND).astype(np.uint8)
