"""CUHK03: a campus seen by five pairs of ground cameras (Li et al., 2014)."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import CountConfig, ManualBuilder, protocol
from tfds_builders.cuhk03.protocols import (
    EXAMPLE,
    NAME,
    NEW,
    TESTSETS,
    read_new_protocol,
    read_testset,
)

CLASSIC_SPLITS = 20
NEW_EXPECTED = {
    "detected": {"train": (7365, 767), "query": (1400, 700), "gallery": (5332, 700)},
    "labeled": {"train": (7368, 767), "query": (1400, 700), "gallery": (5328, 700)},
}
# Numbers of images differ between the test sets, so only people are counted.
CLASSIC_EXPECTED = {"train": (None, 1367), "query": (None, 100), "gallery": (None, 100)}


@dataclasses.dataclass
class BoxesConfig(CountConfig):
    """A configuration of boxes and protocol."""

    boxes: str = "detected"
    split: int | None = None
    """Split of the first protocol; None: the new protocol."""


def configs() -> list[BoxesConfig]:
    """Configurations of both kinds of boxes and all protocols; the first is the default."""
    new = [
        BoxesConfig(name=f"{boxes}_np", description="The new protocol.", boxes=boxes)
        for boxes in NEW
    ]
    new += [
        BoxesConfig(
            name=f"{boxes}_partial",
            description="The new protocol, a part of the dataset.",
            strict=False,
            boxes=boxes,
        )
        for boxes in NEW
    ]
    return new + [
        BoxesConfig(
            name=f"{boxes}_classic{split}",
            description=f"Split {split} of the first protocol.",
            boxes=boxes,
            split=split,
        )
        for boxes in NEW
        for split in range(CLASSIC_SPLITS)
    ]


class Builder(ManualBuilder):
    """Reads the converted images under one of the protocols."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
CUHK03 is given out by its authors on request
(https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html). Unpack it so that
manual_dir/cuhk03_release holds cuhk-03.mat, and convert it once (needs h5py):
  python -m tfds_builders.cuhk03.convert manual_dir/cuhk03_release/cuhk-03.mat
which adds
  images_detected/  images_labeled/  {TESTSETS}
The new protocol needs the file of its boxes, from https://github.com/zhunzhong07/person-re-ranking:
  {NEW["detected"]}  or  {NEW["labeled"]}"""
    FOLDER = "cuhk03_release"

    @property
    def boxes(self) -> str:
        """`detected` or `labeled`."""
        return self.builder_config.boxes

    @property
    def REQUIRED(self) -> tuple[str, ...]:
        classic = self.builder_config.split is not None
        return (f"images_{self.boxes}", *([TESTSETS] if classic else []))

    @property
    def EXPECTED(self) -> Mapping[str, tuple[int | None, int | None]]:
        """Split → (images or None, identities)."""
        if self.builder_config.split is not None:
            return CLASSIC_EXPECTED
        return NEW_EXPECTED[self.boxes]

    def _info(self) -> tfds.core.DatasetInfo:
        new = protocol("STD", "any", "any")
        classic = protocol("CLASSIC", "any", "any", cmc="single-gallery-shot")
        return self.crop_info(
            homepage="https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html",
            protocols=[new if self.builder_config.split is None else classic],
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        folder = root / f"images_{self.boxes}"
        images = {
            path.name: (path, image_id, match)
            for path, image_id, match in self.named_images(folder, folder.name, NAME, EXAMPLE)
        }
        split = self.builder_config.split
        if split is None:
            names = self.new_protocol(root, set(images))
        else:
            test = read_testset(root / TESTSETS, split)
            names = divide({name: match for name, (_, _, match) in images.items()}, test)
        return self.finished(
            {
                part: [record(*images[name], testing=part != "train") for name in part_names]
                for part, part_names in names.items()
            }
        )

    def new_protocol(self, root: pathlib.Path, images: set[str]) -> dict[str, list[str]]:
        """Split → names of its images, from the protocol file of the boxes.

        Raises FileNotFoundError without the file, and ValueError if it belongs to the other boxes or
        (unless the copy is partial) names missing images.
        """
        places = [place / NEW[self.boxes] for place in (root, root.parent)]
        path = next((place for place in places if place.is_file()), None)
        other = "labeled" if self.boxes == "detected" else "detected"
        if path is None:
            beside = any((place / NEW[other]).is_file() for place in (root, root.parent))
            hint = f" ({NEW[other]} is there, but is of the other boxes)" if beside else ""
            raise FileNotFoundError(
                f"{self.name}: neither {root} nor the folder above holds {NEW[self.boxes]}{hint}\n"
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        names = read_new_protocol(path)
        counts = {split: len(split_names) for split, split_names in names.items()}
        if counts == {split: images for split, (images, _) in NEW_EXPECTED[other].items()}:
            raise ValueError(
                f"{self.name}: {path.name} is the protocol of the {other} boxes ({counts}), not of "
                f"the {self.boxes} ones; put the right file there, or use "
                f"{self.name}/{other}_np"
            )
        listed = {name for split_names in names.values() for name in split_names}
        missing = sorted(listed - images)
        if missing and self.strict:
            raise ValueError(
                f"{self.name}: {path.name} names {len(missing)} images that images_{self.boxes} "
                f"lacks (the first: {missing[0]}); is it the file of these boxes, and the conversion "
                f"complete? A partial copy builds with {self.name}/{self.boxes}_partial"
            )
        return {
            split: [name for name in split_names if name in images]
            for split, split_names in names.items()
        }


def divide(images: Mapping[str, re.Match[str]], test: set[tuple[int, int]]) -> dict[str, list[str]]:
    """First protocol: images of test persons are query and gallery, all others train."""
    splits: dict[str, list[str]] = {"train": [], "query": [], "gallery": []}
    for name, match in images.items():
        tested = (int(match[1]), int(match[2])) in test
        for split in ("query", "gallery") if tested else ("train",):
            splits[split].append(name)
    return splits


def record(
    path: pathlib.Path, image_id: str, match: re.Match[str], *, testing: bool
) -> dict[str, Any]:
    """Arguments of `crop` for an image."""
    pair, person, view = int(match[1]), int(match[2]), int(match[3])
    return {
        "image": path,
        "image_id": image_id,
        "identity": 1000 * pair + person,
        "identity_raw": f"{match[1]}_{match[2]}",
        "camera": 2 * (pair - 1) + view - 1,
        "camera_raw": f"{pair}_{view}",
        "platform": "ground",
        "frame": int(match[4]),
        "protocols": [0] if testing else [],
    }
