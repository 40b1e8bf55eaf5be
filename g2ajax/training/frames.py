"""What a run on whole frames does in its own way: its batches, its model's task, its scores."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float32, Int32

from g2ajax import methods
from g2ajax.data.frame_source import FrameDataset, FrameSplit
from g2ajax.data.frames import FittedFrames, eval_frame_table, fit_frames, flips, frame_batches
from g2ajax.detection.transform import bucket_of, resized_size
from g2ajax.evaluation.frames import (
    Found,
    check_rankings,
    evaluate_detector,
    evaluate_frames,
    gallery_sizes,
)
from g2ajax.evaluation.results import Result, dataset_label, tables
from g2ajax.methods.faster_rcnn import MULTIPLE, Detected
from g2ajax.report import Picture, Table, page
from g2ajax.report.curves import Point, curves
from g2ajax.retrieval.person_search import FrameDetections
from g2ajax.training.journal import warn
from g2ajax.training.mesh import batch_sharding, replicated
from g2ajax.training.options import FrameOptions, RunOptions

INPUTS = ("image", "size", "boxes", "box_mask")
INTRO = """\
People searched in whole frames. The score of a search counts both kinds of error: "missed" is what the \
detector costs, a person in a frame where no detection covers them, and "confused" what the embeddings \
cost, others ranked before them; the two and mAP add up to 100. With the true boxes of the gallery \
given no one is missed: that row bounds what a better detector could give."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """The splits with the sizes of their frames, and what the method says of a batch; jitted once."""

    train: FittedFrames
    gallery: FittedFrames
    query: FittedFrames
    detect: Any
    """`(state, batch) -> Detected`, of gallery frames."""
    embed: Any | None
    """`(state, batch) -> [B, N, D]`, of given boxes; None: the method does not tell people apart."""
    context: Any | None
    """`(state, batch) -> Detected` of query frames, the query first."""


def check(options: RunOptions, dataset: FrameDataset) -> None:
    """Raises ValueError for options that frames do not have, or that do not fit the data."""
    for name in options.evaluate.protocols:
        dataset.protocol(name)
    check_rankings(options.evaluate.rankings, "evaluate.rankings")
    for name in options.phases:
        check_rankings(options.phase[name].rankings, f"phase.{name}.rankings")
        if options.phase[name].accumulate > 1:
            raise ValueError(
                f"phase.{name}.accumulate = {options.phase[name].accumulate}: a detector's losses "
                "are means over the regions of the whole batch; use more devices, fewer frames "
                "(frames.batch_size) or method.remat=True"
            )
    if options.data.residency != "host":
        raise ValueError("data.residency = 'device' is for crops; frames are read from the host")
    if options.evaluate.flip:
        raise ValueError("evaluate.flip is for crops; a mirrored frame has other detections")
    for canvas in options.frames.canvases:
        if len(canvas) != 2 or any(side % MULTIPLE or side < MULTIPLE for side in canvas):
            raise ValueError(
                f"frames.canvases names {tuple(canvas)}: expected (height, width), multiples of "
                f"{MULTIPLE}"
            )
    if not dataset.num_identities:
        raise ValueError(f"{dataset.name}: no person of the training split has an identity")


def task(options: RunOptions, dataset: FrameDataset) -> methods.Task:
    """What the data decide about the model."""
    return methods.Task(
        num_classes=dataset.num_identities,
        image_size=tuple(options.frames.canvases[0]),
        num_cameras=int(dataset.splits["train"].camera.max(initial=-1)) + 1,
        dtype=jnp.dtype(options.dtype),
    )


def make_frames(
    model: nnx.Module, options: RunOptions, dataset: FrameDataset, mesh: Mesh
) -> Frames:
    """Fits every split and makes the functions of evaluation.

    Raises ValueError for a method that finds no persons, a frame with too many people, one that
    fits no canvas, and options that ask a plain detector whom it has found.
    """
    method = options.method["name"]
    if not hasattr(model, "detect"):
        raise ValueError(f"method {method!r} finds no persons in whole frames; `seqnet` does")
    searches = hasattr(model, "embed_queries")
    best = options.evaluate.best
    if not searches and (options.evaluate.rankings or best != "detection AP"):
        raise ValueError(
            f"method {method!r} finds people and does not tell them apart: give "
            "evaluate.rankings=() and evaluate.best='detection AP'"
        )
    embed = context = None
    if searches:
        embed = _jitted(model, mesh, lambda model, batch: model.embed_queries(batch))
        context = _jitted(
            model, mesh, lambda model, batch: model.detect(batch, batch["boxes"][:, 0])
        )
    splits = dataset.splits
    return Frames(
        train=fit(splits["train"], options.frames),
        gallery=fit(splits["gallery"], options.frames),
        # A row of this split is one person.
        query=fit(splits["query"], dataclasses.replace(options.frames, max_boxes=1)),
        detect=_jitted(model, mesh, lambda model, batch: model.detect(batch)),
        embed=embed,
        context=context,
    )


def fit(split: FrameSplit, options: FrameOptions) -> FittedFrames:
    """The split with the size and canvas of each frame."""
    resized = functools.partial(resized_size, min_size=options.min_size, max_size=options.max_size)
    canvases = tuple((int(height), int(width)) for height, width in options.canvases)
    return fit_frames(
        split, resized=resized, choose=bucket_of, canvases=canvases, max_boxes=options.max_boxes
    )


def _jitted(model: nnx.Module, mesh: Mesh, function: Any) -> Any:
    """`(state, batch) -> function(model, batch)` of the model in evaluation mode, jitted."""
    graphdef, _ = methods.evaluated(model)

    def call(state: nnx.State, batch: dict[str, jax.Array]) -> Any:
        return function(nnx.merge(graphdef, state, copy=True), batch)

    return jax.jit(call, out_shardings=replicated(mesh))


def train_batches(
    setup: Any, phase: int, start: int, table: Int32[np.ndarray, "S B"]
) -> Iterator[dict[str, jax.Array]]:
    """The batches of the phase with this index, from step `start` on."""
    options = setup.options
    flip = flips((options.seed, phase), start, table.shape, options.frames.flip)
    return _batches(setup, setup.frames.train, table, flip)


def _batches(
    setup: Any, fitted: FittedFrames, table: np.ndarray, flip: np.ndarray | None = None
) -> Iterator[dict[str, jax.Array]]:
    """Batches of the table; frames that cannot be read are named, if the run may go on."""
    options, skipped = setup.options, []
    batches = frame_batches(
        fitted,
        table,
        sharding=batch_sharding(setup.mesh),
        flip=flip,
        skipped=skipped if options.frames.skip_unreadable else None,
        num_workers=options.data.num_workers,
        num_threads=options.data.num_threads,
    )
    with contextlib.closing(batches):
        for batch in batches:
            for count, name in enumerate(skipped, 1):
                warn(
                    f"{name} ({fitted.split.name}) cannot be read and is left out ({count} so far)"
                )
            yield batch


def score(
    model: nnx.Module, setup: Any, *, checkpoint: str, step: int, rankings: Sequence[str]
) -> list[Result]:
    """The results of `model` on the protocols that the run names, by each of the rankings.

    Each gallery frame is detected once, for all protocols, queries and rankings; a plain detector
    has no rankings.
    """
    state, name = nnx.state(model), setup.options.name
    of = {"name": name, "checkpoint": checkpoint, "step": step}
    if setup.frames.embed is None:
        return evaluate_detector(
            detections(setup, state),
            setup.dataset,
            protocols=setup.protocols,
            seed=setup.options.seed,
            **of,
        )
    return results_of(find(setup, state, rankings), setup, rankings=rankings, **of)


def results_of(
    found: Found, setup: Any, *, rankings: Sequence[str], name: str, **of: Any
) -> list[Result]:
    """The results of what was found in the test frames; `of` what `Result` should say of it."""
    options = setup.options
    return evaluate_frames(
        found,
        setup.dataset,
        protocols=setup.protocols,
        rankings=rankings,
        context_matching=options.evaluate.context,
        metric="inner product",
        feature_name=setup.model.feature_name,
        name=name,
        seed=options.seed,
        bootstrap_samples=options.evaluate.bootstrap_samples,
        **of,
    )


def find(setup: Any, state: nnx.State, rankings: Sequence[str]) -> Found:
    """What the method with this state says of the test frames, as far as the rankings need it."""
    frames = setup.frames
    query = [found[0] for found in each_frame(setup, frames.embed, state, frames.query)]
    context, true_boxes = None, None
    if "cbgm" in rankings:
        detected = each_frame(setup, frames.context, state, frames.query)
        most = setup.options.evaluate.context.k2
        context = [found.embeddings[found.valid][:most] for found in detected]
        # Nobody is in a query frame that cannot be read.
        context = [x if len(x) else own[None] for x, own in zip(context, query, strict=True)]
    if "true_boxes" in rankings:
        true_boxes = [
            _true(frames.gallery.split, row, features)
            for row, features in enumerate(each_frame(setup, frames.embed, state, frames.gallery))
        ]
    return Found(detections(setup, state), np.stack(query), context, true_boxes)


def detections(setup: Any, state: nnx.State) -> list[FrameDetections]:
    """Who is found in each gallery frame, in pixels of the stored frame."""
    gallery = setup.frames.gallery
    stored = zip(gallery.split.height.tolist(), gallery.split.width.tolist(), strict=True)
    found = each_frame(setup, setup.frames.detect, state, gallery)
    return [
        original(one, size, resized)
        for one, size, resized in zip(found, stored, gallery.new_size.tolist(), strict=True)
    ]


def each_frame(setup: Any, call: Any, state: nnx.State, fitted: FittedFrames) -> list[Any]:
    """What `call` says of each frame of a split, in the order of its rows."""
    table = eval_frame_table(fitted, setup.options.evaluate.batch_size)
    found: list[Any] = [None] * len(fitted)
    with contextlib.closing(_batches(setup, fitted, table)) as batches:
        for rows, batch in zip(table, batches, strict=True):
            said = jax.device_get(call(state, {name: batch[name] for name in INPUTS}))
            for place in np.flatnonzero(rows >= 0):
                found[rows[place]] = jax.tree.map(lambda x, place=place: x[place].copy(), said)
    return found


def original(found: Detected, stored: Sequence[int], resized: Sequence[int]) -> FrameDetections:
    """One frame's detections in pixels of the stored frame; sizes are (height, width)."""
    kept = found.valid
    features = np.zeros((len(kept), 0), np.float32)
    if found.embeddings is not None:
        features = found.embeddings
    boxes = found.boxes[kept] * enlargement(stored, resized)
    return FrameDetections(boxes, found.scores[kept], features[kept])


