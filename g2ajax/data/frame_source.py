"""Built datasets of person search: whole frames, their people, queries and galleries."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8, Int32, Int64

from g2ajax.data import builders
from g2ajax.data.column_cache import Columns, columns_of

COLUMNS = ("image_id", "height", "width", "camera", "platform", "protocols")
PEOPLE = ("boxes", "identity", "label")


@dataclasses.dataclass(frozen=True)
class FrameSplit:
    """One split: its columns in memory, its images read on demand; rows in stored order.

    The people of row i are the entries offsets[i] to offsets[i + 1] of `boxes`, `identity` and
    `label`. A row of the split `query` has one person: the one to look for.
    """

    name: str
    folder: str
    """Folder of the built dataset."""
    position: Int64[np.ndarray, " N"]
    """Place of each row in the stored split."""
    image_id: np.ndarray
    height: Int32[np.ndarray, " N"]
    width: Int32[np.ndarray, " N"]
    camera: Int32[np.ndarray, " N"]
    platform: Int8[np.ndarray, " N"]
    protocols: Bool[np.ndarray, "N P"]
    offsets: Int64[np.ndarray, " N+1"]
    boxes: Float32[np.ndarray, "M 4"]
    """x0, y0, x1, y1 in pixels of the stored frame."""
    identity: Int64[np.ndarray, " M"]
    """−1: this person has no identity."""
    label: Int32[np.ndarray, " M"]
    """Place among the sorted training identities; −1 without identity and outside `train`."""
    galleries: Mapping[str, tuple[Int64[np.ndarray, " N+1"], Int32[np.ndarray, " L"]]]
    """Galleries of the queries: column → offsets and rows of the split `gallery`."""

    def __len__(self) -> int:
        return len(self.image_id)

    def people(self, row: int) -> slice:
        """The entries of `boxes`, `identity` and `label` of a row."""
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))

    def gallery(self, row: int, column: str) -> Int32[np.ndarray, " G"]:
        """The listed gallery frames of a query."""
        offsets, rows = self.galleries[column]
        return rows[offsets[row] : offsets[row + 1]]

    def take(self, rows: Int[np.ndarray, " n"]) -> "FrameSplit":
        """The same split with these rows only, in this order."""
        rows = np.asarray(rows, np.int64)
        offsets, entries = _taken(self.offsets, rows)
        galleries = {}
        for column, (starts, gallery_rows) in self.galleries.items():
            kept_offsets, positions = _taken(starts, rows)
            galleries[column] = (kept_offsets, gallery_rows[positions])
        return dataclasses.replace(
            self,
            offsets=offsets,
            galleries=galleries,
            **{name: getattr(self, name)[rows] for name in ("position", *COLUMNS)},
            **{name: getattr(self, name)[entries] for name in PEOPLE},
        )

    def read(self, row: int) -> bytes:
        """The encoded image of a row."""
        records = builders.records(self.folder, self.name)
        return records[int(self.position[row])]["image"]


def _taken(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and entries of some rows of a ragged column."""
    pieces = [np.arange(offsets[row], offsets[row + 1]) for row in rows]
    lengths = [len(piece) for piece in pieces]
    entries = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64), entries


@dataclasses.dataclass(frozen=True)
class FrameDataset:
    """A built dataset of frames; splits `train`, `gallery` and `query`."""

    name: str
    version: str
    fingerprint: str
    """Short hash of all records except their pixels; part of every result."""
    metadata: Mapping[str, Any]
    protocols: tuple[Mapping[str, Any], ...]
    splits: Mapping[str, FrameSplit]

    @property
    def num_identities(self) -> int:
        """Training identities: rows of the look-up table."""
        return int(self.splits["train"].label.max(initial=-1)) + 1

    def protocol(self, name: str) -> tuple[Int[np.ndarray, " Q"], Mapping[str, Any]]:
        """Rows of the queries that take part in a protocol, and its description.

        Raises ValueError for a protocol that the dataset does not have.
        """
        column = builders.protocol_column(self.name, self.protocols, name)
        return np.flatnonzero(self.splits["query"].protocols[:, column]), self.protocols[column]

    def gallery(self, query: int, protocol: str) -> Int32[np.ndarray, " G"]:
        """Rows of the split `gallery` that are searched for a query; a listed frame may occur
        twice, as in the dataset's own lists.

        Without a list: all frames of the protocol's platform except the query's own, and except
        those of its camera if the protocol excludes them.

        Raises ValueError for a gallery without frames.
        """
        _, row = self.protocol(protocol)
        queries, frames = self.splits["query"], self.splits["gallery"]
        if row["gallery"]:
            rows = queries.gallery(query, row["gallery"])
        else:
            mask = frames.image_id != queries.image_id[query]
            if row["gallery_platform"] != "any":
                mask &= frames.platform == builders.PLATFORMS.index(row["gallery_platform"])
            if row["drop_same_camera"]:
                mask &= frames.camera != queries.camera[query]
            rows = np.flatnonzero(mask).astype(np.int32)
        if not len(rows):
            raise ValueError(
                f"{self.name}, {protocol}: query {query} ({queries.image_id[query]}) has no "
                "gallery frame"
            )
        return rows

    def targets(self, query: int, frames: Int[np.ndarray, " G"]) -> Float32[np.ndarray, "G 4"]:
        """The box of a query's person in each of these gallery frames, NaN where they are not; the
        first, if a frame has several."""
        gallery, queries = self.splits["gallery"], self.splits["query"]
        identity = queries.identity[queries.people(query)][0]
        entries = np.flatnonzero(gallery.identity == identity)
        owner = np.searchsorted(gallery.offsets, entries, side="right") - 1
        there, first = np.unique(owner, return_index=True)
        boxes = np.full((len(gallery), 4), np.nan, np.float32)
        boxes[there] = gallery.boxes[entries[first]]
        return boxes[frames]


