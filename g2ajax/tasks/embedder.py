"""Embedding a dataset's test images (and sentences) with a model, and scoring its protocols."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float

from g2ajax.data.captioned import tokens
from g2ajax.data.crop_source import CropSplit, Dataset
from g2ajax.data.pipeline import eval_batches, local_rows, sharded_batches
from g2ajax.data.sharding import batch_sharding, replicated
from g2ajax.evaluation.crops import Ranker, crop_rankers, protocol_rows, score_rankers
from g2ajax.evaluation.embedded import EMBEDDED
from g2ajax.evaluation.rankings import ANNOTATED, Compared, Side, compare
from g2ajax.evaluation.rankings import described as describe
from g2ajax.evaluation.results import Result
from g2ajax.methods import (
    EmbedsCaptions,
    EmbedsCrops,
    Explains,
    Method,
    PredictsAttributes,
    evaluated,
    require,
)
from g2ajax.retrieval import evaluate_distances
from g2ajax.retrieval.attributes import signed
from g2ajax.tasks import base
from g2ajax.tasks.crop_options import DataOptions

Embed = Callable[[nnx.State, dict[str, jax.Array]], Any]
Features = Mapping[str, Float[np.ndarray, "N D"]]
"""The embeddings of both sides of all protocols, by the keys of `Dataset.sides`."""
INPUTS = ("image", "camera", "platform")
SIDES = ("camera", "platform", "frame_mask")
"""Inputs besides the images; clips alone have a `frame_mask`."""


@dataclasses.dataclass(frozen=True)
class Embedder:
    """The jitted functions of a model, with the dataset and options of their calls.

    Each is `(state, batch) -> ...` and compiled once; None: the method lacks the capability.
    """

    dataset: Dataset | None
    """Dataset whose protocols are scored; None: images without one."""
    options: base.Options
    mesh: Mesh
    embed: Embed
    explain: Embed | None = None
    attribute_logits: Embed | None = None
    embed_text: Embed | None = None
    text_length: int = 0

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols on which a model is scored."""
        names = self.options.evaluate.protocols
        return tuple(names or (row["name"] for row in self.dataset.protocols))

    def on(self, dataset: Dataset | None = None, *, protocols: tuple[str, ...] = ()) -> "Embedder":
        """The same functions on another dataset, or on some of the protocols (by default all)."""
        evaluate = dataclasses.replace(self.options.evaluate, protocols=protocols)
        options = dataclasses.replace(self.options, evaluate=evaluate)
        return dataclasses.replace(self, dataset=dataset or self.dataset, options=options)


def make_embedder(
    model: Method,
    dataset: Dataset | None,
    options: base.Options,
    mesh: Mesh,
    *,
    text_length: int = 0,
) -> Embedder:
    """The functions of `model`. Raises ValueError for a method that embeds no crops."""
    data = f"{dataset.name}, a dataset of crops," if dataset else "embedding crops"
    require(model, EmbedsCrops, data)
    predicts = isinstance(model, PredictsAttributes)
    return Embedder(
        dataset,
        options,
        mesh,
        make_embed(model, mesh, flip=options.evaluate.flip),
        make_embed(model, mesh, "explain") if isinstance(model, Explains) else None,
        make_embed(model, mesh, "attribute_logits") if predicts else None,
        make_embed_text(model, mesh) if isinstance(model, EmbedsCaptions) else None,
        text_length,
    )


def make_embed(model: Method, mesh: Mesh, function: str = "embed", *, flip: bool = False) -> Embed:
    """The jitted `function` of `model` in evaluation mode, `(state, batch) -> [B, D]` (for `embed`).

    `function` is `embed_tracklet` for clips. `flip`: the mean over the images (or clips) and their
    mirrors. Both are normalised once: fast-reid's flip test normalises the batch in place, so its
    mirrors are normalised twice.
    """
    graphdef, _ = evaluated(model)

    def embed(state: nnx.State, batch: dict[str, jax.Array]) -> Any:
        call = nnx.merge(graphdef, state, copy=True).function(function)

        def of(image: jax.Array) -> Any:
            inputs = {name: batch[name] for name in SIDES if name in batch}
            return call(image.astype("float32"), **inputs)

        if not flip:
            return of(batch["image"])
        both = of(batch["image"]), of(batch["image"][..., ::-1, :])
        return jax.tree.map(lambda a, b: (a + b) / 2.0, *both)

    return jax.jit(embed, out_shardings=replicated(mesh))


