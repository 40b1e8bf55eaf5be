"""Rate of the input pipeline: encoded JPEG crops to batches on the device.

    python benchmarks/input_pipeline.py --workers=0,2 --native=256x128,300x140

Photo-like JPEG images (quality 90) are read from memory, decoded, resized to 256 x 128 where they
have another size, batched by 64 and put on the device.
"""

import argparse
import dataclasses
import io
import time

import jax
import numpy as np
from absl import flags
from PIL import Image

from g2ajax.data.crop_source import CropSplit
from g2ajax.data.pipeline import train_batches
from g2ajax.data.sharding import batch_sharding
from g2ajax.training.mesh import make_mesh


@dataclasses.dataclass(frozen=True)
class Encoded(CropSplit):
    """A split whose files are in memory."""

    files: tuple[bytes, ...] = ()

    def read(self, row: int) -> bytes:
        return self.files[row]


def split(height: int, width: int, count: int = 512) -> Encoded:
    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((width, height)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    zeros = np.zeros(count, np.int64)
    return Encoded(
        name="train",
        folder="",
        position=zeros,
        image_id=np.array([f"{i}.jpg" for i in range(count)]),
        identity=zeros,
        label=zeros.astype(np.int32),
        kind=zeros.astype(np.int8),
        camera=zeros.astype(np.int32),
        platform=zeros.astype(np.int8),
        altitude_level=zeros.astype(np.int8),
        attributes=np.zeros((count, 0), np.int8),
        protocols=np.zeros((count, 0), bool),
        files=tuple(files),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--native", default="256x128,300x140")
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    sharding = batch_sharding(make_mesh(devices=jax.devices()[:1]))
    table = np.random.default_rng(0).integers(0, 512, (arguments.steps, 64)).astype(np.int32)
    for native in arguments.native.split(","):
        data = split(*map(int, native.split("x")))
        for workers in map(int, arguments.workers.split(",")):
            batches = train_batches(
                data,
                table,
                sharding=sharding,
                image_size=(256, 128),
                num_workers=workers,
                num_threads=arguments.threads,
            )
            for _ in range(10):
                next(batches)
            start, count = time.perf_counter(), 0
            for batch in batches:
                count += len(batch["label"])
            seconds = time.perf_counter() - start
            print(f"{native}, {workers} workers: {count / seconds:.0f} img/s", flush=True)


if __name__ == "__main__":
    main()
