"""Everything a run needs, made and checked before the first step."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from g2ajax import methods
from g2ajax.data.captioned import CaptionedImages, captioned_images
from g2ajax.data.frame_source import FrameDataset, FrameSplit, open_frames
from g2ajax.data.frames import frame_sampler
from g2ajax.data.samplers import Sampler, make_sampler
from g2ajax.data.source import KINDS, CropSplit, Dataset, open_dataset
from g2ajax.data.text import ATTRIBUTE_SENTENCES, sentence_counts, sentence_ids
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.evaluation import embedded, rankings
from g2ajax.interop.load import initialise, initialise_teacher
from g2ajax.training import frames as framed
from g2ajax.training.frames import Frames
from g2ajax.training.inference import Embed, make_embed, make_embed_text
from g2ajax.training.mesh import check_batch, make_mesh
from g2ajax.training.options import RunOptions, SamplerOptions
from g2ajax.training.state import check_copies, check_paths, check_prefix


@dataclasses.dataclass(frozen=True)
class Setup:
    """The checked ingredients of a run."""

    options: RunOptions
    dataset: Dataset | FrameDataset
    mesh: Mesh
    model: nnx.Module
    embed: Embed
    """Jitted once, as the two below; serves every evaluation of the run."""
    explain: Embed | None = None
    """Of a method that explains its distances."""
    predict: Embed | None = None
    """Of a method that predicts attributes."""
    embed_text: Embed | None = None
    """Of a method that embeds captions."""
    frames: Frames | None = None
    """Of a run on whole frames."""

    @functools.cached_property
    def examples(self) -> CropSplit | CaptionedImages | FrameSplit:
        """What training draws from: the images of the training split, or its (image, caption)
        pairs."""
        train = self.dataset.splits["train"]
        if not getattr(self.model, "uses_captions", False):
            return train
        paired = getattr(self.model, "uses_pairs", False)
        return captioned_images(train, self.options.text, paired=paired, name=self.dataset.name)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols on which the run is scored."""
        named = self.options.evaluate.protocols
        return tuple(named or (row["name"] for row in self.dataset.protocols))

    def rankings(self, phase: str) -> tuple[str, ...]:
        """How the gallery is ranked when a run ends, or its checkpoint is scored, in this phase."""
        own = self.options.phase[phase].rankings
        return tuple(dict.fromkeys((*own, *self.options.evaluate.rankings)))

    def sampler_options(self, name: str) -> SamplerOptions:
        """What makes the batches of a phase."""
        return self.options.phase[name].sampler or self.options.sampler

    def batch_size(self, name: str) -> int:
        """Images of a step of a phase."""
        if self.frames:
            return self.options.frames.batch_size
        return self.sampler_options(name).batch_size

    def steps_per_epoch(self, name: str) -> int:
        """Batches of a phase in as many images (or captions) as there are, rounded down."""
        batch = self.batch_size(name)
        given = self.options.phase[name].steps_per_epoch
        return given or max(1, len(self.examples) // batch)

    def phase_steps(self, name: str) -> int:
        """The length of a phase."""
        return self.options.phase[name].epochs * self.steps_per_epoch(name)

    def sampler(self, phase: int) -> Sampler:
        """The sampler of the phase with this index; each phase has its own stream."""
        if self.frames:
            seed = (self.options.seed, phase)
            return frame_sampler(self.frames.train, self.options.frames.batch_size, seed)
        sampler = self.sampler_options(self.options.phases[phase])
        train = self.examples
        return make_sampler(
            sampler.name,
            train.label,
            train.camera,
            identities=sampler.identities,
            images=sampler.images,
            seed=(self.options.seed, phase),
            allow_single_image=sampler.allow_single_image,
            identity=train.identity,
            platform=train.platform,
        )


def prepare(options: RunOptions, *, trains: bool = True, fresh: bool = True) -> Setup:
    """Opens the data, builds the model, and checks that they fit each other and the devices.

    A model that is not `fresh` will be filled from a checkpoint: the file of `init` is not read.

    Raises ValueError or FileNotFoundError, whose text says what to do, for whatever does not fit.
    """
    mesh = make_mesh(options.mesh.data, options.mesh.fsdp)
    check_batch(options.evaluate.batch_size, mesh, "evaluation batch")
    if options.frames:
        return _prepare_frames(options, mesh, trains, fresh)
    dataset = open_dataset(
        options.dataset,
        data_dir=options.data.dir or None,
        manual_dir=options.data.manual_dir or None,
    )
    for name in options.evaluate.protocols:
        dataset.protocol(name)
    check_parameters(options, dataset)
    if dataset.attribute_groups:
        check_codes(dataset)
    model = build_model(options, dataset)
    if getattr(model, "uses_attributes", False):
        check_annotated(dataset)
    check_captions(options, model, dataset)
    if fresh:
        _initialise(options, model)
    setup = Setup(
        options,
        dataset,
        mesh,
        model,
        make_embed(model, mesh, flip=options.evaluate.flip),
        make_embed(model, mesh, "explain") if hasattr(model, "explain") else None,
        make_embed(model, mesh, "predict_attributes") if hasattr(model, "predictor") else None,
        make_embed_text(model, mesh) if hasattr(model, "embed_text") else None,
    )
    if trains:
        check_phases(setup)
    check_rankings(model, "evaluate", options.evaluate.rankings)
    check_cameras(model, dataset, dataset)
    return setup


def _prepare_frames(options: RunOptions, mesh: Mesh, trains: bool, fresh: bool) -> Setup:
    """`prepare` for whole frames."""
    dataset = open_frames(
        options.dataset,
        data_dir=options.data.dir or None,
        manual_dir=options.data.manual_dir or None,
    )
    framed.check(options, dataset)
    model = methods.drawn(options.method, framed.task(options, dataset), seed=options.seed)
    if fresh:
        _initialise(options, model)
    made = framed.make_frames(model, options, dataset, mesh)
    setup = Setup(options, dataset, mesh, model, made.embed, frames=made)
    if trains:
        check_phases(setup)
    return setup


def _initialise(options: RunOptions, model: nnx.Module) -> None:
    """Fills the model from the files of `init`, if there are any."""
    reports = []
    if options.init.file:
        reports.append(initialise(getattr(model, "pretrained", model), options.init))
    if options.init.teacher:
        reports.append(initialise_teacher(model, options.init))
    if jax.process_index() == 0:
        for report in reports:
            print(report, flush=True)


def build_model(options: RunOptions, dataset: Dataset) -> nnx.Module:
    """The run's model with its parameters drawn from the seed."""
    train = dataset.splits["train"]
    sentences, counts = attribute_sentences(dataset)
    task = methods.Task(
        num_classes=int(train.label.max()) + 1,
        image_size=options.data.image_size,
        num_cameras=int(train.camera.max()) + 1,
        attribute_groups=dataset.attribute_groups,
        attribute_rates=attribute_rates(dataset),
        sentences=sentences,
        sentence_counts=counts,
        dtype=jnp.dtype(options.dtype),
    )
    return methods.drawn(options.method, task, seed=options.seed)


def check_phases(setup: Setup) -> None:
    """Raises ValueError where a phase does not fit the model or the batch."""
    options, model = setup.options, setup.model
    for index, name in enumerate(options.phases):
        phase = options.phase[name]
        batch = setup.batch_size(name)
        check_batch(batch, setup.mesh)
        check_triplet(model, name, setup.sampler_options(name))
        setup.sampler(index)
        check_paths(model, name, phase)
        check_copies(model, name, phase)
        if not setup.frames:
            check_rankings(model, f"phase.{name}", phase.rankings)
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
            check_batch(batch // phase.accumulate, setup.mesh, "micro-batch")


def check_triplet(model: nnx.Module, name: str, sampler: SamplerOptions) -> None:
    """Raises ValueError when a triplet loss would find no positive in any batch."""
    drawn = sampler.name != "shuffled"
    if "triplet" in model.in_batch_terms and drawn and sampler.images < 2:
        raise ValueError(
            f"phase.{name}: {sampler.images} image of each identity in a batch, but the triplet loss "
            "compares images of one identity; set sampler.images to 2 or more (4 is usual)"
        )


def check_rankings(model: nnx.Module, where: str, names: Sequence[str]) -> None:
    """Raises ValueError for an unknown ranking, or one the method cannot give."""
    for ranking in names:
        needed = rankings.requirement(ranking)
        offered = hasattr(model, "predictor" if needed == "predict_attributes" else needed or "")
        if needed and not offered:
            raise ValueError(
                f"{where}.rankings names {ranking!r}, which needs a method with {needed!r} "
                "(`explainable`; for reweighted_exclusive with method.predictor=True)"
            )


def check_parameters(options: RunOptions, dataset: Dataset) -> None:
    """Raises ValueError for parameters of rankings that the protocols' sizes do not allow."""
    own = options.evaluate
    if own.best == "detection AP":
        raise ValueError("evaluate.best = 'detection AP' is of whole frames; expected mAP or rank1")
    names = {*own.rankings, *(name for p in options.phases for name in options.phase[p].rankings)}
    protocols = own.protocols or [row["name"] for row in dataset.protocols]
    embedded.check(dataset, protocols, sorted(names), own.rerank, own.expansion)


def attribute_sentences(
    dataset: Dataset,
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """The ids and numbers of the sentences that say the dataset's attributes; none unless its
    groups and classes are those that have sentences (TBAGPR's)."""
    sizes = {group: len(names) for group, names in dataset.attribute_groups}
    if sizes != {group: len(classes) for group, classes in ATTRIBUTE_SENTENCES.items()}:
        return (), ()
    return tuple(map(tuple, sentence_ids(Tokenizer()).tolist())), sentence_counts()


def check_captions(options: RunOptions, model: nnx.Module, dataset: Dataset) -> None:
    """Raises ValueError where the method and the protocols do not both have sentences, for captions
    longer than the text tower, and where masked words are to be guessed but none is masked."""
    uses = hasattr(model, "embed_text")
    rows = {row["name"]: row for row in dataset.protocols}
    for name in options.evaluate.protocols or rows:
        if ("captions" in rows[name]) != uses:
            ranked, able = ("images by images", "sentences too")
            if not uses:
                ranked, able = ("images by sentences or the reverse", "images alone")
            raise ValueError(
                f"protocol {name} of {dataset.name} ranks {ranked}, but the method "
                f"{options.method['name']} embeds {able}; choose other data or another method"
            )
    if not uses:
        return
    places = model.base_model.variant.context_length
    if options.text.length > places:
        raise ValueError(
            f"text.length = {options.text.length}, but the text tower has {places} places"
        )
    if getattr(model, "guesses_words", False) and not options.text.mask:
        raise ValueError(
            "method.losses names 'mlm', the masked words, but text.mask = 0 masks none; 0.15 is "
            "usual"
        )


def check_codes(dataset: Dataset) -> None:
    """Raises ValueError for attribute codes that are of no class."""
    sizes = np.array([len(names) for _, names in dataset.attribute_groups])
    for name, split in dataset.splits.items():
        people = split.kind == KINDS.index("person")
        codes = split.attributes[people]
        if codes.shape[1] != len(sizes):
            raise ValueError(
                f"{dataset.name} {name}: {codes.shape[1]} attributes an image, but "
                f"{len(sizes)} groups are named; build the dataset again"
            )
        wrong = (codes < -1) | (codes >= sizes[None])
        if wrong.any():
            row, group = map(int, np.argwhere(wrong)[0])
            raise ValueError(
                f"{dataset.name} {name}: {split.image_id[people][row]} has code {codes[row, group]} "
                f"for {dataset.attribute_groups[group][0]!r}; expected 0 to {sizes[group] - 1}, or "
                "-1 (not annotated)"
            )


def check_annotated(dataset: Dataset) -> None:
    """Raises ValueError for training identities without any attribute."""
    train = dataset.splits["train"]
    people = train.kind == KINDS.index("person")
    bare = (train.attributes[people] == -1).all(axis=1)
    if bare.any():
        identities = np.unique(train.identity[people][bare])
        raise ValueError(
            f"{dataset.name}: {len(identities)} training identities have no attribute annotated "
            f"(the first: {identities[:5].tolist()}); give them attributes or leave them out"
        )


def attribute_rates(dataset: Dataset) -> tuple[float, ...]:
    """For each class of each attribute group, the share of the training identities that have it."""
    if not dataset.attribute_groups:
        return ()
    train = dataset.splits["train"]
    _, first = np.unique(train.identity, return_index=True)
    codes = train.attributes[first]
    return tuple(
        float((codes[:, group] == code).mean())
        for group, (_, names) in enumerate(dataset.attribute_groups)
        for code in range(len(names))
    )


def check_cameras(model: nnx.Module, own: Dataset, dataset: Dataset) -> None:
    """Raises ValueError when a model that embeds cameras would meet one it was not trained on."""
    if not model.uses_camera:
        return
    seen = set(own.splits["train"].camera.tolist())
    for name in ("query", "gallery"):
        unseen = set(dataset.splits[name].camera.tolist()) - seen
        if unseen:
            raise ValueError(
                f"cameras {sorted(unseen)} of the {name} split are not among the training cameras "
                f"{sorted(seen)}, so their side information embedding is untrained; turn it off "
                "(method.camera_embedding=False)"
            )
