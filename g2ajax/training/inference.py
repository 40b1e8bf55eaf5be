"""Embedding a dataset's test images with a model, and scoring its protocols."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float

from g2ajax.data.captioned import tokens
from g2ajax.data.pipeline import eval_batches, local_rows, sharded_batches
from g2ajax.data.source import CropSplit
from g2ajax.evaluation.crops import Ranker, crop_rankers, protocol_rows, score_protocol
from g2ajax.evaluation.embedded import EMBEDDED
from g2ajax.evaluation.rankings import ANNOTATED, Compared, Side, compare
from g2ajax.evaluation.rankings import described as describe
from g2ajax.evaluation.results import Result
from g2ajax.methods import evaluated
from g2ajax.retrieval import evaluate_distances
from g2ajax.retrieval.attributes import signed
from g2ajax.training import frames
from g2ajax.training.mesh import batch_sharding, replicated
from g2ajax.training.options import DataOptions

Embed = Callable[[nnx.State, dict[str, jax.Array]], Any]
INPUTS = ("image", "camera", "platform")


def make_embed(
    model: nnx.Module, mesh: Mesh, function: str = "embed", *, flip: bool = False
) -> Embed:
    """The jitted `function` of `model` in evaluation mode, `(state, batch) -> [B, D]` (for `embed`).

    `flip`: the mean of what it says of the images and of their mirrors. Both are normalised once:
    fast-reid's flip test normalises the batch in place, so its mirrors are normalised twice.
    """
    graphdef, _ = evaluated(model)

    def embed(state: nnx.State, batch: dict[str, jax.Array]) -> Any:
        model = nnx.merge(graphdef, state, copy=True)

        def call(image: jax.Array) -> Any:
            inputs = {"camera": batch["camera"], "platform": batch["platform"]}
            return getattr(model, function)(image.astype("float32"), **inputs)

        if not flip:
            return call(batch["image"])
        both = call(batch["image"]), call(batch["image"][:, :, ::-1])
        return jax.tree.map(lambda a, b: (a + b) / 2.0, *both)

    return jax.jit(embed, out_shardings=replicated(mesh))


def make_embed_text(model: nnx.Module, mesh: Mesh) -> Embed:
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
    known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    ids = tokens(tuple(known), length)
    table = np.resize(np.arange(len(ids)), (-(-len(ids) // batch_size), batch_size))
    host = ({"caption": ids[rows]} for rows in local_rows(table))
    features = [embed(state, batch) for batch in sharded_batches(host, batch_sharding(mesh))]
    found = np.concatenate([np.asarray(part) for part in features])
    return found[[known[text] for text in texts]]


def split_batches(
    split: CropSplit, data: DataOptions, batch_size: int, mesh: Mesh
) -> Iterator[dict[str, jax.Array]]:
    """The test images of a split in order; the last batch is padded (`mask` False)."""
    return eval_batches(
        split,
        batch_size=batch_size,
        image_size=data.image_size,
        interpolation=data.test_interpolation,
        num_threads=data.num_threads,
        sharding=batch_sharding(mesh),
    )


def embed_split(
    embed: Embed, state: nnx.State, split: CropSplit, data: DataOptions, batch_size: int, mesh: Mesh
) -> Float[np.ndarray, "N D"]:
    """The embedding of every image of a split, in the order of its rows."""
    features = [
        embed(state, {k: batch[k] for k in INPUTS})
        for batch in split_batches(split, data, batch_size, mesh)
    ]
    return np.concatenate([np.asarray(part) for part in features])[: len(split)]


def rankers(model: nnx.Module, setup: Any, rankings: Sequence[str]) -> Iterator[Ranker]:
    """How to rank each of the run's protocols by each of the rankings. Those that need the embeddings
    alone come first; what they need is computed once, when the first of them is asked for.
    """
    options, dataset = setup.options, setup.dataset
    own = [name for name in rankings if name in EMBEDDED]
    if own:
        features = embed_sides(model, setup)
        yield from crop_rankers(
            features,
            dataset,
            protocols=setup.protocols,
            metric=model.metric,
            feature_name=model.feature_name + " (image + mirror)" * options.evaluate.flip,
            rankings=own,
            rerank=options.evaluate.rerank,
            expansion=options.evaluate.expansion,
        )
    explained = [name for name in rankings if name not in EMBEDDED]
    if explained:
        weight = options.evaluate.reweight
        for protocol in setup.protocols:
            found = compare_protocol(model, setup, protocol, explained, measure=False)
            for name in explained:
                rank = functools.partial(evaluate_distances, found.distances[name])
                described = {
                    "ranking": name,
                    "metric": describe(name, weight),
                    "feature_name": "after neck",
                    "given": "query attributes annotated" if name in ANNOTATED else "",
                }
                yield Ranker(protocol, rank, described)


def embed_sides(model: nnx.Module, setup: Any) -> dict[str, Float[np.ndarray, "N D"]]:
    """The embeddings of all that the run's protocols compare, by the keys of `Dataset.sides`.

    Raises ValueError for protocols of sentences from different splits: one run, one split.
    """
    options, dataset, state = setup.options, setup.dataset, nnx.state(model)
    batch = options.evaluate.batch_size
    found: dict[str, np.ndarray] = {}
    of_split: dict[str, str] = {}
    for key, split in (side for name in setup.protocols for side in dataset.sides(name)):
        if of_split.setdefault(key, split.name) != split.name:
            raise ValueError(
                f"evaluate.protocols ask the splits {of_split[key]!r} and {split.name!r} of "
                f"{dataset.name}; name protocols of one of them"
            )
        if key in found:
            continue
        if key == "text":
            texts = dataset.splits[split.name].captions.text
            found[key] = embed_captions(
                setup.embed_text, state, texts, options.text.length, batch, setup.mesh
            )
        else:
            found[key] = embed_split(setup.embed, state, split, options.data, batch, setup.mesh)
    return found


def score(
    model: nnx.Module,
    setup: Any,
    *,
    checkpoint: str,
    step: int,
    rankings: Sequence[str] = ("reid",),
) -> list[Result]:
    """The results of `model` on the protocols that the run names, by each of the rankings."""
    options = setup.options
    if setup.frames:
        return frames.score(model, setup, checkpoint=checkpoint, step=step, rankings=rankings)
    return [
        score_protocol(
            one.rank,
            setup.dataset,
            one.protocol,
            **one.described,
            name=options.name,
            checkpoint=checkpoint,
            step=step,
            seed=options.seed,
            bootstrap_samples=options.evaluate.bootstrap_samples,
        )
        for one in rankers(model, setup, rankings)
    ]


def compare_protocol(
    model: nnx.Module, setup: Any, protocol: str, rankings: Sequence[str], *, measure: bool
) -> Compared:
    """The explained distances of a protocol's queries to its gallery, and the sums of measures."""
    dataset, options = setup.dataset, setup.options
    query_rows, gallery_rows = protocol_rows(dataset, protocol)
    predicts = "reweighted_exclusive" in rankings
    query = explained_sides(model, setup, dataset.splits["query"].take(query_rows), predicts)
    sides = [Side(*(None if x is None else x[mask] for x in side)) for side, mask in query]
    whole = Side(
        *(None if parts[0] is None else np.concatenate(parts) for parts in zip(*sides, strict=True))
    )
    gallery = explained_sides(model, setup, dataset.splits["gallery"].take(gallery_rows), predicts)
    return compare(whole, gallery, rankings, weight=options.evaluate.reweight, measure=measure)


def explained_sides(
    model: nnx.Module, setup: Any, split: CropSplit, predicts: bool = False
) -> Iterator[tuple[Side, np.ndarray]]:
    """What the model says of each batch of a split, and its mask (False: padding)."""
    options, state = setup.options, nnx.state(model)
    sizes = [len(names) for _, names in setup.dataset.attribute_groups]
    for batch in split_batches(split, options.data, options.evaluate.batch_size, setup.mesh):
        inputs = {k: batch[k] for k in INPUTS}
        found = setup.explain(state, inputs)
        yield (
            Side(
                np.asarray(found.embedding),
                np.asarray(found.attribute_embedding),
                np.asarray(signed(batch["attributes"], sizes)),
                np.asarray(setup.predict(state, inputs)) if predicts else None,
            ),
            np.asarray(batch["mask"]),
        )
