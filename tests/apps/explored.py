"""A small gallery to explore, without a model: what tests of the explorer share."""

import hashlib
import io
import os
import pathlib

import numpy as np
from PIL import Image

from g2ajax.apps.explore import Explorer, Shot, inside
from g2ajax.apps.explore_galleries import cameras_of, folders_of
from g2ajax.retrieval.prepared import prepare

WIDTH = 8


def embed_text(text: str) -> np.ndarray:
    """A unit vector that depends on the text alone. Raises ValueError for blank text."""
    if not text.strip():
        raise ValueError("the sentence is empty")
    seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    row = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
    return row / np.linalg.norm(row)


def embed_image(pixels: np.ndarray) -> np.ndarray:
    """The mean colour, as a unit vector."""
    row = np.zeros(WIDTH, np.float32)
    row[:3] = pixels.mean((0, 1)) + 1
    return row / np.linalg.norm(row)


def encoded(colour: tuple[int, int, int], kind: str = "PNG", size: tuple[int, int] = (6, 12)):
    """An image of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind)
    return stream.getvalue()


def make(folder: pathlib.Path, *, text: bool = True) -> Explorer:
    """Eight images of one colour each in `folder/crops`, in folders a, a/b and c, two of them links:
    one into the gallery, one to `folder/secret.png`."""
    root = folder / "crops"
    names = ["1_c1.png", "2_c2.png", "a/3_c1.png", "a/4_c2.png", "a/b/5_c1.png", "c/6.png"]
    for number, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded((40 * number, 90, 200 - 30 * number)))
    (folder / "secret.png").write_bytes(encoded((1, 2, 3)))
    (root / "c" / "7_own.png").symlink_to(root / "1_c1.png")
    (root / "c" / "8_secret.png").symlink_to(folder / "secret.png")
    files = tuple(root / name for name in (*names, "c/7_own.png", "c/8_secret.png"))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(files), WIDTH)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    real = pathlib.Path(os.path.realpath(root))
    paths = [file.relative_to(root) for file in files]
    return Explorer(
        root=real,
        names=tuple(path.as_posix() for path in paths),
        shots=tuple(Shot((file,)) for file in files),
        prepared=prepare(rows),
        features=rows,
        among=np.array([inside(file, real) for file in files]),
        folders=folders_of(paths),
        cameras=cameras_of(paths, "_c([0-9])"),
        embed_image=embed_image,
        embed_text=embed_text if text else None,
        title="a model in crops",
    )
