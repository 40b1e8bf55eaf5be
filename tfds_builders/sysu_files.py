"""Annotation files of CUHK-SYSU and of G2APS, which has the same format.

    annotation/Images.mat                        every frame and its boxes
    annotation/pool.mat                          names of the test frames
    annotation/test/train_test/Train.mat         the frames and boxes of each training person
    annotation/test/train_test/TestG<n>.mat      a query and n gallery frames for each test person

Fields are read by position, as other readers of the dataset do.
"""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import scipy.io

IMAGES = "Image/SSM"
ANNOTATION = "annotation"
LISTS = "annotation/test/train_test"
FILES = (IMAGES, f"{ANNOTATION}/Images.mat", f"{ANNOTATION}/pool.mat", f"{LISTS}/Train.mat")


def test_file(size: int) -> str:
    """File with the galleries of a size."""
    return f"{LISTS}/TestG{size}.mat"


@dataclasses.dataclass
class Annotated:
    """Boxes of a frame (x0, y0, x1, y1) and their identities; −1: no identity."""

    boxes: np.ndarray
    identities: list[int]


@dataclasses.dataclass(frozen=True)
class Query:
    """A query and its galleries."""

    name: str
    box: np.ndarray
    identity: int
    galleries: dict[int, list[str]]
    """Size → names of the frames."""


@dataclasses.dataclass(frozen=True)
class Annotations:
    """Content of the annotation files: name of a frame → its people, and queries in order."""

    train: dict[str, Annotated]
    gallery: dict[str, Annotated]
    queries: list[Query]


def read(root: pathlib.Path, dataset: str, sizes: tuple[int, ...], *, raw_ids: bool) -> Annotations:
    """Reads the annotations. `sizes`: sizes of the galleries; the first file names the test people.

    Boxes without width or height are dropped, others truncated to integers. The identity of a person
    is the position in Train.mat or TestG<n>.mat, counted from 1, or with `raw_ids` the number in the
    person's name. If several boxes are equal, the first one gets the identity.

    Raises ValueError for a file of another format, a frame that Images.mat lacks, and lists with
    different queries.
    """
    frames = {}
    for row in _rows(root / f"{ANNOTATION}/Images.mat", "Img"):
        boxes = [_box(_field(entry, 0)) for entry in _many(_field(row, 2))]
        kept = [box for box in boxes if box is not None]
        array = np.array(kept, np.int32).reshape(-1, 4)
        frames[_name(_field(row, 0))] = Annotated(array, [-1] * len(array))
    pool = [_name(name) for name in _rows(root / f"{ANNOTATION}/pool.mat", "pool")]
    for name in pool:
        if name not in frames:
            raise ValueError(f"{dataset}: pool.mat names {name}, which Images.mat does not")
    files = _Files(dataset, frames)
    gallery = sorted(pool)
    train = sorted(set(frames) - set(pool))
    for i, row in enumerate(_rows(root / f"{LISTS}/Train.mat", "Train")):
        identity = _number(dataset, "Train.mat", _field(row, 0)) if raw_ids else i + 1
        for scene in _many(_field(row, 2)):
            files.give("Train.mat", _name(_field(scene, 0)), _field(scene, 1), identity)
    queries = _queries(root, dataset, sizes, raw_ids, files)
    if files.unmatched:
        warnings.warn(
            f"{dataset}: {len(files.unmatched)} boxes of people are none of those that Images.mat "
            f"has (the first: {files.unmatched[0]}); these people have no identity there",
            stacklevel=2,
        )
    _check_lists(dataset, frames, queries, set(pool))
    return Annotations(
        {name: frames[name] for name in train}, {name: frames[name] for name in gallery}, queries
    )


def _queries(
    root: pathlib.Path, dataset: str, sizes: tuple[int, ...], raw_ids: bool, files: "_Files"
) -> list[Query]:
    queries: list[Query] = []
    for size in sizes:
        file = pathlib.PurePath(test_file(size)).name
        rows = _rows(root / test_file(size), f"TestG{size}")
        if queries and len(rows) != len(queries):
            raise ValueError(f"{dataset}: {file} has {len(rows)} queries, expected {len(queries)}")
        for i, row in enumerate(rows):
            query, entries = _many(_field(row, 0))[0], _many(_field(row, 1))
            name = _name(_field(query, 0))
            if size == sizes[0]:
                box = _box(_field(query, 1))
                if box is None:
                    raise ValueError(f"{dataset}: {file}: query {i + 1} ({name}) has an empty box")
                identity = _number(dataset, file, _field(query, 3)) if raw_ids else i + 1
                files.give(file, name, _field(query, 1), identity)
                for entry in entries:
                    if not np.size(_field(entry, 1)):
                        break
                    files.give(file, _name(_field(entry, 0)), _field(entry, 1), identity)
                queries.append(Query(name, box, identity, {}))
            elif queries[i].name != name:
                raise ValueError(
                    f"{dataset}: query {i + 1} of {file} is {name}, that of "
                    f"TestG{sizes[0]}.mat is {queries[i].name}"
                )
            queries[i].galleries[size] = [_name(_field(entry, 0)) for entry in entries]
    return queries


