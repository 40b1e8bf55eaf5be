"""Measures of a run's explanations: its attributes against annotations, its maps against parts."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num
from PIL import Image

from g2ajax.data.crop_source import KINDS, CropSplit, Dataset
from g2ajax.evaluation import explanation as measures
from g2ajax.evaluation.crops import protocol_rows
from g2ajax.evaluation.explanation import Measure, summarise
from g2ajax.evaluation.rankings import between
from g2ajax.evaluation.reasons import (
    Truth,
    group_precision,
    group_shares,
    known_codes,
    standing_out,
    telling,
    truth,
    unusual,
)
from g2ajax.methods import Explains, Method, evaluated
from g2ajax.synthetic import world
from g2ajax.synthetic.skeleton import PART_NAMES
from g2ajax.tasks.embedder import (
    INPUTS,
    Embedder,
    compare_protocol,
    explained_sides,
    split_batches,
)

PARTS: Mapping[str, tuple[str, ...]] = {
    "bag": ("bag",),
    "head": ("head", "hair", "headgear"),
    "feet": ("feet",),
    "upper": ("upper",),
    "lower": ("lower",),
}
"""Attribute group → the drawn parts of the body on which it shows."""
REASONS = "precision of reasons"
"""Name of the measure of how many reasons are true."""
FRACTIONS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Fractions of the pixels, for deletion and insertion curves."""


class Scene(NamedTuple):
    """Test images of people, each with a partner: an image of somebody else from the other side."""

    batch: Mapping[str, np.ndarray]
    partner: Float[np.ndarray, "N D"]
    """The partner's embedding."""
    differs: Bool[np.ndarray, "N G"]
    """The attribute groups in which the two are annotated differently."""
    attention: Float[np.ndarray, "N h w M"]
    gradcam: Float[np.ndarray, "N h w"]
    parts: Int[np.ndarray, "N H W"]
    """The part drawn at each pixel, an index into `PART_NAMES`."""


def knows_parts(dataset: Dataset) -> bool:
    """True if the dataset says which pixels of its images belong to which part."""
    return dataset.name.partition("/")[0] == "skyground"


def measure(model: Method, embedder: Embedder) -> list[Measure]:
    """All that can be measured of the explanations on the run's dataset."""
    results = measure_pairs(model, embedder)
    if embedder.options.evaluate.explained_images:
        results += measure_groups(model, embedder)
    if knows_parts(embedder.dataset) and embedder.options.evaluate.explained_images:
        results += measure_maps(model, embedder)
    return results


def measure_pairs(model: Method, embedder: Embedder) -> list[Measure]:
    """Per protocol, over all pairs of query and gallery: the metrics of the contributions.

    Precision at M_E is the share of truly exclusive attributes among the M_E that contribute most
    ("random": the value of a random order). The relative gap is |d − mean_k d^k| / d. Values are
    means over queries of each query's mean over the gallery, intervals are over query identities.
    """
    results = []
    summary = functools.partial(_by_source, samples=embedder.options.evaluate.bootstrap_samples)
    for protocol in embedder.protocols:
        query, _, _ = embedder.dataset.protocol(protocol)
        compared = compare_protocol(model, embedder, protocol, ("distance",), measure=True)
        sums, gap = compared.pairs, compared.gap
        differing, alike = sums["pairs_exclusive"], sums["pairs_common"]
        for name, source, total, pairs in (
            ("precision at M_E", "attention", sums["precision_exclusive"], differing),
            ("precision at M_E", "random", sums["precision_exclusive_chance"], differing),
            ("mAP of exclusive", "attention", sums["map_exclusive"], differing),
            ("precision of common", "attention", sums["precision_common"], alike),
            ("mAP of common", "attention", sums["map_common"], alike),
            ("relative gap", "attention", gap["gap"], gap["pairs"]),
        ):
            mean = np.divide(total, pairs, out=np.full(len(total), np.nan), where=pairs > 0)
            identity = embedder.dataset.splits["query"].identity[query]
            results += summary(f"pairs {protocol}", name, {source: mean}, identity)
    return results


