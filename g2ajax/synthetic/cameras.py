"""Pinhole cameras: CCTV on a wall, and drones."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

ALTITUDES = (15, 25, 35, 45)
"""Altitudes of drones, in metres."""
HEIGHTS = {"cctv": (62, 385), "drone": (62, 640)}
"""Range of a person's height in pixels, kept by the zoom; a detector's box varies it by a tenth."""


@dataclasses.dataclass(frozen=True)
class View:
    """Pose and focal length of a camera, relative to the person's position on the ground."""

    position: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], ...]
    """Right, down and forward, as unit vectors in world coordinates."""
    focal: float
    """Focal length in native pixels."""
    pitch: float
    """Degrees below the horizon."""
    distance: float
    """Distance along the ground, in metres."""

    def zoomed(self, height: float, limits: tuple[int, int]) -> "View":
        """Changes the focal length so that a height of `height` pixels falls inside the limits."""
        target = min(max(height, limits[0]), limits[1])
        return dataclasses.replace(self, focal=self.focal * target / height)

    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """Rotation from world to camera coordinates."""
        return np.asarray(self.axes, np.float64)

    def project(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Projects world points to pixels; the optical axis is at (0, 0)."""
        p = np.einsum("ij,...j->...i", self.rotation(), points - np.asarray(self.position))
        return self.focal * p[..., :2] / np.maximum(p[..., 2:], 0.05)


def look(
    position: tuple[float, float, float],
    target: tuple[float, float, float],
    roll: float,
    focal: float,
) -> View:
    """A camera at `position` that looks at `target`; `roll` is in radians."""
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
    """Draws a CCTV camera: 2.5–4 m high, 4–30 m away, looking 5–20° down."""
    height = rng.uniform(2.5, 4.0)
    # Near cameras are rarer than far ones.
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
    """Draws a drone at `altitude` metres, looking 30–75° down."""
    below = math.radians(rng.uniform(33.0, 73.0))
    azimuth = rng.uniform(0.0, 2 * math.pi)
    distance = altitude / math.tan(below)
    position = (distance * math.cos(azimuth), distance * math.sin(azimuth), altitude)
    focal = 2600.0 * (7500.0 / 2600.0) ** rng.uniform(0.0, 1.0)
    slant = math.hypot(distance, altitude)
    aim = (rng.uniform(-0.03, 0.03) * slant, rng.uniform(-0.03, 0.03) * slant, 0.9)
    view = look(position, aim, rng.uniform(-0.08, 0.08), focal)
    return dataclasses.replace(view, distance=distance)