class _Files:
    """Assigns identities to boxes, and records those that match no box."""

    def __init__(self, dataset: str, frames: dict[str, Annotated]) -> None:
        self.dataset, self.frames = dataset, frames
        self.unmatched: list[str] = []

    def give(self, file: str, name: str, location: Any, identity: int) -> None:
        if name not in self.frames:
            raise ValueError(f"{self.dataset}: {file} names {name}, which Images.mat does not")
        frame, box = self.frames[name], _box(location)
        equal = [] if box is None else np.flatnonzero((frame.boxes == box).all(axis=1))
        if not len(equal):
            self.unmatched.append(f"{file}, {name}, person {identity}")
            return
        frame.identities[int(equal[0])] = identity


def _check_lists(
    dataset: str, frames: dict[str, Annotated], queries: list[Query], pool: set[str]
) -> None:
    for query in queries:
        for size, names in query.galleries.items():
            outside = [name for name in names if name not in pool]
            if outside:
                raise ValueError(
                    f"{dataset}: TestG{size}.mat lists {outside[0]} for the query {query.name}, "
                    "which is not a test frame (pool.mat)"
                )
        if query.name not in pool:
            raise ValueError(f"{dataset}: the query frame {query.name} is not in pool.mat")


def _rows(path: pathlib.Path, variable: str) -> list[Any]:
    """Entries of a variable of a MATLAB file."""
    try:
        content = scipy.io.loadmat(path)
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path} is no readable MATLAB file: {error}") from error
    if variable not in content:
        names = ", ".join(name for name in content if not name.startswith("__"))
        raise ValueError(f"{path} holds {names or 'nothing'}, expected {variable}")
    return _many(content[variable])


def _many(value: Any) -> list[Any]:
    """Records of an array of structs, or contents of a cell array."""
    entries = np.asarray(value).ravel()
    if entries.dtype != object:
        return list(entries)
    return [_many(entry)[0] if _is_struct(entry) else entry for entry in entries]


def _is_struct(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.names is not None and value.size == 1


def _field(struct: Any, place: int) -> Any:
    names = getattr(getattr(struct, "dtype", None), "names", None)
    if names is None or len(names) <= place:
        raise ValueError(
            f"a record of the annotation files has no field number {place + 1}: {struct!r}"
        )
    return struct[place]


def _name(value: Any) -> str:
    entries = np.asarray(value).ravel()
    return str(entries[0]).strip() if len(entries) else ""


def _box(location: Any) -> np.ndarray | None:
    """Converts x, y, w, h (truncated to integers) to x0, y0, x1, y1; None without width or height."""
    values = np.asarray(location, np.float64).ravel()
    if len(values) < 4:
        return None
    x, y, w, h = values[:4].astype(np.int32)
    return None if w <= 0 or h <= 0 else np.array([x, y, x + w, y + h], np.int32)


def _number(dataset: str, file: str, value: Any) -> int:
    """Number in a person's name, which may itself be a number."""
    name = _name(value)
    digits = "".join(c for c in name if c.isdigit())
    if not digits:
        raise ValueError(f"{dataset}: {file}: the name {name!r} holds no number")
    return int(digits)


def splits(
    annotations: Annotations,
    root: pathlib.Path,
    fields: Callable[[str], Mapping[str, Any]],
    protocols: Callable[[Query], list[int]],
) -> dict[str, list[dict[str, Any]]]:
    """Records for `FrameBuilder.finished_frames`; `fields(name)`: metadata in the name of a frame."""

    def records(frames: Mapping[str, Annotated]) -> Iterator[dict[str, Any]]:
        for name, frame in frames.items():
            yield {
                "image": root / IMAGES / name,
                "image_id": f"{IMAGES}/{name}",
                "boxes": frame.boxes.astype(np.float32),
                "identities": frame.identities,
                **fields(name),
            }

    places = {name: i for i, name in enumerate(annotations.gallery)}
    queries = [
        {
            "image": root / IMAGES / query.name,
            "image_id": f"{IMAGES}/{query.name}",
            "boxes": query.box[None].astype(np.float32),
            "identities": [query.identity],
            "galleries": {n: [places[name] for name in v] for n, v in query.galleries.items()},
            "protocols": protocols(query),
            **fields(query.name),
        }
        for query in annotations.queries
    ]
    return {
        "train": list(records(annotations.train)),
        "gallery": list(records(annotations.gallery)),
        "query": queries,
    }
