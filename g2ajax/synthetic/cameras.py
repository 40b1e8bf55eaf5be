"""Pinhole cameras: closed-circuit television on a wall, and drones."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

ALTITUDES = (15, 25, 35, 45)
"""Metres above ground of the drones."""
HEIGHTS = {"cctv": (62, 385), "drone": (62, 640)}
"""Pixels from head to feet that the zoom keeps to; a detector's box adds or takes a tenth."""


@dataclasses.dataclass(frozen=True)
class View:
    """Where the camera is, relative to the person's place on the ground."""

    position: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], ...]
    """Right, down and forward, as unit vectors of the world."""
    focal: float
    """Focal length in pixels of the native image."""
    pitch: float
    """Degrees below the horizon."""
    distance: float
    """Metres along the ground."""

    def zoomed(self, height: float, limits: tuple[int, int]) -> "View":
        """The view with the focal length that brings `height` pixels inside the limits."""
        wanted = min(max(height, limits[0]), limits[1])
        return dataclasses.replace(self, focal=self.focal * wanted / height)

    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """World to camera."""
        return np.asarray(self.axes, np.float64)

    def project(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """World points to pixels, with the optical axis at (0, 0)."""
        p = np.einsum("ij,...j->...i", self.rotation(), points - np.asarray(self.position))
        return self.focal * p[..., :2] / np.maximum(p[..., 2:], 0.05)


def look(
    position: tuple[float, float, float],
    target: tuple[float, float, float],
    roll: float,
    focal: float,
) -> View:
    """A camera at `position` that looks at `target`, rolled by some radians."""
    forward = np.asarray(target, np.float64) - np.asarray(position, np.float64)
    distance = float(math.hypot(forward[0], forward[1]))
    forward /= math.sqrt(float((forward * forward).sum()))
    right = np.array([forward[1], -forward[0], 0.0])
    right /= math.sqrt(float((right * right).sum())) + 1e-12
    down = np.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    rows = (right * c + down * s, down * c - right * s, forward)
    axes = tuple(tuple(float(x) for x in row) for row in rows)
    pitch = math.degrees(math.asin(-float(forward[2])))
    return View(tuple(float(x) for x in position), axes, focal, pitch, distance)


def cctv(rng: np.random.Generator) -> View:
    """A camera 2.5–4 m high, 4–30 m away, that looks 5–20° down."""
    height = rng.uniform(2.5, 4.0)
    # Near ones are rarer than far ones, as on any square.
    distance = 4.0 * (30.0 / 4.0) ** rng.uniform(0.0, 1.0)
    pitch = math.radians(rng.uniform(5.0, 20.0))
    azimuth = rng.uniform(0.0, 2 * math.pi)
    focal = rng.uniform(700.0, 1300.0)
    side = rng.uniform(-0.12, 0.12)
    c, s = math.cos(azimuth), math.sin(azimuth)
    position = (distance * c, distance * s, height)
    across = math.cos(azimuth + math.pi + side), math.sin(azimuth + math.pi + side)
    target = (position[0] + across[0], position[1] + across[1], height - math.tan(pitch))
    view = look(position, target, rng.uniform(-0.04, 0.04), focal)
    return dataclasses.replace(view, distance=distance)


def drone(rng: np.random.Generator, altitude: float) -> View:
    """A drone at `altitude` metres that looks 30–75° down."""
    below = math.radians(rng.uniform(33.0, 73.0))
    azimuth = rng.uniform(0.0, 2 * math.pi)
    distance = altitude / math.tan(below)
    position = (distance * math.cos(azimuth), distance * math.sin(azimuth), altitude)
    focal = 2600.0 * (7500.0 / 2600.0) ** rng.uniform(0.0, 1.0)
    slant = math.hypot(distance, altitude)
    aim = (rng.uniform(-0.03, 0.03) * slant, rng.uniform(-0.03, 0.03) * slant, 0.9)
    view = look(position, aim, rng.uniform(-0.08, 0.08), focal)
    return dataclasses.replace(view, distance=distance)
