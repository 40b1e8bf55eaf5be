"""Finding a person in a folder of images, by an image or by a sentence.

import g2ajax
gallery = g2ajax.search("runs/aea_firm", "crops/")
print(gallery.by_text("a person in a red coat with a backpack", top=10))
"""

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import os
import pathlib
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import tqdm
from jaxtyping import Float, UInt8

from g2ajax.data.folders import files_below
from g2ajax.data.images import decode, resize
from g2ajax.data.tracklet_files import TABLE, VIDEOS
from g2ajax.methods import EmbedsCrops, EmbedsTracklets, Method, require
from g2ajax.models.load import load
from g2ajax.models.model import Model
from g2ajax.report.findings import Finding, Picked
from g2ajax.retrieval.prepared import Prepared, prepare, search_prepared

Entry, Match = TypeVar("Entry"), TypeVar("Match")
NOT_AN_IMAGE = "not an image"
CACHE = "~/.cache/g2ajax/search"


@dataclasses.dataclass(frozen=True)
class Found:
    """One image of the gallery."""

    path: pathlib.Path
    distance: float
    """Distance by the model's metric; smaller is more similar."""


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """An embedded folder; `open_gallery` makes it."""

    model: Model
    files: tuple[pathlib.Path, ...]
    """Files in the order of the embeddings."""
    skipped: tuple[tuple[pathlib.Path, str], ...]
    """Files that are no images and links that were not followed, and why."""
    embedded: int
    """Number of images embedded by this call; the others were cached."""
    prepared: Prepared
    by_hash: Mapping[str, np.ndarray]
    """Embeddings by the SHA-256 of the image files."""

    def by_image(self, path: str | os.PathLike, top: int = 10) -> tuple[Found, ...]:
        """The `top` images most similar to an image; all of them when there are fewer.

        Raises FileNotFoundError without the file, ValueError for one that is not an image.
        """
        return self.find(self.embed_queries([path]), top)[0]

    def by_text(self, text: str, top: int = 10) -> tuple[Found, ...]:
        """The `top` images that fit a sentence best. Words beyond the text tower's places are cut,
        and the log says so once.

        Raises ValueError for an empty sentence, for text that is not UTF-8, and when the model
        embeds images only.
        """
        return self.find(self.model.embed_text(text), top)[0]

    def embed_queries(self, paths: Sequence[str | os.PathLike]) -> Float[np.ndarray, "Q D"]:
        """The embeddings of image files; one that lies in the gallery is not computed again."""
        keys = [hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() for path in paths]
        fresh = [path for path, key in zip(paths, keys, strict=True) if key not in self.by_hash]
        computed = iter(self.model.embed(fresh, normalised=False)) if fresh else iter(())
        return np.stack(
            [self.by_hash[key] if key in self.by_hash else next(computed) for key in keys]
        )

    def find(self, features: Float[np.ndarray, "Q D"], top: int = 10) -> list[tuple[Found, ...]]:
        """The `top` images nearest to each embedding."""
        if top < 1:
            raise ValueError(f"top is {top}; at least 1 image can be found")
        return found_in(self.prepared, features, top, self.files, Found)


def found_in(
    prepared: Prepared,
    features: Float[np.ndarray, "Q D"],
    top: int,
    entries: Sequence[Entry],
    match: Callable[[Entry, float], Match],
) -> list[tuple[Match, ...]]:
    """`match(entry, distance)` of the `top` entries nearest to each embedding, or of all if there are
    fewer; `entries` are the gallery's, as prepared."""
    near = search_prepared(features, prepared, min(top, len(entries)))
    return [
        tuple(
            match(entries[row], float(distance))
            for row, distance in zip(rows, distances, strict=True)
        )
        for rows, distances in zip(near.index, near.distance, strict=True)
    ]


def open_gallery(
    model: Model | str | os.PathLike,
    folder: str | os.PathLike,
    *,
    cache: str | os.PathLike | None = None,
    **options: Any,
) -> Gallery:
    """Embeds the images of a folder and of those in it.

    `model`: a model, or what `g2ajax.load` takes, with its `options`. An image is embedded once for
    each model: the folder `cache` keeps the embeddings by content (by default `search` in the
    folder of the run or model, else ~/.cache/g2ajax/search), where it can be written. Files that
    are no images are left out and listed in `skipped`.

    Raises FileNotFoundError without the folder; ValueError without images in it, and for a method
    that needs camera or platform.
    """
    folder = pathlib.Path(os.path.expanduser(folder))
    skipped: list[tuple[pathlib.Path, str]] = []
    files = files_of(folder, skipped)
    if not isinstance(model, Model):
        model = load(model, **options)
    if embeds_tracklets(model):
        raise ValueError(
            f"{model.home or model.card.name} is a model of tracklets, which are searched by "
            "`g2ajax.search_tracklets`; a folder of crops is searched by a model of crops"
        )
    check_alone(model.method)
    store = store_of(model, cache, "embeddings")
    by_hash = read_store(store)
    digest: dict[pathlib.Path, str] = {}
    before = len(by_hash)
    try:
        with tqdm.tqdm(
            total=len(files), unit="image", delay=3, disable=not sys.stderr.isatty()
        ) as bar:
            for part in batched(read_files(model, files, by_hash), model.batch_size):
                bar.update(len(part))
                fresh: dict[str, np.ndarray] = {}
                for file, key, image in part:
                    if image is None and key not in by_hash:
                        skipped.append((file, NOT_AN_IMAGE))
                        continue
                    digest[file] = key
                    if key not in by_hash:
                        fresh[key] = image
                if fresh:
                    features = model.embed(
                        np.stack(list(fresh.values())), normalised=False, progress=False
                    )
                    by_hash |= dict(zip(fresh, features, strict=True))
    finally:  # also of a search that is stopped: what has been embedded is kept
        if len(by_hash) > before:
            write_store(store, by_hash)
    if not digest:
        raise ValueError(
            f"{folder} has no images ({len(files)} other files); the gallery is a folder of crops"
        )
    prepared = prepare(np.stack([by_hash[key] for key in digest.values()]), model.method.metric)
    return Gallery(model, tuple(digest), tuple(skipped), len(by_hash) - before, prepared, by_hash)


