"""Rate of the input pipeline: encoded JPEG crops, or clips of tracklets, to batches on the device.

    python benchmarks/input_pipeline.py --workers=0,2 --native=256x128,300x140
    python benchmarks/input_pipeline.py --frames=8 --native=256x128,90x40

Photo-like JPEG images (quality 90) are read from memory, decoded, resized to 256 x 128 where they
have another size, batched by 64 and put on the device. With `--frames=T` a batch is 32 clips of T random
frames, from tracklets of 1,000 frames, of which those of the clip alone are decoded.
"""

import argparse
import dataclasses
import io
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import flags
from PIL import Image

from g2ajax.data.clips import clip_batches, random_clips
from g2ajax.data.crop_source import CropSplit
from g2ajax.data.pipeline import train_batches
from g2ajax.data.sharding import batch_sharding
from g2ajax.data.tracklet_source import TrackletSplit
from g2ajax.training.mesh import make_mesh

IMAGES = 512
CLIPS, TRACKLET = 32, 1000
"""Clips in a batch, and frames of a tracklet."""


@dataclasses.dataclass(frozen=True)
class Encoded(CropSplit):
    """A split whose files are in memory."""

    files: tuple[bytes, ...] = ()

    def read(self, row: int) -> bytes:
        return self.files[row]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedTracklets(TrackletSplit):
    """Tracklets whose frames go round the files in memory, each from another one on."""

    files: tuple[bytes, ...]

    def stored(self, row: int) -> tuple[bytes, ...]:
        return tuple(self.files[(row + i) % len(self.files)] for i in range(TRACKLET))


def encoded(height: int, width: int) -> tuple[bytes, ...]:
    """JPEG files of smooth random images."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(IMAGES):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((width, height)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return tuple(files)


def columns() -> dict:
    """The columns of a split of one person."""
    zeros = np.zeros(IMAGES, np.int64)
    return {
        "name": "train",
        "folder": "",
        "position": zeros,
        "image_id": np.array([f"{i}.jpg" for i in range(IMAGES)]),
        "identity": zeros,
        "label": zeros.astype(np.int32),
        "kind": zeros.astype(np.int8),
        "camera": zeros.astype(np.int32),
        "platform": zeros.astype(np.int8),
        "altitude_level": zeros.astype(np.int8),
        "attributes": np.zeros((IMAGES, 0), np.int8),
        "protocols": np.zeros((IMAGES, 0), bool),
    }


def batches_of(files: tuple[bytes, ...], arguments: argparse.Namespace, workers: int) -> Iterator:
    """Batches of crops, or of clips where `--frames` says so."""
    settings = {
        "sharding": batch_sharding(make_mesh(devices=jax.devices()[:1])),
        "image_size": (256, 128),
        "num_workers": workers,
        "num_threads": arguments.threads,
    }
    size = CLIPS if arguments.frames else 64
    rng = np.random.default_rng(0)
    table = rng.integers(0, IMAGES, (arguments.steps, size)).astype(np.int32)
    if not arguments.frames:
        return train_batches(Encoded(files=files, **columns()), table, **settings)
    lengths = np.full(IMAGES, TRACKLET, np.int32)
    split = EncodedTracklets(files=files, num_frames=lengths, **columns())
    clips = random_clips(lengths[table], arguments.frames, seed=(0,))
    return clip_batches(split, table, clips, **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--native", default="256x128,300x140")
    parser.add_argument("--frames", type=int, default=0, help="frames of a clip; 0: crops")
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    unit = "clips/s" if arguments.frames else "img/s"
    for native in arguments.native.split(","):
        files = encoded(*map(int, native.split("x")))
        for workers in map(int, arguments.workers.split(",")):
            batches = batches_of(files, arguments, workers)
            for _ in range(10):
                next(batches)
            start, count = time.perf_counter(), 0
            for batch in batches:
                count += len(batch["label"])
            rate = count / (time.perf_counter() - start)
            frames = f", {rate * arguments.frames:.0f} frames/s" if arguments.frames else ""
            print(f"{native}, {workers} workers: {rate:.0f} {unit}{frames}", flush=True)


if __name__ == "__main__":
    main()
