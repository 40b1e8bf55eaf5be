"""A kind of data outside the package, three images of one person a row, and a method that embeds them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax import backbones
from g2ajax.data.pipeline import load, local_rows, sharded_batches
from g2ajax.data.samplers import make_sampler
from g2ajax.data.sharding import batch_sharding, replicated
from g2ajax.evaluation.crops import evaluate_crops
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.methods import DataFacts, EmbedsTracklets, Method, evaluated, require
from g2ajax.tasks import base
from tests.fake_data import make_dataset


@dataclasses.dataclass(frozen=True)
class TripleOptions:
    """The block `triples` of a configuration."""

    batch_size: int = 8
    image_size: tuple[int, int] = (48, 32)


@dataclasses.dataclass(frozen=True)
class Options(base.Options):
    """The blocks of a run on triples."""

    triples: TripleOptions = TripleOptions()


def triples_of(split) -> np.ndarray:
    """Rows of the split, three of one person and camera each; single images are repeated."""
    groups = {}
    for row, key in enumerate(zip(split.identity.tolist(), split.camera.tolist(), strict=True)):
        groups.setdefault(key, []).append(row)
    return np.stack([np.resize(rows, 3) for rows in groups.values()])


class Task(base.Task):
    """Triples of crops, ranked by triples."""

    noun = "triples of crops"
    Options = Options

    def __init__(self, info):
        super().__init__(info)
        whole = make_dataset()
        self.images, self.rows = whole.splits, {n: triples_of(s) for n, s in whole.splits.items()}
        first = {name: split.take(self.rows[name][:, 0]) for name, split in whole.splits.items()}
        self.dataset = dataclasses.replace(whole, splits=first)  # a row of it is a triple

    @property
    def facts(self):
        classes = int(self.dataset.splits["train"].label.max()) + 1
        size, dtype = self.options.triples.image_size, jnp.dtype(self.info.dtype)
        return DataFacts(num_classes=classes, image_size=size, dtype=dtype)

    def use(self, model):
        require(model, EmbedsTracklets, "a dataset of triples")
        graphdef, _ = evaluated(model)

        def embed(state, batch):
            model = nnx.merge(graphdef, state, copy=True)
            return model.embed_tracklet(batch["image"].astype("float32"), batch["frame_mask"])

        self.embed = jax.jit(embed, out_shardings=replicated(self.info.mesh))

    def num_examples(self, phase):
        return len(self.rows["train"])

    def batch_size(self, phase):
        return self.options.triples.batch_size

    def sampler(self, phase):
        train, seed = self.dataset.splits["train"], (self.info.seed, phase.index)
        size = {"identities": self.batch_size(phase), "images": 1}
        return make_sampler("shuffled", train.label, train.camera, seed=seed, **size)

    def batches(self, model, phase, table, start, *, trained, say):
        return self.read("train", table), None

    def read(self, split, table):
        """Batches of triples: `image` [B,3,H,W,3], `frame_mask` [B,3], `label` [B]."""
        size = self.options.triples.image_size

        def host():
            for triples in local_rows(table):
                rows = self.rows[split][triples]
                pixels = [load(self.images[split], row, size, "bicubic") for row in rows.ravel()]
                yield {
                    "image": np.stack(pixels).reshape(*rows.shape, *size, 3),
                    "frame_mask": np.ones(rows.shape, bool),
                    "label": self.dataset.splits[split].label[triples],
                }

        return sharded_batches(host(), batch_sharding(self.info.mesh))

    def prepare(self, phase):
        return lambda key, batch, store: {**batch, "image": batch["image"].astype(jnp.float32)}

    def names(self, rows):
        return [str(name) for name in self.dataset.splits["train"].image_id[rows]]

    def score(self, model, *, checkpoint, step, rankings):
        state, size = nnx.state(model), self.options.evaluate.batch_size
        features = {}
        for name in ("query", "gallery"):
            count = len(self.rows[name])
            table = np.resize(np.arange(count), (-(-count // size), size))
            parts = [np.asarray(self.embed(state, batch)) for batch in self.read(name, table)]
            features[name] = np.concatenate(parts)[:count]
        return evaluate_crops(
            features,
            self.dataset,
            protocols=self.protocols,
            metric=model.metric,
            feature_name=model.feature_name,
            rankings=rankings,
            name=self.info.name,
            seed=self.info.seed,
            checkpoint=checkpoint,
            step=step,
            bootstrap_samples=self.options.evaluate.bootstrap_samples,
        )


def build(config, facts, *, rngs):
    """Builds the method."""
    return Average(facts, rngs=rngs)


class Average(Method, EmbedsTracklets):
    """The mean of a backbone's features over the images of a row, and a classifier."""

    feature_name = "mean of three"

    def __init__(self, facts, *, rngs):
        self.backbone = backbones.build("resnet_tiny", image_size=facts.image_size, rngs=rngs)
        self.classifier = nnx.Linear(self.backbone.feature_dim, facts.num_classes, rngs=rngs)

    def embed_tracklet(self, images, frame_mask, *, camera=None, platform=None):
        """The test feature of triples."""
        flat = images.reshape(-1, *images.shape[2:])
        feature = self.backbone(self.preprocessing(flat)).astype(jnp.float32).mean((1, 2))
        feature = feature.reshape(*images.shape[:2], -1)
        weight = frame_mask[..., None].astype(jnp.float32)
        return (feature * weight).sum(1) / weight.sum(1)

    def loss(self, batch, rngs):
        """The identity loss of a batch."""
        logits = self.classifier(self.embed_tracklet(batch["image"], batch["frame_mask"]))
        identity = cross_entropy(logits, batch["label"])
        return identity, {"identity": identity}
