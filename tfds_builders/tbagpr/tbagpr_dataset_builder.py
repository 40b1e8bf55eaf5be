"""TBAGPR: text-based search for people in aerial images (Wang et al., TCSVT 2025, AEA-FIRM)."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow_datasets as tfds

from g2ajax.synthetic.captions import ATTRIBUTES
from tfds_builders.base import count_configs
from tfds_builders.captions import BOTH_VIEWS, CaptionBuilder, members
from tfds_builders.tbagpr_files import SOURCES, Evaluation, Pair, read_evaluation, read_train

FILES = tuple(
    f"{folder}/{name}_{split}.json"
    for folder, name in SOURCES
    for split in ("train", "val", "test")
)


class Builder(CaptionBuilder):
    """Reads the JSON files of both sources and `attrs.json`.

    Every image is a record. Aerial images have captions, each with its partner, a ground image; ground
    images have none. `val` has the identities of `test`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
TBAGPR is linked from https://github.com/xbdxwyh/AEA-FIRM-main; the terms of AG-ReID and G2APS,
whose images it has, apply. Unpack it so that manual_dir/TBAGPR holds
  attrs.json
  AG-ReID/agtext_{train,val,test}.json and its folders of images
  G2APS-AG/g2aps_{train,val,test}.json and its folders of images"""
    FOLDER = "TBAGPR"
    REQUIRED = ("attrs.json", *FILES)
    PROTOCOLS = BOTH_VIEWS
    # Published numbers of images count an image once per sentence; the number of distinct images is
    # not known.
    EXPECTED = {"train": (None, 1180), "test": (None, 529)}
    CAPTIONS = {"train": 31340, "val": 9255, "test": 3200}
    COUNT_LEVEL = "warning"

    def _info(self) -> tfds.core.DatasetInfo:
        return self.caption_info(
            homepage="https://github.com/xbdxwyh/AEA-FIRM-main", attribute_groups=ATTRIBUTES
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)

        def read(path: str) -> Any:
            return self.read_json(root, path)

        pairs = read_train(read)
        parts = {split: read_evaluation(read, split) for split in ("val", "test")}
        paths = [path for pair in pairs for path in (pair.aerial, pair.ground)]
        for part in parts.values():
            paths += [*part.aerial, *part.ground]
        self.check_images(root, paths, "the annotation")
        splits = {"train": train_records(root, pairs)}
        splits |= {split: test_records(root, part, split) for split, part in parts.items()}
        return self.finished(splits)


def train_records(root: pathlib.Path, pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """Records of all images of the training pairs; an image in several pairs has all their captions.

    Raises ValueError for an image of two identities or in both views.
    """
    records: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        aerial = _record(records, root, pair.aerial, pair.identity, "aerial")
        ground = _record(records, root, pair.ground, pair.identity, "ground")
        aerial["attributes"], ground["attributes"] = pair.aerial_attributes, pair.ground_attributes
        _add_caption(aerial, pair.caption, pair.ground)
    return list(records.values())


def test_records(root: pathlib.Path, part: Evaluation, split: str) -> list[dict[str, Any]]:
    """Records of all images of an evaluation split.

    The files assign captions to identities, not to images. If captions and images have the same
    identities in the same order, a caption is stored with the image at its position, else with the
    first image of its identity. Scores depend on identities only.
    """
    records: dict[str, dict[str, Any]] = {}
    first: dict[int, tuple[str, str]] = {}
    for identity, aerial, ground in zip(part.identity, part.aerial, part.ground, strict=True):
        for path, view in ((aerial, "aerial"), (ground, "ground")):
            record = _record(records, root, path, identity, view)
            record["protocols"] = members(BOTH_VIEWS, view) if split == "test" else []
        first.setdefault(identity, (aerial, ground))
    aligned = part.identity == part.caption_identity
    for row, (identity, caption) in enumerate(
        zip(part.caption_identity, part.captions, strict=True)
    ):
        aerial, ground = (part.aerial[row], part.ground[row]) if aligned else first[identity]
        _add_caption(records[aerial], caption, ground)
    return list(records.values())


def _record(
    records: dict[str, dict[str, Any]], root: pathlib.Path, path: str, identity: int, view: str
) -> dict[str, Any]:
    new = {
        "image": root / path,
        "image_id": path,
        "identity": identity,
        "camera": 0 if view == "aerial" else 1,
        "platform": view,
        "attributes": (-1,) * len(ATTRIBUTES),
        "captions": [],
        "pair_image_ids": [],
        "caption_source": "generated",
        "protocols": [],
    }
    record = records.setdefault(path, new)
    for key in ("identity", "platform"):
        if record[key] != new[key]:
            raise ValueError(f"tbagpr: {path} has {key} {record[key]!r} and also {new[key]!r}")
    return record


def _add_caption(record: Mapping[str, Any], caption: str, pair: str) -> None:
    record["captions"].append(caption)
    record["pair_image_ids"].append(pair)
