"""Your own videos with the tables of a tracker, and a table `identities.csv` of who the tracks are."""

import hashlib
import io
import json
import math
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from g2ajax.data.tracklet_files import (
    Tracklet,
    content_of,
    table_of,
    video_crops,
    video_tracks,
    videos_of,
)
from tfds_builders.base import count_configs, labels_of
from tfds_builders.crops_from_csv.listing import (
    UNKNOWN,
    numbers_of,
    protocols_of,
    warn_of_shared,
)
from tfds_builders.tracklets import TrackletBuilder
from tfds_builders.tracklets_from_mot.listing import (
    TABLE,
    Track,
    halves,
    name_of,
    read_identities,
    splits_of,
)

QUALITY = 95
"""JPEG quality of the crops."""
HIGHEST = 127
"""Metres up to which an altitude is a level of its own."""


class Builder(TrackletBuilder):
    """Reads videos, tables of tracks and people; `partial` skips people without their track."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
Put your videos into manual_dir, and beside each the table of its tracks in MOTChallenge's text format
(gate.mp4 and gate.txt). Who the tracks are stands in manual_dir/{TABLE}, for example
  video,track,identity,camera,platform,altitude
  gate.mp4,3,anna,0,ground,
  lawn.mp4,12,anna,1,aerial,30
Without it every track is a person of its own. The columns `camera`, `altitude` and one `split` (train,
query, gallery) are optional."""
    FOLDER = "tracklets_from_mot"

    def _info(self) -> tfds.core.DatasetInfo:
        # Protocols are read from the table while building.
        return self.tracklet_info(homepage="", protocols=[])

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.folder_in(pathlib.Path(dl_manager.manual_dir))
        tracklets = tracks_of(root)
        if (root / TABLE).is_file():
            rows = self.with_tracks(read_identities(root / TABLE), tracklets, root)
            splits = splits_of(rows)
            warn_of_shared(self.name, splits)
        else:
            splits, tracklets = halves(tracklets)
        protocols = protocols_of(splits["query"], splits["gallery"])
        self.info.metadata["source"] = hash_of(root)
        self.info.metadata["protocols"] = json.dumps(protocols)
        people = {row.identity for part in splits.values() for row in part if row.kind == "person"}
        numbers = numbers_of(people)
        labels = labels_of(numbers[row.identity] for row in splits["train"])
        return self.split_records(
            {
                split: [
                    _record(tracklets[row.path], row, split, numbers, labels, protocols)
                    for row in part
                ]
                for split, part in splits.items()
            }
        )

    def folder_in(self, manual: pathlib.Path) -> pathlib.Path:
        """The folder of the videos in that of the downloads."""
        return manual / self.FOLDER if (manual / self.FOLDER).is_dir() else manual

    def source_hash(self, manual: pathlib.Path) -> str:
        """Hash of tables and videos in a folder of downloads; "" if it has none."""
        root = self.folder_in(manual)
        return hash_of(root) if root.is_dir() and videos_in(root) else ""

    def with_tracks(
        self, rows: Sequence[Track], tracklets: Mapping[str, Tracklet], root: pathlib.Path
    ) -> list[Track]:
        """Selects the rows whose track exists; warns of tracks without a row.

        Raises ValueError for a row without its track, unless the configuration is `partial`, and if
        no row has one.
        """
        missing = [row for row in rows if row.path not in tracklets]
        if missing and (self.strict or len(missing) == len(rows)):
            raise ValueError(
                f"{TABLE}, line {missing[0].line}: there is no {missing[0].path} in {root} "
                f"({len(missing)} of {len(rows)} lines name no track of its videos, such as "
                f"{next(iter(tracklets))}; the configuration `partial` passes over them)"
            )
        if missing:
            warnings.warn(f"{self.name}: {len(missing)} of {len(rows)} lines name no track")
        nobody = tracklets.keys() - {row.path for row in rows}
        if nobody:
            warnings.warn(
                f"{self.name}: {len(nobody)} of {len(tracklets)} tracks have no line in {TABLE} and "
                f"are left out, such as {min(nobody)}"
            )
        return [row for row in rows if row.path in tracklets]

    def _generate_examples(
        self, split: str, records: Iterable[dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        return self.tracklet_examples(split, _with_frames(list(records)))


def videos_in(root: pathlib.Path) -> list[pathlib.Path]:
    """The videos (and folders of images) of a folder that have a table of tracks, by its name."""
    return [video for _, video in sorted(videos_of(list(root.iterdir())).items())]


def tracks_of(root: pathlib.Path) -> dict[str, Tracklet]:
    """The tracks of a folder's videos by their name.

    Raises ValueError if it has none, and as `video_tracks`.
    """
    videos = videos_in(root)
    if not videos:
        raise ValueError(
            f"{root} has no videos with a table of tracks beside them (gate.mp4 and gate.txt)"
        )
    tracklets = [one for video in videos for one in video_tracks(video, [])]
    return {name_of(one.source.name, one.track): one for one in tracklets}


def hash_of(root: pathlib.Path) -> str:
    """Hash of a folder's videos, their tables, and the table of people."""
    digest = hashlib.sha256()
    if (root / TABLE).is_file():
        digest.update((root / TABLE).read_bytes())
    for video in videos_in(root):
        digest.update(f"{video.name} {content_of(video)} ".encode("utf-8", "replace"))
        digest.update(table_of(video).read_bytes())
    return digest.hexdigest()


def _record(
    tracklet: Tracklet,
    row: Track,
    split: str,
    numbers: Mapping[str, int],
    labels: Mapping[int, int],
    protocols: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Arguments of `tracklet`, with the tracklet in place of its frames."""
    side = f"{split}_platform"
    # Junk and distractors are nobody: their kind says that they match no query.
    identity = numbers.get(row.identity, -1)
    whole = row.altitude.is_integer() and row.altitude <= HIGHEST
    return {
        "tracklet": tracklet,
        "frame_ids": (tracklet.boxes.frame + 1).tolist(),
        "tracklet_id": row.path,
        "identity": identity,
        "identity_raw": row.identity,
        "label": labels[identity] if split == "train" else -1,
        "kind": row.kind,
        "camera": row.camera,
        "camera_raw": "" if row.camera == UNKNOWN else str(row.camera),
        "platform": row.platform or -1,
        "altitude_m": row.altitude,
        "altitude_level": -1 if math.isnan(row.altitude) or not whole else int(row.altitude),
        "sequence": tracklet.track,
        "protocols": [
            i for i, p in enumerate(protocols) if p.get(side, "") in ("any", row.platform)
        ],
    }


def _with_frames(records: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The records with their crops; every video is read once."""
    videos: dict[pathlib.Path, list[dict[str, Any]]] = {}
    for record in records:
        videos.setdefault(record["tracklet"].source, []).append(record)
    for video, own in videos.items():
        wanted = [(one["tracklet"], np.arange(len(one["tracklet"]))) for one in own]
        for number, crops in video_crops(video, wanted, _jpeg):
            record = {key: value for key, value in own[number].items() if key != "tracklet"}
            yield {**record, "frames": [crops[place] for place in sorted(crops)]}


def _jpeg(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
