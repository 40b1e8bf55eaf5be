"""Tracklets: a row is the images of one person in one camera, of which a clip of T is seen at a time."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from g2ajax.config.ranges import Count
from g2ajax.data.augment import AugmentOptions, augment_clips
from g2ajax.data.clips import (
    ClipOptions,
    clip_batches,
    evaluation_clips,
    mean_of_clips,
    random_clips,
)
from g2ajax.data.crop_source import Dataset
from g2ajax.data.residency import gather_batch, load_resident
from g2ajax.data.samplers import Sampler
from g2ajax.data.sharding import batch_sharding, put_batch
from g2ajax.data.source import open_dataset
from g2ajax.data.tracklet_source import TrackletSplit
from g2ajax.evaluation import embedded
from g2ajax.evaluation.crops import Ranker, crop_rankers, score_rankers, scoring_fault
from g2ajax.evaluation.explanation import Measure
from g2ajax.evaluation.results import Result
from g2ajax.methods import DataFacts, EmbedsTracklets, Method, require
from g2ajax.report.album import Album
from g2ajax.report.records import Report
from g2ajax.tasks import base, crop_checks, crop_options, tracklet_checks
from g2ajax.tasks.base import Batch, Phase, RunInfo, Say
from g2ajax.tasks.crop_report import crop_report
from g2ajax.tasks.crops import crop_facts, identity_sampler
from g2ajax.tasks.embedder import Features, make_embed
from g2ajax.tasks.scores import summary_of


@dataclasses.dataclass(frozen=True)
class SamplerOptions(crop_options.SamplerOptions):
    """Options of batch sampling, as for crops; a row is a tracklet, of which each draw takes other
    frames. Identities with fewer than K tracklets repeat them."""

    identities: Count = 8
    """Identities in a batch, P."""
    images: Count = 4
    """Tracklets of each identity, K."""
    allow_single_image: bool = True
    """Let identities with one tracklet take part; it is repeated K times."""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(crop_options.RankingOptions):
    """Options of scoring a run on tracklets."""

    batch_size: Count = 32
    """Clips embedded at a time."""


@dataclasses.dataclass(frozen=True)
class Options(base.Options):
    """Blocks of the configuration of a run on tracklets."""

    data: crop_options.DataOptions = crop_options.DataOptions()
    clip: ClipOptions = ClipOptions()
    sampler: SamplerOptions = SamplerOptions()
    augment: AugmentOptions = AugmentOptions()
    evaluate: EvaluateOptions = EvaluateOptions()


@dataclasses.dataclass(frozen=True)
class PhaseOptions(base.PhaseOptions):
    """Options of a phase on tracklets."""

    sampler: SamplerOptions | None = None
    """Batches of this phase; not set: those of the run."""
    augment: AugmentOptions | None = None
    """Augmentation of this phase; None: the run's."""


