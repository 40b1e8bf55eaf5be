"""Speed of `model.embed`: images a second from JPEG files and from arrays, against the bare jitted function.

    python benchmarks/embed.py --model=osnet_x0_25_market1501.pt --images=512

Without `--model` the model is an untrained OSNet x0.25. Files are JPEG crops of random sizes around 200 x 80,
in a temporary folder. Medians of the repeats; the first call, which compiles, is left out. `--cold` also starts
a new process and times it from its start to its first embedding.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from flax import nnx
from PIL import Image

import g2ajax
from g2ajax.data.sharding import put_whole
from g2ajax.interop.model_folder import Card
from g2ajax.methods import DataFacts
from g2ajax.models.load import empty
from g2ajax.models.model import Model
from g2ajax.recipes import crops
from g2ajax.training.card import portable
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import run_options

COLD = """\
import time; start = time.perf_counter()
import g2ajax
g2ajax.load({model!r}).embed([{image!r}])
print(time.perf_counter() - start)
"""


def untrained() -> Model:
    """An OSNet x0.25 with zeros for weights: the time does not depend on them."""
    config = crops.bot_osnet("market1501")
    config.method.backbone.name = "osnet_x0_25"
    config.dtype = "float32"
    options = run_options(config.to_dict())
    facts = DataFacts(751, options.task_options.data.image_size)
    method = empty(options.method, facts)
    blocks = portable(options.task_options)
    card = Card("OSNet x0.25", "crops", options.method, facts.as_dict(), blocks, method.metric)
    return Model(method, card, facts, make_mesh())


def write_images(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """JPEG files of smooth noise."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        small = rng.integers(0, 256, (12, 5, 3), np.uint8)
        size = int(rng.integers(60, 100)), int(rng.integers(150, 250))
        paths.append(folder / f"{number:05d}.jpg")
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def seconds(function, repeats: int) -> float:
    """Median time of a call; one more call comes first."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    model = g2ajax.load(options.model) if options.model else untrained()
    count, size = options.images, model.batch_size
    print(f"{model.card.name}, {count} images in batches of {size}")
    ready = np.random.default_rng(1).integers(0, 256, (count, *model.image_size, 3), np.uint8)
    state, blank = nnx.state(model.method), np.zeros(size, np.int32)

    def bare() -> None:
        for start in range(0, count - size + 1, size):
            batch = {"image": ready[start : start + size], "camera": blank, "platform": blank - 1}
            features = model.embedder.embed(state, put_whole(batch, model.mesh))
        features.block_until_ready()

    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(pathlib.Path(folder), count)
        rows = {
            "bare jitted function, arrays": seconds(bare, options.repeats),
            "model.embed, arrays": seconds(lambda: model.embed(ready), options.repeats),
            "model.embed, JPEG files": seconds(lambda: model.embed(paths), options.repeats),
        }
        first = rows["bare jitted function, arrays"] / (count // size * size)
        for name, duration in rows.items():
            print(f"{name:32} {count / duration:9.1f} images/s  {first * count / duration:5.2f}")
        if options.cold and options.model:
            code = COLD.format(model=options.model, image=str(paths[0]))
            for attempt in ("first", "second"):
                done = subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, check=True
                )
                print(
                    f"a new process to its first embedding, {attempt}: {float(done.stdout):.1f} s"
                )


if __name__ == "__main__":
    main()
