"""Finding a person in a folder of images, by an image or by a sentence.

from g2ajax.apps.search import open_gallery
gallery = open_gallery("runs/aea_firm", "crops/")
print(gallery.by_text("a person in a red coat with a backpack", top=10))
"""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

from g2ajax.data.images import decode, resize
from g2ajax.data.sharding import batch_sharding
from g2ajax.data.tokenizer import clean
from g2ajax.methods import EmbedsCaptions, Method, require
from g2ajax.report import Explanation, Query, RankedImage
from g2ajax.report.card import card
from g2ajax.retrieval.prepared import Prepared, prepare, search_prepared
from g2ajax.tasks import crops
from g2ajax.tasks.embedder import embed_captions
from g2ajax.training.loop import reopen
from g2ajax.training.setup import Run
from g2ajax.training.workdir import stored_config

NOT_AN_IMAGE = "not an image"


@dataclasses.dataclass(frozen=True)
class Found:
    """One image of the gallery."""

    path: pathlib.Path
    distance: float
    """Distance by the run's metric; smaller is more similar."""


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """An embedded folder; `open_gallery` makes it."""

    run: Run
    files: tuple[pathlib.Path, ...]
    """Files in the order of the embeddings."""
    skipped: tuple[tuple[pathlib.Path, str], ...]
    """Files that are no images, and why."""
    embedded: int
    """Number of images embedded by this call; the others were cached."""
    prepared: Prepared

    def by_image(self, path: str | os.PathLike, top: int = 10) -> tuple[Found, ...]:
        """The `top` images most similar to an image; all of them when there are fewer.

        Raises FileNotFoundError without the file, ValueError for one that is not an image.
        """
        image = _resized(self.run, _pixels(pathlib.Path(path)))
        return self._find(np.stack(list(_embedded(self.run, iter([image])))), top)

    def by_text(self, text: str, top: int = 10) -> tuple[Found, ...]:
        """The `top` images that fit a sentence best. Words beyond the text tower's places are cut,
        and the log says so once.

        Raises ValueError for an empty sentence, for text that is not UTF-8, and when the run's method
        embeds images only.
        """
        check_text(self.run, text)
        embedder = self.run.task.embedder
        features = embed_captions(
            embedder.embed_text,
            nnx.state(self.run.model),
            (text,),
            embedder.text_length,
            embedder.options.evaluate.batch_size,
            embedder.mesh,
        )
        return self._find(features, top)

    def _find(self, features: Float[np.ndarray, "1 D"], top: int) -> tuple[Found, ...]:
        if top < 1:
            raise ValueError(f"top is {top}; at least 1 image can be found")
        near = search_prepared(features, self.prepared, min(top, len(self.files)))
        rows = zip(near.index[0], near.distance[0], strict=True)
        return tuple(Found(self.files[row], float(distance)) for row, distance in rows)


def open_gallery(
    workdir: str | os.PathLike, folder: str | os.PathLike, *, checkpoint: str = "best"
) -> Gallery:
    """Embeds the images of a folder and of those in it with the run in `workdir`.

    An image is embedded once for each checkpoint: WORKDIR/search keeps the embeddings by content.
    Files that are no images are left out and listed in `skipped`.

    Raises FileNotFoundError without the folder; ValueError without images in it, without the
    checkpoint, and for a method that needs camera or platform.
    """
    folder, workdir = pathlib.Path(folder), pathlib.Path(workdir)
    files = files_of(folder)
    run, _ = reopen(stored_config(workdir), workdir, checkpoint, of=crops.Task)
    return embedded_gallery(run, folder, files, workdir / "search")


def embedded_gallery(
    run: Run, folder: pathlib.Path, files: tuple[pathlib.Path, ...], cache: pathlib.Path
) -> Gallery:
    """The gallery of some files of `folder`, for an open run."""
    check_alone(run.model)
    store = cache / f"embeddings-{embedding_key(run)}.npz"
    cached = _read(store)
    digest: dict[pathlib.Path, str] = {}
    fresh: dict[str, None] = {}
    skipped = []

    def new_images() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        # Every file is read once: its content is looked up in the cache, and decoded if missing.
        for file, key, image in _read_files(run, files, cached):
            if image is None and key not in cached:
                skipped.append((file, NOT_AN_IMAGE))
                continue
            digest[file] = key
            if key not in cached and key not in fresh:
                fresh[key] = None
                yield image

    features = list(_embedded(run, new_images()))
    if not digest:
        raise ValueError(
            f"{folder} has no images ({len(files)} other files); --gallery is a folder of crops"
        )
    if fresh:
        cached |= dict(zip(fresh, features, strict=True))
        _write(store, cached)
    prepared = prepare(np.stack([cached[key] for key in digest.values()]), run.model.metric)
    return Gallery(run, tuple(digest), tuple(skipped), len(fresh), prepared)


