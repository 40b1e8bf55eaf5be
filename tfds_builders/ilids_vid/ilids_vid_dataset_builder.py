"""iLIDS-VID: people in two cameras of an airport (Wang et al., ECCV 2014)."""

import pathlib

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from tfds_builders.base import division_configs
from tfds_builders.halves import HalvesBuilder

SPLITS = "train-test people splits/train_test_splits_ilidsvid.mat"
TABLE = "ls_set"
CAMERAS = ("i-LIDS-VID/sequences/cam1", "i-LIDS-VID/sequences/cam2")


class Builder(HalvesBuilder):
    """Reads the sequences and one of the ten divisions of the authors' table."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = division_configs("split", 10)
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
iLIDS-VID is linked from http://www.eecs.qmul.ac.uk/~xiatian/downloads_qmul_iLIDS-VID_ReID_dataset.html
Unpack iLIDS-VID.tar so that manual_dir/ilids-vid holds
  {CAMERAS[0]}/  {CAMERAS[1]}/
  {SPLITS}"""
    FOLDER = "ilids-vid"
    CAMERAS = CAMERAS
    REQUIRED = (*CAMERAS, SPLITS)
    EXPECTED = {"train": (300, 150), "query": (150, 150), "gallery": (150, 150)}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.tracklet_info(
            homepage="http://www.eecs.qmul.ac.uk/~xiatian/downloads_qmul_iLIDS-VID_ReID_dataset.html",
            protocols=self.PROTOCOLS,
        )

    def halves(self, root: pathlib.Path) -> tuple[list[str], list[str]]:
        """A row of the table orders the people by their place among the sorted folders, from 1; its
        first half is for testing.

        Raises ValueError for a table that does not fit the folders, which a copy of some people
        alone never does.
        """
        content = scipy.io.loadmat(root / SPLITS)
        if TABLE not in content:
            raise ValueError(f"{self.name}: {SPLITS} has no table {TABLE}")
        table = np.asarray(content[TABLE]).astype(np.int64)
        folders = [{path.name for path in self.folders(root, each, "PERSON")} for each in CAMERAS]
        if folders[0] != folders[1]:
            alone = min(folders[0] ^ folders[1])
            raise ValueError(f"{self.name}: {alone} is in the folder of one camera only")
        people, number = sorted(folders[0]), self.builder_config.number
        if number >= len(table) or sorted(table[number]) != [*range(1, len(people) + 1)]:
            shape = " x ".join(map(str, table.shape))
            raise ValueError(
                f"{self.name}: {SPLITS} is a table of {shape}; its row {number + 1} must order the "
                f"{len(people)} people of {CAMERAS[0]}, whose folders it counts from 1"
            )
        order = [people[place - 1] for place in table[number]]
        half = len(order) // 2
        return order[half:], order[:half]
