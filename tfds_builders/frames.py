"""Base of builders of whole frames: schema, checks, labels and counts."""

import hashlib
import json
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from g2ajax.data.images import size_of
from tfds_builders.base import PLATFORMS, ManualBuilder, encoded_rgb, labels_of
from tfds_builders.base import protocol as crop_protocol
from tfds_builders.counts import content_hash

NO_IDENTITY = -1
"""`identity` of an unlabelled person."""
UNKNOWN = {
    "camera": -1,
    "camera_raw": "",
    "platform": -1,
    "altitude_m": float("nan"),
    "frame": -1,
    "sequence": -1,
    "scene": -1,
}


def frame_features(galleries: Sequence[int]) -> tfds.features.FeaturesDict:
    """Schema of a frame; `galleries`: sizes of the drawn galleries.

    A record of the split `query` holds one person and, for each size, the indices of its gallery
    frames in the split `gallery`; in other splits these lists are empty.
    """
    text, scalar = tfds.features.Text, tfds.features.Scalar
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "image_id": text(),
            "height": scalar(np.int32),
            "width": scalar(np.int32),
            "camera": scalar(np.int32),
            "camera_raw": text(),
            "platform": tfds.features.ClassLabel(names=list(PLATFORMS)),
            "altitude_m": scalar(np.float32),
            "frame": scalar(np.int64),
            "sequence": scalar(np.int32),
            "scene": scalar(np.int32),
            "protocols": tfds.features.Tensor(shape=(None,), dtype=np.int8),
            "objects": tfds.features.Sequence(
                {
                    "bbox": tfds.features.BBoxFeature(),
                    "bbox_xyxy": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "identity": scalar(np.int64),
                    "label": scalar(np.int32),
                    "is_labelled": scalar(np.bool_),
                }
            ),
            **{
                gallery_column(size): tfds.features.Tensor(shape=(None,), dtype=np.int32)
                for size in galleries
            },
        }
    )


def gallery_column(size: int) -> str:
    """Name of the column with the galleries of a size."""
    return f"gallery_index_{size}"


def protocol(
    name: str,
    query_platform: str,
    gallery_platform: str,
    *,
    drop_same_camera: bool = False,
    gallery: str = "",
) -> dict[str, Any]:
    """A row of the protocol table.

    `gallery`: column that lists the gallery frames of each query; "" stands for all gallery frames
    of the platform except the query's own.
    """
    row = crop_protocol(name, query_platform, gallery_platform, drop_same_camera=drop_same_camera)
    return {**row, "gallery": gallery}


def image_size(image: bytes | pathlib.Path, name: str) -> tuple[int, int]:
    """Height and width of an encoded image, upright. Raises ValueError, naming it, if it cannot be
    read."""
    try:
        return size_of(image if isinstance(image, bytes) else pathlib.Path(image).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} is no readable image: {error}; fetch it again") from error


def check_boxes(boxes: np.ndarray, size: tuple[int, int], name: str) -> None:
    """Checks boxes in a frame of `size` (height, width).

    Raises ValueError, naming frame and box, for a box that is not finite, inverted, without area or
    completely outside.
    """
    height, width = size
    for x0, y0, x1, y1 in boxes.tolist():
        place = f"{name}: the box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not np.isfinite([x0, y0, x1, y1]).all():
            raise ValueError(f"{place} is not finite")
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"{place} is inverted or empty; expected x0 < x1 and y0 < y1")
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            raise ValueError(f"{place} lies outside its frame of {width} x {height} pixels")


def frame(
    image: bytes | pathlib.Path,
    image_id: str,
    boxes: np.ndarray,
    identities: Sequence[int],
    labels: Mapping[int, int],
    galleries: Mapping[int, Sequence[int]],
    protocols: Sequence[int] = (),
    **fields: Any,
) -> dict[str, Any]:
    """A record of the frame schema; missing `fields` are unknown.

    `boxes`: x0, y0, x1, y1 in pixels. Raises what `check_boxes` and `image_size` raise.
    """
    data = encoded_rgb(image)
    height, width = image_size(data, image_id)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    check_boxes(boxes, (height, width), image_id)
    objects = []
    for box, identity in zip(boxes, identities, strict=True):
        x0, x1 = (min(max(float(x) / width, 0.0), 1.0) for x in box[[0, 2]])
        y0, y1 = (min(max(float(y) / height, 0.0), 1.0) for y in box[[1, 3]])
        objects.append(
            {
                "bbox": tfds.features.BBox(ymin=y0, xmin=x0, ymax=y1, xmax=x1),
                "bbox_xyxy": box,
                "identity": int(identity),
                "label": labels.get(int(identity), -1),
                "is_labelled": int(identity) != NO_IDENTITY,
            }
        )
    return {
        **UNKNOWN,
        **fields,
        "image": data,
        "image_id": image_id,
        "height": height,
        "width": width,
        "protocols": np.asarray(protocols, np.int8),
        "objects": objects,
        **{gallery_column(n): np.asarray(rows, np.int32) for n, rows in galleries.items()},
    }


Counts = tuple[int | None, int | None, int | None]
"""Frames, boxes, identities; None if not published."""