class Task(base.Task):
    """Tracklets, ranked by tracklets."""

    noun = "tracklets"
    Options = Options
    PhaseOptions = PhaseOptions
    dataset: Dataset
    model: Method

    def __init__(self, info: RunInfo) -> None:
        super().__init__(info)
        data, evaluate = self.options.data, self.options.evaluate
        self.dataset = open_dataset(
            info.dataset, data_dir=data.dir or None, manual_dir=data.manual_dir or None
        )
        if not all(isinstance(split, TrackletSplit) for split in self.dataset.splits.values()):
            raise ValueError(
                f"{self.dataset.name} is no dataset of tracklets; open it with the task `crops`"
            )
        tested = evaluate.protocols or [row["name"] for row in self.dataset.protocols]
        self.dataset = tracklet_checks.with_readable_frames(self.dataset, tested, data)
        self.info = base.on_protocols(info, self.dataset, scoring_fault)
        names = {*evaluate.rankings, *(r for phase in info.phases for r in phase.options.rankings)}
        check_rankings(names)
        embedded.check(
            self.dataset, self.protocols, sorted(names), evaluate.rerank, evaluate.expansion
        )

    @property
    def train(self) -> TrackletSplit:
        """The rows that training draws from."""
        return self.dataset.splits["train"]

    @property
    def facts(self) -> DataFacts:
        return crop_facts(self.dataset, self.options.data.image_size, self.info.dtype)

    def use(self, model: Method) -> None:
        require(model, EmbedsTracklets, f"{self.dataset.name}, a dataset of tracklets,")
        crop_checks.check_cameras(model, self.dataset, self.dataset)
        self.model = model
        flip = self.options.evaluate.flip
        self._embed = make_embed(model, self.info.mesh, "embed_tracklet", flip=flip)

    def check_phase(self, phase: Phase) -> None:
        crop_checks.check_platforms(self.model, self.dataset)
        crop_checks.check_triplet(self.model, phase.name, self.sampler_options(phase))

    def num_examples(self, phase: Phase) -> int:
        return len(self.train)

    def sampler_options(self, phase: Phase) -> crop_options.SamplerOptions:
        """The options of the batches of a phase."""
        return phase.options.sampler or self.options.sampler

    def batch_size(self, phase: Phase) -> int:
        return self.sampler_options(phase).batch_size

    def sampler(self, phase: Phase) -> Sampler:
        return identity_sampler(self.sampler_options(phase), self.train, self._seed(phase))

    def _seed(self, phase: Phase) -> tuple[int, int]:
        return self.info.seed, phase.index

    def batches(
        self,
        model: Method,
        phase: Phase,
        table: Int[np.ndarray, "S B"],
        start: int,
        *,
        trained: Callable[..., bool],
        say: Say,
    ) -> tuple[Iterator[Batch], Any]:
        data, clip, mesh = self.options.data, self.options.clip, self.info.mesh
        sharding, images = batch_sharding(mesh), {"interpolation": data.interpolation}
        # A stream of its own: the sampler's passes are planned from (seed, phase, pass).
        clips = random_clips(
            self.train.num_frames[table], clip.frames, seed=(*self._seed(phase), 1), start=start
        )
        settings = {"sharding": sharding, "mask_padding": clip.mask_padding}
        if data.residency == "device":
            store = load_resident(
                self.train.frames(),
                sharding=sharding,
                parts=mesh.size,
                image_size=data.image_size,
                num_threads=data.num_threads,
                progress=lambda done, of: say(f"frames on the device: {done} of {of}"),
                **images,
            )
            return clip_batches(self.train, table, clips, image_size=None, **settings), store
        batches = clip_batches(
            self.train,
            table,
            clips,
            image_size=data.image_size,
            num_workers=data.num_workers,
            num_threads=data.num_threads,
            **images,
            **settings,
        )
        return batches, None

    def prepare(self, phase: Phase) -> Callable[[jax.Array, Batch, Any], Batch]:
        """Takes the frames from the device's store or the batch, and augments all of a clip alike."""
        options = phase.options.augment or self.options.augment
        network, mesh = self.model.preprocessing, self.info.mesh

        def prepare(key: jax.Array, batch: Batch, store: Any) -> Batch:
            if store is None:
                clips = batch["image"]
            else:
                place = batch["frame_index"]
                clips = gather_batch(store, place.reshape(-1))
                clips = clips.reshape(*place.shape, *clips.shape[1:])
            clips = put_batch({"image": clips}, mesh)["image"]
            clips = augment_clips(key, clips, options, network.mean, network.std, shards=mesh.size)
            return {**batch, "image": clips}

        return prepare

    def names(self, rows: Int[np.ndarray, " B"]) -> list[str]:
        return [str(name) for name in self.train.image_id[rows]]

    def score(
        self,
        model: Method,
        *,
        checkpoint: str,
        step: int,
        rankings: Sequence[str] = ("reid",),
    ) -> list[Result]:
        check_rankings(rankings)
        features = self.embed_sides(model)
        self.scored = step, features
        return score_rankers(
            self.rankers(model, rankings, features),
            self.dataset,
            name=self.info.name,
            seed=self.info.seed,
            checkpoint=checkpoint,
            step=step,
            bootstrap_samples=self.options.evaluate.bootstrap_samples,
        )

    def rankers(
        self, model: Method, rankings: Sequence[str], features: Features | None = None
    ) -> Iterator[Ranker]:
        """Rankers of each protocol by each ranking; the embeddings are computed once if not given."""
        evaluate = self.options.evaluate
        return crop_rankers(
            features or self.embed_sides(model),
            self.dataset,
            protocols=self.protocols,
            metric=model.metric,
            feature_name=f"{model.feature_name}, {described(self.options.clip)}"
            + " (clip + mirror)" * evaluate.flip,
            rankings=rankings,
            rerank=evaluate.rerank,
            expansion=evaluate.expansion,
        )

    def report(
        self,
        model: Method,
        results: Sequence[Result],
        measured: Sequence[Measure],
        trained_on: str,
    ) -> Report | None:
        """Scores, curves and ranked lists; a tracklet's picture shows some of its frames."""
        features = self.scored_at(results[0].step)
        return crop_report(
            list(self.rankers(model, (results[0].ranking,), features)),
            self.dataset,
            results,
            Album(),
            summary=summary_of(self.dataset, results, self.noun, trained_on),
            limit=self.options.evaluate.reported_queries,
            bootstrap_samples=self.options.evaluate.bootstrap_samples,
        )

    def embed_sides(self, model: Method) -> Features:
        """The embeddings of both sides of all protocols."""
        return {split: self.embed(model, split) for split in ("query", "gallery")}

    def embed(self, model: Method, split: str) -> Float[np.ndarray, "N D"]:
        """The embedding of every tracklet of a split: the mean over its clips, if it has several."""
        data, clip, evaluate = self.options.data, self.options.clip, self.options.evaluate
        source, state = self.dataset.splits[split], nnx.state(model)
        table, clips = evaluation_clips(source, clip, evaluate.batch_size)
        batches = clip_batches(
            source,
            table,
            clips,
            sharding=batch_sharding(self.info.mesh),
            image_size=data.image_size,
            mask_padding=clip.mask_padding,
            interpolation=data.test_interpolation,
            num_threads=data.num_threads,
        )
        parts = [
            np.asarray(self._embed(state, {name: batch[name] for name in INPUTS}))
            for batch in batches
        ]
        real = table.ravel() >= 0
        features, rows = np.concatenate(parts)[real], table.ravel()[real]
        return mean_of_clips(features, rows, len(source))


INPUTS = ("image", "frame_mask", "camera", "platform")


def check_rankings(names: Sequence[str] | set[str]) -> None:
    """Raises ValueError for a ranking that tracklets do not have."""
    for name in sorted(names):
        if name not in embedded.EMBEDDED:
            raise ValueError(
                f"tracklets are not ranked by {name!r}; choose from {', '.join(embedded.EMBEDDED)}"
            )


def described(clip: ClipOptions) -> str:
    """The frames behind an embedding, for the tables."""
    if clip.test == "dense":
        return f"all frames in clips of {clip.frames}"
    return f"{clip.frames} frames" if clip.frames > 1 else "1 frame"
