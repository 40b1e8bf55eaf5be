"""Procedural grounds and walls: paving, asphalt, grass, tiles, planks, bricks, panels."""

import dataclasses

import numpy as np
from jaxtyping import Float

from g2ajax.synthetic.people import Colour

GROUNDS = ("paving", "asphalt", "grass", "tiles", "planks")
WALLS = ("bricks", "panels", "windows", "hedge")
_FREQUENCY = (8, 7, 1, 3, 1)
_SIDE = 64

_TONES = {
    "paving": ((0.52, 0.50, 0.47), (0.40, 0.39, 0.37)),
    "asphalt": ((0.40, 0.40, 0.41), (0.80, 0.79, 0.75)),
    "grass": ((0.34, 0.41, 0.24), (0.43, 0.45, 0.29)),
    "tiles": ((0.52, 0.46, 0.41), (0.58, 0.55, 0.50)),
    "planks": ((0.46, 0.39, 0.32), (0.24, 0.20, 0.16)),
    "bricks": ((0.50, 0.36, 0.30), (0.58, 0.55, 0.51)),
    "panels": ((0.56, 0.56, 0.54), (0.42, 0.42, 0.43)),
    "windows": ((0.58, 0.55, 0.50), (0.26, 0.29, 0.33)),
    "hedge": ((0.22, 0.29, 0.16), (0.31, 0.38, 0.22)),
}
"""First and second tone; muted, so that clothes stand out."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A place of the world. Lengths are in metres, angles are (cosine, sine)."""

    ground: str
    wall: str
    ground_tones: tuple[Colour, Colour]
    wall_tones: tuple[Colour, Colour]
    turn: tuple[float, float]
    shift: tuple[float, float]
    cell: float
    noise: int
    """Seed of the noise table."""


def place(rng: np.random.Generator) -> Place:
    """Draws a place with ground, wall, colours and position."""
    draw = int(rng.integers(sum(_FREQUENCY)))
    ground = GROUNDS[int(np.searchsorted(np.cumsum(_FREQUENCY), draw, side="right"))]
    wall = WALLS[int(rng.integers(len(WALLS)))]
    angle = rng.uniform(0.0, 2 * np.pi)

    def tones(kind: str) -> tuple[Colour, Colour]:
        scale, tint = rng.uniform(0.88, 1.1), rng.uniform(-0.02, 0.02, 3)
        pair = [np.clip(np.asarray(tone) * scale + tint, 0.03, 0.95) for tone in _TONES[kind]]
        return tuple(tuple(float(x) for x in tone) for tone in pair)

    return Place(
        ground=ground,
        wall=wall,
        ground_tones=tones(ground),
        wall_tones=tones(wall),
        turn=(float(np.cos(angle)), float(np.sin(angle))),
        shift=(rng.uniform(0.0, 50.0), rng.uniform(0.0, 50.0)),
        cell=rng.uniform(0.7, 1.4),
        noise=int(rng.integers(1 << 30)),
    )


def _table(number: int) -> Float[np.ndarray, "64 64"]:
    return np.random.Generator(np.random.PCG64([number, 7])).random((_SIDE, _SIDE), np.float32)


def _cell(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A random number in 0..1 for each unit square."""
    flat = (np.floor(y).astype(np.int32) & (_SIDE - 1)) * _SIDE
    flat += np.floor(x).astype(np.int32) & (_SIDE - 1)
    return table.ravel()[flat]


def _line(x: np.ndarray, width: float) -> np.ndarray:
    """True if x is in the first `width` of its unit cell."""
    return (x - np.floor(x)) < width


def paint(
    kind: str,
    tones: tuple[Colour, Colour],
    cell: float,
    number: int,
    x: Float[np.ndarray, "*n"],
    y: Float[np.ndarray, "*n"],
) -> Float[np.ndarray, "*n 3"]:
    """Colours of the points (x, y) of a surface, in metres; float32."""
    table = _table(number)
    # Two octaves of noise: patches of half a metre, grain of four centimetres.
    value = 0.84 + 0.12 * _cell(table, x * 1.9, y * 1.9) + 0.17 * _cell(table, x * 23, y * 23)
    mark = np.zeros(x.shape, bool)
    if kind == "paving":
        u, v = x / (0.45 * cell), y / (0.30 * cell)
        u = u + 0.5 * (np.floor(v).astype(np.int32) & 1)
        mark = _line(u, 0.05) | _line(v, 0.07)
        value += 0.20 * _cell(table, u, v) - 0.10
    elif kind == "asphalt":
        mark = _line(x / (5.5 * cell), 0.024) & (
            _line(y / (4.0 * cell), 0.55) | (table[0, 0] > 0.5)
        )
    elif kind == "grass":
        mark = _cell(table, x * 31, y * 13) > 0.72
        value += 0.35 * _cell(table, y * 40, x * 40) - 0.18
    elif kind == "tiles":
        u, v = x / (0.33 * cell), y / (0.33 * cell)
        mark = ((np.floor(u) + np.floor(v)).astype(np.int32) & 1).astype(bool)
        value -= 0.22 * (_line(u, 0.04) | _line(v, 0.04))
    elif kind == "planks":
        u = x / (0.14 * cell)
        mark = _line(u, 0.07)
        value += 0.42 * _cell(table, u, y / 2.4) - 0.2
    elif kind == "bricks":
        v = y / 0.19
        u = x / 0.55 + 0.5 * (np.floor(v).astype(np.int32) & 1)
        mark = _line(u, 0.04) | _line(v, 0.07)
        value += 0.4 * _cell(table, u, v) - 0.2
    elif kind == "panels":
        mark = _line(x / (1.3 * cell), 0.02) | _line(y / (0.9 * cell), 0.025)
    elif kind == "windows":
        mark = ~_line(x / (1.5 * cell), 0.35) & ~_line(y / (1.4 * cell), 0.30)
    elif kind == "hedge":
        mark = _cell(table, x * 12, y * 12) > 0.6
        value += 0.6 * _cell(table, y * 19, x * 19) - 0.3
    pair = np.asarray(tones, np.float32)
    return pair[mark.astype(np.int8)] * value[..., None].astype(np.float32)