class FrameBuilder(ManualBuilder, skip_registration=True):
    """Base of builders of whole frames. Records are arguments of `frame` without `labels`.

    A dataset sets `FOLDERS`, `REQUIRED`, `GALLERIES`, `EXPECTED_FRAMES` and `SURE`. Its
    `_split_generators` reads the records and returns `finished_frames(...)`.
    """

    FOLDERS: tuple[str, ...] = ()
    """Folders in `manual_dir` that may contain a copy."""
    GALLERIES: tuple[int, ...] = ()
    EXPECTED_FRAMES: Mapping[str, Counts] = {}
    """Split → published counts."""
    SURE: frozenset[str] = frozenset()
    """Counts ("train frames", "train identities", …) that must match; others, on which sources
    disagree, only cause a warning."""

    def frame_info(
        self, *, homepage: str, protocols: list[dict[str, Any]], **metadata: Any
    ) -> tfds.core.DatasetInfo:
        """Dataset info with the frame schema, protocol table and published counts."""
        return self.dataset_info_from_configs(
            features=frame_features(self.galleries()),
            homepage=homepage,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                {
                    "schema": "frames",
                    "protocols": json.dumps(protocols),
                    "galleries": json.dumps(list(self.galleries())),
                    "expected_frames": json.dumps(
                        dict(self.EXPECTED_FRAMES) if self.strict else {}
                    ),
                    "sure": json.dumps(sorted(self.SURE)),
                    **metadata,
                }
            ),
        )

    def galleries(self) -> tuple[int, ...]:
        """Sizes of the drawn galleries."""
        return self.GALLERIES

    def required(self) -> tuple[str, ...]:
        """Entries that a copy must contain."""
        return self.REQUIRED

    def root(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        """Finds the folder of the copy: one of `FOLDERS` in `manual_dir`, or `manual_dir` itself.

        Raises FileNotFoundError naming what is missing and how to get it.
        """
        manual = pathlib.Path(dl_manager.manual_dir)
        candidates = [*(manual / folder for folder in self.FOLDERS), manual]
        missing = {
            root: [name for name in self.required() if not (root / name).exists()]
            for root in candidates
        }
        root = min(candidates, key=lambda candidate: len(missing[candidate]))
        if not missing[root]:
            return root
        raise FileNotFoundError(
            f"{self.name}: {root} lacks {', '.join(missing[root])}\n"
            f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )

    def finished_frames(
        self, splits: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        """Checks counts; returns the result of `_split_generators`.

        `splits`: train, gallery and query. Raises ValueError for wrong counts, for a split without
        records and for a training frame without people.
        """
        for split, records in splits.items():
            if not records:
                raise ValueError(
                    f"{self.name}: no frames for the split {split!r}; is the copy complete?"
                )
        for record in splits["train"]:
            if not len(record["boxes"]):
                raise ValueError(
                    f"{self.name}: nobody is annotated in the training frame {record['image_id']}; "
                    "leave the frame out"
                )
        self.check_frame_counts({name: frame_counts(splits[name]) for name in splits})
        labels = labels_of(
            identity
            for record in splits["train"]
            for identity in record["identities"]
            if identity != NO_IDENTITY
        )
        return {
            split: self.frame_examples(split, records, labels if split == "train" else {})
            for split, records in splits.items()
        }

    def frame_examples(
        self, split: str, records: Iterable[dict[str, Any]], labels: Mapping[int, int]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (key, record) pairs; images are read one at a time while the split is written."""
        digests = {}
        for key, record in self.unique((_key(split, record), record) for record in records):
            galleries = {
                size: record.get("galleries", {}).get(size, ()) for size in self.galleries()
            }
            try:
                example = frame(**{**record, "galleries": galleries, "labels": labels})
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from error
            digests[key] = hashlib.sha256(example["image"]).hexdigest()
            yield key, example
        self.info.metadata[f"content_{split}"] = content_hash(digests)

    def check_frame_counts(self, counts: Mapping[str, tuple[int, int, int]]) -> None:
        """Compares frames, boxes and identities of each split with `EXPECTED_FRAMES`.

        Raises ValueError naming each wrong count of `SURE`, warns of others; does nothing unless
        `strict`.
        """
        wrong: dict[bool, list[str]] = {True: [], False: []}
        for split, expected in self.EXPECTED_FRAMES.items() if self.strict else ():
            for unit, number, count in zip(
                ("frames", "boxes", "identities"), expected, counts[split], strict=True
            ):
                if number is not None and number != count:
                    line = f"{split}: {count} {unit}, expected {number}"
                    wrong[f"{split} {unit}" in self.SURE].append(line)
        head = f"{self.name}: the files differ from the published counts:\n  "
        if wrong[False]:
            warnings.warn(head + "\n  ".join(wrong[False]), stacklevel=2)
        if wrong[True]:
            raise ValueError(
                head + "\n  ".join(wrong[True]) + "\nan incomplete download, or another release? A "
                "partial copy builds with the configuration `partial`"
            )


def frame_counts(records: Sequence[Mapping[str, Any]]) -> tuple[int, int, int]:
    """Counts frames, boxes and identities of a split."""
    identities = {i for record in records for i in record["identities"] if i != NO_IDENTITY}
    return len(records), sum(len(record["boxes"]) for record in records), len(identities)


def _key(split: str, record: Mapping[str, Any]) -> str:
    """Key of a record; a frame may hold several queries."""
    if split != "query":
        return record["image_id"]
    return f"{record['image_id']}:{record['identities'][0]}"
