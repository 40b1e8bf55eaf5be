"""DukeMTMC-reID: a campus seen by eight ground cameras (Zheng et al., 2017). Withdrawn in 2019."""

import dataclasses
import pathlib
import re
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import CountConfig, ManualBuilder, protocol

NAME = re.compile(r"^(\d{4})_c([1-8])_f(\d{7})\.jpg$")
EXAMPLE = "0001_c2_f0046182.jpg"
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


@dataclasses.dataclass
class WithdrawnConfig(CountConfig):
    """A configuration; `acknowledge_withdrawn` confirms that the user knows of the withdrawal."""

    acknowledge_withdrawn: bool = False


class Builder(ManualBuilder):
    """Reads the three folders; refuses unless the withdrawal is acknowledged."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        WithdrawnConfig(name="strict", description="Refuses: the dataset is withdrawn."),
        WithdrawnConfig(
            name="acknowledge_withdrawn",
            description="The complete dataset, which is withdrawn; counts are compared.",
            acknowledge_withdrawn=True,
        ),
        WithdrawnConfig(
            name="acknowledge_withdrawn_partial",
            description="A part of the dataset, which is withdrawn.",
            strict=False,
            acknowledge_withdrawn=True,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
DukeMTMC-reID was withdrawn by Duke University in 2019 and cannot be obtained any more; its use is
contested. Choose another dataset if you can. If you have a copy and the right to use it, build the
configuration dukemtmc/acknowledge_withdrawn: manual_dir/DukeMTMC-reID holds
  bounding_box_train/  query/  bounding_box_test/"""
    FOLDER = "DukeMTMC-reID"
    REQUIRED = tuple(FOLDERS.values())
    # 408 of the gallery's identities have no query.
    EXPECTED = {"train": (16522, 702), "query": (2228, 702), "gallery": (17661, 1110)}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.crop_info(homepage="", protocols=[protocol("STD", "any", "any")])

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        if not self.builder_config.acknowledge_withdrawn:
            raise ValueError(
                f"{self.name}: this dataset was withdrawn by Duke University in 2019 and its use is "
                "contested; if you know this and have the right to use your copy, build "
                f"{self.name}/acknowledge_withdrawn"
            )
        root = self.root(dl_manager)
        return self.finished(
            {split: self.read_folder(root / name, split) for split, name in FOLDERS.items()}
        )

    def read_folder(self, folder: pathlib.Path, split: str) -> list[dict[str, Any]]:
        """Arguments of `crop` for each image of a folder."""
        return [
            {
                "image": path,
                "image_id": image_id,
                "identity": int(match[1]),
                "identity_raw": match[1],
                "camera": int(match[2]) - 1,
                "camera_raw": f"c{match[2]}",
                "platform": "ground",
                "frame": int(match[3]),
                "protocols": [] if split == "train" else [0],
            }
            for path, image_id, match in self.named_images(folder, folder.name, NAME, EXAMPLE)
        ]