def open_frames(
    name: str, *, data_dir: str | None = None, manual_dir: str | None = None, build: bool = True
) -> FrameDataset:
    """Opens a dataset of frames ("cuhk_sysu", "skyground/frames_small"); builds it once if needed.

    Folders as `open_dataset`. Raises ValueError for an unknown name or a dataset of crops, and
    FileNotFoundError, saying where to get the files and where to put them, when it cannot be built.
    """
    root = builders.data_root(data_dir)
    builder = builders.make_builder(name, root)
    if builders.schema_of(builder) != "frames":
        raise ValueError(
            f"{name} is a dataset of crops; open it with g2ajax.data.source.open_dataset"
        )
    builders.ensure_built(builder, name, root, manual_dir=manual_dir, build=build)
    metadata = dict(builder.info.metadata)
    protocols = tuple(json.loads(metadata["protocols"]))
    splits = {
        split: _split(pathlib.Path(builder.data_dir), split, len(protocols))
        for split in sorted(builder.info.splits.keys())
    }
    return FrameDataset(
        name, str(builder.version), fingerprint(splits), metadata, protocols, splits
    )


def with_clipped_boxes(dataset: FrameDataset) -> FrameDataset:
    """The dataset with every box cut at the edges of its frame."""
    splits = {}
    for name, split in dataset.splits.items():
        people = np.diff(split.offsets)
        width, height = (np.repeat(side, people) for side in (split.width, split.height))
        edges = np.stack([width, height, width, height], axis=1).astype(np.float32)
        splits[name] = dataclasses.replace(split, boxes=np.clip(split.boxes, 0.0, edges))
    return dataclasses.replace(dataset, splits=splits, fingerprint=fingerprint(splits))


def fingerprint(splits: Mapping[str, FrameSplit]) -> str:
    """Twelve hex digits that two builds share if all their records are the same but for pixels."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        split = splits[name]
        digest.update(name.encode())
        digest.update("\n".join(split.image_id.tolist()).encode())
        for column in ("camera", "platform", "protocols", "offsets", "boxes", "identity"):
            digest.update(np.ascontiguousarray(getattr(split, column)).tobytes())
        for column in sorted(split.galleries):
            digest.update(column.encode())
            for part in split.galleries[column]:
                digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:12]


def _split(folder: pathlib.Path, name: str, num_protocols: int) -> FrameSplit:
    """A split with its columns and galleries."""
    names = ("position", "offsets", *COLUMNS, *PEOPLE)
    arrays = columns_of(
        folder,
        f"frames-{name}.npz",
        lambda: _columns(builders.records(str(folder), name), num_protocols),
        set(names).issubset,
    )
    galleries = {
        key.removesuffix(".offsets"): (arrays[key], arrays[f"{key.removesuffix('.offsets')}.rows"])
        for key in arrays
        if key.endswith(".offsets")
    }
    columns = {key: arrays[key] for key in names}
    return FrameSplit(name=name, folder=str(folder), galleries=galleries, **columns)


def _columns(records: Any, num_protocols: int) -> Columns:
    rows = [{k: v for k, v in records[i].items() if k != "image"} for i in range(len(records))]
    member = np.zeros((len(rows), num_protocols), bool)
    for i, row in enumerate(rows):
        member[i, np.asarray(row["protocols"], int)] = True
    columns = {
        "position": np.arange(len(rows), dtype=np.int64),
        "image_id": np.array([row["image_id"].decode() for row in rows], dtype=np.str_),
        "height": np.array([row["height"] for row in rows], np.int32),
        "width": np.array([row["width"] for row in rows], np.int32),
        "camera": np.array([row["camera"] for row in rows], np.int32),
        "platform": np.array([row["platform"] for row in rows], np.int8),
        "protocols": member,
    }
    boxes = [np.reshape(row["objects"]["bbox_xyxy"], (-1, 4)).astype(np.float32) for row in rows]
    columns["offsets"] = _offsets(boxes)
    columns["boxes"] = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
    for name, kind in (("identity", np.int64), ("label", np.int32)):
        values = [np.asarray(row["objects"][name], kind).reshape(-1) for row in rows]
        columns[name] = np.concatenate([np.zeros(0, kind), *values])
    for name in rows[0] if rows else ():
        if name.startswith("gallery_index_"):
            galleries = [np.asarray(row[name], np.int32) for row in rows]
            columns[f"{name}.offsets"] = _offsets(galleries)
            columns[f"{name}.rows"] = np.concatenate([np.zeros(0, np.int32), *galleries])
    return columns


def _offsets(pieces: list[np.ndarray]) -> np.ndarray:
    lengths = [len(piece) for piece in pieces]
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