def files_of(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """All files below a folder, sorted; hidden ones are left out.

    Raises FileNotFoundError without the folder and ValueError for an empty one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; the gallery is a folder of crops")
    paths = (path for path in folder.rglob("*") if path.is_file())
    files = tuple(
        sorted(
            path
            for path in paths
            if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
    )
    if not files:
        raise ValueError(f"{folder} is empty; the gallery is a folder of crops")
    return files


def check_text(run: Run, text: str) -> None:
    """Raises ValueError for an empty sentence, or one that the method cannot embed."""
    require(run.model, EmbedsCaptions, "a search by a sentence")
    # Bytes of a command line that are not UTF-8 are surrogates here.
    if not clean(text.encode("utf-8", "surrogateescape")):
        raise ValueError("the sentence is empty; describe a person in words")


def embedding_key(run: Run) -> str:
    """Short hash of everything but the image that its embedding depends on."""
    data, evaluate = run.task.options.data, run.task.options.evaluate
    about = {
        "model": fingerprint(run.model),
        "method": run.options.method,
        "dtype": run.options.dtype,
        "size": data.image_size,
        "interpolation": data.test_interpolation,
        "flip": evaluate.flip,
    }
    text = json.dumps(about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(model: nnx.Module) -> str:
    """Short hash of all parameters and statistics under their names."""
    digest = hashlib.sha256()
    for path, leaf in sorted(nnx.to_flat_state(nnx.state(model)), key=lambda item: str(item[0])):
        value = leaf[...]
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            continue
        digest.update(f"{'.'.join(map(str, path))} {value.shape} {value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def check_alone(model: Method) -> None:
    """Raises ValueError if the embedding needs more than the pixels."""
    inputs = ("camera", model.needs_camera), ("platform", model.needs_platform)
    needs = " and ".join(name for name, needs_it in inputs if needs_it)
    if needs:
        raise ValueError(
            f"this method must be told the {needs} of every image (side information), which a file "
            "of one's own does not say; use a run trained without it"
        )


def figure(
    gallery: Gallery, found: tuple[Found, ...], *, image: pathlib.Path | None = None, text: str = ""
) -> Explanation:
    """The results for `report.draw` and `report.page`, with the image or sentence of the query."""
    query = Query(_pixels(image), image.name) if image else Query(card(text), text)
    ranked = tuple(
        RankedImage(_pixels(item.path), item.path.name, None, item.distance) for item in found
    )
    model = gallery.run.model
    by = f"{model.metric}, {model.feature_name}"
    return Explanation(query, (), ranked, (), by, f"{len(gallery.files)} images of your own")


def _pixels(path: pathlib.Path) -> UInt8[np.ndarray, "H W 3"]:
    return decode(path.read_bytes(), str(path))


def _resized(run: Run, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image at the run's size, as its test images are resized."""
    data = run.task.options.data
    return resize(image, data.image_size, data.test_interpolation)


def _read_files(
    run: Run, files: tuple[pathlib.Path, ...], known: Mapping[str, Any]
) -> Iterator[tuple[pathlib.Path, str, UInt8[np.ndarray, "h w 3"] | None]]:
    """Each file, the SHA-256 of its content and its image at the run's size; None for an image in
    `known`, and for a file that is no image."""

    def read(file: pathlib.Path) -> tuple[pathlib.Path, str, np.ndarray | None]:
        data = file.read_bytes()
        key = hashlib.sha256(data).hexdigest()
        if key in known:
            return file, key, None
        try:
            return file, key, _resized(run, decode(data, str(file)))
        except ValueError:
            return file, key, None

    step = run.task.options.evaluate.batch_size
    with ThreadPoolExecutor(run.task.options.data.num_threads) as threads:
        for start in range(0, len(files), step):  # `map` alone would hold all images at once
            yield from threads.map(read, files[start : start + step])


def _embedded(
    run: Run, images: Iterator[UInt8[np.ndarray, "h w 3"]]
) -> Iterator[Float[np.ndarray, " D"]]:
    """The embedding of each image, computed as for the test images."""
    size, state = run.task.options.evaluate.batch_size, nnx.state(run.model)
    blank = {"camera": np.zeros(size, np.int32), "platform": np.full(size, -1, np.int32)}
    while rows := list(itertools.islice(images, size)):
        padded = np.stack(rows + rows[-1:] * (size - len(rows)))
        batch = jax.device_put({"image": padded, **blank}, batch_sharding(run.mesh))
        yield from np.asarray(run.task.embedder.embed(state, batch))[: len(rows)]


def _read(store: pathlib.Path) -> dict[str, Any]:
    """Stored embeddings by the SHA-256 of the image files; empty if none are stored."""
    if not store.is_file():
        return {}
    with np.load(store) as archive:
        return dict(zip(archive["sha256"].tolist(), archive["embedding"], strict=True))


def _write(store: pathlib.Path, known: dict[str, Any]) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    partial = store.with_name(f"{store.stem}.{os.getpid()}.partial.npz")
    np.savez(partial, sha256=np.array(list(known)), embedding=np.stack(list(known.values())))
    partial.replace(store)