def measure_groups(model: Explains, embedder: Embedder) -> list[Measure]:
    """How true the reasons of a report are, over pairs of the gallery with some of the queries.

    Precision at M_E by groups of attributes, per protocol: "attention" ranks the groups as reasons are
    ranked, by how far their shares are above the usual; "plain shares" by the shares themselves; "usual
    shares" by their mean over the gallery, one order for all pairs of a query; "random" is the value of a
    random order. Precision of reasons, per protocol and per group over all protocols: how many of the
    reasons that are shown name a group in which the two people differ; "random" is its value if the same
    groups were named for other pairs of the query.
    """
    dataset, count = embedder.dataset, embedder.options.evaluate.explained_images
    groups, results = dataset.attribute_groups, []
    eligible = telling(groups, model.attribute_rates)
    summary = functools.partial(_by_source, samples=embedder.options.evaluate.bootstrap_samples)
    every: list[tuple[Truth, Int[np.ndarray, " Q"]]] = []
    for protocol in embedder.protocols:
        query_rows, gallery_rows = protocol_rows(dataset, protocol)
        places = np.linspace(0, len(query_rows) - 1, min(count, len(query_rows))).astype(int)
        query = dataset.splits["query"].take(query_rows[np.unique(places)])
        gallery = dataset.splits["gallery"].take(gallery_rows)
        own = [side.attribute_embedding[m] for side, m in explained_sides(model, embedder, query)]
        _, share = distances_and_shares(model, embedder, np.concatenate(own), gallery)
        kept = gallery.kind != KINDS.index("junk")
        relative = [unusual(one, kept) for one in share]
        codes = (known_codes(side.attributes, groups) for side in (query, gallery))
        pairs = *codes, np.broadcast_to(kept, share.shape[:2])
        own, random = group_precision(np.stack([one.deviation for one in relative]), *pairs)
        usual = np.broadcast_to(share[:, kept].mean(1, keepdims=True), share.shape)
        values = {
            "attention": own,
            "plain shares": group_precision(share, *pairs)[0],
            "usual shares": group_precision(usual, *pairs)[0],
            "random": random,
        }
        results += summary(f"groups {protocol}", "precision at M_E", values, query.identity)
        chosen = np.stack([standing_out(one, eligible) for one in relative])
        every.append((truth(chosen, *pairs), query.identity))
        values = dict(zip(("attention", "random"), every[-1][0].precision(), strict=True))
        results += summary(f"reasons {protocol}", REASONS, values, query.identity)
    together = Truth(*(np.concatenate(parts) for parts in zip(*(t for t, _ in every), strict=True)))
    identity = np.concatenate([people for _, people in every])
    for place, (group, _) in enumerate(groups):
        values = dict(zip(("attention", "random"), together.precision(place), strict=True))
        results += summary(group, REASONS, values, identity)
    return results


def _by_source(
    part: str,
    measure: str,
    values: Mapping[str, Float[np.ndarray, " Q"]],
    identity: Int[np.ndarray, " Q"],
    samples: int,
) -> list[Measure]:
    """A measure of each source that has values."""
    named = {"part": part, "measure": measure, "samples": samples}
    entries = (summarise(value, identity, source=s, **named) for s, value in values.items())
    return [entry for entry in entries if entry is not None]


def distances_and_shares(
    model: Method,
    embedder: Embedder,
    attribute_embedding: Float[np.ndarray, "Q M D"],
    gallery: CropSplit,
) -> tuple[Float[np.ndarray, "Q N"], Float[np.ndarray, "Q N G"]]:
    """The sum of the attributes' distances of queries to a gallery, and each group's share of it."""
    distances, shares = [], []
    for side, mask in explained_sides(model, embedder, gallery):
        apart = between(attribute_embedding, side.attribute_embedding)
        distances.append(np.asarray(jnp.sum(apart, -1))[:, mask])
        shares.append(group_shares(apart, embedder.dataset.attribute_groups)[:, mask])
    return np.concatenate(distances, axis=1), np.concatenate(shares, axis=1)


