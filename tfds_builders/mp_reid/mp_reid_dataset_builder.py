"""MP-ReID: people seen by ground cameras and a drone, in colour, infrared and thermal (ICCV 2025)."""

import dataclasses
import pathlib
import re
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import CountConfig, ManualBuilder, image_files, protocol

LISTS = ("train", "val", "test")
EXPERIMENT = re.compile(r"exp_([a-z]+)_([a-z]+)_([a-z]+)_([a-z]+)$")


@dataclasses.dataclass(frozen=True)
class Group:
    """Cameras of one platform and modality."""

    cameras: range
    platform: str
    modality: str


GROUPS = {
    "ground_rgb": Group(range(1, 7), "ground", "rgb"),
    "ground_ir": Group(range(7, 13), "ground", "ir"),
    "uav_rgb": Group(range(13, 14), "aerial", "rgb"),
    "uav_thermal": Group(range(14, 15), "aerial", "thermal"),
}
# Words of the experiments' folders; the drone's "ir" is its thermal camera.
PLATFORMS = {"cctv": "ground", "ground": "ground", "uav": "uav", "drone": "uav", "aerial": "uav"}
MODALITIES = {"rgb": "rgb", "visible": "rgb", "ir": "ir", "infrared": "ir", "thermal": "ir"}


@dataclasses.dataclass
class ExperimentConfig(CountConfig):
    """A configuration: the group of the queries and that of the gallery."""

    query: str = ""
    gallery: str = ""


def configs() -> list[ExperimentConfig]:
    """Every two groups in both directions; the first is the default."""
    return [
        ExperimentConfig(
            name=f"{query}_to_{gallery}{suffix}",
            description=f"Queries of {query}, gallery of {gallery}{text}.",
            strict=not suffix,
            query=query,
            gallery=gallery,
        )
        for suffix, text in (("", ""), ("_partial", ", a part of the dataset"))
        for query in GROUPS
        for gallery in GROUPS
        if query != gallery
    ]


class Builder(ManualBuilder):
    """Reads the cameras' folders of an experiment, and the lists of its identities."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
MP-ReID is given to those who sign its agreement (https://github.com/MP-ReID/mp-reid). Unpack it so
that manual_dir/MP-ReID holds
  1/ ... 14/    (or 01/ ... 14/: a folder for each camera, with one for each identity)
  split/        (with a folder exp_<platform>_<modality>_<platform>_<modality> for each experiment)"""
    FOLDER = "MP-ReID"
    REQUIRED = ("split",)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        sides = (GROUPS[name].platform for name in (config.query, config.gallery))
        return self.crop_info(
            homepage="https://github.com/MP-ReID/mp-reid", protocols=[protocol("CROSS", *sides)]
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root, config = self.root(dl_manager), self.builder_config
        folder = self.experiment(root)
        train, val, test = (self.identities(folder / f"{name}_id.txt") for name in LISTS)
        trained = train | val
        if trained & test:
            raise ValueError(
                f"{self.name}: {folder.name} has {len(trained & test)} identities in training and test, "
                f"such as {min(trained & test)}"
            )
        images = {name: self.read_group(root, name) for name in (config.query, config.gallery)}
        both = [record for name in images for record in images[name]]
        splits = {"train": [row for row in both if row["identity"] in trained]}
        for split, name in (("query", config.query), ("gallery", config.gallery)):
            rows = [row for row in images[name] if row["identity"] in test]
            splits[split] = [{**row, "protocols": [0]} for row in rows]
        return self.finished(splits)

    def experiment(self, root: pathlib.Path) -> pathlib.Path:
        """The folder of the configuration's lists. Raises FileNotFoundError, naming those there."""
        wanted = [_words(name) for name in (self.builder_config.query, self.builder_config.gallery)]
        folders = sorted(path for path in (root / "split").iterdir() if path.is_dir())
        for path in folders:
            match = EXPERIMENT.match(path.name)
            if match:
                a, b, c, d = match.groups()
                pairs = [
                    (PLATFORMS.get(a), MODALITIES.get(b)),
                    (PLATFORMS.get(c), MODALITIES.get(d)),
                ]
                if pairs == wanted:
                    return path
        query, gallery = self.builder_config.query, self.builder_config.gallery
        raise FileNotFoundError(
            f"{self.name}: no folder of {root / 'split'} is the experiment of {query} against {gallery} "
            f"(there are {', '.join(path.name for path in folders) or 'none'}); "
            "choose a configuration that is there, or complete the download"
        )

    def identities(self, file: pathlib.Path) -> set[int]:
        """The identities of a list. Raises ValueError for what is no number."""
        if not file.is_file():
            raise FileNotFoundError(f"{self.name}: {file} is missing; is the download complete?")
        words = file.read_text(encoding="utf-8-sig").replace("\n", ",").split(",")
        try:
            return {int(word) for word in words if word.strip()}
        except ValueError:
            bad = next(word for word in words if word.strip() and not word.strip().isdigit())
            raise ValueError(f"{self.name}: {file.name} holds {bad!r}, no identity") from None

    def read_group(self, root: pathlib.Path, name: str) -> list[dict[str, Any]]:
        """Arguments of `crop` for each image of a group's cameras.

        Raises FileNotFoundError for a camera without a folder (in a partial copy only if all are
        missing), and ValueError for a folder that is no identity.
        """
        group, records, missing = GROUPS[name], [], []
        for number in group.cameras:
            places = [root / text for text in (str(number), f"{number:02d}")]
            folder = next((path for path in places if path.is_dir()), None)
            if folder is None:
                missing.append(number)
                continue
            for person in self.folders(root, folder.name, "0001"):
                if not person.name.isdigit():
                    raise ValueError(f"{self.name}: {folder.name}/{person.name} is no identity")
                records += [
                    {
                        "image": path,
                        "image_id": f"{folder.name}/{person.name}/{path.name}",
                        "identity": int(person.name),
                        "identity_raw": person.name,
                        # The whole number: its last digit would make 13 and 14 into 3 and 4.
                        "camera": number - 1,
                        "camera_raw": str(number),
                        "platform": group.platform,
                        "modality": group.modality,
                    }
                    for path in image_files(person)
                ]
        if missing and (self.strict or not records):
            raise FileNotFoundError(
                f"{self.name}: cameras {missing} of {name} have no folder in {root}; a part of the "
                f"dataset builds with the configuration `{self.builder_config.name}_partial`"
            )
        return records


def _words(group: str) -> tuple[str, str]:
    platform, modality = group.split("_")
    return PLATFORMS[platform], MODALITIES[modality]
