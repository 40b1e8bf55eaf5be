"""Images of a built split that cannot be decoded, found before anything is computed on them."""

import concurrent.futures
import pathlib

import numpy as np

from g2ajax.data.column_cache import Columns, columns_of
from g2ajax.data.crop_source import CropSplit
from g2ajax.data.frame_source import FrameSplit
from g2ajax.data.verify import defect

MANY = 2000
"""Images from which on the check is announced."""


def unreadable(split: CropSplit | FrameSplit, *, num_threads: int = 4) -> dict[str, str]:
    """The images of a split that cannot be decoded, with the reason of each.

    All images are decoded once for a built dataset; the result is kept beside its records.
    """

    def scan() -> Columns:
        if len(split) >= MANY:
            print(
                f"checking once that the {len(split):,} images of {split.name} can be read",
                flush=True,
            )
        with concurrent.futures.ThreadPoolExecutor(num_threads) as threads:
            reasons = list(threads.map(lambda row: defect(split.read(row)), range(len(split))))
        bad = [row for row, reason in enumerate(reasons) if reason]
        return {
            "image_id": np.array([str(split.image_id[row]) for row in bad], dtype=np.str_),
            "reason": np.array([reasons[row] for row in bad], dtype=np.str_),
        }

    folder = pathlib.Path(split.folder)
    if not (folder / "dataset_info.json").is_file():  # a split in memory
        columns = scan()
    else:
        # People cut out of frames have names of their own.
        name = f"unreadable-{type(split).__name__.lower()}-{split.name}.npz"
        columns = columns_of(folder, name, scan, {"image_id", "reason"}.issubset)
    return dict(zip(columns["image_id"].tolist(), columns["reason"].tolist(), strict=True))


def describe(dataset: str, split: str, bad: dict[str, str], noun: str = "test images") -> str:
    """A sentence about the unreadable images of a split; `noun`: how it calls them."""
    image, reason = next(iter(bad.items()))
    return f"{dataset} {split}: {len(bad)} {noun} cannot be read, the first: {image} {reason}"


def advice(option: str = "") -> str:
    """The end of a refusal of unreadable images; `option`: the one that leaves them out, if any."""
    text = "fetch them again (`g2ajax verify` lists all)"
    return f"{text}, or leave them out with config.{option}=True" if option else text
