"""TAG-PEDES: people of five datasets seen from the air and the ground (Zhou et al., AAAI 2026)."""

import re
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import count_configs
from tfds_builders.captions import BOTH_VIEWS, CaptionBuilder, listed_records, members

FILES = {"train": "train_reid.json", "test": "test_reid.json"}
SOURCES = {"market": "ground", "prai": "aerial", "uavhuman": "aerial"}
"""Sources with a single view; AG-ReID.v2 and G2APS have both."""
_MARKS = re.compile(r"""[.!"()*#:;~]""")


def view_of(path: str) -> str | int:
    """Platform of an image, from its source or the camera in AG-ReID.v2's file names.

    The view in G2APS's file names is not documented, so it is unknown (-1).
    """
    source = re.sub(r"[^a-z]", "", path.lower())
    for name, platform in SOURCES.items():
        if name in source:
            return platform
    camera = re.search(r"C([023])F\d+", path.rpartition("/")[2])
    return {"0": "aerial", "2": "wearable", "3": "ground"}[camera[1]] if camera else -1


def cleaned(text: str) -> str:
    """Cleans a caption as the published loader does: lower case, no punctuation, 77 words."""
    return " ".join(_MARKS.sub(" ", text.lower()).split()[:77])


class Builder(CaptionBuilder):
    """Reads the two annotation files, flat or in `anno_dir`; images lie below `images`.

    There is no validation split: the published code validates on the test split.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
TAG-PEDES is linked from https://github.com/Flame-Chasers/TAG-PR; the terms of its five sources
apply. Unpack it so that manual_dir/TAG-PEDES holds
  images/  train_reid.json  test_reid.json"""
    FOLDER = "TAG-PEDES"
    REQUIRED = ("images",)
    PROTOCOLS = BOTH_VIEWS
    EXPECTED = {"train": (19954, 4840), "test": (8252, 2000)}
    CAPTIONS = {"train": 39908, "test": 16504}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.caption_info(homepage="https://github.com/Flame-Chasers/TAG-PR")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = {}
        for split, file in FILES.items():
            files = [n for n in (file, f"anno_dir/{file}") if (root / n).is_file()]
            if not files:
                raise FileNotFoundError(
                    f"{self.name}: {root} lacks {file}\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
                )
            splits[split] = listed_records(
                self, root, files[0], below="images", split=split, platform=view_of
            )[split]
            for record in splits[split]:
                record["captions"] = [cleaned(text) for text in record["captions"]]
                wearable = record["platform"] == "wearable"
                view = "ground" if wearable else record["platform"]
                if split == "test":
                    record["protocols"] = members(BOTH_VIEWS, str(view))
        return self.finished(splits)
