"""Speed of CLIP for text retrieval: a training step of IRRA, and embedding images and captions.

    python benchmarks/clip.py --dtypes=bfloat16 --batch=64 --peak=989        # ViT-B/16, 384 x 128
    python benchmarks/clip.py --small                                        # a CPU

Random weights, one device, one batch that lies on it. Training: SDM, identities and masked words,
Adam. FLOPs are those of the program before the compiler optimises it (with --remat: the second
forward pass too); MFU is their share of --peak, the TFLOP/s that the device can do in the dtype.
Medians of calls one by one. Needs jax, flax, optax, numpy and g2ajax; no grain, TFDS or
ml_collections.
"""

import argparse
import importlib.metadata
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from g2ajax import methods
from g2ajax.data.tokenizer import END, START
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import PhaseOptions
from g2ajax.training.state import begin, make_step

CLASSES = 1000
WORDS = 24
"""Words of a caption; the rest of its places is padding."""


def make_batch(rows: int, size: tuple[int, int], length: int) -> dict[str, jax.Array]:
    """Noise and random words, one in seven of them masked; two rows of each person."""
    rng = np.random.default_rng(0)
    caption = np.zeros((rows, length), np.int32)
    words = min(WORDS, length - 2)
    caption[:, : words + 2] = START
    caption[:, 1 : words + 1] = rng.integers(1, START, (rows, words))
    caption[:, words + 1] = END
    masked = np.zeros_like(caption)
    masked[:, 1 : words + 1 : 7] = caption[:, 1 : words + 1 : 7]
    batch = {
        "image": rng.integers(0, 256, (rows, *size, 3), np.uint8),
        "caption": caption,
        "masked_word": masked,
        "label": (np.arange(rows) // 2 % CLASSES).astype(np.int32),
    }
    return jax.device_put(batch, jax.devices()[0])


def measure(name: str, call: Callable, given: tuple, what: str, rows: int, args: Any) -> None:
    """Prints the speed of `call(*given)`, which is jitted. A training step gives its next state."""
    start = time.perf_counter()
    lowered = call.lower(*given)
    flops = lowered.cost_analysis()["flops"]
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - start
    times = []
    for _ in range(args.steps + 2):
        start = time.perf_counter()
        result = jax.block_until_ready(compiled(*given))
        times.append(time.perf_counter() - start)
        if name == "train":  # the step has used up its state
            given = (result[0], *given[1:])
    seconds = statistics.median(times[2:])
    speed = flops / seconds / 1e12
    mfu = f" = {100 * speed / args.peak:.1f}% of {args.peak:g}" if args.peak else ""
    print(
        f"  {name:14} {rows / seconds:9.1f} {what}/s ({1e3 * seconds:.1f} ms), "
        f"{flops / 1e9:.1f} GFLOP, {speed:.3f} TFLOP/s{mfu}; compile {compile_seconds:.0f} s",
        flush=True,
    )


def run(dtype: str, args: argparse.Namespace) -> None:
    options = {
        "name": "irra",
        "backbone": {"name": args.model, "remat": args.remat},
        "losses": tuple(args.losses.split(",")),
    }
    model = methods.drawn(options, methods.DataFacts(CLASSES, args.size, dtype=jnp.dtype(dtype)))
    batch = make_batch(args.batch, args.size, args.length)
    height, width = args.size
    remat = ", remat" if args.remat else ""
    print(f"{args.model} {height}x{width}, {args.length} words, {dtype}, batch {args.batch}{remat}")

    graphdef, state = methods.evaluated(model)

    @jax.jit
    def images(state: Any, image: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state, copy=True).embed(image.astype(jnp.float32))

    @jax.jit
    def captions(state: Any, caption: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state, copy=True).embed_text(caption)

    measure("embed images", images, (state, batch["image"]), "images", args.batch, args)
    measure("embed captions", captions, (state, batch["caption"]), "captions", args.batch, args)

    phase, mesh = PhaseOptions(), make_mesh(devices=jax.devices()[:1])
    optimizer = optax.adam(1e-5, eps=1e-3)
    program, leaves = begin(model, phase, optimizer, mesh)

    def prepare(key: jax.Array, rows: dict, store: None) -> dict:
        return {**rows, "image": rows["image"].astype(jnp.float32)}

    step = make_step(program, phase, optimizer, prepare, mesh, seed=0)
    measure("train", step, (leaves, batch, None), "pairs", args.batch, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="clip_vit_b16")
    parser.add_argument("--size", default="384x128", help="height x width in pixels")
    parser.add_argument("--length", type=int, default=77, help="places of a caption")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtypes", default="bfloat16")
    parser.add_argument("--losses", default="sdm,mlm,id")
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peak", type=float, default=0.0, help="TFLOP/s of the device; 0: no MFU")
    parser.add_argument("--small", action="store_true", help="clip_mini, 128x64, float32, batch 16")
    args = parser.parse_args()
    if args.small:
        args.model, args.size, args.length = "clip_mini", "128x64", 48
        args.dtypes, args.batch, args.steps = "float32", 16, 5
    args.size = tuple(map(int, args.size.split("x")))
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("jax", "flax", "optax")]
    print(f"{jax.devices()[0].device_kind}; {', '.join(versions)}", flush=True)
    for dtype in args.dtypes.split(","):
        run(dtype, args)


if __name__ == "__main__":
    main()
