"""A gallery to explore: queries, rankings, marks, filters and pictures, without the network.

`apps.explore_server` puts it on a page.
"""

import collections
import dataclasses
import hashlib
import io
import os
import pathlib
import re
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from g2ajax.apps.search import Gallery
from g2ajax.data.images import decode
from g2ajax.methods import EmbedsCaptions
from g2ajax.report.files import shown
from g2ajax.retrieval.feedback import rocchio
from g2ajax.retrieval.prepared import Prepared, search_prepared

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""Formats, under PIL's names, of which an image can be dropped; some others start programs (EPS)."""
LENGTHS = (64, 256, 1024)
"""Lengths of rankings that are computed: each is compiled once."""
HELD = 64
"""Dropped images and sentences whose embeddings are kept."""
LONGEST = 1000
"""Characters of a sentence, and marks of each kind."""
SIDE = 2048
"""Most pixels of a side of an enlarged image."""

Embed = Callable[[Any], Float[np.ndarray, " D"]]


@dataclasses.dataclass(frozen=True)
class Question:
    """A query with its marks and filters; `read_question` reads it from JSON."""

    row: int | None = None
    """An image of the gallery."""
    image: str | None = None
    """A dropped image, by the name that `Explorer.hold` gave it."""
    text: str | None = None
    right: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    folder: int | None = None
    camera: int | None = None
    top: int = LENGTHS[0]


@dataclasses.dataclass(frozen=True)
class Groups:
    """A label for each image of the gallery; -1 for none."""

    names: tuple[str, ...]
    index: Int[np.ndarray, " G"]


