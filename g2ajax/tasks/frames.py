"""Whole frames: images with any number of people to detect and identify."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float32, Int

from g2ajax.config.ranges import Count, Probability, Range
from g2ajax.data.frame_batches import (
    FittedFrames,
    eval_frame_table,
    fit_frames,
    flips,
    frame_batches,
    frame_sampler,
)
from g2ajax.data.frame_source import (
    FrameDataset,
    FrameSplit,
    open_frames,
    with_clipped_boxes,
)
from g2ajax.data.samplers import Sampler
from g2ajax.data.sharding import batch_sharding, replicated
from g2ajax.detection.transform import BUCKETS, MAX_SIZE, MIN_SIZE, bucket_of, resized_size
from g2ajax.evaluation.explanation import Measure
from g2ajax.evaluation.person_search import (
    Found,
    evaluate_detector,
    evaluate_frames,
    scoring_fault,
)
from g2ajax.evaluation.results import Result
from g2ajax.methods import (
    DataFacts,
    Detected,
    Detects,
    Method,
    SearchesPersons,
    evaluated,
    require,
)
from g2ajax.methods.base import MULTIPLE
from g2ajax.report.records import Report
from g2ajax.retrieval.person_search import ContextMatching, FrameDetections
from g2ajax.tasks import base, frame_checks
from g2ajax.tasks.base import Batch, Phase, RunInfo, Say, warn
from g2ajax.tasks.frame_report import frame_report

Side = Annotated[int, Range(MULTIPLE)]
INPUTS = ("image", "size", "boxes", "box_mask")


@dataclasses.dataclass(frozen=True)
class FrameOptions:
    """Options of resizing, padding and batching frames."""

    batch_size: Count = 5
    """Frames of a training step; they are shuffled."""
    min_size: Count = MIN_SIZE
    """Short side of a resized frame in pixels, unless the long side would exceed `max_size`."""
    max_size: Count = MAX_SIZE
    """Longest long side of a resized frame in pixels."""
    canvases: tuple[tuple[Side, Side], ...] = BUCKETS
    """(height, width) to which resized frames are padded, multiples of 32; each size is compiled
    once."""
    max_boxes: Count = 64
    """Most people in a frame; a frame with more is an error that names it."""
    flip: Probability = 0.5
    """Probability of mirroring a frame."""
    skip_unreadable: bool = False
    """Name unreadable frames and leave them out, instead of ending the run."""
    clip_boxes: bool = False
    """Cut annotated boxes at the edges of their frame; the published codes take them as they are."""

    def __post_init__(self) -> None:
        for canvas in self.canvases:
            if any(side % MULTIPLE for side in canvas):
                raise ValueError(
                    f"frames.canvases names {tuple(canvas)}: expected (height, width), multiples of "
                    f"{MULTIPLE}"
                )


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(base.EvaluateOptions):
    """Options of scoring a run; rankings are those of `evaluation.person_search`."""

    best: Literal["mAP", "rank1", "detection AP"] = "mAP"
    """Score that chooses the best checkpoint of a phase, averaged over protocols and rankings."""
    context: ContextMatching = ContextMatching()
    """Parameters of the ranking `cbgm`."""


@dataclasses.dataclass(frozen=True)
class Options(base.Options):
    """Blocks of the configuration of a run on whole frames."""

    frames: FrameOptions = FrameOptions()
    evaluate: EvaluateOptions = EvaluateOptions()


@dataclasses.dataclass(frozen=True)
class Functions:
    """The jitted functions of a model of whole frames, each `(state, batch) -> ...`."""

    detect: Callable[..., Any]
    """`Detected` of gallery frames."""
    embed: Callable[..., Any] | None = None
    """[B, N, D] for given boxes; None for a plain detector."""
    context: Callable[..., Any] | None = None
    """`Detected` of query frames, the query first."""


def make_functions(model: Method, mesh: Mesh) -> Functions:
    """The functions of `model`. Raises ValueError for a method that detects no persons."""
    require(model, Detects, "searching whole frames")
    detect = _jitted(model, mesh, lambda model, batch: model.detect(batch))
    if not isinstance(model, SearchesPersons):
        return Functions(detect)
    return Functions(
        detect,
        _jitted(model, mesh, lambda model, batch: model.embed_queries(batch)),
        _jitted(model, mesh, lambda model, batch: model.detect(batch, batch["boxes"][:, 0])),
    )


class Task(base.Task):
    """People searched in whole frames."""

    noun = "whole frames"
    Options = Options
    no_micro_batches = (
        "a detector's losses are means over the regions of the whole batch; use more devices, fewer "
        "frames (frames.batch_size) or method.remat=True"
    )
    dataset: FrameDataset
    model: Method
    functions: Functions

    def __init__(self, info: RunInfo) -> None:
        super().__init__(info)
        data = self.options.data
        self.dataset = open_frames(
            info.dataset, data_dir=data.dir or None, manual_dir=data.manual_dir or None
        )
        if self.options.frames.clip_boxes:
            self.dataset = with_clipped_boxes(self.dataset)
        frame_checks.check(info, self.dataset)
        frame_checks.check_readable(info, self.dataset)
        splits, frames = self.dataset.splits, self.options.frames
        self.train, self.gallery = fit(splits["train"], frames), fit(splits["gallery"], frames)
        # A row of this split is one person.
        self.query = fit(splits["query"], dataclasses.replace(frames, max_boxes=1))

    @property
    def facts(self) -> DataFacts:
        train = self.dataset.splits["train"]
        return DataFacts(
            num_classes=self.dataset.num_identities,
            image_size=tuple(self.options.frames.canvases[0]),
            num_cameras=int(train.camera.max(initial=-1)) + 1,
            num_platforms=int(train.platform.max(initial=-1)) + 1,
            dtype=jnp.dtype(self.info.dtype),
        )

    def use(self, model: Method) -> None:
        frame_checks.check_model(model, self.options.evaluate)
        if isinstance(model, SearchesPersons):
            self.info = base.on_protocols(self.info, self.dataset, scoring_fault)
        self.model = model
        self.functions = make_functions(model, self.info.mesh)

    def num_examples(self, phase: Phase) -> int:
        return len(self.train)

    def batch_size(self, phase: Phase) -> int:
        return self.options.frames.batch_size

    def sampler(self, phase: Phase) -> Sampler:
        return frame_sampler(self.train, self.batch_size(phase), (self.info.seed, phase.index))

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
        seed, probability = (self.info.seed, phase.index), self.options.frames.flip
        flip = flips(seed, start, table.shape, probability)
        return read(self.train, table, self.options, self.info.mesh, flip), None

    def names(self, rows: Int[np.ndarray, " B"]) -> list[str]:
        return [str(name) for name in self.train.split.image_id[rows]]

    def score(
        self, model: Method, *, checkpoint: str, step: int, rankings: Sequence[str]
    ) -> list[Result]:
        """Scores a model; each gallery frame is detected once, for all protocols, queries and
        rankings. A plain detector has no rankings."""
        found = self.search(nnx.state(model), rankings)
        self.scored = step, found
        if found.query is not None:
            return self.results_of(found, checkpoint=checkpoint, step=step, rankings=rankings)
        return evaluate_detector(
            found.gallery,
            self.dataset,
            protocols=self.protocols,
            name=self.info.name,
            checkpoint=checkpoint,
            step=step,
            seed=self.info.seed,
        )

    def results_of(
        self, found: Found, *, checkpoint: str, step: int, rankings: Sequence[str], name: str = ""
    ) -> list[Result]:
        """The results of a model's detections; `name` is the model's, by default the run's."""
        return evaluate_frames(
            found,
            self.dataset,
            protocols=self.protocols,
            rankings=rankings,
            context_matching=self.options.evaluate.context,
            metric="inner product",
            feature_name=self.model.feature_name,
            name=name or self.info.name,
            checkpoint=checkpoint,
            step=step,
            seed=self.info.seed,
            bootstrap_samples=self.options.evaluate.bootstrap_samples,
        )

    def search(self, state: nnx.State, rankings: Sequence[str]) -> Found:
        """The people detected in the test frames, as far as the rankings need them."""
        if self.functions.embed is None:
            return Found(self.detections(state), None)
        query = [
            embeddings[0] for embeddings in self.each_frame(self.functions.embed, state, self.query)
        ]
        context, true_boxes = None, None
        if "cbgm" in rankings:
            people = self.each_frame(self.functions.context, state, self.query)
            most = self.options.evaluate.context.k2
            context = [one.embeddings[one.valid][:most] for one in people]
            # An unreadable query frame shows nobody.
            context = [x if len(x) else own[None] for x, own in zip(context, query, strict=True)]
        if "true_boxes" in rankings:
            true_boxes = [
                _true(self.gallery.split, row, features)
                for row, features in enumerate(
                    self.each_frame(self.functions.embed, state, self.gallery)
                )
            ]
        return Found(self.detections(state), np.stack(query), context, true_boxes)

    def detections(self, state: nnx.State) -> list[FrameDetections]:
        """The people in each gallery frame, in pixels of the stored frame."""
        gallery = self.gallery
        sizes = zip(gallery.split.height.tolist(), gallery.split.width.tolist(), strict=True)
        people = self.each_frame(self.functions.detect, state, gallery)
        return [
            original(one, size, resized)
            for one, size, resized in zip(people, sizes, gallery.new_size.tolist(), strict=True)
        ]

    def each_frame(self, call: Any, state: nnx.State, fitted: FittedFrames) -> list[Any]:
        """The result of `call` for each frame of a split, in the order of its rows."""
        table = eval_frame_table(fitted, self.options.evaluate.batch_size)
        results: list[Any] = [None] * len(fitted)
        batches = read(fitted, table, self.options, self.info.mesh)
        with contextlib.closing(batches):
            for rows, batch in zip(table, batches, strict=True):
                outputs = jax.device_get(call(state, {name: batch[name] for name in INPUTS}))
                for place in np.flatnonzero(rows >= 0):
                    of_row = jax.tree.map(lambda x, place=place: x[place].copy(), outputs)
                    results[rows[place]] = of_row
        return results

    def report(
        self,
        model: Method,
        results: Sequence[Result],
        measured: Sequence[Measure],
        trained_on: str,
    ) -> Report | None:
        """Scores, curves and lists of found people; of a plain detector its scores and its curve."""
        evaluate, found = self.options.evaluate, self.scored_at(results[0].step)
        return frame_report(
            found or self.search(nnx.state(model), ("reid",)),
            self.dataset,
            results,
            noun=self.noun,
            trained_on=trained_on,
            limit=evaluate.reported_queries,
            samples=evaluate.bootstrap_samples,
        )


