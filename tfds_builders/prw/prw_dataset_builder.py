"""PRW: person search in the frames of six cameras (Zheng et al., CVPR 2017)."""

import pathlib
import re
from typing import Any

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from tfds_builders.base import count_configs
from tfds_builders.frames import NO_IDENTITY, FrameBuilder, protocol

NAME = re.compile(r"^c(\d)s(\d)_(\d+)\.jpg$")
EXAMPLE = "c1s3_016371.jpg"
KEYS = ("box_new", "anno_file", "anno_previous")
PROTOCOLS = [
    protocol("STD", "any", "any"),
    protocol("CROSS_CAMERA", "any", "any", drop_same_camera=True),
]


class Builder(FrameBuilder):
    """Reads the frames, their annotation files, and the list of queries."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Download PRW (https://github.com/liangzheng06/PRW-baseline) and unpack it, so that
manual_dir/PRW-v16.04.20 holds
  frames/c1s1_000151.jpg ...
  annotations/c1s1_000151.jpg.mat ...
  frame_train.mat  frame_test.mat  query_info.txt"""
    FOLDERS = ("PRW-v16.04.20", "PRW")
    REQUIRED = ("frames", "annotations", "frame_train.mat", "frame_test.mat", "query_info.txt")
    EXPECTED_FRAMES = {
        "train": (5704, 18048, 482),
        "gallery": (6112, 25062, 450),
        "query": (2057, 2057, 450),
    }
    # The paper reports 482 training people, readers of its files 483.
    SURE = frozenset(
        {"train frames", "train boxes", "gallery frames", "gallery boxes", "query frames"}
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.frame_info(
            homepage="https://github.com/liangzheng06/PRW-baseline", protocols=PROTOCOLS
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = {
            "train": self.read_frames(root, "frame_train.mat", "img_index_train"),
            "gallery": self.read_frames(root, "frame_test.mat", "img_index_test"),
        }
        return self.finished_frames({**splits, "query": self.read_queries(root, splits["gallery"])})

    def read_frames(self, root: pathlib.Path, file: str, variable: str) -> list[dict[str, Any]]:
        """Arguments of `frame` for each frame of a list, sorted.

        Raises ValueError for a list of another format.
        """
        content = scipy.io.loadmat(root / file)
        if variable not in content:
            raise ValueError(f"{self.name}: {file} has no variable {variable}")
        names = sorted(f"{np.asarray(cell).ravel()[0]}.jpg" for cell in content[variable].ravel())
        return [self.read_frame(root, name) for name in names]

    def read_frame(self, root: pathlib.Path, name: str) -> dict[str, Any]:
        """Arguments of `frame` for one frame.

        As in all readers of PRW, x and y are clipped at 0 before width and height are added, and
        corners are then truncated to integers. Raises FileNotFoundError for a frame without
        annotations and ValueError for a file without a known variable.
        """
        path = root / "annotations" / f"{name}.mat"
        if not path.is_file():
            raise FileNotFoundError(f"{self.name}: {path} is missing; is the copy complete?")
        content = scipy.io.loadmat(path)
        key = next((key for key in KEYS if key in content), None)
        if key is None:
            raise ValueError(f"{self.name}: {path} has none of {', '.join(KEYS)}")
        rows = np.asarray(content[key], np.float64).reshape(-1, 5)
        corners = np.maximum(rows[:, 1:], 0.0)
        corners[:, 2:] += corners[:, :2]
        identities = [NO_IDENTITY if row == -2 else int(row) for row in rows[:, 0]]
        return self.record(root, name, corners.astype(np.int32), identities)

    def read_queries(
        self, root: pathlib.Path, gallery: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Arguments of `frame` for each query.

        Width and height are added before negative corners become 0, so the box of a query may differ
        from the person's box in the gallery. Raises ValueError, naming the line, for a line of
        another form and for a frame or a person that the gallery lacks.
        """
        people = {record["image_id"]: record["identities"] for record in gallery}
        records = []
        lines = (root / "query_info.txt").read_text(encoding="utf-8-sig").splitlines()
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words:
                continue
            place = f"{self.name}: query_info.txt, line {number}"
            try:
                identity, box = int(words[0]), np.array([float(w) for w in words[1:5]])
                name = f"{words[5].removesuffix('.jpg')}.jpg"
            except (ValueError, IndexError) as error:
                raise ValueError(f"{place}: {line!r} is not `pid x y w h frame`") from error
            if identity not in people.get(f"frames/{name}", ()):
                raise ValueError(f"{place}: person {identity} is not in a test frame {name}")
            box[2:] += box[:2]
            corners = np.maximum(box.astype(np.int32), 0)[None]
            records.append({**self.record(root, name, corners, [identity]), "protocols": [0, 1]})
        return records

    def record(
        self, root: pathlib.Path, name: str, corners: np.ndarray, identities: list[int]
    ) -> dict[str, Any]:
        """Arguments of `frame`. Raises ValueError for a name of another form."""
        match = self.parsed(name, NAME, EXAMPLE)
        return {
            "image": root / "frames" / name,
            "image_id": f"frames/{name}",
            "boxes": corners.astype(np.float32),
            "identities": identities,
            "camera": int(match[1]) - 1,
            "camera_raw": f"c{match[1]}",
            "platform": "ground",
            "sequence": int(match[2]),
            "frame": int(match[3]),
        }
