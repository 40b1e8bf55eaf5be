"""P-DESTRE: tracklets from drones at 5.5 to 6.7 m on two campuses (Kumar et al., TIFS 2020)."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import division_configs, image_files, protocol
from tfds_builders.tracklets import TrackletBuilder

IMAGES = "jpg_Extracted_PIDS"
LISTS = "pedestrian_reid_splits/Splits"
VIDEO = re.compile(r"^(\d\d-\d\d-\d{4})-(\d+)-(\d+)$")
NAME = re.compile(r"^(-?\d+)_(\d+)_(\d{8})_(\d+)\.jpg$")
EXAMPLE = "12_345_08112019_1.jpg"
FOLDS = 5


class Builder(TrackletBuilder):
    """Reads the lists of one of the five folds; a tracklet is a person in a video."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = division_configs("fold", FOLDS)
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
P-DESTRE is linked from http://p-destre.di.ubi.pt. Unpack the extracted people and the divisions for
re-identification so that manual_dir/P-DESTRE holds
  {IMAGES}/  {LISTS}/"""
    FOLDER = "P-DESTRE"

    @property
    def REQUIRED(self) -> tuple[str, ...]:  # a configuration decides it
        return (IMAGES, *self.lists.values())

    @property
    def lists(self) -> dict[str, str]:
        """Split → its list."""
        number = self.builder_config.number
        return {s: f"{LISTS}/{s.title()}_{number}.txt" for s in ("train", "query", "gallery")}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.tracklet_info(
            homepage="http://p-destre.di.ubi.pt",
            protocols=[protocol("A2A", "aerial", "aerial", drop_same_camera=False)],
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = {
            split: list(self._tracklets(root, file, [] if split == "train" else [0]))
            for split, file in self.lists.items()
        }
        names = {split: {row["tracklet_id"] for row in splits[split]} for split in splits}
        for one, other in (("train", "query"), ("train", "gallery"), ("query", "gallery")):
            both = names[one] & names[other]
            if both:
                raise ValueError(
                    f"{self.name}: {min(both)} is listed in {self.lists[one]} and {self.lists[other]}"
                )
        return self.finished(splits)

    def _tracklets(
        self, root: pathlib.Path, file: str, protocols: list[int]
    ) -> Iterator[dict[str, Any]]:
        """Yields arguments of `tracklet` for the lines VIDEO/IDENTITY of a list.

        People of identity −1, who were not tracked, are left out. Raises ValueError for a line or an image
        of another form, and FileNotFoundError for tracklets without images, which are left out of a
        partial copy.
        """
        lost = []
        for number, line in enumerate((root / file).read_text().splitlines(), 1):
            where = line.strip().replace("\\", "/").strip("/")
            if not where:
                continue
            video, _, person = where.rpartition("/")
            if not VIDEO.match(video) or not re.fullmatch(r"-?\d+", person):
                raise ValueError(
                    f"{self.name}: {file}, line {number}: expected a video and an identity such as "
                    f"08-11-2019-1-1/12, got {line.strip()!r}"
                )
            if int(person) < 0:
                continue
            folder = root / IMAGES / where
            images = image_files(folder) if folder.is_dir() else []
            if not images:
                lost.append(where)
                continue
            yield {**self._record(where, images), "protocols": protocols}
        self.report_lost(lost, f"tracklets of {file} have no images")

    def _record(self, where: str, images: list[pathlib.Path]) -> dict[str, Any]:
        named = [(self.parsed(f"{where}/{path.name}", NAME, EXAMPLE), path) for path in images]
        named.sort(key=lambda item: (int(item[0][2]), int(item[0][4])))
        identity = self.single(where, (int(match[1]) for match, _ in named), "people")
        video, _, person = where.rpartition("/")
        if identity != int(person):
            raise ValueError(f"{self.name}: the images of {where} are of the person {identity}")
        date, camera, sequence = VIDEO.match(video).groups()
        return {
            "frames": [path for _, path in named],
            "frame_ids": [int(match[2]) for match, _ in named],
            "tracklet_id": where,
            "identity": identity,
            "camera": int(camera),
            "camera_raw": camera,
            "platform": "aerial",
            "session": date,
            "sequence": int(sequence),
        }
