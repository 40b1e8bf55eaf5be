"""A gallery to explore: queries, rankings, marks, filters and pictures, without the network.

`apps.explore_galleries` makes it of a folder, and `apps.explore_server` puts it on a page.
"""

import collections
import dataclasses
import hashlib
import io
import os
import pathlib
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from g2ajax.data.images import decode
from g2ajax.report.boxes import draw_boxes
from g2ajax.report.files import shown
from g2ajax.report.strips import strip
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
THUMBNAIL = 288
"""Pixels of a small image's height, twice its height on the screen."""

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


@dataclasses.dataclass(frozen=True)
class Shot:
    """Where the pixels of a row are."""

    files: tuple[pathlib.Path, ...] = ()
    """One image, or some of a tracklet's in order of time."""
    box: tuple[float, float, float, float] | None = None
    """A person in a whole frame: x0, y0, x1, y1 in its pixels."""
    still: bytes | None = None
    """A picture that is kept, as JPEG, where there are no files: of a track in a video."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """The words of a page about one kind of rows."""

    one: str = "image"
    many: str = "images"
    dropped: str = "an image"
    """The picture that can be dropped as a query."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explorer:
    """An embedded gallery and the model's functions; a row is an image, a person in a frame, or a
    tracklet."""

    root: pathlib.Path
    """The gallery's folder; no file outside it is read."""
    names: tuple[str, ...]
    """Paths of the rows in the folder, as they are shown."""
    shots: tuple[Shot, ...]
    prepared: Prepared
    features: Float[np.ndarray, "G D"]
    """The same embeddings on the host."""
    among: Bool[np.ndarray, " G"]
    """False for rows that are not shown: links that leave the folder."""
    folders: Groups
    cameras: Groups
    embed_image: Embed
    embed_text: Embed | None
    """None for a model that embeds images only."""
    title: str = ""
    kind: Kind = Kind()
    _held: collections.OrderedDict[str, np.ndarray] = dataclasses.field(
        default_factory=collections.OrderedDict
    )
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def about(self) -> dict[str, Any]:
        """Title, counts and filters, for the page."""
        return {
            "title": shown(self.title),
            "metric": self.prepared.metric.replace("_", " "),
            "kind": dataclasses.asdict(self.kind),
            "count": int(self.among.sum()),
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
                moved[None], self.prepared, min(length, len(self.shots)), among=among
            )
            rows, distances = near.index[0, :top], near.distance[0, :top].tolist()
        results = [
            {"row": int(row), "name": self.names[row], "distance": distance}
            for row, distance in zip(rows, distances, strict=True)
        ]
        return {"results": results, "total": int(among.sum())}

    def picture(self, row: int, *, large: bool = False) -> bytes:
        """A row as JPEG: the image, the person cut out of the frame or large the frame with the box, the
        strip of a tracklet. Small, it is at most `THUMBNAIL` pixels high, large at most `SIDE`.

        Raises LookupError for an unknown row, a file that is gone or has become a link that leaves
        the gallery; ValueError for one that is no image any more.
        """
        (row,) = self._rows((row,))
        shot, name = self.shots[row], self.names[row]
        if shot.still is not None:
            return shot.still
        pixels = [decode(read_inside(file, self.root), name) for file in shot.files]
        if shot.box is None:
            image = Image.fromarray(pixels[0] if len(pixels) == 1 else strip(pixels))
        elif large:
            image = draw_boxes(pixels[0], np.array([shot.box]), [""])
        else:
            (left, top), (right, bottom) = np.floor(shot.box[:2]), np.ceil(shot.box[2:])
            image = Image.fromarray(pixels[0]).crop((left, top, right, bottom))
        return as_jpeg(image, SIDE if large else THUMBNAIL)

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
            if not (0 <= row < len(self.shots) and self.among[row]):
                raise LookupError(f"there is no {self.kind.one} {row}")
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


def as_jpeg(image: Image.Image, height: int) -> bytes:
    """The image as JPEG, made at most `height` pixels high and `SIDE` wide."""
    image.thumbnail((SIDE, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


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
