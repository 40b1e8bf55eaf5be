"""The programs of a configuration at true size, without data and without drawing a parameter.

Everything here is shapes: the model comes from `nnx.eval_shape`, its numbers of classes and cameras
from `published`. A run makes the same programs from real arrays (`training.phase`,
`tasks.embedder`).
"""

import ast
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from benchmarks import published
from g2ajax import methods
from g2ajax.data.sharding import batch_sharding, replicated
from g2ajax.data.text import sentence_counts
from g2ajax.evaluation.rankings import Side, make_compare
from g2ajax.methods import DataFacts, EmbedsCaptions, Explains, Method, SearchesPersons
from g2ajax.recipes import files
from g2ajax.retrieval import metrics
from g2ajax.tasks import task_class
from g2ajax.tasks.base import Phase, RunInfo, Task
from g2ajax.tasks.embedder import make_embed, make_embed_text
from g2ajax.training.mesh import state_sharding
from g2ajax.training.optimizer import build_optimizer
from g2ajax.training.options import RunOptions, run_options
from g2ajax.training.state import abstract_state, make_step, trainable_filter

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
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
    """State of a training step: parameters, statistics and optimizer, whole."""
    dealt: bool = True
    """True if the examples are split over the devices; else every device works on all of them."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration with the sizes of its dataset."""

    name: str
    options: RunOptions
    sizes: published.Sizes

    @property
    def blocks(self) -> Any:
        """The task's own blocks."""
        return self.options.task_options

    @property
    def on_frames(self) -> bool:
        return self.options.task == "frames"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one crop, or of the clip of a tracklet."""
        clip = (self.blocks.clip.frames,) if self.options.task == "tracklets" else ()
        return (*clip, *self.blocks.data.image_size, 3)

    @functools.cached_property
    def model(self) -> Method:
        """The method with shapes in the place of arrays."""
        return nnx.eval_shape(
            lambda: methods.build(self.options.method, facts(self), rngs=nnx.Rngs(params=0))
        )

    def task(self, mesh: Mesh, model: Method) -> Task:
        """The task without its dataset, enough to prepare a batch inside a step."""
        options, kind = self.options, task_class(self.options.task)
        task = kind.__new__(kind)  # its __init__ opens the dataset
        method, dtype = options.method["name"], options.dtype
        about = (options.name, options.dataset, method, options.seed, dtype, mesh, self.blocks)
        task.info, task.model = RunInfo(*about, phases=()), model
        return task

    def phase(self, name: str) -> Phase:
        """A phase as its task sees it."""
        place = self.options.phases.index(name)
        return Phase(place, name, self.options.phase[name].task_options)

    def examples(self) -> int:
        """Number of rows that an epoch draws."""
        return self.sizes.captions or self.sizes.images

    def own_batch(self, phase: str) -> int:
        """Examples of a training step in the configuration."""
        if self.on_frames:
            return self.blocks.frames.batch_size
        return (self.phase(phase).options.sampler or self.blocks.sampler).batch_size

    def steps_per_epoch(self, phase: str, batch: int) -> int:
        return self.options.phase[phase].steps_per_epoch or max(1, self.examples() // batch)


def experiment(name: str, changes: Sequence[str] = ()) -> Experiment:
    """The experiment of a configuration file, "agreid_vit", "agreid_vit:tiny" or
    "seqnet:dataset=prw,hkd".

    `changes` are settings such as "method.backbone.remat=True". Raises ValueError for a configuration
    that does not exist, a setting of a block that does not, and a dataset of unknown sizes.
    """
    file, colon, arguments = name.partition(":")
    try:
        config = files.load(f"{CONFIGS / file}.py{colon}{arguments}").to_dict()
    except FileNotFoundError as error:
        raise ValueError(str(error).replace(f"{CONFIGS}/", "")) from None
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


def facts(of: Experiment) -> DataFacts:
    """Facts of the data that decide the model."""
    blocks, sizes = of.blocks, of.sizes
    sentences, counts = (), ()
    if sizes.captions and sizes.attributes == published.TBAGPR_CLASSES:
        counts = sentence_counts()
        # The longest sentence ends at its 14th token; the values of the tokens change no shape.
        ids = np.zeros((sum(map(sum, counts)), 77), int)
        ids[:, 13] = 1
        sentences = tuple(map(tuple, ids.tolist()))
    return DataFacts(
        num_classes=sizes.identities,
        image_size=tuple(blocks.frames.canvases[0] if of.on_frames else blocks.data.image_size),
        num_cameras=sizes.cameras,
        num_platforms=2,
        attribute_groups=tuple(
            (f"group {i}", tuple(map(str, range(n)))) for i, n in enumerate(sizes.attributes)
        ),
        attribute_rates=tuple(1 / n for n in sizes.attributes for _ in range(n)),
        sentences=sentences,
        sentence_counts=counts,
        caption_length=blocks.text.length if of.options.task == "captions" else 0,
        dtype=jnp.dtype(of.options.dtype),
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
    if "evaluate" in steps and not of.on_frames:
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
    prepare = of.task(mesh, model).prepare(of.phase(phase))
    step = make_step(program, block, optimizer, prepare, mesh, options.seed)
    own = of.phase(phase).options
    features = getattr(own, "source", "images") == "features"
    resident = not of.on_frames and not features and of.blocks.data.residency == "device"
    whole = training_batch(of, model, rows, resident or features)
    if features:
        whole["feature"] = ((rows, feature_width(of, model, own.feature)), "float32")
    store = None
    if resident:
        images = -(-of.sizes.images * of.sizes.frames // mesh.size) * mesh.size
        store = _shape((images, *of.blocks.data.image_size, 3), "uint8", batch_sharding(mesh))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    placed = _placed(whole, batch_sharding(mesh))
    return Program(f"train {phase}", step, (leaves, placed, store), rows, size)


def feature_width(of: Experiment, model: Method, function: str) -> int:
    """The width of the features that a phase computes once."""
    graphdef, state = methods.evaluated(model)

    def call(state: nnx.State, image: jax.Array, code: jax.Array) -> jax.Array:
        own = nnx.merge(graphdef, state, copy=True)
        return own.function(function)(image, camera=code, platform=code)

    image = jax.ShapeDtypeStruct((1, *of.blocks.data.image_size, 3), jnp.float32)
    return jax.eval_shape(call, state, image, jax.ShapeDtypeStruct((1,), jnp.int32)).shape[1]


def training_batch(
    of: Experiment, model: Method, rows: int, resident: bool
) -> dict[str, tuple[tuple[int, ...], str]]:
    """(shape, dtype) of each array of a training batch; the names of `data.pipeline`."""
    columns = {name: ((rows,), "int32") for name in ("index", "camera", "platform")}
    columns["mask"] = ((rows,), "bool")
    if of.on_frames:
        canvas, slots = of.blocks.frames.canvases[0], of.blocks.frames.max_boxes
        return {
            **columns,
            "image": ((rows, *canvas, 3), "uint8"),
            "size": ((rows, 2), "int32"),
            "boxes": ((rows, slots, 4), "float32"),
            "box_mask": ((rows, slots), "bool"),
            "label": ((rows, slots), "int32"),
            "identity": ((rows, slots), "int32"),
        }
    image = ((rows, *of.shape), "uint8")
    attributes = ((rows, len(of.sizes.attributes)), "int8")
    columns |= {name: ((rows,), "int32") for name in ("label", "identity")}
    columns["attributes"] = attributes
    if not resident:
        columns["image"] = image
    if of.options.task == "tracklets":
        clip = (rows, of.blocks.clip.frames)
        columns["frame_mask"] = (clip, "bool")
        if resident:
            columns["frame_index"] = (clip, "int32")
    if isinstance(model, EmbedsCaptions):
        columns["caption"] = ((rows, of.blocks.text.length), "int32")
        if model.uses_pairs:
            columns |= {"paired_index": ((rows,), "int32"), "paired_attributes": attributes}
            columns |= {} if resident else {"paired_image": image}
    return columns


def embedding(of: Experiment, mesh: Mesh) -> Iterator[Program]:
    """Programs that run on the test data: `embed` for crops (and `explain`, `embed_text` if the
    method has them), `detect` and `embed_queries` for frames."""
    model = of.model
    # Evaluation batches are global; more devices than images get one each.
    rows = -(-of.blocks.evaluate.batch_size // mesh.size) * mesh.size
    if of.on_frames:
        columns = training_batch(of, model, rows, False)
        batch = {name: columns[name] for name in ("image", "size", "boxes", "box_mask")}
        yield _evaluated(model, mesh, "detect", _jitted(model, mesh, "detect"), batch, rows)
        if isinstance(model, SearchesPersons):
            one = {**batch, "boxes": ((rows, 1, 4), "float32"), "box_mask": ((rows, 1), "bool")}
            call = _jitted(model, mesh, "embed_queries")
            yield _evaluated(model, mesh, "embed queries", call, one, rows)
        return
    batch = {
        "image": ((rows, *of.shape), "uint8"),
        "camera": ((rows,), "int32"),
        "platform": ((rows,), "int32"),
    }
    if of.options.task == "tracklets":
        batch["frame_mask"] = ((rows, of.blocks.clip.frames), "bool")
        call = make_embed(model, mesh, "embed_tracklet")
        yield _evaluated(model, mesh, "embed", call, batch, rows)
        return
    yield _evaluated(model, mesh, "embed", make_embed(model, mesh), batch, rows)
    if isinstance(model, Explains):
        yield _evaluated(model, mesh, "explain", make_embed(model, mesh, "explain"), batch, rows)
    if isinstance(model, EmbedsCaptions):
        text = {"caption": ((rows, of.blocks.text.length), "int32")}
        yield _evaluated(model, mesh, "embed text", make_embed_text(model, mesh), text, rows)


def _jitted(model: Method, mesh: Mesh, function: str) -> Callable:
    """`(state, batch)` of a function of whole frames, in evaluation mode."""
    graphdef, _ = methods.evaluated(model)

    def call(state: nnx.State, batch: dict[str, jax.Array]) -> Any:
        return nnx.merge(graphdef, state, copy=True).function(function)(batch)

    return jax.jit(call, out_shardings=replicated(mesh))


def _evaluated(
    model: Method, mesh: Mesh, name: str, call: Callable, batch: Mapping, rows: int
) -> Program:
    """`call(state, batch)` with the shapes of the model's state and of a batch."""
    _, state = methods.evaluated(model)
    state = jax.tree.map(lambda x: _shape(x.shape, x.dtype, state_sharding(x, mesh)), state)
    return Program(name, call, (state, _placed(batch, batch_sharding(mesh))), rows)


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
    explained = jax.eval_shape(explain.call, *explain.arguments)
    everywhere, batch = replicated(mesh), explain.examples
    rows = min(QUERY_BLOCK, of.sizes.query)

    def side(count: int) -> Side:
        features = (explained.embedding, explained.attribute_embedding)
        whole = [_shape((count, *x.shape[1:]), x.dtype, everywhere) for x in features]
        attributes = explained.attribute_embedding.shape[1]
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
