"""MSMT17: a campus seen by fifteen ground cameras, in two versions (Wei et al., 2018)."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import CountConfig, ManualBuilder, protocol
from tfds_builders.lists import Line, read_list

NAME = re.compile(r"^(\d{4})_\d+_(\d{2})_(\d{4}(?:morning|noon|afternoon))_.+\.jpg$")
EXAMPLE = "0000_000_01_0303morning_0015_0.jpg"
CAMERAS = 15
TRAIN_IDENTITIES = 1041
FOLDERS = {"v1": "MSMT17_V1", "v2": "MSMT17_V2"}
IMAGES = {"v1": ("train", "test"), "v2": ("mask_train_v2", "mask_test_v2")}
"""Version → folder of the training images, folder of the test images."""
LISTS = {name: f"list_{name}.txt" for name in ("train", "val", "query", "gallery")}


@dataclasses.dataclass
class VersionConfig(CountConfig):
    """A configuration of a version; `merged` adds the images of `val` to `train`."""

    release: str = "v1"
    merged: bool = False


def configs() -> list[VersionConfig]:
    """Configurations of both versions; the first is the default."""
    faces = {"v1": "Faces as recorded", "v2": "Faces blurred"}
    kinds = [("", "", True, False), ("_trainval", ", val in train", True, True)]
    kinds.append(("_partial", ", a part of the dataset", False, False))
    return [
        VersionConfig(
            name=f"{version}{suffix}",
            description=f"{face}{text}.",
            strict=strict,
            release=version,
            merged=merged,
        )
        for suffix, text, strict, merged in kinds
        for version, face in faces.items()
    ]


class Builder(ManualBuilder):
    """Reads the four lists of one of the versions."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
MSMT17 is given out by its authors after a signed agreement (https://www.pkuvmc.com/dataset.html).
Unpack it so that manual_dir holds
  {FOLDERS["v1"]}/    with {"/  ".join(IMAGES["v1"])}/  for msmt17/v1, or
  {FOLDERS["v2"]}/    with {"/  ".join(IMAGES["v2"])}/  for msmt17/v2,
and in the folder
  {"  ".join(LISTS.values())}"""

    @property
    def release(self) -> str:
        """`v1` or `v2`."""
        return self.builder_config.release

    @property
    def FOLDER(self) -> str:
        return FOLDERS[self.release]

    @property
    def REQUIRED(self) -> tuple[str, ...]:
        return (*IMAGES[self.release], *LISTS.values())

    @property
    def EXPECTED(self) -> Mapping[str, tuple[int, int | None]]:
        """Split → (images, identities or None); the same for both versions."""
        test = {"query": (11659, 3060), "gallery": (82161, 3060)}
        if self.builder_config.merged:
            return {"train": (32621, TRAIN_IDENTITIES), **test}
        return {"train": (30248, TRAIN_IDENTITIES), "val": (2373, None), **test}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.crop_info(
            homepage="https://www.pkuvmc.com/dataset.html",
            protocols=[protocol("STD", "any", "any")],
        )

    def root(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        """Finds the dataset's folder; raises ValueError for a copy of the other version."""
        manual = pathlib.Path(dl_manager.manual_dir)
        other = "v2" if self.release == "v1" else "v1"
        own = manual / self.FOLDER
        for place in [own] if own.is_dir() else [manual / FOLDERS[other], manual]:
            missing = [name for name in IMAGES[self.release] if not (place / name).is_dir()]
            others = [name for name in IMAGES[other] if (place / name).is_dir()]
            if missing and others:
                raise ValueError(
                    f"{self.name}: {place} holds {', '.join(others)} of the version {other}, not "
                    f"{', '.join(missing)} of {self.release}; the two must not be mixed up "
                    f"(faces are blurred in v2): is it msmt17/{other} that you want?"
                )
        return super().root(dl_manager)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = {split: self.read_split(root, split) for split in LISTS}
        if self.builder_config.merged:
            splits["train"] += splits.pop("val")
        elif not self.strict and not splits["val"]:
            splits.pop("val")
        return self.finished(splits)

    def read_split(self, root: pathlib.Path, split: str) -> list[dict[str, Any]]:
        """Arguments of `crop` for each image of a list."""
        train, test = IMAGES[self.release]
        testing = split in ("query", "gallery")
        lines = read_list(
            root / LISTS[split],
            root,
            self.name,
            below=test if testing else train,
            strict=self.strict,
        )
        return [self.record(line, testing) for line in lines]

    def record(self, line: Line, testing: bool) -> dict[str, Any]:
        """Arguments of `crop` for an image.

        Raises ValueError for a name of another form, an unknown camera, and an identity in the list
        that differs from the name's.
        """
        match = self.parsed(line.image_id, NAME, EXAMPLE)
        if not 1 <= int(match[2]) <= CAMERAS:
            raise ValueError(
                f"{line.place}: {line.image_id} is of camera {match[2]}; the dataset has 01 to "
                f"{CAMERAS}"
            )
        if line.rest != (str(int(match[1])),):
            raise ValueError(
                f"{line.place}: {line.image_id} is followed by {' '.join(line.rest) or 'nothing'}, "
                f"expected its identity {int(match[1])}"
            )
        return {
            "image": line.path,
            "image_id": line.image_id,
            # Both parts are numbered from 0, with different people.
            "identity": int(match[1]) + (TRAIN_IDENTITIES if testing else 0),
            "identity_raw": match[1],
            "camera": int(match[2]) - 1,
            "camera_raw": match[2],
            "platform": "ground",
            "session": match[3],
            "protocols": [0] if testing else [],
        }
