"""Built datasets of crops: their splits in memory, their images read on demand."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int, Int8, Int32, Int64

from g2ajax.data.builders import protocol_column, records
from g2ajax.data.column_cache import Columns, columns_of

KINDS = ("person", "distractor", "junk")
COLUMNS = ("image_id", "identity", "label", "kind", "camera", "platform", "altitude_level")
COLUMNS += ("attributes", "protocols")
DESCRIBED = ("identity", "camera", "platform", "kind", "protocols", "attributes")
CAPTION_COLUMNS = ("caption_text", "caption_row", "caption_pair")


@dataclasses.dataclass(frozen=True)
class Captions:
    """The sentences of a split, in the order of its rows."""

    text: tuple[str, ...]
    row: Int64[np.ndarray, " C"]
    """Row of the image that each sentence describes."""
    pair: Int64[np.ndarray, " C"]
    """Row of the second image of the same person that comes with each sentence; -1: none."""

    def __len__(self) -> int:
        return len(self.text)


@dataclasses.dataclass(frozen=True)
class CropSplit:
    """One split: its columns in memory, its images read on demand. Rows are sorted by `image_id`."""

    name: str
    folder: str
    """Folder of the built dataset."""
    position: Int64[np.ndarray, " N"]
    """Place of each row in the stored split."""
    image_id: np.ndarray
    identity: Int64[np.ndarray, " N"]
    label: Int32[np.ndarray, " N"]
    kind: Int8[np.ndarray, " N"]
    camera: Int32[np.ndarray, " N"]
    platform: Int8[np.ndarray, " N"]
    altitude_level: Int8[np.ndarray, " N"]
    """Level as the dataset numbers them, from the lowest; −1: unknown."""
    attributes: Int8[np.ndarray, "N M"]
    protocols: Bool[np.ndarray, "N P"]
    captions: Captions | None = None

    ROWS: ClassVar[tuple[str, ...]] = ("position", *COLUMNS)
    """The fields that have an entry for each row."""
    DESCRIBED: ClassVar[tuple[str, ...]] = DESCRIBED
    """The fields besides `image_id` that the fingerprint of a dataset depends on."""

    def __len__(self) -> int:
        return len(self.image_id)

    def take(self, rows: Int[np.ndarray, " n"]) -> "CropSplit":
        """The same split with these rows only, in this order, without sentences."""
        columns = {name: getattr(self, name)[rows] for name in self.ROWS}
        return dataclasses.replace(self, captions=None, **columns)

    def read(self, row: int) -> bytes:
        """The encoded image of a row."""
        return records(self.folder, self.name)[int(self.position[row])]["image"]

    def encoded(self, row: int) -> tuple[bytes, ...]:
        """All encoded images of a row: one, or several of a tracklet."""
        return (self.read(row),)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A built dataset."""

    name: str
    version: str
    fingerprint: str
    """Short hash of all records except their pixels; part of every result."""
    metadata: Mapping[str, Any]
    protocols: tuple[Mapping[str, Any], ...]
    attribute_groups: tuple[tuple[str, tuple[str, ...]], ...]
    splits: Mapping[str, CropSplit]

    def protocol(
        self, name: str
    ) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " G"], Mapping[str, Any]]:
        """Rows of the query and the gallery side (`sides`) that take part in a protocol, and its
        description. All sentences do.

        Raises ValueError for a protocol that the dataset does not have.
        """
        column = self._column(name)
        query, gallery = (
            np.arange(len(side)) if key == "text" else np.flatnonzero(side.protocols[:, column])
            for key, side in self.sides(name)
        )
        return query, gallery, self.protocols[column]

    def sides(self, name: str) -> tuple[tuple[str, CropSplit], tuple[str, CropSplit]]:
        """The queries and the gallery of a protocol, each as `(key, split)`; the key names their
        embeddings.

        Crops: `query` and `gallery`. Sentences: `text` and `image`, both from the split that the
        protocol names; a row of `text` is a sentence with the columns of its image.
        """
        row = self.protocols[self._column(name)]
        if "captions" not in row:
            return ("query", self.splits["query"]), ("gallery", self.splits["gallery"])
        images = self.splits[row["captions"]]
        sides = ("text", images.take(images.captions.row)), ("image", images)
        return sides if row["query_platform"] == "text" else sides[::-1]

    def with_splits(self, splits: Mapping[str, CropSplit]) -> "Dataset":
        """The dataset with other rows in these splits.

        Its fingerprint is another: other test rows make another protocol, whose results never share a
        column with the whole one's.
        """
        if not splits:
            return self
        splits = {**self.splits, **splits}
        digest = fingerprint(splits, self.metadata.get("source", ""))
        return dataclasses.replace(self, splits=splits, fingerprint=digest)

    def _column(self, name: str) -> int:
        return protocol_column(self.name, self.protocols, name)


SplitOf = Callable[[pathlib.Path, str, int], CropSplit]
"""Opens a split: (folder, name of the split, number of protocols) -> split."""


