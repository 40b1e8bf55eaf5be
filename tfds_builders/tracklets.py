"""Base of builders of tracklets: schema, records, checks."""

import hashlib
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.base import UNKNOWN, ManualBuilder, crop_features, encoded_rgb, image_files
from tfds_builders.counts import content_hash

OF_AN_IMAGE = ("image", "image_id", "frame", "timestamp")
"""Fields of a crop that a tracklet does not have."""


def tracklet_features() -> tfds.features.FeaturesDict:
    """Schema of a tracklet: the encoded images of a person in order of time, with their metadata.

    Not a sequence of images: those would all be decoded when a record is read.
    """
    fields = {name: kind for name, kind in crop_features().items() if name not in OF_AN_IMAGE}
    return tfds.features.FeaturesDict(
        {
            "frames": tfds.features.Sequence(tfds.features.Tensor(shape=(), dtype=np.bytes_)),
            "frame_ids": tfds.features.Tensor(shape=(None,), dtype=np.int64),
            "tracklet_id": tfds.features.Text(),
            **fields,
        }
    )


def tracklet(
    frames: Sequence[bytes | pathlib.Path],
    frame_ids: Sequence[int],
    tracklet_id: str,
    identity: int,
    **fields: Any,
) -> dict[str, Any]:
    """A record of the tracklet schema; missing `fields` are unknown.

    `frame_ids`: numbers of the frames in their video, which may have gaps. Raises ValueError for a
    tracklet without frames, and for numbers that do not rise.
    """
    if not len(frames):
        raise ValueError(f"the tracklet {tracklet_id} has no frames; leave it out")
    ids = np.asarray(frame_ids, np.int64)
    if len(ids) != len(frames) or (np.diff(ids) <= 0).any():
        raise ValueError(
            f"the tracklet {tracklet_id} has {len(frames)} frames with the numbers "
            f"{ids[:5].tolist()}...; expected one number for each frame, in rising order"
        )
    unknown = {name: value for name, value in UNKNOWN.items() if name not in OF_AN_IMAGE}
    record = {**unknown, "identity_raw": str(identity), "label": -1, **fields}
    for name in ("attributes", "protocols"):
        record[name] = np.asarray(record[name], np.int8)
    return record | {
        "frames": [encoded_rgb(frame) for frame in frames],
        "frame_ids": ids,
        "tracklet_id": tracklet_id,
        "identity": identity,
    }


class TrackletBuilder(ManualBuilder, skip_registration=True):
    """Base of builders of tracklets. Records are arguments of `tracklet`; see `ManualBuilder`."""

    COUNTED = "tracklets"

    def tracklet_info(
        self, *, homepage: str, protocols: list[dict[str, Any]], **metadata: Any
    ) -> tfds.core.DatasetInfo:
        """Dataset info with the tracklet schema, protocol table and published counts."""
        return self.crop_info(
            homepage=homepage,
            protocols=protocols,
            features=tracklet_features(),
            schema="tracklets",
            **metadata,
        )

    def tracklet_folders(
        self, root: pathlib.Path, below: str
    ) -> Iterator[tuple[str, int, list[pathlib.Path]]]:
        """Yields (path below the root, identity, images) for the folders IDENTITY/TRACKLET of a folder.

        Raises ValueError for a folder that is no number and an image outside the folders. Empty
        tracklets are left out.
        """
        for person in self.folders(root, below, "IDENTITY"):
            if not person.name.isdigit():
                raise ValueError(f"{self.name}: {below}/{person.name} is no number of a person")
            for folder in self.folders(root, f"{below}/{person.name}", "TRACKLET"):
                if images := image_files(folder):
                    where = f"{below}/{person.name}/{folder.name}"
                    yield where, int(person.name), images

    def single(self, where: str, values: Iterable[Any], what: str) -> Any:
        """The only value that the frames of a tracklet have.

        Raises ValueError for several: a tracklet shows one person in one camera.
        """
        different = sorted(set(values))
        if len(different) > 1:
            raise ValueError(
                f"{self.name}: the tracklet {where} is of several {what}: "
                f"{', '.join(map(str, different[:5]))}"
            )
        return different[0]

    def report_lost(self, names: Sequence[str], what: str) -> None:
        """Warns that a partial copy lacks `names`; does nothing without any.

        Raises FileNotFoundError for a copy that must be whole.
        """
        if not names:
            return
        text = f"{self.name}: {len(names)} {what}, such as {names[0]}"
        if self.strict:
            raise FileNotFoundError(f"{text}; unpack the archive again")
        warnings.warn(f"{text}; they are left out", stacklevel=3)

    def tracklet_examples(
        self, split: str, records: Iterable[dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Pairs of key and record of a split; frames are read one tracklet at a time."""
        digests = {}
        for key, record in self.unique((record["tracklet_id"], record) for record in records):
            record = tracklet(**record)
            digests[key] = hashlib.sha256(b"".join(record["frames"])).hexdigest()
            yield key, record
        self.info.metadata[f"content_{split}"] = content_hash(digests)

    def _generate_examples(
        self, split: str, records: Iterable[dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        return self.tracklet_examples(split, records)