def batched(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` rows, the last one shorter."""
    while part := list(itertools.islice(rows, size)):
        yield part


def files_of(
    folder: pathlib.Path, skipped: list[tuple[pathlib.Path, str]] | None = None
) -> tuple[pathlib.Path, ...]:
    """All files below a folder, sorted, through links too; hidden ones are left out. What
    `files_below` passes over is added to `skipped`, with the reason.

    Raises FileNotFoundError without the folder and ValueError for an empty one.
    """
    files, passed = gallery_files(folder, "a folder of crops")
    others = [file for file in files if file.suffix.lower() != TABLE]
    if others and all(file.suffix.lower() in VIDEOS for file in others):
        raise ValueError(
            f"{folder} holds videos ({others[0].name}), no images; their tracks are searched by a model "
            "of tracklets (configs/vsla_clip.py), and whole frames by `g2ajax search-frames`"
        )
    if skipped is not None:
        skipped += passed
    return tuple(files)


def gallery_files(
    folder: pathlib.Path, kind: str = "a folder"
) -> tuple[list[pathlib.Path], list[tuple[pathlib.Path, str]]]:
    """All files below a gallery's folder, and the paths that `files_below` passes over; `kind` says what
    a gallery is.

    Raises FileNotFoundError without the folder and ValueError for an empty one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; the gallery is {kind}")
    files, passed = files_below(folder)
    if not files:
        why = f" ({passed[0][0]} is {passed[0][1]})" if passed else ""
        raise ValueError(f"{folder} is empty{why}; the gallery is {kind}")
    return files, passed


def embeds_tracklets(model: Model) -> bool:
    """True for a model that was trained on tracklets, which it sees in clips."""
    return model.card.task == "tracklets" and isinstance(model.method, EmbedsTracklets)


def check_alone(
    method: Method, capability: type = EmbedsCrops, noun: str = "a gallery of crops"
) -> None:
    """Raises ValueError if the method lacks the capability, or needs more than pixels."""
    require(method, capability, noun)
    inputs = ("camera", method.needs_camera), ("platform", method.needs_platform)
    needs = " and ".join(name for name, needs_it in inputs if needs_it)
    if needs:
        raise ValueError(
            f"this method must be told the {needs} of every image (side information), which a file "
            "does not say; use a model trained without it"
        )


def finding(
    matches: tuple[Found, ...], *, image: pathlib.Path | None = None, text: str = ""
) -> Finding:
    """The results for `report.findings_page`, with the image or the sentence of the query."""
    query = _picked(image) if image else None
    return Finding(
        image.name if image else text,
        query,
        [_picked(item.path, item.distance) for item in matches],
    )


def _picked(path: pathlib.Path, distance: float | None = None) -> Picked:
    pixels = decode(path.read_bytes(), str(path))
    return Picked(pixels, path.name, path.absolute().as_uri(), distance)


def read_files(
    model: Model, files: tuple[pathlib.Path, ...], by_hash: Mapping[str, Any]
) -> Iterator[tuple[pathlib.Path, str, UInt8[np.ndarray, "h w 3"] | None]]:
    """Each file, the SHA-256 of its content and its image at the model's size; None for an image in
    `by_hash`, and for a file that is no image."""

    data_options = model.options.data

    def read(file: pathlib.Path) -> tuple[pathlib.Path, str, np.ndarray | None]:
        data = file.read_bytes()
        key = hashlib.sha256(data).hexdigest()
        if key in by_hash:
            return file, key, None
        try:
            image = decode(data, str(file))
            return file, key, resize(image, model.image_size, data_options.test_interpolation)
        except ValueError:
            return file, key, None

    step = model.batch_size
    with ThreadPoolExecutor(data_options.num_threads) as threads:
        for start in range(0, len(files), step):  # `map` alone would hold all images at once
            yield from threads.map(read, files[start : start + step])


def store_of(model: Model, cache: str | os.PathLike | None, name: str) -> pathlib.Path:
    """The file of a model's embeddings: in `cache`, else in the model's folder, else the user's."""
    own = model.home / "search" if model.home else CACHE
    return pathlib.Path(os.path.expanduser(cache or own)) / f"{name}-{model.key}.npz"


def read_store(store: pathlib.Path) -> dict[str, Any]:
    """Stored embeddings by the SHA-256 of what they are of; empty if none are stored."""
    try:
        # Opened here, because numpy leaves a broken archive open.
        with store.open("rb") as raw, np.load(raw) as archive:
            return dict(zip(archive["sha256"].tolist(), archive["embedding"], strict=True))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logging.getLogger(__name__).warning(
            f"{store} cannot be read ({error}); everything is embedded anew"
        )
        return {}


def write_store(store: pathlib.Path, by_hash: dict[str, Any]) -> None:
    """Keeps the embeddings; in a folder that cannot be written the next search computes them again."""
    partial = store.with_name(f"{store.stem}.{os.getpid()}.partial.npz")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            partial, sha256=np.array(list(by_hash)), embedding=np.stack(list(by_hash.values()))
        )
        partial.replace(store)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        logging.getLogger(__name__).warning(
            f"the embeddings are not kept: {store} cannot be written ({error.strerror})"
        )