def measure_maps(model: Method, embedder: Embedder) -> list[Measure]:
    """Per part: pointing game, energy inside, deletion and insertion of the distance.

    The map of a part is that of the image's annotated class ("backpack" for a person with one). Its
    baselines: a random map, a uniform map, and Grad-CAM of stream 1 for the distance to the
    partner.
    """
    scene = _scene(model, embedder)
    names = [group for group, _ in embedder.dataset.attribute_groups]
    starts = np.cumsum([0, *(len(c) for _, c in embedder.dataset.attribute_groups)])
    size = tuple(embedder.options.data.image_size)
    results = []
    summary = functools.partial(_by_source, samples=embedder.options.evaluate.bootstrap_samples)
    for number, part in enumerate(p for p in PARTS if p in names):
        group = names.index(part)
        codes = scene.batch["attributes"][:, group]
        mask = np.isin(scene.parts, [PART_NAMES.index(name) for name in PARTS[part]])
        rows = np.flatnonzero((codes >= 0) & mask.any((1, 2)))
        if not len(rows):
            continue
        own = np.take_along_axis(
            scene.attention[rows],
            (starts[group] + codes[rows].astype(int))[:, None, None, None],
            axis=3,
        )[..., 0]
        key = jax.random.key(number)
        maps = {
            "attention": own,
            "random": np.asarray(measures.random_maps(key, own.shape)),
            "uniform": np.asarray(measures.uniform_maps(own.shape)),
            "grad-cam": scene.gradcam[rows],
        }
        differing = scene.differs[rows, group]
        for source, small in maps.items():
            large = measures.resize_maps(small, size)
            values = {
                "pointing game": measures.pointing_game(large, mask[rows]),
                "energy inside part": measures.energy_inside(large, mask[rows]),
            }
            if differing.any():
                values |= _occlusion(model, embedder, scene, rows[differing], large[differing], key)
            for name, value in values.items():
                of = rows if len(value) == len(rows) else rows[differing]
                identity = scene.batch["identity"][of]
                results += summary(part, name, {source: np.asarray(value)}, identity)
    return results


def _occlusion(
    model: Method,
    embedder: Embedder,
    scene: Scene,
    rows: Int[np.ndarray, " n"],
    maps: Float[Array, "n H W"],
    key: Array,
) -> dict[str, Float[np.ndarray, " n"]]:
    """Areas under the curves of the distance to the partner, as a multiple of the whole image's.

    Deletion fills the highest pixels of the map with the mean colour, insertion all others. If the
    map marks the differences between the two, deleting it lowers the distance early.
    """
    ranks = measures.pixel_ranks(maps, key)
    images = jnp.asarray(scene.batch["image"][rows], jnp.float32)
    fill = jnp.asarray(model.preprocessing.mean)[None, None, None]
    partner = scene.partner[rows]

    def distance(images: Array) -> np.ndarray:
        embedding = _in_batches(model, embedder, scene, rows, images)
        return np.linalg.norm(embedding - partner, axis=1)

    whole = np.maximum(distance(images), 1e-6)
    areas = {}
    for mode in measures.MODES:
        curve = [
            distance(measures.occlude(images, ranks, fraction, fill, mode)) / whole
            for fraction in FRACTIONS
        ]
        areas[mode] = np.asarray(measures.curve_area(np.stack(curve, 1), np.asarray(FRACTIONS)))
    return areas


