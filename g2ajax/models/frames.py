"""People found and embedded in single frames, by a model of person search."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float, UInt8

from g2ajax.data.frame_batches import place
from g2ajax.data.sharding import put_whole
from g2ajax.detection.transform import bucket_of, resized_size
from g2ajax.methods import Method
from g2ajax.retrieval.person_search import FrameDetections
from g2ajax.tasks.frames import FrameOptions, Functions, enlargement, original

Slot = tuple[UInt8[np.ndarray, "_ _ 3"], tuple[int, int]]
"""An image on its canvas, and its size there."""


@dataclasses.dataclass(frozen=True, eq=False)
class Finder:
    """The functions of a model with the sizes of its frames."""

    method: Method
    functions: Functions
    options: FrameOptions
    batch_size: int
    mesh: Mesh

    def embed(
        self, image: UInt8[np.ndarray, "H W 3"], boxes: Float[np.ndarray, "N 4"]
    ) -> Float[np.ndarray, "N D"]:
        """The embeddings of the people in the boxes (x0, y0, x1, y1, pixels) of one image."""
        canvas, slot = self._placed(image)
        batch = _batch([slot], canvas, self.mesh.size, people=max(1, len(boxes)))
        batch["boxes"][0, : len(boxes)] = boxes / enlargement(image.shape, slot[1])
        batch["box_mask"][0, : len(boxes)] = True
        embeddings = self.functions.embed(nnx.state(self.method), put_whole(batch, self.mesh))
        return np.asarray(embeddings)[0, : len(boxes)]

    def detect(
        self, frames: Iterable[tuple[Any, UInt8[np.ndarray, "H W 3"]]]
    ) -> Iterator[tuple[int, tuple[Any, np.ndarray], FrameDetections]]:
        """The number of each frame (name, image), the frame, and the people in it, in its own pixels.

        Frames of one canvas are computed together, so the order may differ from the given one.
        """
        waiting: dict[tuple[int, int], list[tuple[int, Any, Slot]]] = {}
        for number, frame in enumerate(frames):
            canvas, slot = self._placed(frame[1])
            group = waiting.setdefault(canvas, [])
            group.append((number, frame, slot))
            if len(group) == self.batch_size:
                yield from self._detect(waiting.pop(canvas), canvas)
        for canvas, group in waiting.items():
            yield from self._detect(group, canvas)

    def _detect(
        self, group: list[tuple[int, Any, Slot]], canvas: tuple[int, int]
    ) -> Iterator[tuple[int, Any, FrameDetections]]:
        batch = _batch([slot for *_, slot in group], canvas, self.batch_size)
        detections = self.functions.detect(nnx.state(self.method), put_whole(batch, self.mesh))
        detections = jax.device_get(detections)
        for row, (number, frame, slot) in enumerate(group):
            detection = jax.tree.map(lambda x, row=row: x[row], detections)
            yield number, frame, original(detection, frame[1].shape, slot[1])

    def _placed(self, image: UInt8[np.ndarray, "H W 3"]) -> tuple[tuple[int, int], Slot]:
        """The canvas of an image, and the image on it."""
        options = self.options
        size = resized_size(*image.shape[:2], options.min_size, options.max_size)
        canvas = tuple(options.canvases[bucket_of(size, options.canvases)])
        return canvas, (place(image, size, canvas), size)


def _batch(
    slots: list[Slot], canvas: tuple[int, int], size: int, *, people: int = 1
) -> dict[str, np.ndarray]:
    """A batch of `size` frames, padded with empty frames."""
    batch = {
        "image": np.zeros((size, *canvas, 3), np.uint8),
        "size": np.zeros((size, 2), np.int32),
        "boxes": np.zeros((size, people, 4), np.float32),
        "box_mask": np.zeros((size, people), bool),
    }
    for row, (image, own) in enumerate(slots):
        batch["image"][row], batch["size"][row] = image, own
    return batch
