"""Writes a world to disk exactly as real datasets ship their files."""

import pathlib
from collections.abc import Sequence

import numpy as np
import scipy.io

from g2ajax.synthetic import attributes
from g2ajax.synthetic.pool import photographs
from g2ajax.synthetic.world import CAMERAS, Shot, World

AGREID_ATTRIBUTES = "qut_attribute_v4_88_attributes.mat"


def agreid_folder(shot: Shot) -> str:
    """The folder of AG-ReID that holds a shot: one for training, two each for the test splits."""
    if shot.split == "train":
        return "bounding_box_train"
    place = {"query": "query_all", "gallery": "bounding_box_test_all"}[shot.split]
    return f"{place}_{CAMERAS[shot.camera].lower()}"


def write_agreid(world: World, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes five flat folders of JPEG files and the attribute file; returns the image count.

    The folders are made if needed. Images that are there already are written again.
    """
    out = pathlib.Path(out)
    shots = [*world.shots("train"), *world.shots("query"), *world.shots("gallery")]
    for name in {agreid_folder(shot) for shot in shots}:
        (out / name).mkdir(parents=True, exist_ok=True)
    for done in photographs(world, shots, workers, progress="SkyGround"):
        (out / agreid_folder(done.shot) / done.shot.image_id).write_bytes(done.jpeg)
    tables = {
        "train": _table(world.shots("train")),
        "test": _table([*world.shots("query"), *world.shots("gallery")]),
    }
    scipy.io.savemat(out / AGREID_ATTRIBUTES, {"qut_attribute": tables}, format="5")
    return len(shots)


def _table(shots: Sequence[Shot]) -> dict[str, np.ndarray]:
    """One row an identity: its ten digits, and 88 columns of 1 (no) and 2 (yes)."""
    people = {shot.image_id.split("C")[0]: shot.person for shot in shots}
    tokens = sorted(people)
    digits = np.empty((1, len(tokens)), object)
    digits[0] = ["".join(c for c in token if c.isdigit()) for token in tokens]
    codes = np.array([people[token].attributes for token in tokens])
    columns = attributes.one_hot(codes).astype(np.float64) + 1.0
    named = {name: columns[None, :, i] for i, name in enumerate(attributes.COLUMNS)}
    return {"image_index": digits, **named}


LAYOUTS = {"agreid": write_agreid}
