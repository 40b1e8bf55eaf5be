"""Everything a run needs, made and checked before the first step."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from g2ajax import methods
from g2ajax.data.samplers import Sampler, make_sampler
from g2ajax.data.source import Dataset, open_dataset
from g2ajax.interop.load import initialise
from g2ajax.training.inference import Embed, make_embed
from g2ajax.training.mesh import check_batch, make_mesh
from g2ajax.training.options import RunOptions
from g2ajax.training.state import check_paths, check_prefix


@dataclasses.dataclass(frozen=True)
class Setup:
    """The checked ingredients of a run."""

    options: RunOptions
    dataset: Dataset
    mesh: Mesh
    model: nnx.Module
    embed: Embed
    """Jitted once; serves every evaluation of the run."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in as many images as the training split has, rounded down."""
        return max(1, len(self.dataset.splits["train"]) // self.options.sampler.batch_size)

    def phase_steps(self, name: str) -> int:
        """The length of a phase."""
        phase = self.options.phase[name]
        return phase.epochs * (phase.steps_per_epoch or self.steps_per_epoch)

    def sampler(self, phase: int) -> Sampler:
        """The sampler of the phase with this index; each phase has its own stream."""
        sampler = self.options.sampler
        train = self.dataset.splits["train"]
        return make_sampler(
            sampler.name,
            train.label,
            train.camera,
            identities=sampler.identities,
            images=sampler.images,
            seed=(self.options.seed, phase),
            allow_single_image=sampler.allow_single_image,
            identity=train.identity,
        )


def prepare(options: RunOptions, *, trains: bool = True, fresh: bool = True) -> Setup:
    """Opens the data, builds the model, and checks that they fit each other and the devices.

    A model that is not `fresh` will be filled from a checkpoint: the file of `init` is not read.

    Raises ValueError or FileNotFoundError, whose text says what to do, for whatever does not fit.
    """
    mesh = make_mesh(options.mesh.data, options.mesh.fsdp)
    check_batch(options.evaluate.batch_size, mesh, "evaluation batch")
    dataset = open_dataset(
        options.dataset,
        data_dir=options.data.dir or None,
        manual_dir=options.data.manual_dir or None,
    )
    for name in options.evaluate.protocols:
        dataset.protocol(name)
    if trains:
        check_batch(options.sampler.batch_size, mesh)
    model = build_model(options, dataset)
    if options.init.file and fresh:
        report = initialise(model, options.init)
        if jax.process_index() == 0:
            print(report, flush=True)
    embed = make_embed(model, mesh)
    setup = Setup(options, dataset, mesh, model, embed)
    if trains:
        setup.sampler(0)
        check_phases(setup)
    check_cameras(model, dataset)
    return setup


def build_model(options: RunOptions, dataset: Dataset) -> nnx.Module:
    """The run's model with its parameters drawn from the seed."""
    train = dataset.splits["train"]
    task = methods.Task(
        num_classes=int(train.label.max()) + 1,
        image_size=options.data.image_size,
        num_cameras=int(train.camera.max()) + 1,
        attribute_groups=dataset.attribute_groups,
        dtype=jnp.dtype(options.dtype),
    )

    def build() -> nnx.Module:
        return methods.build(options.method, task, rngs=nnx.Rngs(params=options.seed))

    # Under one jit: drawn eagerly, every shape would compile by itself.
    graphdef, _ = nnx.split(nnx.eval_shape(build))
    return nnx.merge(graphdef, jax.jit(lambda: nnx.state(build()))())


def check_phases(setup: Setup) -> None:
    """Raises ValueError where a phase does not fit the model or the batch."""
    options, model = setup.options, setup.model
    for name in options.phases:
        phase = options.phase[name]
        check_paths(model, name, phase)
        for prefix, _ in phase.optimizer.factors:
            check_prefix(model, prefix, f"phase.{name}.optimizer.factors")
        if not hasattr(model, phase.loss):
            raise ValueError(f"phase.{name}.loss: {options.method['name']} has no {phase.loss!r}")
        if phase.accumulate > 1:
            if model.in_batch_terms:
                raise ValueError(
                    f"phase.{name}.accumulate = {phase.accumulate}: the terms "
                    f"{', '.join(model.in_batch_terms)} compare the images of a batch with each "
                    "other, so micro-batches would train another loss; use more devices, a "
                    "smaller batch or the backbone's remat"
                )
            check_batch(options.sampler.batch_size // phase.accumulate, setup.mesh, "micro-batch")


def check_cameras(model: nnx.Module, dataset: Dataset) -> None:
    """Raises ValueError when a model that embeds cameras would meet one it was not trained on."""
    if not model.uses_camera:
        return
    seen = set(dataset.splits["train"].camera.tolist())
    for name in ("query", "gallery"):
        unseen = set(dataset.splits[name].camera.tolist()) - seen
        if unseen:
            raise ValueError(
                f"cameras {sorted(unseen)} of the {name} split are not among the training cameras "
                f"{sorted(seen)}, so their side information embedding is untrained; turn it off "
                "(method.camera_embedding=False)"
            )
