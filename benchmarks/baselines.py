"""Baselines of a dataset: the same split scored without learning.

    python benchmarks/baselines.py --dataset=skyground/crops_small
    python benchmarks/baselines.py --painted_out --epochs=25

Prints mAP and rank-1 of (a) random features, (b) the laptop recipe's network untrained, (c) a colour
histogram of the crop (RGB, 4 x 4 x 4 bins in three horizontal stripes, Hellinger distance). With
`--painted_out` it trains the laptop recipe on SkyGround's small world with every person painted over in
grey: what is left (place, light, shape of the crop) must not tell people apart.
"""

import argparse
import concurrent.futures
import pathlib
import tempfile

import jax
import numpy as np
from flax import nnx
from PIL import Image

from g2ajax import methods
from g2ajax.data.crop_source import CropSplit, Dataset
from g2ajax.data.images import decode, resize
from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import evaluate_crops
from g2ajax.evaluation.results import Result
from g2ajax.synthetic.skeleton import PART_NAMES
from g2ajax.synthetic.world import SPLITS, World, render

BINS, STRIPES = 4, 3


def images(split: CropSplit, size: tuple[int, int]) -> np.ndarray:
    """Every image of a split at `size`."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return np.stack(
            list(pool.map(lambda i: resize(decode(split.read(i)), size), range(len(split))))
        )


def histogram(image: np.ndarray) -> np.ndarray:
    """The root of the joint RGB histogram of each stripe: Euclidean on it is Hellinger's distance."""
    parts = []
    for stripe in np.array_split(image, STRIPES, axis=0):
        bins = (stripe.reshape(-1, 3).astype(int) * BINS) // 256
        index = (bins[:, 0] * BINS + bins[:, 1]) * BINS + bins[:, 2]
        parts.append(np.bincount(index, minlength=BINS**3) / len(index))
    return np.sqrt(np.concatenate(parts) / STRIPES).astype(np.float32)


def untrained(dataset: Dataset, pictures: dict[str, np.ndarray], seed: int) -> dict:
    """Embeddings of the `:skyground` recipe's network with its first parameters."""
    from g2ajax.recipes.files import load

    config = load("configs/agreid_bot_vit.py:skyground").to_dict()
    size = tuple(config["data"]["image_size"])
    task = methods.DataFacts(int(dataset.splits["train"].label.max()) + 1, size)
    graphdef, state = methods.evaluated(methods.drawn(config["method"], task, seed=seed))
    embed = jax.jit(lambda s, x: nnx.merge(graphdef, s, copy=True).embed(x.astype("float32")))
    return {
        name: np.concatenate([np.asarray(embed(state, part)) for part in np.array_split(x, 16)])
        for name, x in pictures.items()
    }


def paint_out(folder: pathlib.Path) -> None:
    """Writes the small world's crops without their people, and the table of `crops_from_csv`."""
    world = World("small")
    lines = ["path,identity,camera,platform,split"]
    for split in SPLITS:
        for shot in world.shots(split):
            crop = render(world, shot)
            place = crop.parts == PART_NAMES.index("ground")
            name = f"{split}/{shot.image_id.replace('.jpg', '.png')}"
            (folder / split).mkdir(exist_ok=True)
            Image.fromarray(np.where(place[..., None], crop.image, 128).astype(np.uint8)).save(
                folder / name, compress_level=1
            )
            platform = "aerial" if shot.camera == 0 else "ground"
            lines.append(f"{name},{shot.identity},{shot.camera},{platform},{split}")
    (folder / "crops.csv").write_text("\n".join(lines) + "\n")


def train_painted_out(epochs: int, seed: int) -> None:
    """Trains the `:skyground` recipe on the painted crops; prints its results."""
    from g2ajax.recipes.files import load
    from g2ajax.training import loop

    with tempfile.TemporaryDirectory() as folder:
        paint_out(pathlib.Path(folder))
        config = load("configs/agreid_bot_vit.py:skyground")
        config.name = "person painted out"
        config.dataset = "crops_from_csv"
        config.seed = seed
        config.data.dir = config.data.manual_dir = folder
        config.phase.reid.epochs = epochs
        config.evaluate.every_epochs = 0
        loop.run(config.to_dict(), f"{folder}/run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="skyground/crops_small")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--painted_out", action="store_true")
    parser.add_argument("--epochs", type=int, default=25)
    arguments = parser.parse_args()
    if arguments.painted_out:
        train_painted_out(arguments.epochs, arguments.seed)
        return
    dataset = open_dataset(arguments.dataset, data_dir=arguments.data_dir)
    pictures = {name: images(dataset.splits[name], (128, 64)) for name in ("query", "gallery")}
    rng = np.random.default_rng(arguments.seed)
    features = {
        "random features": {n: rng.normal(size=(len(x), 64)) for n, x in pictures.items()},
        "untrained network": untrained(dataset, pictures, arguments.seed),
        "colour histogram": {n: np.stack([histogram(i) for i in x]) for n, x in pictures.items()},
    }
    for name, of_split in features.items():
        metric = "squared_euclidean" if name == "colour histogram" else "cosine"
        results: list[Result] = evaluate_crops(
            of_split, dataset, metric=metric, feature_name=name, name=name, seed=arguments.seed
        )
        for result in results:
            print(f"{name:18}  {result.line()}", flush=True)


if __name__ == "__main__":
    main()