def _in_batches(
    model: Method,
    embedder: Embedder,
    scene: Scene,
    rows: Int[np.ndarray, " n"],
    images: Num[Array, "n H W 3"],
) -> Float[np.ndarray, "n D"]:
    """Embeddings of changed test images, in batches of the evaluation's size."""
    size, state = embedder.options.evaluate.batch_size, nnx.state(model)
    results = []
    for start in range(0, len(rows), size):
        piece = np.arange(start, min(start + size, len(rows)))
        padded = np.resize(piece, size)
        inputs = {"image": images[padded].astype(jnp.uint8)}
        inputs |= {k: jnp.asarray(scene.batch[k][rows[padded]]) for k in ("camera", "platform")}
        results.append(np.asarray(embedder.embed(state, inputs))[: len(piece)])
    return np.concatenate(results)


def _scene(model: Method, embedder: Embedder) -> Scene:
    """The first images of the query split, spread evenly over it, with what the measures need."""
    options, dataset = embedder.options, embedder.dataset
    query = dataset.splits["query"]
    count = min(options.evaluate.explained_images, len(query))
    images = query.take(np.unique(np.linspace(0, len(query) - 1, count).astype(int)))
    partners = query.take(_partners(query, images))
    state = nnx.state(model)
    columns: dict[str, list[np.ndarray]] = {}
    batches = functools.partial(
        split_batches,
        data=options.data,
        batch_size=options.evaluate.batch_size,
        mesh=embedder.mesh,
    )
    saliency = jitted_saliency(model)
    for batch, other in zip(batches(images), batches(partners), strict=True):
        embedding = embedder.explain(state, {k: other[k] for k in INPUTS}).embedding
        inputs = {k: batch[k] for k in INPUTS}
        features, gradients = saliency(state, inputs, embedding)
        rows = {k: batch[k] for k in (*INPUTS, "attributes", "identity")} | {
            "attention": embedder.explain(state, inputs).attention,
            "gradcam": measures.gradcam(features, gradients),
            "partner": embedding,
            "other_attributes": other["attributes"],
        }
        mask = np.asarray(batch["mask"])
        for name, value in rows.items():
            columns.setdefault(name, []).append(np.asarray(value)[mask])
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    other_attributes, partner = joined.pop("other_attributes"), joined.pop("partner")
    attention, gradcam = joined.pop("attention"), joined.pop("gradcam")
    attributes = joined["attributes"]
    differs = (attributes != other_attributes) & (attributes >= 0) & (other_attributes >= 0)
    return Scene(joined, partner, differs, attention, gradcam, _parts(embedder, images))


def _partners(query: CropSplit, images: CropSplit) -> Int[np.ndarray, " n"]:
    """A query image of another person on another platform for each image, in turn."""
    rows = []
    for i in range(len(images)):
        others = np.flatnonzero(
            (query.identity != images.identity[i]) & (query.platform != images.platform[i])
        )
        if not len(others):
            others = np.flatnonzero(query.identity != images.identity[i])
        rows.append(others[(7 * i) % len(others)])
    return np.array(rows, int)


def jitted_saliency(model: Method) -> Callable:
    """The jitted `distance_gradient` of a model, `(state, inputs, other) -> (features, gradients)`."""
    graphdef, _ = evaluated(model)

    @jax.jit
    def saliency(state, inputs, partner):
        model = nnx.merge(graphdef, state, copy=True)
        return model.distance_gradient(
            inputs["image"].astype("float32"), partner, camera=inputs["camera"]
        )

    return saliency


def _parts(embedder: Embedder, images: CropSplit) -> Int[np.ndarray, "N H W"]:
    """The part maps of SkyGround images, rendered again and resized to the network's input."""
    metadata = embedder.dataset.metadata
    scenery = world.World(metadata["world_size"], int(metadata["world_seed"]))
    height, width = embedder.options.data.image_size
    maps = [
        np.asarray(
            Image.fromarray(world.parts(scenery, str(name))).resize(
                (width, height), Image.Resampling.NEAREST
            )
        )
        for name in images.image_id
    ]
    return np.stack(maps).astype(np.int32)
