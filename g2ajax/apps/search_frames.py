"""Search for a person in the user's own whole frames, with a trained run of person search.

from g2ajax.apps.search_frames import open_run, search_frames
run = open_run("runs/seqnet")
found, seen = search_frames(run, query_image, box, frames, top=10)
"""

import dataclasses
import heapq
import os
import pathlib
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

from g2ajax.data.footage import Named
from g2ajax.data.frame_batches import place
from g2ajax.data.sharding import put_whole
from g2ajax.detection.transform import bucket_of, resized_size
from g2ajax.retrieval.person_search import FrameDetections
from g2ajax.tasks import frames as task
from g2ajax.tasks import task_class, task_name
from g2ajax.tasks.frames import FrameOptions, enlargement, original
from g2ajax.training.loop import reopen
from g2ajax.training.setup import Run
from g2ajax.training.workdir import stored_config

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of an image."""
Slot = tuple[UInt8[np.ndarray, "_ _ 3"], tuple[int, int]]
"""An image on its canvas, and its size there."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sighting:
    """A frame with somebody in it."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float[np.ndarray, "N 4"]
    """Boxes of the detected people, the most similar first."""
    scores: Float[np.ndarray, " N"]
    """The detector's scores."""
    similarity: Float[np.ndarray, " N"]
    """Similarity to the query: the inner product with embeddings that carry the score."""


def open_run(workdir: str | os.PathLike, *, checkpoint: str = "best") -> Run:
    """The run in `workdir` with a checkpoint's parameters.

    Raises ValueError for a run on crops, and for a run of a plain detector.
    """
    workdir = pathlib.Path(workdir)
    config = stored_config(workdir)
    if not issubclass(task_class(task_name(config)), task.Task):
        raise ValueError(
            f"{workdir} holds a run on crops; frames are searched by a run of person search "
            "(configs/seqnet.py), and folders of crops by `python -m g2ajax search`"
        )
    run = reopen(config, workdir, checkpoint)[0]
    if run.task.embed is None:
        raise ValueError(
            f"{workdir} holds a run of {config['method']['name']!r}, which finds people and does not "
            "tell them apart; search with one of SeqNet or COAT (configs/seqnet.py)"
        )
    return run


def check_box(box: Box, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Raises ValueError for a box without area, or one that is not inside the image."""
    left, top, right, bottom = box
    height, width = image.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"the box {left:g},{top:g},{right:g},{bottom:g} is not inside the image of {width} x "
            f"{height} pixels; expected x0,y0,x1,y1 with x0 < x1 and y0 < y1"
        )


def search_frames(
    run: Run,
    query: UInt8[np.ndarray, "H W 3"],
    box: Box,
    frames: Iterable[Named],
    *,
    top: int = 10,
) -> tuple[list[Sighting], int]:
    """The `top` frames with the people most similar to the one in the `box` of the query image, and
    the number of frames searched. The query is embedded once, and each frame detected once; only
    the frames that are returned stay in memory.

    Raises ValueError for a box that is not inside the image, and for a frame that fits no canvas.
    """
    check_box(box, query)
    feature = embed_query(run, query, box)
    best: list[tuple[float, int, Sighting]] = []
    count = 0
    for number, (name, image), people in detected(run, frames):
        count += 1
        if not len(people.boxes):
            continue
        similarity = people.features @ feature
        order = np.argsort(-similarity, kind="stable")
        sighting = Sighting(
            name, image, people.boxes[order], people.scores[order], similarity[order]
        )
        # The earlier of equal frames.
        heapq.heappush(best, (float(similarity[order[0]]), -number, sighting))
        if len(best) > top:
            heapq.heappop(best)
    return [
        sighting for *_, sighting in sorted(best, key=lambda item: item[:2], reverse=True)
    ], count


def embed_query(run: Run, image: UInt8[np.ndarray, "H W 3"], box: Box) -> Float[np.ndarray, " D"]:
    """The embedding of the person in the box of an image."""
    canvas, slot = _placed(image, run.task.options.frames)
    batch = _batch([slot], canvas, run.mesh.size)
    batch["boxes"][0, 0] = np.array(box, np.float32) / enlargement(image.shape, slot[1])
    batch["box_mask"][0, 0] = True
    state = nnx.state(run.model)
    embeddings = run.task.embed(state, put_whole(batch, run.mesh))
    return np.asarray(embeddings)[0, 0]


def detected(run: Run, frames: Iterable[Named]) -> Iterator[tuple[int, Named, FrameDetections]]:
    """The number of each frame, the frame, and the people found in it, in its own pixels.

    Frames of one canvas are computed together, so the order may differ from the given one.
    """
    size = run.task.options.evaluate.batch_size
    waiting: dict[tuple[int, int], list[tuple[int, Named, Slot]]] = {}
    for number, frame in enumerate(frames):
        canvas, slot = _placed(frame[1], run.task.options.frames)
        group = waiting.setdefault(canvas, [])
        group.append((number, frame, slot))
        if len(group) == size:
            yield from _detect(run, waiting.pop(canvas), canvas)
    for canvas, group in waiting.items():
        yield from _detect(run, group, canvas)


def _detect(
    run: Run, group: list[tuple[int, Named, Slot]], canvas: tuple[int, int]
) -> Iterator[tuple[int, Named, FrameDetections]]:
    batch = _batch([slot for *_, slot in group], canvas, run.task.options.evaluate.batch_size)
    detections = run.task.detect(nnx.state(run.model), put_whole(batch, run.mesh))
    detections = jax.device_get(detections)
    for row, (number, frame, slot) in enumerate(group):
        detection = jax.tree.map(lambda x, row=row: x[row], detections)
        yield number, frame, original(detection, frame[1].shape, slot[1])


def _placed(
    image: UInt8[np.ndarray, "H W 3"], options: FrameOptions
) -> tuple[tuple[int, int], Slot]:
    """The canvas of an image, and the image on it."""
    size = resized_size(*image.shape[:2], options.min_size, options.max_size)
    canvas = tuple(options.canvases[bucket_of(size, options.canvases)])
    return canvas, (place(image, size, canvas), size)


def _batch(slots: list[Slot], canvas: tuple[int, int], size: int) -> dict[str, np.ndarray]:
    """A batch of `size` frames, padded with empty frames."""
    batch = {
        "image": np.zeros((size, *canvas, 3), np.uint8),
        "size": np.zeros((size, 2), np.int32),
        "boxes": np.zeros((size, 1, 4), np.float32),
        "box_mask": np.zeros((size, 1), bool),
    }
    for row, (image, own) in enumerate(slots):
        batch["image"][row], batch["size"][row] = image, own
    return batch
