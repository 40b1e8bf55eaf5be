"""A dataset in memory: people of one colour each, seen from the air and from the ground."""

import dataclasses
import io

import numpy as np
from PIL import Image

from g2ajax.data.crop_source import CropSplit, Dataset, fingerprint


@dataclasses.dataclass(frozen=True)
class MemorySplit(CropSplit):
    """A split whose encoded images are at hand."""

    images: tuple[bytes, ...] = ()

    def read(self, row: int) -> bytes:
        return self.images[row]


def encode(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_split(
    name: str, people: range, per_camera: int, protocols: np.ndarray | None = None, seed: int = 0
) -> MemorySplit:
    """`per_camera` images of each person from camera 0 (aerial) and camera 1 (ground)."""
    rows = [(p, c, i) for p in people for c in (0, 1) for i in range(per_camera)]
    images = []
    for person, camera, i in rows:
        colour = np.random.default_rng(person).integers(40, 216, (4, 1, 3))
        rng = np.random.default_rng((seed, person, camera, i))
        body = np.repeat(colour, 12, axis=0).repeat(20, axis=1) + rng.normal(0, 12, (48, 20, 3))
        images.append(encode(body.clip(0, 255).astype(np.uint8)))
    count = len(rows)
    identity = np.array([p for p, _, _ in rows], np.int64)
    camera = np.array([c for _, c, _ in rows], np.int32)
    return MemorySplit(
        name=name,
        folder="",
        position=np.arange(count),
        image_id=np.array([f"{name}/p{p:03d}c{c}i{i}.png" for p, c, i in rows]),
        identity=identity,
        label=np.asarray(
            identity - people.start if name == "train" else identity * 0 - 1, np.int32
        ),
        kind=np.zeros(count, np.int8),
        camera=camera,
        platform=camera.astype(np.int8),
        altitude_level=np.where(camera == 0, identity % 2, -1).astype(np.int8),
        attributes=np.stack([identity % 3, identity % 2], 1).astype(np.int8),
        protocols=np.stack([camera == 0, camera == 1], 1)
        if name == "query"
        else np.stack([camera == 1, camera == 0], 1),
        images=tuple(images),
    )


GROUPS = (("bag", ("backpack", "nothing", "unknown")), ("hat", ("yes", "no")))


def make_dataset(train_people: int = 6, test_people: int = 5, per_camera: int = 3) -> Dataset:
    """The whole, with the protocols A2G and G2A and two groups of attributes."""
    test = range(100, 100 + test_people)
    splits = {
        "train": make_split("train", range(train_people), per_camera),
        "query": make_split("query", test, 1, seed=1),
        "gallery": make_split("gallery", test, per_camera, seed=2),
    }
    protocols = tuple(
        {
            "name": name,
            "query_platform": query,
            "gallery_platform": gallery,
            "drop_same_camera": True,
            "cmc": "standard",
        }
        for name, query, gallery in (("A2G", "aerial", "ground"), ("G2A", "ground", "aerial"))
    )
    return Dataset(
        name="fake",
        version="1.0.0",
        fingerprint=fingerprint(splits),
        metadata={},
        protocols=protocols,
        attribute_groups=GROUPS,
        splits=splits,
    )


def without_matches(*cameras: int) -> Dataset:
    """The whole, but queries of these cameras are numbered as of the other one, against whose images
    they are searched."""
    dataset = make_dataset()
    query = dataset.splits["query"]
    camera = np.where(np.isin(query.camera, cameras), 1 - query.camera, query.camera)
    changed = dataclasses.replace(query, camera=camera.astype(np.int32))
    return dataclasses.replace(dataset, splits={**dataset.splits, "query": changed})
