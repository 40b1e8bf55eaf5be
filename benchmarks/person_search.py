"""Speed and memory of person search: training and test steps, and the stages of a step.

    python benchmarks/person_search.py --size=900x1500 --batches=1,5 --dtypes=bfloat16 --remat=off,on
    python benchmarks/person_search.py --size=900x1500 --batches=1,2,3,4,5 --remat=off,on --trace_only
    python benchmarks/person_search.py --backbone=resnet18 --size=240x320 --batches=4 --small

Frames of the given size, already resized, on a canvas of multiples of 32, with eight people each;
random weights, so that every slot of the proposals is used. Training: all losses, SGD with clipping
and the tables of the identities. Memory is the compiler's account: arguments (parameters, optimizer,
batch) and temporary; `--compile_only` reports that alone. A CPU's compiler recomputes nothing for
`remat`, so its account does not show the saving; `--trace_only` measures before any compiler: the
arrays that the forward pass keeps for the backward pass. Stages are compiled and timed one by one,
training stages with their backward pass: they do not add up to a step exactly. `--small` takes the
proposals and regions of the `:skyground` variants. Needs jax, flax, optax, numpy and g2ajax; no
grain, TFDS or ml_collections.
"""

import argparse
import functools
import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from g2ajax import methods
from g2ajax.detection.nms import nms
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import PhaseOptions
from g2ajax.training.state import begin, make_step

CLASSES, PEOPLE, SLOTS = 2078, 8, 16
HEADS = ("box_head", "reid_head", "box_head_1st", "box_head_2nd", "box_head_3rd")
SMALL = {
    "rpn": {
        **{"samples": 128, "train_pre_nms": 1000, "train_post_nms": 200},
        **{"test_pre_nms": 500, "test_post_nms": 50},
    },
    "regions": {"samples": 48, "max_detections": 30},
}


