"""The programs of a configuration at true size, without data and without drawing a parameter.

Everything here is shapes: the model is one of `nnx.eval_shape`, its classes and cameras are counted in
`published`. A run makes the same programs from real arrays (`training.phase`, `training.inference`).
"""

import ast
import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from benchmarks import published
from g2ajax import methods
from g2ajax.config import nearest
from g2ajax.data.augment import augment
from g2ajax.evaluation.rankings import Side, make_compare
from g2ajax.retrieval import metrics
from g2ajax.training.mesh import batch_sharding, replicated, state_sharding
from g2ajax.training.optimizer import build_optimizer
from g2ajax.training.options import RunOptions, run_options
from g2ajax.training.state import abstract_state, make_step, put_batch, trainable_filter

STEPS = ("train", "embed", "evaluate")
QUERY_BLOCK = 256
"""Queries that the evaluation ranks at a time (`retrieval.evaluate`)."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A jitted function and the shapes it is called with."""

    name: str
    call: Any
    arguments: tuple
    examples: int
    """Images, frames, captions or queries of a call, over all devices."""
    state_bytes: int = 0
    """Of a training step: parameters, statistics and optimizer, whole."""
    dealt: bool = True
    """Whether the examples are dealt out; else every device works on all of them."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration with the sizes of its dataset."""

    name: str
    options: RunOptions
    sizes: published.Sizes

    @functools.cached_property
    def model(self) -> nnx.Module:
        """The method with shapes in the place of arrays; each program sets the modes it needs."""
        return nnx.eval_shape(
            lambda: methods.build(self.options.method, task(self), rngs=nnx.Rngs(params=0))
        )

    def examples(self) -> int:
        """Rows that an epoch draws."""
        return self.sizes.captions or self.sizes.images

    def own_batch(self, phase: str) -> int:
        """Examples of a training step as the configuration has it."""
        if self.options.frames:
            return self.options.frames.batch_size
        return (self.options.phase[phase].sampler or self.options.sampler).batch_size

    def steps_per_epoch(self, phase: str, batch: int) -> int:
        return self.options.phase[phase].steps_per_epoch or max(1, self.examples() // batch)


def experiment(name: str, changes: Sequence[str] = ()) -> Experiment:
    """The experiment of a configuration, "agreid_vit" or "agreid_vit:tiny".

    `changes` are settings such as "method.backbone.remat=True". Raises ValueError for a configuration
    that does not exist, a setting of a block that does not, and a dataset of unknown sizes.
    """
    file, _, variant = name.partition(":")
    try:
        module = importlib.import_module(f"configs.{file}")
    except ModuleNotFoundError as error:
        if error.name != f"configs.{file}":
            raise
        raise ValueError(f"no configuration {file!r}; {nearest(file, _configurations())}") from None
    config = module.get_config(variant or None).to_dict()
    for change in changes:
        path, _, value = change.partition("=")
        *blocks, field = path.split(".")
        place = config
        for block in blocks:
            if not isinstance(place.get(block), dict):
                raise ValueError(f"--set={change}: {name} has no block {block!r}")
            place = place[block]
        try:
            place[field] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            place[field] = value
    options = run_options(config)
    return Experiment(name, options, published.sizes(options.dataset))


def _configurations() -> list[str]:
    import pkgutil

    import configs

    return [one.name for one in pkgutil.iter_modules(configs.__path__)]


def task(of: Experiment) -> methods.Task:
    """What the data decide about the model."""
    options, sizes = of.options, of.sizes
    size = options.frames.canvases[0] if options.frames else options.data.image_size
    sentences, counts = (), ()
    if sizes.captions and sizes.attributes == published.TBAGPR_CLASSES:
        from g2ajax.data.text import sentence_counts

        counts = sentence_counts()
        # The longest sentence ends at its 14th token; which tokens they are changes no shape.
        ids = np.zeros((sum(map(sum, counts)), 77), int)
        ids[:, 13] = 1
        sentences = tuple(map(tuple, ids.tolist()))
    return methods.Task(
        num_classes=sizes.identities,
        image_size=tuple(size),
        num_cameras=sizes.cameras,
        attribute_groups=tuple(
            (f"group {i}", tuple(map(str, range(n)))) for i, n in enumerate(sizes.attributes)
        ),
        attribute_rates=tuple(1 / n for n in sizes.attributes for _ in range(n)),
        sentences=sentences,
        sentence_counts=counts,
        dtype=jnp.dtype(options.dtype),
    )


def programs(
    of: Experiment, mesh: Mesh, *, steps: Sequence[str] = STEPS, batch: int = 0
) -> Iterator[Program]:
    """The programs of an experiment: a training step a phase, embedding, evaluation.

    `batch`: examples a device of the training steps; 0: the configuration's batch on each device.
    """
    if "train" in steps:
        for phase in of.options.phases:
            yield train_step(of, phase, mesh, batch or of.own_batch(phase))
    embedded = list(embedding(of, mesh))
    if "embed" in steps:
        yield from embedded
    if "evaluate" in steps and not of.options.frames:
        yield evaluation(of, mesh, embedded[0])
        yield from (comparison(of, mesh, one) for one in embedded if one.name == "explain")


def train_step(of: Experiment, phase: str, mesh: Mesh, batch: int) -> Program:
    """The training step of a phase, `batch` examples a device."""
    options, block, model = of.options, of.options.phase[phase], of.model
    rows = batch * mesh.size
    optimizer = build_optimizer(
        block.optimizer,
        block.schedule,
        nnx.state(model, trainable_filter(block)),
        steps_per_epoch=of.steps_per_epoch(phase, rows),
        epochs=block.epochs,
    ).transform
    program, leaves = abstract_state(model, block, optimizer, mesh)
    step = make_step(program, block, optimizer, preparation(of, model, mesh), mesh, options.seed)
    resident = not options.frames and options.data.residency == "device"
    whole = training_batch(of, model, rows, resident)
    store = None
    if resident:
        images = -(-of.sizes.images // mesh.size) * mesh.size
        store = _shape((images, *options.data.image_size, 3), "uint8", batch_sharding(mesh))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    placed = _placed(whole, batch_sharding(mesh))
    return Program(f"train {phase}", step, (leaves, placed, store), rows, size)


def training_batch(
    of: Experiment, model: nnx.Module, rows: int, resident: bool
) -> dict[str, tuple[tuple[int, ...], str]]:
    """(shape, dtype) of each array of a training batch; the names of `data.pipeline`."""
    options = of.options
    columns = {name: ((rows,), "int32") for name in ("index", "camera", "platform")}
    columns["mask"] = ((rows,), "bool")
    if options.frames:
        canvas, slots = options.frames.canvases[0], options.frames.max_boxes
        return {
            **columns,
            "image": ((rows, *canvas, 3), "uint8"),
            "size": ((rows, 2), "int32"),
            "boxes": ((rows, slots, 4), "float32"),
            "box_mask": ((rows, slots), "bool"),
            "label": ((rows, slots), "int32"),
            "identity": ((rows, slots), "int32"),
        }
    size, attributes = options.data.image_size, len(of.sizes.attributes)
    columns |= {name: ((rows,), "int32") for name in ("label", "identity")}
    columns["attributes"] = ((rows, attributes), "int8")
    if not resident:
        columns["image"] = ((rows, *size, 3), "uint8")
    if getattr(model, "uses_captions", False):
        columns["caption"] = ((rows, options.text.length), "int32")
    if getattr(model, "uses_pairs", False):
        columns["paired_index"] = ((rows,), "int32")
        columns["paired_attributes"] = ((rows, attributes), "int8")
        if not resident:
            columns["paired_image"] = ((rows, *size, 3), "uint8")
    return columns


def preparation(of: Experiment, model: nnx.Module, mesh: Mesh) -> Callable:
    """What a step does with its batch first, as `training.phase` has it."""
    options, network = of.options, getattr(model, "preprocessing", None)
    if options.frames:
        return lambda key, batch, store: batch

    def images(key: jax.Array, batch: Mapping[str, jax.Array], store: Any, kind: str) -> jax.Array:
        if store is None:
            image = batch[f"{kind}image"]
        else:
            image = store.at[batch[f"{kind}index"]].get(mode="promise_in_bounds")
        image = put_batch({"image": image}, mesh)["image"]
        return augment(key, image, options.augment, network.mean, network.std, shards=mesh.size)

    def prepare(key: jax.Array, batch: dict[str, jax.Array], store: Any) -> dict[str, jax.Array]:
        made = {"image": images(key, batch, store, "")}
        if "paired_index" in batch:
            made["paired_image"] = images(jax.random.fold_in(key, 1), batch, store, "paired_")
        if "caption" in batch and options.text.mask:
            from g2ajax.data.text import MaskOptions, mask_words

            masked, made["masked_word"] = mask_words(
                jax.random.fold_in(key, 2),
                batch["caption"],
                MaskOptions(probability=options.text.mask),
            )
            made["masked_caption" if options.text.clean_copy else "caption"] = masked
        return {**batch, **made}

    return prepare


def embedding(of: Experiment, mesh: Mesh) -> Iterator[Program]:
    """What is computed of the test data: of crops `embed` (and `explain`, `embed_text` where the
    method has them), of frames `detect` and `embed_queries`."""
    options = of.options
    # Evaluation batches are global; more devices than images get one each.
    rows = -(-options.evaluate.batch_size // mesh.size) * mesh.size
    if options.frames:
        columns = training_batch(of, of.model, rows, False)
        batch = {name: columns[name] for name in ("image", "size", "boxes", "box_mask")}
        model = of.model
        yield _evaluated(of, mesh, "detect", lambda m, b: m.detect(b), batch, rows)
        if hasattr(model, "embed_queries"):
            one = {**batch, "boxes": ((rows, 1, 4), "float32"), "box_mask": ((rows, 1), "bool")}
            yield _evaluated(of, mesh, "embed queries", lambda m, b: m.embed_queries(b), one, rows)
        return
    batch = {
        "image": ((rows, *options.data.image_size, 3), "uint8"),
        "camera": ((rows,), "int32"),
        "platform": ((rows,), "int32"),
    }

    def call(function: str) -> Callable:
        def of_images(model: nnx.Module, batch: Mapping[str, jax.Array]) -> Any:
            rest = {"camera": batch["camera"], "platform": batch["platform"]}
            return getattr(model, function)(batch["image"].astype("float32"), **rest)

        return of_images

    yield _evaluated(of, mesh, "embed", call("embed"), batch, rows)
    if hasattr(of.model, "explain"):
        yield _evaluated(of, mesh, "explain", call("explain"), batch, rows)
    if hasattr(of.model, "embed_text"):
        text = {"caption": ((rows, options.text.length), "int32")}
        yield _evaluated(
            of, mesh, "embed text", lambda m, b: m.embed_text(b["caption"]), text, rows
        )


def _evaluated(
    of: Experiment, mesh: Mesh, name: str, function: Callable, batch: Mapping, rows: int
) -> Program:
    """`function(model, batch)` of the model in evaluation mode."""
    graphdef, state = methods.evaluated(of.model)

    def call(state: nnx.State, batch: dict[str, jax.Array]) -> Any:
        return function(nnx.merge(graphdef, state, copy=True), batch)

    state = jax.tree.map(lambda x: _shape(x.shape, x.dtype, state_sharding(x, mesh)), state)
    jitted = jax.jit(call, out_shardings=replicated(mesh))
    return Program(name, jitted, (state, _placed(batch, batch_sharding(mesh))), rows)


def evaluation(of: Experiment, mesh: Mesh, embed: Program) -> Program:
    """The ranks of a block of queries, as `embed` gives them, in the gallery of all protocols: the
    distances, then the place of each match. Every device does the same."""
    width = jax.eval_shape(embed.call, *embed.arguments).shape[-1]
    sizes = of.sizes
    matches = 1 << (max(sizes.gallery // max(sizes.gallery_identities, 1), 1) - 1).bit_length()
    metric = of.model.metric

    def block(query, gallery, matches, dropped):
        distance = metrics._distances(query, gallery, metric=metric)
        return metrics._ranks_in(distance, matches, dropped)

    rows = min(QUERY_BLOCK, sizes.query)
    shapes = (
        ((rows, width), "float32"),
        ((sizes.gallery, width), "float32"),
        ((rows, matches), "int32"),
        ((rows, matches), "int32"),
    )
    everywhere = replicated(mesh)
    arguments = tuple(_shape(*shape, everywhere) for shape in shapes)
    return Program(
        "evaluate", jax.jit(block, out_shardings=everywhere), arguments, rows, dealt=False
    )


def comparison(of: Experiment, mesh: Mesh, explain: Program) -> Program:
    """The explained distances of a block of queries to a batch of the gallery, as `explain` gives
    both; all devices do the same."""
    found = jax.eval_shape(explain.call, *explain.arguments)
    everywhere, batch = replicated(mesh), explain.examples
    rows = min(QUERY_BLOCK, of.sizes.query)

    def side(count: int) -> Side:
        features = (found.embedding, found.attribute_embedding)
        whole = [_shape((count, *x.shape[1:]), x.dtype, everywhere) for x in features]
        attributes = found.attribute_embedding.shape[1]
        return Side(*whole, _shape((count, attributes), "int8", everywhere))

    compare = make_compare(("distance", "decomposed"), 1.0, measure=False)
    mask = _shape((batch,), "bool", everywhere)
    return Program("compare", compare, (side(rows), side(batch), mask), rows, dealt=False)


def _placed(
    columns: Mapping[str, tuple[tuple[int, ...], str]], sharding: NamedSharding
) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: _shape(*column, sharding) for name, column in columns.items()}


def _shape(shape: tuple, dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