def fit(split: FrameSplit, options: FrameOptions) -> FittedFrames:
    """The split with the size and canvas of each frame."""
    resized = functools.partial(resized_size, min_size=options.min_size, max_size=options.max_size)
    canvases = tuple((int(height), int(width)) for height, width in options.canvases)
    return fit_frames(
        split, resized=resized, choose=bucket_of, canvases=canvases, max_boxes=options.max_boxes
    )


def _jitted(model: Method, mesh: Mesh, function: Any) -> Any:
    """`(state, batch) -> function(model, batch)` of the model in evaluation mode, jitted."""
    graphdef, _ = evaluated(model)

    def call(state: nnx.State, batch: dict[str, jax.Array]) -> Any:
        return function(nnx.merge(graphdef, state, copy=True), batch)

    return jax.jit(call, out_shardings=replicated(mesh))


def read(
    fitted: FittedFrames,
    table: Int[np.ndarray, "S B"],
    options: Options,
    mesh: Mesh,
    flip: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Batches of the table; names unreadable frames if the run may continue without them."""
    skipped: list[str] = []
    batches = frame_batches(
        fitted,
        table,
        sharding=batch_sharding(mesh),
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


def original(people: Detected, stored: Sequence[int], resized: Sequence[int]) -> FrameDetections:
    """One frame's detections in pixels of the stored frame; sizes are (height, width)."""
    valid = people.valid
    features = np.zeros((len(valid), 0), np.float32)
    if people.embeddings is not None:
        features = people.embeddings
    boxes = people.boxes[valid] * enlargement(stored, resized)
    return FrameDetections(boxes, people.scores[valid], features[valid])


def enlargement(stored: Sequence[int], resized: Sequence[int]) -> Float32[np.ndarray, "4"]:
    """Pixels of the stored frame in one of the canvas, for each side of a box."""
    return np.array([stored[1] / resized[1], stored[0] / resized[0]] * 2, np.float32)


def _true(split: FrameSplit, row: int, features: np.ndarray) -> FrameDetections:
    """A frame's annotated people as if they had been detected."""
    boxes = split.boxes[split.people(row)]
    return FrameDetections(boxes, np.ones(len(boxes), np.float32), features[: len(boxes)])
