"""Crops: one image of one person a row."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from g2ajax.data.augment import augment
from g2ajax.data.captioned import CaptionedImages
from g2ajax.data.crop_source import CropSplit, Dataset
from g2ajax.data.pipeline import train_batches
from g2ajax.data.residency import gather_batch, load_resident
from g2ajax.data.samplers import Sampler, make_sampler
from g2ajax.data.sharding import batch_sharding, put_batch
from g2ajax.data.source import open_dataset
from g2ajax.evaluation import embedded
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.evaluation.explanation import Measure
from g2ajax.evaluation.results import Result
from g2ajax.methods import DataFacts, Method
from g2ajax.report.records import Report
from g2ajax.tasks import base, crop_checks, crop_options, explanation_measures
from g2ajax.tasks.base import Batch, Phase, RunInfo, Say
from g2ajax.tasks.embedder import Embedder, embed_sides, make_embedder, score_crops
from g2ajax.tasks.explanation_pages import embedder_report
from g2ajax.tasks.features import embed_training_images, feature_batches


class Task(base.Task):
    """Crops of people, ranked by crops."""

    noun = "crops"
    Options = crop_options.Options
    PhaseOptions = crop_options.PhaseOptions
    dataset: Dataset
    model: Method
    embedder: Embedder

    def __init__(self, info: RunInfo) -> None:
        super().__init__(info)
        data = self.options.data
        self.dataset = open_dataset(
            info.dataset, data_dir=data.dir or None, manual_dir=data.manual_dir or None
        )
        tested = info.options.evaluate.protocols or [p["name"] for p in self.dataset.protocols]
        self.dataset = crop_checks.with_readable_tests(self.dataset, tested, data)
        self.info = base.on_protocols(info, self.dataset, scoring_fault)
        evaluate = self.options.evaluate
        names = {*evaluate.rankings, *(r for phase in info.phases for r in phase.options.rankings)}
        embedded.check(
            self.dataset, self.protocols, sorted(names), evaluate.rerank, evaluate.expansion
        )
        crop_checks.check_codes(self.dataset)

    @property
    def examples(self) -> CropSplit | CaptionedImages:
        """The rows that training draws from."""
        return self.dataset.splits["train"]

    @property
    def facts(self) -> DataFacts:
        return crop_facts(self.dataset, self.options.data.image_size, self.info.dtype)

    def use(self, model: Method) -> None:
        if model.learns_from_attributes:
            crop_checks.check_annotated(self.dataset)
        crop_checks.check_sides(model, self.dataset, self.protocols)
        self.model = model
        self.embedder = self._embedder(model)
        crop_checks.check_rankings(model, "evaluate", self.options.evaluate.rankings)
        crop_checks.check_cameras(model, self.dataset, self.dataset)

    def _embedder(self, model: Method) -> Embedder:
        return make_embedder(model, self.dataset, self.options, self.info.mesh)

    def check_phase(self, phase: Phase) -> None:
        crop_checks.check_platforms(self.model, self.dataset)
        crop_checks.check_triplet(self.model, phase.name, self.sampler_options(phase))
        crop_checks.check_rankings(self.model, f"phase.{phase.name}", phase.options.rankings)
        if phase.options.source == "features":
            self.model.function(phase.options.feature)

    def num_examples(self, phase: Phase) -> int:
        return len(self.examples)

    def sampler_options(self, phase: Phase) -> crop_options.SamplerOptions:
        """The options of the batches of a phase."""
        return phase.options.sampler or self.options.sampler

    def batch_size(self, phase: Phase) -> int:
        return self.sampler_options(phase).batch_size

    def sampler(self, phase: Phase) -> Sampler:
        seed = (self.info.seed, phase.index)
        return identity_sampler(self.sampler_options(phase), self.examples, seed)

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
        data, train, mesh = self.options.data, self.examples, self.info.mesh
        sharding = batch_sharding(mesh)
        if phase.options.source == "features":
            features = embed_training_images(
                model, self.embedder, phase.name, phase.options.feature, trained, say
            )
            return feature_batches(train, features, table, sharding=sharding), None
        images = {"image_size": data.image_size, "interpolation": data.interpolation}
        if data.residency == "device":
            resident = load_resident(
                self.dataset.splits["train"],
                sharding=sharding,
                parts=mesh.size,
                num_threads=data.num_threads,
                progress=lambda done, of: say(f"images on the device: {done} of {of}"),
                **images,
            )
            return train_batches(train, table, sharding=sharding, image_size=None), resident
        threads = {"num_workers": data.num_workers, "num_threads": data.num_threads}
        return train_batches(train, table, sharding=sharding, **threads, **images), None

    def prepare(self, phase: Phase) -> Callable[[jax.Array, Batch, Any], Batch]:
        """Takes images from the device's store or the batch and augments them; paired images get
        draws of their own."""
        if phase.options.source == "features":
            return super().prepare(phase)
        options = phase.options.augment or self.options.augment
        network, mesh = self.model.preprocessing, self.info.mesh

        def images(key: jax.Array, batch: Batch, store: Any, kind: str) -> jax.Array:
            if store is None:
                image = batch[f"{kind}image"]
            else:
                image = gather_batch(store, batch[f"{kind}index"])
            image = put_batch({"image": image}, mesh)["image"]
            return augment(key, image, options, network.mean, network.std, shards=mesh.size)

        def prepare(key: jax.Array, batch: Batch, store: Any) -> Batch:
            result = {"image": images(key, batch, store, "")}
            if "paired_index" in batch:
                result["paired_image"] = images(jax.random.fold_in(key, 1), batch, store, "paired_")
            return {**batch, **result}

        return prepare

    def names(self, rows: Int[np.ndarray, " B"]) -> list[str]:
        return [str(name) for name in self.examples.image_id[rows]]

    def score(
        self,
        model: Method,
        *,
        checkpoint: str,
        step: int,
        rankings: Sequence[str] = ("reid",),
    ) -> list[Result]:
        features = embed_sides(model, self.embedder, rankings)
        self.scored = step, features
        return score_crops(
            model,
            self.embedder,
            rankings=rankings,
            features=features,
            name=self.info.name,
            seed=self.info.seed,
            checkpoint=checkpoint,
            step=step,
        )

    def measure(self, model: Method, rankings: Sequence[str], say: Say) -> list[Measure]:
        """The measures of the explanations, if the model was trained to explain."""
        if "decomposed" not in rankings:
            return []
        say("measuring the explanations")
        return explanation_measures.measure(model, self.embedder)

    def report(
        self,
        model: Method,
        results: Sequence[Result],
        measured: Sequence[Measure],
        trained_on: str,
    ) -> Report | None:
        """Scores, curves and ranked lists; explained queries if the model was trained to explain."""
        return embedder_report(
            model,
            self.embedder,
            results,
            measured,
            self.noun,
            trained_on,
            self.scored_at(results[0].step),
        )


def crop_facts(dataset: Dataset, image_size: tuple[int, int], dtype: str) -> DataFacts:
    """The facts of a dataset of crops, or of tracklets, that decide a model."""
    train = dataset.splits["train"]
    return DataFacts(
        num_classes=int(train.label.max()) + 1,
        image_size=image_size,
        num_cameras=int(train.camera.max()) + 1,
        num_platforms=int(train.platform.max()) + 1,
        attribute_groups=dataset.attribute_groups,
        attribute_rates=attribute_rates(dataset),
        dtype=jnp.dtype(dtype),
    )


def identity_sampler(
    options: crop_options.SamplerOptions,
    train: CropSplit | CaptionedImages,
    seed: tuple[int, ...],
) -> Sampler:
    """The sampler of the rows of a training split."""
    return make_sampler(
        options.name,
        train.label,
        train.camera,
        identities=options.identities,
        images=options.images,
        seed=seed,
        allow_single_image=options.allow_single_image,
        identity=train.identity,
        platform=train.platform,
    )


def attribute_rates(dataset: Dataset) -> tuple[float, ...]:
    """The share of the training identities that have each class of each attribute group."""
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