def make_batch(frames: int, size: tuple[int, int]) -> dict[str, jax.Array]:
    """Noise with people at random places, a third of them without identity."""
    rng = np.random.default_rng(0)
    height, width = size
    canvas = [-(-side // 32) * 32 for side in size]
    corner = rng.uniform(0, 0.7, (frames, SLOTS, 2))
    sides = rng.uniform((0.03, 0.1), (0.1, 0.3), (frames, SLOTS, 2))
    boxes = np.concatenate([corner, corner + sides], axis=-1) * [width, height, width, height]
    there = np.broadcast_to(np.arange(SLOTS) < PEOPLE, (frames, SLOTS))
    label = np.where(np.arange(SLOTS) % 3 == 0, -1, rng.integers(0, CLASSES, (frames, SLOTS)))
    return jax.tree.map(
        jnp.asarray,
        {
            "image": rng.integers(0, 256, (frames, *canvas, 3), np.uint8),
            "size": np.full((frames, 2), size, np.int32),
            "boxes": boxes.astype(np.float32),
            "box_mask": there,
            "label": np.where(there, label, -1).astype(np.int32),
        },
    )


def build(arguments: argparse.Namespace, dtype: str, remat: bool) -> nnx.Module:
    options = {
        "name": arguments.method,
        "backbone": {"name": arguments.backbone},
        "remat": remat,
        **(SMALL if arguments.small else {}),
    }
    task = methods.DataFacts(CLASSES, arguments.size, dtype=jnp.dtype(dtype))

    return methods.drawn(options, task)


def compiled(call: Callable, *given: Any) -> tuple[Any, float]:
    """The compiled function, and the seconds of its compilation."""
    start = time.perf_counter()
    program = jax.jit(call).lower(*given).compile()
    return program, time.perf_counter() - start


def seconds(call: Callable, *given: Any, steps: int) -> float:
    """Seconds of the fastest of a few calls: other load only adds time."""
    jax.block_until_ready(call(*given))
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        jax.block_until_ready(call(*given))
        times.append(time.perf_counter() - start)
    return min(times)


def memory(made: Any) -> str:
    analysis = made.memory_analysis()
    return (
        f"memory: arguments {analysis.argument_size_in_bytes / 2**30:.2f} GiB, temporary "
        f"{analysis.temp_size_in_bytes / 2**30:.2f} GiB"
    )


def kept(model: nnx.Module, batch: dict[str, jax.Array]) -> float:
    """GiB that a training step keeps for its backward pass, parameters included."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def backward(params: nnx.State, rest: nnx.State, batch: dict) -> Any:
        def loss(params: nnx.State) -> jax.Array:
            return nnx.merge(graph, params, rest, copy=True).loss(batch, nnx.Rngs(0))[0]

        return jax.vjp(loss, params)[1]

    arrays = jax.tree.leaves(jax.eval_shape(backward, params, rest, batch))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in arrays) / 2**30


def measure(arguments: argparse.Namespace, frames: int, dtype: str, remat: bool) -> None:
    """Prints one line for the training step, one for the test step, then their stages."""
    model, batch = build(arguments, dtype, remat), make_batch(frames, arguments.size)
    height, width = arguments.size
    about = f"{arguments.method} {arguments.backbone} {height}x{width} {dtype} batch {frames}"
    about += ", remat" if remat else ""
    if arguments.trace_only:
        print(f"{about}: {kept(model, batch):.2f} GiB kept for the backward pass", flush=True)
        return
    optimizer = optax.chain(
        optax.clip_by_global_norm(10.0),
        optax.add_decayed_weights(5e-4),
        optax.sgd(1e-3, momentum=0.9),
    )
    mesh = make_mesh(devices=jax.devices()[:1])
    test_graph, state = methods.evaluated(model)

    def detect(state: nnx.State, batch: dict) -> Any:
        return nnx.merge(test_graph, state, copy=True).detect(batch)

    test, spent = compiled(detect, state, batch)
    text = f"compile {spent:.0f} s; {memory(test)}"
    test_time = 0.0
    if not arguments.compile_only:
        test_time = seconds(test, state, batch, steps=arguments.steps)
        text = f"{frames / test_time:.2f} frames/s ({1e3 * test_time:.0f} ms); {text}"
    print(f"{about}: test: {text}", flush=True)

    program, leaves = begin(model, PhaseOptions(), optimizer, mesh)
    step = make_step(
        program, PhaseOptions(), optimizer, lambda key, batch, store: batch, mesh, seed=0
    )
    start = time.perf_counter()
    train = step.lower(leaves, batch, None).compile()
    text = f"compile {time.perf_counter() - start:.0f} s; {memory(train)}"
    train_time = 0.0
    if not arguments.compile_only:
        times = []
        for _ in range(arguments.steps + 1):
            start = time.perf_counter()
            leaves, metrics = train(leaves, batch, None)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - start)
        train_time = min(times[1:])
        text = f"{frames / train_time:.2f} frames/s ({1e3 * train_time:.0f} ms); {text}"
    print(f"{about}: train: {text}", flush=True)
    if not arguments.compile_only:
        for kind, whole in (("test", test_time), ("train", train_time)):
            stage_seconds = stages(model, batch, kind, arguments.steps)
            shares = (
                f"{n} {1e3 * t:.0f} ms ({100 * t / whole:.0f}%)" for n, t in stage_seconds.items()
            )
            print(f"{about}: {kind} stages: {', '.join(shares)}", flush=True)


def stages(
    model: nnx.Module, batch: dict[str, jax.Array], kind: str, steps: int
) -> dict[str, float]:
    """Seconds of each stage; NMS is a part of the proposals, RoIAlign of neither head."""
    training = kind == "train"
    here = model if training else nnx.merge(*methods.evaluated(model))
    graph, params, rest = nnx.split(here, nnx.Param, ...)
    options = model.options

    def timed(function: Callable, x: jax.Array) -> float:
        """Seconds of `function(model, x)`; in training with the gradient of its output's sum."""

        def forward(params: nnx.State, x: jax.Array) -> Any:
            return function(nnx.merge(graph, params, rest, copy=True), x)

        def total(params: nnx.State, x: jax.Array) -> jax.Array:
            leaves = jax.tree.leaves(forward(params, x))
            return sum(leaf.astype(jnp.float32).sum() for leaf in leaves)

        moving = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else 0
        program, _ = compiled(jax.grad(total, moving) if training else forward, params, x)
        return seconds(program, params, x, steps=steps)

    def whole() -> nnx.Module:
        return nnx.merge(graph, params, rest, copy=True)

    maps = jax.jit(lambda batch: whole().maps(batch))(batch)
    rpn, frames = options.rpn, len(batch["image"])
    before, after = (
        (rpn.train_pre_nms, rpn.train_post_nms)
        if training
        else (rpn.test_pre_nms, rpn.test_post_nms)
    )
    regions = options.regions.samples if training else after
    rng = np.random.default_rng(1)
    height, width = (int(side) for side in batch["size"][0])

    def boxes(count: int) -> jax.Array:
        corner = rng.uniform(0, 0.8, (frames, count, 2)) * [width, height]
        sides = rng.uniform(16, 200, (frames, count, 2))
        return jnp.asarray(np.concatenate([corner, corner + sides], -1), jnp.float32)

    region_boxes, mask = boxes(regions), jnp.ones((frames, regions), bool)
    scores = jnp.asarray(rng.random((frames, before)), jnp.float32)
    candidates = jax.jit(jax.vmap(functools.partial(nms, threshold=rpn.nms, max_output=after)))

    def proposals(model: nnx.Module, features: jax.Array) -> Any:
        truth = (model.truth(batch), jax.random.key(0)) if training else ()
        return model.propose(maps._replace(features=features), *truth)

    results = {
        "backbone": timed(
            lambda model, image: model.maps({**batch, "image": image}).features, batch["image"]
        ),
        "proposals": timed(proposals, maps.features),
        "their NMS": seconds(candidates, boxes(before), scores, steps=steps),
        "RoIAlign": timed(
            lambda model, features: model.pool(
                maps._replace(features=features), region_boxes, mask
            ),
            maps.features,
        ),
    }
    pooled = jax.jit(lambda maps: whole().pool(maps, region_boxes, mask))(maps)
    for name in HEADS:
        if hasattr(model.roi_heads, name):

            def head(model: nnx.Module, x: jax.Array, name: str = name) -> Any:
                # SeqNet's heads have batch norms, which take the mask of valid rows.
                counts = (mask.reshape(-1),) if name in HEADS[:2] else ()
                return getattr(model.roi_heads, name)(x, *counts)

            results[name] = timed(head, pooled)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--method", default="seqnet", choices=("seqnet", "coat"))
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", default="900x1500", help="height x width of the resized frames")
    parser.add_argument("--batches", default="1")
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--remat", default="off", help="off, on or both with a comma")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="few proposals and regions")
    parser.add_argument("--compile_only", action="store_true")
    parser.add_argument("--trace_only", action="store_true")
    arguments = parser.parse_args()
    arguments.size = tuple(int(side) for side in arguments.size.split("x"))
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("jax", "flax", "optax")]
    print(f"{jax.devices()[0].device_kind}; {', '.join(versions)}", flush=True)
    for dtype in arguments.dtypes.split(","):
        for remat in arguments.remat.split(","):
            for frames in map(int, arguments.batches.split(",")):
                measure(arguments, frames, dtype, remat == "on")


if __name__ == "__main__":
    main()
