"""Cost of the explainable stream: a step of phase `explain` beside one of phase `reid`.

    python benchmarks/explained_step.py --model=vit_tiny --size=128x64 --batch=48 --attributes=88

The same network, batch and images; steps of both phases take turns, so that other load on the
machine affects both. Medians. Strong baseline with batch-hard triplet and Adam in either phase,
weights float32, and the compiler's own account of temporary memory. Needs jax, flax, optax, numpy
and g2ajax; no grain, TFDS or ml_collections.
"""

import argparse
import importlib.metadata
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from g2ajax import methods
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import PhaseOptions
from g2ajax.training.state import begin, make_step

CLASSES = 200


def build(backbone: str, size: tuple[int, int], attributes: int, dtype: str) -> nnx.Module:
    pool = "GlobalAvgPool" if backbone.startswith(("vit", "osnet")) else "GeneralizedMeanPoolingP"
    options = {
        "name": "explainable",
        "stream1": {
            "name": "strong_baseline",
            "backbone": {"name": backbone},
            "head": {"pool": pool},
        },
    }
    groups = (("attribute", tuple(map(str, range(attributes)))),)
    rates = (1.0 / attributes,) * attributes
    task = methods.DataFacts(CLASSES, size, 2, groups, rates, dtype=jnp.dtype(dtype))
    return methods.drawn(options, task)


def compiled_step(model: nnx.Module, phase: PhaseOptions, batch: dict) -> tuple:
    optimizer = optax.adam(1e-4)
    mesh = make_mesh(devices=jax.devices()[:1])
    program, leaves = begin(model, phase, optimizer, mesh)
    step = make_step(program, phase, optimizer, lambda key, rows, store: rows, mesh, seed=0)
    return step.lower(leaves, batch, None).compile(), leaves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="vit_tiny")
    parser.add_argument("--size", default="128x64", help="height x width in pixels")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--attributes", type=int, default=88)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("jax", "flax", "optax")]
    print(f"{jax.devices()[0].device_kind}; {', '.join(versions)}", flush=True)
    size = tuple(map(int, arguments.size.split("x")))
    rows = arguments.batch
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(rows // 2), 2).astype(np.int32)
    batch = {
        "image": jnp.asarray(rng.integers(0, 256, (rows, *size, 3)), jnp.float32),
        "label": jnp.asarray(label),
        "camera": jnp.asarray(label % 2),
        "platform": jnp.asarray(label % 2),
        "attributes": jnp.asarray(label[:, None] % arguments.attributes, jnp.int8),
        "index": jnp.arange(rows),
        "mask": jnp.ones(rows, bool),
    }
    phases = {
        "reid": PhaseOptions(loss="reid_loss", trainable=("stream1",)),
        "explain": PhaseOptions(loss="explain_loss", trainable=("stream2", "adh")),
    }
    steps, times = {}, {name: [] for name in phases}
    for name, phase in phases.items():
        model = build(arguments.model, size, arguments.attributes, arguments.dtype)
        steps[name] = compiled_step(model, phase, batch)
    for i in range(arguments.steps + 2):
        for name, (step, leaves) in steps.items():
            start = time.perf_counter()
            leaves, metrics = step(leaves, batch, None)
            jax.block_until_ready((leaves, metrics))
            steps[name] = step, leaves
            if i >= 2:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        temporary = steps[name][0].memory_analysis().temp_size_in_bytes
        print(
            f"{arguments.model} {arguments.size} {arguments.dtype} batch {rows}, phase {name}: "
            f"{1e3 * seconds:.1f} ms, {rows / seconds:.1f} img/s, "
            f"temporary memory {temporary / 1e6:.0f} MB"
        )
    print(f"explain / reid: {medians['explain'] / medians['reid']:.2f}")


if __name__ == "__main__":
    main()
