"""A trained model as an object: pixels or sentences in, embeddings and distances out."""

import collections
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float32, Int

from g2ajax.config import options
from g2ajax.data.clips import ClipOptions
from g2ajax.data.sharding import put_whole, replicated
from g2ajax.data.tokenizer import clean
from g2ajax.interop.model_folder import Card, write_model
from g2ajax.interop.state_dict import public_shapes
from g2ajax.methods import (
    DataFacts,
    Detects,
    EmbedsCaptions,
    EmbedsCrops,
    EmbedsTracklets,
    Method,
    SearchesPersons,
    build,
    method_name,
    require,
)
from g2ajax.models import pictures
from g2ajax.models.clips import ClipBatch, clip_batches, embed_clips
from g2ajax.models.frames import Finder
from g2ajax.retrieval.distances import pairwise
from g2ajax.retrieval.person_search import FrameDetections
from g2ajax.tasks import task_class
from g2ajax.tasks.embedder import Embed, Embedder, embed_captions, make_embed, make_embedder
from g2ajax.tasks.frames import make_functions


class Model:
    """A method with its weights, and all that turns images into its embeddings.

    `g2ajax.load` makes one; all devices that JAX finds share its batches.
    """

    method: Method
    card: Card
    """Everything known about the model besides its weights."""
    facts: DataFacts
    """Facts of its training data."""
    mesh: Mesh
    home: pathlib.Path | None
    """Folder of the run or of the model; None for a single file."""
    data_dir: str
    """Folder of built datasets of the run; "" for the usual one."""
    manual_dir: str
    """Folder of downloads of the run; "" for the usual one."""

    def __init__(
        self,
        method: Method,
        card: Card,
        facts: DataFacts,
        mesh: Mesh,
        *,
        home: pathlib.Path | None = None,
        data_dir: str = "",
        manual_dir: str = "",
    ) -> None:
        self.method, self.card, self.facts, self.mesh, self.home = method, card, facts, mesh, home
        self.data_dir, self.manual_dir = data_dir, manual_dir
        self.options: Any = options(task_class(card.task).Options, card.options, "options")
        nnx.update(method, jax.device_put(nnx.state(method), replicated(mesh)))

    def __repr__(self) -> str:
        height, width = self.facts.image_size
        name = f"{self.card.name}: " if self.card.name else ""
        return (
            f"<g2ajax model {name}{self.card.method['name']} on {self.card.task}, {height} x {width}, "
            f"{self.card.metric}; {self.card.origin}>"
        )

    def changed(self, **blocks: Mapping[str, Any]) -> "Model":
        """The same weights with other options of the task, block by block: `evaluate={"flip": True}`.

        Raises ValueError for an option that its block does not have.
        """
        merged = {k: merge(self.card.options.get(k, {}), v) for k, v in blocks.items()}
        card = dataclasses.replace(self.card, options={**self.card.options, **merged})
        folders = {"data_dir": self.data_dir, "manual_dir": self.manual_dir}
        return Model(self.method, card, self.facts, self.mesh, home=self.home, **folders)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width to which images are resized."""
        return tuple(self.options.data.image_size)

    @property
    def batch_size(self) -> int:
        """Images (or frames) computed at a time, a multiple of the devices."""
        return max(1, self.options.evaluate.batch_size // self.mesh.size) * self.mesh.size

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The jitted functions of a model of crops. Raises ValueError for another one."""
        require(self.method, EmbedsCrops, "embedding crops")
        text = getattr(self.options, "text", None)
        return make_embedder(
            self.method, None, self.options, self.mesh, text_length=text.length if text else 0
        )

    @functools.cached_property
    def finder(self) -> Finder:
        """The jitted functions of a model of whole frames. Raises ValueError for another one."""
        require(self.method, Detects, "finding people in whole frames")
        functions = make_functions(self.method, self.mesh)
        return Finder(self.method, functions, self.options.frames, self.batch_size, self.mesh)

    @functools.cached_property
    def width(self) -> int:
        """Number of elements of an embedding."""
        size = (self.mesh.size, *self.image_size, 3)
        image = jax.ShapeDtypeStruct(size, np.uint8)
        batch = {"image": image, **_sides(self.mesh.size, None, None)}
        return jax.eval_shape(self.embedder.embed, nnx.state(self.method), batch).shape[1]

    def embed(
        self,
        images: Any,
        *,
        camera: Sequence[int] | Int[np.ndarray, " N"] | None = None,
        platform: Sequence[int] | Int[np.ndarray, " N"] | None = None,
        normalised: bool = True,
        progress: bool | None = None,
    ) -> Float32[np.ndarray, "N D"]:
        """The embedding of each image of a person, in order.

        `images`: a list of paths, images of PIL or arrays [H, W, 3] of any sizes, or one array
        [B, H, W, 3]; RGB, 0 to 255. They are resized as the model's test images were. `camera` and `platform`: numbers of
        the training data, for methods that embed them. `normalised`: rows of norm 1 where the metric
        is the cosine. `progress`: a bar; None: where it takes longer than a few seconds, on a terminal.

        Raises ValueError naming the image for one that cannot be decoded or has no pixels 0..255, and
        for missing or superfluous cameras and platforms.
        """
        images = pictures.as_sequence(images)
        camera, platform = check_sides(self.method, len(images), camera, platform)
        read = pictures.batches(
            images,
            self.batch_size,
            self.image_size,
            self.options.data.test_interpolation,
            num_threads=self.options.data.num_threads,
        )
        shown = sys.stderr.isatty() if progress is None else progress
        parts = [np.zeros((0, self.width), np.float32)]
        with tqdm.tqdm(
            total=len(images), unit="image", disable=not shown, delay=0 if progress else 3
        ) as bar:
            for part in self._computed(read, camera, platform):
                parts.append(part)
                bar.update(len(part))
        features = np.concatenate(parts)
        return unit(features) if normalised and self.method.metric == "cosine" else features

    def embed_tracklets(
        self,
        tracklets: Sequence[Sequence[Any]],
        *,
        camera: Sequence[int] | Int[np.ndarray, " N"] | None = None,
        platform: Sequence[int] | Int[np.ndarray, " N"] | None = None,
        normalised: bool = True,
    ) -> Float32[np.ndarray, "N D"]:
        """The embedding of each tracklet, the images of one person in order of time.

        Images are given as to `embed`; a tracklet is seen in the clips of the model's tests. Raises
        ValueError for a model that embeds no tracklets, an empty tracklet, and what `embed` refuses.
        """
        camera, platform = check_sides(self.method, len(tracklets), camera, platform)
        require(self.method, EmbedsTracklets, "embedding tracklets")

        def compute(batch: ClipBatch) -> np.ndarray:
            size = self._padded(len(batch.row))
            place = np.minimum(np.arange(size), len(batch.row) - 1)
            own = (None if x is None else x[batch.row[place]] for x in (camera, platform))
            arrays = {"image": batch.image[place], "frame_mask": batch.frame_mask[place]}
            arrays = put_whole({**arrays, **_sides(size, *own)}, self.mesh)
            return np.asarray(self._embed_clips(nnx.state(self.method), arrays))[: len(batch.row)]

        clip = getattr(self.options, "clip", ClipOptions())
        test = (self.batch_size, self.image_size, self.options.data.test_interpolation)
        features = embed_clips(compute, clip_batches(tracklets, clip, *test), len(tracklets))
        return unit(features) if normalised and self.method.metric == "cosine" else features

    @functools.cached_property
    def _embed_clips(self) -> Embed:
        flip = getattr(self.options.evaluate, "flip", False)
        return make_embed(self.method, self.mesh, "embed_tracklet", flip=flip)

    def _computed(
        self, read: Iterator[np.ndarray], camera: np.ndarray | None, platform: np.ndarray | None
    ) -> Iterator[Float32[np.ndarray, "b D"]]:
        """The embeddings of batches; a batch is computed while the next one is read."""
        state, done = nnx.state(self.method), 0
        waiting: collections.deque[tuple[int, jax.Array]] = collections.deque()
        for images in read:
            size = self._padded(len(images))
            rows = np.minimum(np.arange(size), len(images) - 1)
            sides = _sides(
                size, *(None if x is None else x[done + rows] for x in (camera, platform))
            )
            batch = put_whole({"image": images[rows], **sides}, self.mesh)
            waiting.append((len(images), self.embedder.embed(state, batch)))
            done += len(images)
            if len(waiting) > 1:
                count, features = waiting.popleft()
                yield np.asarray(features)[:count]
        for count, features in waiting:
            yield np.asarray(features)[:count]

    def _padded(self, count: int) -> int:
        """The batch that holds `count` images: powers of two, so that few sizes are compiled."""
        size = self.mesh.size
        while size < count:
            size *= 2
        return min(size, self.batch_size)

    def embed_text(
        self, sentences: str | Sequence[str], *, normalised: bool = True
    ) -> Float32[np.ndarray, "N D"]:
        """The embedding of each sentence about a person; words beyond the text tower's length are cut.

        Raises ValueError for an empty sentence, for text that is not UTF-8, and for a model that
        embeds images only.
        """
        require(self.method, EmbedsCaptions, "embedding a sentence")
        texts = (sentences,) if isinstance(sentences, str) else tuple(sentences)
        for text in texts:
            # Bytes of a command line that are not UTF-8 are surrogates here.
            if not clean(text.encode("utf-8", "surrogateescape")):
                raise ValueError("the sentence is empty; describe a person in words")
        if not texts:
            return np.zeros((0, self.width), np.float32)
        features = embed_captions(
            self.embedder.embed_text,
            nnx.state(self.method),
            texts,
            self.embedder.text_length,
            self.batch_size,
            self.mesh,
        )
        return unit(features) if normalised and self.method.metric == "cosine" else features

    def detect(self, frames: Any) -> list[FrameDetections]:
        """The people in each frame: boxes in its own pixels, scores, and embeddings that carry the
        score.

        `frames`: as for `embed`. Raises ValueError for a model of crops, and naming the frame for
        one that cannot be read.
        """
        frames = pictures.as_sequence(frames)
        results: list[Any] = [None] * len(frames)
        named = (
            (number, pictures.pixels(frame, f"frame {number}"))
            for number, frame in enumerate(frames)
        )
        for number, _, people in self.finder.detect(named):
            results[number] = people
        return results

    def embed_people(self, frame: Any, boxes: Any) -> Float32[np.ndarray, "N D"]:
        """The embeddings of the people in the boxes (x0, y0, x1, y1, pixels) of one frame.

        A model of person search sees the whole frame; one of crops sees the boxes, cut out at whole
        pixels. Raises ValueError for boxes that are not inside the frame.
        """
        image = pictures.pixels(frame, "the frame")
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        for box in boxes:
            pictures.check_box(box, image)
        if isinstance(self.method, Detects):
            require(self.method, SearchesPersons, "embedding the people of a frame")
            return self.finder.embed(image, boxes)
        corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(int)
        return self.embed([image[y0:y1, x0:x1] for x0, y0, x1, y1 in corners], progress=False)

    def distance(self, queries: np.ndarray, gallery: np.ndarray) -> Float32[np.ndarray, "Q G"]:
        """Distance of every query to every gallery embedding by the model's metric; smaller is more
        similar."""
        return np.asarray(pairwise(queries, gallery, self.method.metric))

    def save(
        self, folder: str | os.PathLike, *, classifier: bool = True, **changes: Any
    ) -> pathlib.Path:
        """Writes the model as a folder that `g2ajax.load` reads, anywhere.

        `classifier=False`: without the weights of the training identities, which embed nothing.
        `changes`: fields of the card to set, such as `name` and `licence`.
        """
        left_out = () if classifier else self.classifier_names()
        card = dataclasses.replace(self.card, **changes)
        return write_model(folder, self.method, card, leave_out=left_out)

    def classifier_names(self) -> list[str]:
        """Public names of the weights whose shape depends on the number of training identities."""
        more = dataclasses.replace(self.facts, num_classes=self.facts.num_classes + 1)
        other = public_shapes(
            nnx.eval_shape(lambda: build(self.card.method, more, rngs=nnx.Rngs(params=0)))
        )
        own = public_shapes(self.method)
        return [name for name, shape in own.items() if other.get(name) != shape]

    @functools.cached_property
    def key(self) -> str:
        """Short hash of everything but the image that an embedding depends on."""
        data = self.options.data
        about = {
            "weights": fingerprint(self.method),
            "method": dict(self.card.method),
            "dtype": str(np.dtype(self.facts.dtype)),
            "size": getattr(data, "image_size", ()),
            "interpolation": getattr(data, "test_interpolation", ""),
            "flip": getattr(self.options.evaluate, "flip", False),
        }
        text = json.dumps(about, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def merge(block: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A block with the changed fields, inside inner blocks too."""
    return {
        **block,
        **{
            k: merge(block.get(k, {}), v) if isinstance(v, Mapping) else v
            for k, v in changes.items()
        },
    }


def check_sides(
    method: Method, count: int, camera: Any, platform: Any
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Cameras and platforms as arrays. Raises ValueError if the method needs one that is missing, or one
    of them has another length."""
    sides = {"camera": camera, "platform": platform}
    needs = {"camera": method.needs_camera, "platform": method.needs_platform}
    missing = [name for name, value in sides.items() if needs[name] and value is None]
    if missing:
        raise ValueError(
            f"{method_name(method)!r}, as trained, must be told the {' and '.join(missing)} of every "
            "image (side information), which its pixels do not say: give "
            + ", ".join(f"{name}=[...]" for name in missing)
            + ", numbered as in training, or use a model trained without it"
        )
    arrays = []
    for name, value in sides.items():
        array = None if value is None or not needs[name] else np.asarray(value, np.int32)
        if array is not None and array.shape != (count,):
            raise ValueError(f"{name} has shape {list(array.shape)}; expected [{count}]")
        arrays.append(array)
    return arrays[0], arrays[1]


def fingerprint(module: nnx.Module) -> str:
    """Short hash of all parameters and statistics under their names."""
    digest = hashlib.sha256()
    for path, leaf in sorted(nnx.to_flat_state(nnx.state(module)), key=lambda item: str(item[0])):
        value = leaf[...]
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            continue
        digest.update(f"{'.'.join(map(str, path))} {value.shape} {value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def unit(features: np.ndarray) -> Float32[np.ndarray, "N D"]:
    """Rows divided by their norm, on the host."""
    norm = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / np.maximum(norm, 1e-12)).astype(np.float32)


def _sides(size: int, camera: np.ndarray | None, platform: np.ndarray | None) -> dict[str, Any]:
    return {
        "camera": np.zeros(size, np.int32) if camera is None else camera,
        "platform": np.full(size, -1, np.int32) if platform is None else platform,
    }