def open_crops(name: str, builder: Any, split_of: SplitOf | None = None) -> Dataset:
    """The dataset of crops that a builder has built; `split_of` opens splits of other records."""
    split_of = split_of or _split
    folder = pathlib.Path(builder.data_dir)
    metadata = dict(builder.info.metadata or {})
    protocols = tuple(json.loads(metadata.get("protocols", "[]")))
    groups = json.loads(metadata.get("attribute_groups", "{}"))
    splits = {
        split: split_of(folder, split, len(protocols))
        for split in sorted(builder.info.splits.keys())
    }
    return Dataset(
        name=name,
        version=str(builder.version),
        fingerprint=fingerprint(splits, metadata.get("source", "")),
        metadata=metadata,
        protocols=protocols,
        attribute_groups=tuple((group, tuple(names)) for group, names in groups.items()),
        splits=splits,
    )


def fingerprint(splits: Mapping[str, CropSplit], source: str = "") -> str:
    """Twelve hex digits that two builds share if all their records are the same but for pixels.

    `source`: hash of the files they were built from, pixels included, where the builder states it.
    """
    digest = hashlib.sha256(source.encode())
    for name in sorted(splits):
        split = splits[name]
        digest.update(name.encode())
        digest.update("\n".join(split.image_id.tolist()).encode())
        for column in split.DESCRIBED:
            digest.update(np.ascontiguousarray(getattr(split, column)).tobytes())
        if split.captions is not None:
            digest.update("\n".join(split.captions.text).encode())
            for column in (split.captions.row, split.captions.pair):
                digest.update(column.tobytes())
    return digest.hexdigest()[:12]


def _split(folder: pathlib.Path, name: str, num_protocols: int) -> CropSplit:
    """A split with its columns and sentences."""
    columns = columns_of(
        folder,
        f"columns-{name}.npz",
        lambda: _columns(records(str(folder), name), num_protocols),
        _complete,
    )
    rest, captions = dict(columns), None
    if "caption_text" in rest:
        text, row, pair = (rest.pop(column) for column in CAPTION_COLUMNS)
        captions = Captions(tuple(text.tobytes().decode().split("\0")), row, pair)
    return CropSplit(name=name, folder=str(folder), captions=captions, **rest)


def _complete(stored: Columns) -> bool:
    captions = CAPTION_COLUMNS if "caption_text" in stored else ()
    return set(stored) == {"position", *COLUMNS, *captions}


def _columns(records: Any, num_protocols: int) -> Columns:
    names = (*COLUMNS, "captions", "pair_image_ids")
    rows = [
        {name: record[name] for name in names if name in record}
        for record in (records[i] for i in range(len(records)))
    ]
    columns = sorted_columns(rows, num_protocols)
    if any(row.get("captions") for row in rows):
        columns |= _caption_columns([rows[i] for i in columns["position"]], columns["image_id"])
    return columns


def sorted_columns(rows: list[dict[str, Any]], num_protocols: int) -> Columns:
    """The columns of rows (dicts with the names in `COLUMNS`), sorted by `image_id`; `position` is
    the place of each in `rows`."""
    ids = np.array([row["image_id"].decode() for row in rows], dtype=np.str_)
    order = np.argsort(ids, kind="stable").astype(np.int64)
    width = max((len(row["attributes"]) for row in rows), default=0)
    attributes = np.full((len(rows), width), -1, np.int8)
    member = np.zeros((len(rows), num_protocols), bool)
    for i, row in enumerate(rows):
        attributes[i, : len(row["attributes"])] = row["attributes"]
        member[i, np.asarray(row["protocols"], int)] = True
    columns = {
        "image_id": ids,
        "identity": np.array([row["identity"] for row in rows], np.int64),
        "label": np.array([row["label"] for row in rows], np.int32),
        "kind": np.array([row["kind"] for row in rows], np.int8),
        "camera": np.array([row["camera"] for row in rows], np.int32),
        "platform": np.array([row["platform"] for row in rows], np.int8),
        "altitude_level": np.array([row["altitude_level"] for row in rows], np.int8),
        "attributes": attributes,
        "protocols": member,
    }
    return {"position": order, **{name: column[order] for name, column in columns.items()}}


def _caption_columns(rows: list[dict[str, Any]], ids: np.ndarray) -> Columns:
    """The sentences of sorted rows: one text with zeros between them (sentences differ in length),
    and the rows of their images."""
    places = {image_id: row for row, image_id in enumerate(ids.tolist())}
    entries = [
        (text.decode().replace("\0", " "), row, places[pair.decode()] if pair else -1)
        for row, record in enumerate(rows)
        for text, pair in zip(record["captions"], record["pair_image_ids"], strict=True)
    ]
    text, row, pair = zip(*entries, strict=True)
    return {
        "caption_text": np.frombuffer("\0".join(text).encode(), np.uint8),
        "caption_row": np.array(row, np.int64),
        "caption_pair": np.array(pair, np.int64),
    }