def enlargement(stored: Sequence[int], resized: Sequence[int]) -> Float32[np.ndarray, "4"]:
    """Pixels of the stored frame in one of the canvas, for each side of a box."""
    return np.array([stored[1] / resized[1], stored[0] / resized[0]] * 2, np.float32)


def _true(split: FrameSplit, row: int, features: np.ndarray) -> FrameDetections:
    """A frame's annotated people as if they had been detected."""
    boxes = split.boxes[split.people(row)]
    return FrameDetections(boxes, np.ones(len(boxes), np.float32), features[: len(boxes)])


def run_page(setup: Any, results: Sequence[Result]) -> str:
    """The page of a run: its scores, and how they fall with the size of the gallery."""
    shown = [Table(text, head, rows) for text, (head, *rows) in tables(results)]
    pictures = []
    sweeps = gallery_sizes([result for result in results if result.checkpoint == "last"])
    if sweeps:
        lines = {
            name: [Point(r.gallery, r.mAP, *r.interval_mAP) for r in group]
            for name, group in sweeps.items()
        }
        alt = "; ".join(
            f"{name}: " + ", ".join(f"{p.score:.1f} at {p.size:g} frames" for p in points)
            for name, points in lines.items()
        )
        heading = f"mAP by size of the gallery, {dataset_label(setup.dataset.name)}"
        png = curves(lines, size="frames in a query's gallery", score="mAP in percent")
        pictures.append(Picture(heading, png, alt))
    return page(setup.options.name, (), intro=INTRO, tables=shown, pictures=pictures)
