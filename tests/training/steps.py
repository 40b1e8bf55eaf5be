"""Training steps of `:tiny` configurations as programs of shapes: no data, no parameters."""

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from g2ajax import methods
from g2ajax.data.augment import augment
from g2ajax.data.residency import gather_batch
from g2ajax.data.text import (
    ATTRIBUTE_SENTENCES,
    MaskOptions,
    mask_words,
    sentence_counts,
    sentence_ids,
)
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.training.mesh import batch_sharding, state_sharding
from g2ajax.training.optimizer import build_optimizer
from g2ajax.training.options import PhaseOptions, RunOptions, run_options
from g2ajax.training.state import (
    Program,
    make_step,
    put_batch,
    set_modes,
    trainable_filter,
)

CONFIGS = {
    "strong_baseline": "agreid_bot_vit",
    "transreid": "agreid_transreid",
    "mgn": "agreid_mgn_r50",
    "uav_group": "market1501_uav_group",
    "explainable": "agreid_vit",
    "irra": "tbagpr_irra",
    "aea_firm": "tbagpr_aea_firm",
    "faster_rcnn": "g2aps_faster_rcnn",
    "seqnet": "g2aps_seqnet",
    "coat": "g2aps_coat",
    "head_distillation": "g2aps_seqnet_hkd",
    "head_teacher": "g2aps_seqnet_teacher",
}
"""A configuration of each method."""
GROUPS = tuple(
    (group, tuple(map(str, range(len(classes))))) for group, classes in ATTRIBUTE_SENTENCES.items()
)
CLASSES, CAMERAS, STORED = 12, 4, 64


def load(method: str, dtype: str = "bfloat16") -> RunOptions:
    """The options of a method's `:tiny` configuration, computing in `dtype` as accelerators do."""
    config = importlib.import_module(f"configs.{CONFIGS[method]}").get_config("tiny").to_dict()
    return run_options({**config, "dtype": dtype})


def training_steps(options: RunOptions, mesh: Mesh) -> Iterator[tuple[str, Any, tuple]]:
    """The jitted step of the (last) phase of each loss, and the shapes it is called with."""
    phases = {options.phase[name].loss: name for name in options.phases}
    for name in phases.values():
        phase, model = options.phase[name], abstract_model(options)
        transform = build_optimizer(
            phase.optimizer,
            phase.schedule,
            nnx.state(model, trainable_filter(phase)),
            steps_per_epoch=10,
            epochs=phase.epochs,
        ).transform
        program, leaves = abstract_state(model, phase, transform, mesh)
        step = make_step(program, phase, transform, preparation(options, model, mesh), mesh, 0)
        sampler = phase.sampler or options.sampler
        batch = options.frames.batch_size if options.frames else sampler.batch_size
        rows = -(-batch // mesh.size) * mesh.size
        yield phase.loss, step, (leaves, *batch_of(options, model, mesh, rows))


@functools.cache
def sentences() -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, sentence_ids(Tokenizer()).tolist()))


def abstract_model(options: RunOptions) -> nnx.Module:
    count = sum(len(classes) for _, classes in GROUPS)
    task = methods.Task(
        CLASSES,
        tuple(options.frames.canvases[0]) if options.frames else options.data.image_size,
        CAMERAS,
        attribute_groups=GROUPS,
        attribute_rates=(0.5,) * count,
        sentences=sentences(),
        sentence_counts=sentence_counts(),
        dtype=jnp.dtype(options.dtype),
    )
    return nnx.eval_shape(lambda: methods.build(options.method, task, rngs=nnx.Rngs(params=0)))


def abstract_state(
    model: nnx.Module, phase: PhaseOptions, transform: Any, mesh: Mesh
) -> tuple[Program, list[jax.ShapeDtypeStruct]]:
    """What `training.state.begin` makes, as shapes."""
    set_modes(model, phase)
    graphdef, trainable, frozen, rest = nnx.split(model, trainable_filter(phase), nnx.Param, ...)

    def make(trainable: nnx.State, frozen: nnx.State, rest: nnx.State) -> dict[str, Any]:
        return {
            "trainable": trainable,
            "frozen": frozen,
            "rest": rest,
            "optimizer": transform.init(trainable),
            "ema": trainable if phase.ema else None,
            "step": jnp.zeros((), jnp.int32),
        }

    shapes, treedef = jax.tree.flatten(jax.eval_shape(make, trainable, frozen, rest))
    shardings = [state_sharding(leaf, mesh) for leaf in shapes]
    leaves = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for leaf, sharding in zip(shapes, shardings, strict=True)
    ]
    return Program(graphdef, treedef, shardings), leaves


def batch_of(options: RunOptions, model: nnx.Module, mesh: Mesh, rows: int) -> tuple[dict, Any]:
    """The shapes of a batch and, of crops, of the images that lie on the devices."""

    def shape(dtype: Any, *sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *sizes), dtype, sharding=batch_sharding(mesh))

    batch = {name: shape(np.int32) for name in ("index", "camera", "platform")}
    batch["mask"] = shape(np.bool_)
    if options.frames:
        slots = options.frames.max_boxes
        batch["image"] = shape(np.uint8, *options.frames.canvases[0], 3)
        batch |= {"size": shape(np.int32, 2), "boxes": shape(np.float32, slots, 4)}
        batch |= {"box_mask": shape(np.bool_, slots)}
        batch |= {name: shape(np.int32, slots) for name in ("label", "identity")}
        return batch, None
    batch |= {name: shape(np.int32) for name in ("label", "identity")}
    batch["attributes"] = shape(np.int8, len(GROUPS))
    if getattr(model, "uses_captions", False):
        batch["caption"] = shape(np.int32, options.text.length)
    if getattr(model, "uses_pairs", False):
        batch["paired_index"] = shape(np.int32)
        batch["paired_attributes"] = shape(np.int8, len(GROUPS))
    image = (STORED, *options.data.image_size, 3)
    return batch, jax.ShapeDtypeStruct(image, np.uint8, sharding=batch_sharding(mesh))


def preparation(options: RunOptions, model: nnx.Module, mesh: Mesh) -> Callable[..., dict]:
    """What a run's step does with its batch first."""
    if options.frames:
        return lambda key, batch, store: batch
    network, masking = model.preprocessing, options.text.mask

    def images(key: jax.Array, index: jax.Array, store: jax.Array) -> jax.Array:
        image = put_batch({"image": gather_batch(store, index)}, mesh)["image"]
        return augment(key, image, options.augment, network.mean, network.std, shards=mesh.size)

    def prepare(key: jax.Array, batch: dict[str, jax.Array], store: jax.Array) -> dict:
        made = {"image": images(key, batch["index"], store)}
        if "paired_index" in batch:
            made["paired_image"] = images(key, batch["paired_index"], store)
        if "caption" in batch and masking:
            masked, made["masked_word"] = mask_words(
                key, batch["caption"], MaskOptions(probability=masking)
            )
            made["masked_caption" if options.text.clean_copy else "caption"] = masked
        return {**batch, **made}

    return prepare
