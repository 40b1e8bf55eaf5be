"""PRID 2011, several images of each person: two street cameras (Hirzer et al., SCIA 2011)."""

import json
import pathlib

import tensorflow_datasets as tfds

from tfds_builders.base import division_configs
from tfds_builders.halves import HalvesBuilder

SPLITS = "splits_prid2011.json"
CAMERAS = ("prid_2011/multi_shot/cam_a", "prid_2011/multi_shot/cam_b")


class Builder(HalvesBuilder):
    """Reads the sequences and one of the ten divisions of 178 people with sequences long enough."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = division_configs("split", 10)
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
PRID 2011 is given out at https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/PRID11/
(multi-shot version); the divisions into 89 and 89 people, {SPLITS}, are linked from
https://kaiyangzhou.github.io/deep-person-reid/datasets. manual_dir/prid2011 holds
  {CAMERAS[0]}/  {CAMERAS[1]}/  {SPLITS}"""
    FOLDER = "prid2011"
    CAMERAS = CAMERAS
    REQUIRED = (*CAMERAS, SPLITS)
    EXPECTED = {"train": (178, 89), "query": (89, 89), "gallery": (89, 89)}
    COUNT_LEVEL = "warning"

    def _info(self) -> tfds.core.DatasetInfo:
        return self.tracklet_info(
            homepage="https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/PRID11/",
            protocols=self.PROTOCOLS,
        )

    def halves(self, root: pathlib.Path) -> tuple[list[str], list[str]]:
        """The lists `train` and `test` of one of the divisions.

        Raises ValueError for a file of another form.
        """
        number = self.builder_config.number
        try:
            divisions = json.loads((root / SPLITS).read_text())
            division = divisions[number]
            train, test = ([str(name) for name in division[half]] for half in ("train", "test"))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"{self.name}: {SPLITS} has no lists of folders `train` and `test` of split {number} "
                f"({type(error).__name__}: {error})"
            ) from error
        return train, test
