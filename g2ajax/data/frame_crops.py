"""People cut out of whole frames: a dataset of frames as one of crops."""

import dataclasses
import io
import math
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Int32
from PIL import Image

from g2ajax.data.builders import PLATFORMS
from g2ajax.data.crop_source import KINDS, CropSplit, Dataset, fingerprint
from g2ajax.data.frame_source import FrameDataset, FrameSplit
from g2ajax.data.images import decode


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameCrops(CropSplit):
    """The boxes of a split of frames; an image is cut out when it is read."""

    frames: FrameSplit
    frame: Int32[np.ndarray, " N"]
    """Number of the frame among all of the dataset's; a query and a gallery image may share one."""
    row: Int32[np.ndarray, " N"]
    """Row of the frame in its split."""
    box: Float32[np.ndarray, "N 4"]

    ROWS: ClassVar[tuple[str, ...]] = (*CropSplit.ROWS, "frame", "row", "box")

    def read(self, row: int) -> bytes:
        """The crop of a row, losslessly encoded: whole pixels, at least one, inside the frame."""
        frame = int(self.row[row])
        image = decode(self.frames.read(frame), str(self.frames.image_id[frame]))
        height, width = image.shape[:2]
        x0, y0, x1, y1 = self.box[row].tolist()
        left, top = min(max(math.floor(x0), 0), width - 1), min(max(math.floor(y0), 0), height - 1)
        right, bottom = max(math.ceil(x1), left + 1), max(math.ceil(y1), top + 1)
        buffer = io.BytesIO()
        Image.fromarray(image[top:bottom, left:right]).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def cut_out(dataset: FrameDataset) -> Dataset:
    """The people of a dataset of frames as crops, with the labels that they have there.

    Training takes the people with an identity. A gallery has everyone; those without identity are
    distractors. Each pair of platforms that the protocols of the frames ask for becomes a protocol,
    without the galleries that they list. Crops of the query's person from the query's own frame are
    left out.
    """
    numbers: dict[str, int] = {}
    for split in dataset.splits.values():
        for image_id in split.image_id.tolist():
            numbers.setdefault(image_id, len(numbers))
    directions = [(row["query_platform"], row["gallery_platform"]) for row in dataset.protocols]
    pairs = list(dict.fromkeys(directions))
    splits = {}
    for name, split in dataset.splits.items():
        # Column p: whether the frames of a row take part in pair p.
        member = np.zeros((len(split), len(pairs)), bool)
        for column, pair in enumerate(pairs):
            if name == "query":
                member[:, column] = split.protocols[:, [one == pair for one in directions]].any(
                    axis=1
                )
            elif name == "gallery":
                whole = pair[1] == "any"
                member[:, column] = whole or split.platform == PLATFORMS.index(pair[1])
        splits[name] = _cut(split, member, numbers, name)
    return Dataset(
        name=f"{dataset.name}, cut out",
        version=dataset.version,
        fingerprint=fingerprint(splits),
        metadata=dataset.metadata,
        protocols=tuple(
            {
                "name": "ALL" if pair == ("any", "any") else "2".join(p[0].upper() for p in pair),
                "query_platform": pair[0],
                "gallery_platform": pair[1],
                "drop_same_camera": True,
                "camera_key": "frame",
                "cmc": "standard",
            }
            for pair in pairs
        ),
        attribute_groups=(),
        splits=splits,
    )


def _cut(
    split: FrameSplit, member: Bool[np.ndarray, "F P"], numbers: dict[str, int], name: str
) -> FrameCrops:
    """The people of a split, sorted by frame and place in it."""
    counts = np.diff(split.offsets)
    row = np.repeat(np.arange(len(split)), counts)
    place = np.arange(len(row)) - np.repeat(split.offsets[:-1], counts)
    ids = [f"{split.image_id[r]}:{p:03d}" for r, p in zip(row, place, strict=True)]
    if name == "query":  # several queries may be of one frame
        ids = [f"{one}:{r:06d}" for one, r in zip(ids, row, strict=True)]
    image_id = np.array(ids, np.str_)
    order = np.argsort(image_id, kind="stable")
    if name == "train":
        order = order[split.label[order] >= 0]
    labelled = split.identity[order] >= 0
    row = row[order]
    frame = np.array([numbers[i] for i in split.image_id.tolist()], np.int32)
    return FrameCrops(
        name=name,
        folder=split.folder,
        position=order.astype(np.int64),
        image_id=image_id[order],
        identity=split.identity[order],
        label=split.label[order],
        kind=np.where(labelled, KINDS.index("person"), KINDS.index("distractor")).astype(np.int8),
        camera=split.camera[row],
        platform=split.platform[row],
        altitude_level=np.full(len(order), -1, np.int8),
        attributes=np.zeros((len(order), 0), np.int8),
        protocols=member[row],
        frames=split,
        frame=frame[row],
        row=row.astype(np.int32),
        box=split.boxes[order],
    )