def make_embed_text(model: Method, mesh: Mesh) -> Embed:
    """The jitted `embed_text` of `model` in evaluation mode, `(state, batch) -> [B, D]`."""
    graphdef, _ = evaluated(model)

    def embed(state: nnx.State, batch: dict[str, jax.Array]) -> jax.Array:
        return nnx.merge(graphdef, state, copy=True).embed_text(batch["caption"])

    return jax.jit(embed, out_shardings=replicated(mesh))


def embed_captions(
    embed: Embed,
    state: nnx.State,
    texts: tuple[str, ...],
    length: int,
    batch_size: int,
    mesh: Mesh,
) -> Float[np.ndarray, "N D"]:
    """The embedding of every caption of at most `length` tokens; equal ones are embedded once."""
    place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    ids = tokens(tuple(place), length)
    table = np.resize(np.arange(len(ids)), (-(-len(ids) // batch_size), batch_size))
    host = ({"caption": ids[rows]} for rows in local_rows(table))
    features = [embed(state, batch) for batch in sharded_batches(host, batch_sharding(mesh))]
    joined = np.concatenate([np.asarray(part) for part in features])
    return joined[[place[text] for text in texts]]


def split_batches(
    split: CropSplit, data: DataOptions, batch_size: int, mesh: Mesh, interpolation: str = ""
) -> Iterator[dict[str, jax.Array]]:
    """The images of a split in order, resized as test images (or by `interpolation`); the last
    batch is padded (`mask` False)."""
    return eval_batches(
        split,
        batch_size=batch_size,
        image_size=data.image_size,
        interpolation=interpolation or data.test_interpolation,
        num_threads=data.num_threads,
        sharding=batch_sharding(mesh),
    )


def embed_split(
    embed: Embed,
    state: nnx.State,
    split: CropSplit,
    data: DataOptions,
    batch_size: int,
    mesh: Mesh,
    interpolation: str = "",
) -> Float[np.ndarray, "N D"]:
    """The embedding of every image of a split, in the order of its rows."""
    batches = split_batches(split, data, batch_size, mesh, interpolation)
    features = [
        embed(state, {k: batch[k] for k in INPUTS})
        for batch in shown(batches, len(split), batch_size, split.name)
    ]
    return np.concatenate([np.asarray(part) for part in features])[: len(split)]


def shown(
    batches: Iterable[dict[str, jax.Array]], images: int, batch_size: int, name: str
) -> Iterator[dict[str, jax.Array]]:
    """The batches; after 3 s a bar on a terminal shows how many images there have been."""
    hidden = not sys.stderr.isatty()
    with tqdm.tqdm(
        total=images, desc=name, unit="image", disable=hidden, delay=3, leave=False
    ) as bar:
        for batch in batches:
            yield batch
            bar.update(min(batch_size, images - bar.n))


def embed_sides(model: Method, embedder: Embedder, rankings: Sequence[str]) -> Features:
    """The embeddings that the rankings of the protocols need: none if all are explained ones.

    Raises ValueError for protocols of sentences from different splits: a run uses one split.
    """
    if not {*rankings} & {*EMBEDDED}:
        return {}
    options, dataset, state = embedder.options, embedder.dataset, nnx.state(model)
    batch = options.evaluate.batch_size
    features: dict[str, np.ndarray] = {}
    of_split: dict[str, str] = {}
    for key, split in (side for name in embedder.protocols for side in dataset.sides(name)):
        if of_split.setdefault(key, split.name) != split.name:
            raise ValueError(
                f"evaluate.protocols ask the splits {of_split[key]!r} and {split.name!r} of "
                f"{dataset.name}; name protocols of one of them"
            )
        if key in features:
            continue
        if key == "text":
            texts = dataset.splits[split.name].captions.text
            length = embedder.text_length
            features[key] = embed_captions(
                embedder.embed_text, state, texts, length, batch, embedder.mesh
            )
        else:
            features[key] = embed_split(
                embedder.embed, state, split, options.data, batch, embedder.mesh
            )
    return features


def rankers(
    model: Method, embedder: Embedder, rankings: Sequence[str], features: Features | None = None
) -> Iterator[Ranker]:
    """Rankers of each protocol by each ranking. Those that need the embeddings alone come first;
    without `features`, those of `embed_sides`, they are computed when the first one is requested.
    """
    evaluate, dataset = embedder.options.evaluate, embedder.dataset
    own = [name for name in rankings if name in EMBEDDED]
    if own:
        yield from crop_rankers(
            features or embed_sides(model, embedder, own),
            dataset,
            protocols=embedder.protocols,
            metric=model.metric,
            feature_name=model.feature_name + " (image + mirror)" * evaluate.flip,
            rankings=own,
            rerank=evaluate.rerank,
            expansion=evaluate.expansion,
        )
    explained = [name for name in rankings if name not in EMBEDDED]
    if not explained:
        return
    for protocol in embedder.protocols:
        compared = compare_protocol(model, embedder, protocol, explained, measure=False)
        for name in explained:
            distances = compared.distances[name]
            rank = functools.partial(evaluate_distances, distances)
            described = {
                "ranking": name,
                "metric": describe(name, evaluate.reweight),
                "feature_name": "after neck",
                "given": "query attributes annotated" if name in ANNOTATED else "",
            }
            yield Ranker(protocol, rank, described, distances.__getitem__)


def score_crops(
    model: Method,
    embedder: Embedder,
    *,
    rankings: Sequence[str],
    features: Features,
    name: str,
    seed: int,
    checkpoint: str,
    step: int,
) -> list[Result]:
    """The results of `model` on the protocols, by each of the rankings."""
    return score_rankers(
        rankers(model, embedder, rankings, features),
        embedder.dataset,
        name=name,
        checkpoint=checkpoint,
        step=step,
        seed=seed,
        bootstrap_samples=embedder.options.evaluate.bootstrap_samples,
    )


def compare_protocol(
    model: Method, embedder: Embedder, protocol: str, rankings: Sequence[str], *, measure: bool
) -> Compared:
    """The explained distances of a protocol's queries to its gallery, and the sums of measures."""
    dataset = embedder.dataset
    query_rows, gallery_rows = protocol_rows(dataset, protocol)
    predicts = "reweighted_exclusive" in rankings
    query = explained_sides(model, embedder, dataset.splits["query"].take(query_rows), predicts)
    sides = [Side(*(None if x is None else x[mask] for x in side)) for side, mask in query]
    whole = Side(
        *(None if parts[0] is None else np.concatenate(parts) for parts in zip(*sides, strict=True))
    )
    gallery = dataset.splits["gallery"].take(gallery_rows)
    blocks = explained_sides(model, embedder, gallery, predicts)
    weight = embedder.options.evaluate.reweight
    return compare(whole, blocks, rankings, weight=weight, measure=measure)


def explained_sides(
    model: Method, embedder: Embedder, split: CropSplit, predicts: bool = False
) -> Iterator[tuple[Side, np.ndarray]]:
    """The explained embeddings of each batch of a split, and its mask (False: padding)."""
    options, state = embedder.options, nnx.state(model)
    sizes = [len(names) for _, names in embedder.dataset.attribute_groups]
    size = options.evaluate.batch_size
    batches = split_batches(split, options.data, size, embedder.mesh)
    for batch in shown(batches, len(split), size, split.name):
        inputs = {k: batch[k] for k in INPUTS}
        explained, prediction = embedder.explain(state, inputs), None
        if predicts:
            logits = embedder.attribute_logits(state, inputs)
            prediction = np.asarray(model.attributes_of(logits))
        yield (
            Side(
                np.asarray(explained.embedding),
                np.asarray(explained.attribute_embedding),
                np.asarray(signed(batch["attributes"], sizes)),
                prediction,
            ),
            np.asarray(batch["mask"]),
        )
