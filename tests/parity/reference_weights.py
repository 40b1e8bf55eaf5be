"""Deterministic weights for parity tests.

A parity case stores no weights: it lists the reference implementation's state-dict
entries (name, shape, dtype) in `<case>.keys.json`, and both sides draw the same
values from here. Each entry is seeded by its own name, so the order and the subset of
entries that are drawn do not matter.
"""

import json
import math
import zlib

import numpy as np


def draw(name: str, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Returns the value of the state-dict entry `name`, an array of `shape`."""
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    shape = tuple(shape)
    if not dtype.startswith(("float", "bfloat")):  # num_batches_tracked, position ids
        return np.arange(math.prod(shape), dtype=dtype).reshape(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        value = rng.uniform(0.5, 1.5, shape)
    elif leaf == "running_mean":
        value = rng.normal(0.0, 0.1, shape)
    elif len(shape) >= 2:  # convolution, dense, embedding: He-scaled over all axes but the first
        value = rng.normal(0.0, math.sqrt(2.0 / math.prod(shape[1:])), shape)
    elif leaf == "weight":  # normalisation scale
        value = rng.uniform(0.5, 1.5, shape)
    else:  # biases, tokens, scalars
        value = rng.normal(0.0, 0.1, shape)
    return np.asarray(value, dtype="float32")


def state_dict(keys_file: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws every entry listed in `keys_file`, a JSON list of [name, shape, dtype]."""
    with open(keys_file) as f:
        return {name: draw(name, shape, dtype, seed) for name, shape, dtype in json.load(f)}