@dataclasses.dataclass(frozen=True, eq=False)
class Explorer:
    """An embedded gallery and the model's functions; `make_explorer` makes it of a `Gallery`."""

    root: pathlib.Path
    """The gallery's folder; no file outside it is read."""
    names: tuple[str, ...]
    """Paths of the images in the folder, as they are shown."""
    files: tuple[pathlib.Path, ...]
    prepared: Prepared
    features: Float[np.ndarray, "G D"]
    """The same embeddings on the host."""
    among: Bool[np.ndarray, " G"]
    """False for images that are not shown: links that leave the folder."""
    folders: Groups
    cameras: Groups
    embed_image: Embed
    embed_text: Embed | None
    """None for a model that embeds images only."""
    title: str = ""
    _held: collections.OrderedDict[str, np.ndarray] = dataclasses.field(
        default_factory=collections.OrderedDict
    )
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def about(self) -> dict[str, Any]:
        """Title, counts and filters, for the page."""
        return {
            "title": shown(self.title),
            "metric": self.prepared.metric.replace("_", " "),
            "images": int(self.among.sum()),
            "text": self.embed_text is not None,
            "folders": list(self.folders.names),
            "cameras": list(self.cameras.names),
        }

    def warm(self) -> None:
        """Compiles what the first questions need."""
        self.answer(Question(row=int(np.argmax(self.among))))
        self.embed_image(np.zeros((64, 32, 3), np.uint8))
        if self.embed_text:
            self.embed_text("a person")

    def hold(self, data: bytes) -> str:
        """Embeds an encoded image, and gives the name by which a `Question` names it.

        Raises ValueError for what is no image of `FORMATS`, is damaged or far too large.
        """
        key = hashlib.sha256(data).hexdigest()
        self._embedding(key, lambda: self.embed_image(decode_dropped(data)))
        return key

    def answer(self, question: Question) -> dict[str, Any]:
        """The ranking: rows, names and distances, and the number of images that pass the filters.
        Without a query the images are in the gallery's order, and their distances None.

        Raises LookupError for an unknown row, group or dropped image, ValueError for a sentence that
        cannot be embedded.
        """
        among = self._passing(question)
        top = min(question.top, LENGTHS[-1])
        query = self._query(question)
        if query is None:
            rows = np.flatnonzero(among)[:top]
            distances: list[float | None] = [None] * len(rows)
        else:
            right, wrong = self._rows(question.right), self._rows(question.wrong)
            moved = rocchio(query, self.features[right], self.features[wrong])
            length = next(length for length in LENGTHS if length >= top)
            near = search_prepared(
                moved[None], self.prepared, min(length, len(self.files)), among=among
            )
            rows, distances = near.index[0, :top], near.distance[0, :top].tolist()
        results = [
            {"row": int(row), "name": self.names[row], "distance": distance}
            for row, distance in zip(rows, distances, strict=True)
        ]
        return {"results": results, "total": int(among.sum())}

    def picture(self, row: int, height: int) -> bytes:
        """An image of the gallery as JPEG, at most `height` pixels high and `SIDE` wide.

        Raises LookupError for an unknown row, a file that is gone or has become a link that leaves
        the gallery; ValueError for one that is no image any more.
        """
        (row,) = self._rows((row,))
        data = read_inside(self.files[row], self.root)
        image = Image.fromarray(decode(data, self.names[row]))
        image.thumbnail((SIDE, min(height, SIDE)), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    def _query(self, question: Question) -> Float[np.ndarray, " D"] | None:
        if question.row is not None:
            return self.features[self._rows((question.row,))[0]]
        if question.image is not None:
            held = self._held.get(question.image)
            if held is None:
                raise LookupError("this dropped image is no longer held; drop it again")
            return held
        if question.text is None:
            return None
        if self.embed_text is None:
            raise ValueError("this model embeds images only; drop an image")
        embed_text, text = self.embed_text, question.text
        return self._embedding(f"text {text}", lambda: embed_text(text))

    def _embedding(self, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        with self._lock:  # one at a time: several would only share the processors
            if key not in self._held:
                self._held[key] = compute()
            while len(self._held) > HELD:
                self._held.popitem(last=False)
            return self._held[key]

    def _rows(self, rows: Sequence[int]) -> list[int]:
        for row in rows:
            if not (0 <= row < len(self.files) and self.among[row]):
                raise LookupError(f"there is no image {row}")
        return list(rows)

    def _passing(self, question: Question) -> Bool[np.ndarray, " G"]:
        among = self.among
        if question.folder is not None:
            name = _of(self.folders.names, question.folder, "folder")
            # A folder holds those in it.
            inner = [n == name or n.startswith(f"{name}/") for n in self.folders.names]
            among = among & np.isin(self.folders.index, np.flatnonzero(inner))
        if question.camera is not None:
            _of(self.cameras.names, question.camera, "camera")
            among = among & (self.cameras.index == question.camera)
        return among


def _of(names: tuple[str, ...], number: int, kind: str) -> str:
    if not 0 <= number < len(names):
        raise LookupError(f"there is no {kind} {number}")
    return names[number]


def make_explorer(gallery: Gallery, folder: str | os.PathLike, camera: str = "") -> Explorer:
    """An explorer of an embedded folder.

    `camera`: a regular expression with one group, which finds the camera in the path of an image in
    the folder, such as "_c([0-9]+)"; "" for no cameras.

    Raises ValueError for a pattern that does not fit and where every image leaves the folder.
    """
    model, root = gallery.model, pathlib.Path(os.path.realpath(os.path.expanduser(folder)))
    base = pathlib.Path(os.path.expanduser(folder))
    paths = [file.relative_to(base) for file in gallery.files]
    among = np.array([inside(file, root) for file in gallery.files])
    if not among.any():
        raise ValueError(
            f"every image of {folder} is a link that leaves it; give the folder that holds the images"
        )
    prepared = gallery.prepared
    features = np.asarray(prepared.features)
    if prepared.exponent:
        features = np.ldexp(features, prepared.exponent)
    embed_text = (
        (lambda text: model.embed_text(text)[0])
        if isinstance(model.method, EmbedsCaptions)
        else None
    )
    return Explorer(
        root=root,
        names=tuple(shown(path.as_posix()) for path in paths),
        files=gallery.files,
        prepared=prepared,
        features=features,
        among=among,
        folders=folders_of(paths),
        cameras=cameras_of(paths, camera),
        embed_image=lambda pixels: model.embed(pixels, progress=False)[0],
        embed_text=embed_text,
        title=f"{model.card.name} in {base.name or folder}",
    )


def folders_of(paths: Sequence[pathlib.PurePath]) -> Groups:
    """The folder of each image; the names have the folders above too, but not the gallery itself."""
    parents = [path.parent for path in paths]
    names = sorted({shown(up.as_posix()) for one in set(parents) for up in (one, *one.parents)})
    names = [name for name in names if name != "."]
    number = {name: index for index, name in enumerate(names)}
    index = [number.get(shown(parent.as_posix()), -1) for parent in parents]
    return Groups(tuple(names), np.array(index, np.int32))


def compiled(camera: str) -> re.Pattern[str]:
    """The pattern of cameras. Raises ValueError if it is none, or has not exactly one group."""
    try:
        pattern = re.compile(camera)
    except re.error as error:
        raise ValueError(f"--camera={camera} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise ValueError(
            f"--camera={camera} has {pattern.groups} groups; expected one around the camera's name, "
            "such as '_c([0-9]+)'"
        )
    return pattern


def cameras_of(paths: Sequence[pathlib.PurePath], camera: str) -> Groups:
    """The camera of each image, found in its path by a regular expression; none for "".

    Raises ValueError for a pattern without exactly one group, and for one that fits no image.
    """
    if not camera:
        return Groups((), np.full(len(paths), -1, np.int32))
    pattern = compiled(camera)
    matches = [pattern.search(path.as_posix()) for path in paths]
    labels = [shown(match[1]) if match and match[1] else "" for match in matches]
    names = sorted(set(labels) - {""})
    if not names:
        raise ValueError(f"--camera={camera} fits no image, such as {paths[0]}")
    number = {name: index for index, name in enumerate(names)}
    return Groups(tuple(names), np.array([number.get(x, -1) for x in labels], np.int32))


def inside(file: pathlib.Path, root: pathlib.Path) -> bool:
    """True if a file, its links followed, lies below a real folder."""
    return pathlib.Path(os.path.realpath(file)).is_relative_to(root)


def read_inside(file: pathlib.Path, root: pathlib.Path) -> bytes:
    """The content of a regular file below a real folder.

    Raises LookupError where it is missing, leaves the folder or is no regular file.
    """
    real = pathlib.Path(os.path.realpath(file))
    if not real.is_relative_to(root):
        raise LookupError(f"{file.name} is a link that leaves the gallery")
    # Not through a link that has just taken the file's place, and not waiting for a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(real, flags | getattr(os, "O_BINARY", 0)), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise LookupError(f"{file.name} is no regular file")
            return stream.read()
    except OSError as error:
        raise LookupError(f"{file.name} cannot be read: {error.strerror}") from error


def decode_dropped(data: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of an image from outside the gallery.

    Raises ValueError for what is no image of `FORMATS`, is damaged, or has more pixels than PIL holds
    safe; the size is read before anything is decoded.
    """
    return decode(data, "the dropped image", FORMATS)


def read_question(content: Any) -> Question:
    """A question from parsed JSON: {"query": {"row": 3}, "right": [5], "wrong": [], "folder": null,
    "camera": 0, "top": 64}; the query is a row, an image, a text, or null.

    Raises ValueError naming the field for one that is unknown or does not fit.
    """
    if not isinstance(content, dict):
        raise ValueError("expected an object")
    unknown = content.keys() - {"query", "right", "wrong", "folder", "camera", "top"}
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(sorted(unknown))[:100]}")
    right, wrong = (_marks(content, name) for name in ("right", "wrong"))
    if set(right) & set(wrong):
        raise ValueError("an image is marked right and wrong; expected one of them")
    top = content.get("top", LENGTHS[0])
    if not _whole(top) or not 1 <= top <= LENGTHS[-1]:
        raise ValueError(f"`top` does not fit; expected 1 to {LENGTHS[-1]}")
    for name in ("folder", "camera"):
        if content.get(name) is not None and not _whole(content[name]):
            raise ValueError(f"`{name}` does not fit; expected a number or null")
    query = content.get("query")
    kinds = {"row": _whole, "image": _text, "text": _text}
    if query is not None and not (
        isinstance(query, dict)
        and len(query) == 1
        and all(name in kinds and kinds[name](value) for name, value in query.items())
    ):
        raise ValueError(
            f"`query` does not fit; expected null or one of {', '.join(kinds)}, a sentence of at most "
            f"{LONGEST} characters"
        )
    folder, camera = content.get("folder"), content.get("camera")
    return Question(
        **(query or {}), right=right, wrong=wrong, folder=folder, camera=camera, top=top
    )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST


def _marks(content: dict[str, Any], name: str) -> tuple[int, ...]:
    rows = content.get(name, [])
    if not isinstance(rows, list) or len(rows) > LONGEST or not all(map(_whole, rows)):
        raise ValueError(f"`{name}` does not fit; expected at most {LONGEST} row numbers")
    return tuple(dict.fromkeys(rows))
