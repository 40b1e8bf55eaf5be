"""Writes SkyGround's frames to disk in the file layouts of person-search datasets."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.io

from g2ajax.synthetic.frames import Frame, FramePhotograph, FrameQuery, FrameWorld
from g2ajax.synthetic.pool import frame_photographs

Name = Callable[[Frame], str]
CUHK_SYSU_GALLERIES = (50, 100, 500, 1000, 2000, 4000)


def write_cuhk_sysu(
    world: FrameWorld, out: str | pathlib.Path, *, workers: int | None = None
) -> int:
    """Writes frames and annotation files of CUHK-SYSU; returns the number of frames.

    The dataset has one query per person, so only ground queries are written. Galleries mix both
    platforms and are as large as the world allows; the frames that show the person are the same in
    galleries of all sizes.
    """
    queries = [query for query in world.queries if query.frame.platform == "ground"]
    return _write_sysu(
        world,
        pathlib.Path(out),
        name=lambda frame: f"s{frame.number + 1}.jpg",
        queries=queries,
        galleries={
            size: [world.gallery(query, size, shown=25) for query in queries]
            for size in CUHK_SYSU_GALLERIES
        },
        workers=workers,
    )


def g2aps_name(frame: Frame) -> str:
    """File name of a frame in G2APS: S from the ground, D from a drone; one video per camera."""
    letter = "S" if frame.platform == "ground" else "D"
    return f"{letter}{1 + frame.camera % 2}_{30 * (1 + frame.camera % 2)}_{frame.number:05d}.jpg"


def write_g2aps(world: FrameWorld, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes frames and annotation files of G2APS; returns the number of frames.

    Queries are ground frames; galleries are aerial and have 50 frames, if the world has as many.
    """
    queries = [query for query in world.queries if query.frame.platform == "ground"]
    count = _write_sysu(
        world,
        pathlib.Path(out),
        name=g2aps_name,
        queries=queries,
        galleries={50: [world.gallery(query, 50, "aerial") for query in queries]},
        workers=workers,
    )
    numbers = np.arange(1, len(world.people) + 1)
    path = pathlib.Path(out) / "annotation" / "PidProjectIndex.mat"
    scipy.io.savemat(path, {"PidProjectIndex": np.stack([numbers, numbers], axis=1)})
    return count


def _write_sysu(
    world: FrameWorld,
    out: pathlib.Path,
    *,
    name: Name,
    queries: Sequence[FrameQuery],
    galleries: dict[int, list[np.ndarray]],
    workers: int | None,
) -> int:
    folder, lists = out / "Image" / "SSM", out / "annotation" / "test" / "train_test"
    for path in (folder, lists):
        path.mkdir(parents=True, exist_ok=True)
    photos = _draw(world, folder, name, workers)
    test = world.frames("test")
    scipy.io.savemat(
        out / "annotation" / "Images.mat",
        {"Img": _structs([_image(name(photo.frame), photo) for photo in photos.values()])},
    )
    pool = [name(frame) for frame in test]
    scipy.io.savemat(out / "annotation" / "pool.mat", {"pool": _cells(pool)})
    train = []
    for person in world.people[: world.counts.train_people]:
        scenes = [
            _scene(name(frame), _row(photos[frame.image_id], person.number))
            for frame in world.frames("train")
            if person.number in photos[frame.image_id].identity
        ]
        entry = {"idname": _person_name(person.number), "nAppear": len(scenes)}
        train.append(_structs([{**entry, "scene": _structs(scenes)}]))
    scipy.io.savemat(lists / "Train.mat", {"Train": _cells(train)})
    for size, rows in galleries.items():
        entries = []
        for query, places in zip(queries, rows, strict=True):
            box = photos[query.frame.image_id].boxes[query.row]
            query_entry = {
                **_scene(name(query.frame), box),
                "idname": _person_name(query.person),
            }
            frames = [
                _scene(name(test[i]), _row(photos[test[i].image_id], query.person)) for i in places
            ]
            entries.append({"Query": _structs([query_entry]), "Gallery": _structs(frames)})
        scipy.io.savemat(lists / f"TestG{size}.mat", {f"TestG{size}": _structs(entries)})
    return len(photos)


def _person_name(number: int) -> str:
    """Name of a person in the files, counted from 1."""
    return f"p{number + 1}"


def _image(name: str, photo: FramePhotograph) -> dict[str, Any]:
    boxes = [{"idlocate": _location(box), "ishard": 0} for box in photo.boxes]
    return {"imname": name, "nAppear": len(boxes), "box": _structs(boxes)}


def _scene(name: str, box: np.ndarray | None) -> dict[str, Any]:
    location = np.zeros((1, 0)) if box is None else _location(box)
    return {"imname": name, "idlocate": location, "ishard": 0}


def _location(box: np.ndarray) -> np.ndarray:
    """Box as [[x, y, width, height]]."""
    return np.array([[box[0], box[1], box[2] - box[0], box[3] - box[1]]], np.float64)


def _row(photo: FramePhotograph, person: int) -> np.ndarray | None:
    """Box of a person in a frame; None if the person is not there."""
    rows = np.flatnonzero(photo.identity == person)
    return photo.boxes[rows[0]] if len(rows) else None


def _structs(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """A 1 x n array of structs."""
    names = list(rows[0]) if rows else ["idlocate", "ishard"]
    structs = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for i, row in enumerate(rows):
        for key, value in row.items():
            structs[0, i][key] = value
    return structs


def _cells(values: Sequence[Any]) -> np.ndarray:
    """An n x 1 cell array."""
    cells = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        cells[i, 0] = value
    return cells


def prw_name(frame: Frame) -> str:
    """Name of a frame in PRW, without .jpg; cameras are c1 to c4."""
    return f"c{frame.camera + 1}s1_{frame.number:06d}"


def write_prw(world: FrameWorld, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes frames, annotations and lists of PRW; returns the number of frames.

    People are numbered from 1; passers-by are −2. The list of queries has Windows line ends.
    """
    out = pathlib.Path(out)
    for folder in ("frames", "annotations"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    photos = _draw(world, out / "frames", lambda frame: f"{prw_name(frame)}.jpg", workers)
    for photo in photos.values():
        numbers = np.where(photo.identity >= 0, photo.identity + 1, -2)
        locations = [_location(box)[0] for box in photo.boxes]
        rows = np.concatenate([numbers[:, None], np.reshape(locations, (-1, 4))], axis=1)
        path = out / "annotations" / f"{prw_name(photo.frame)}.jpg.mat"
        scipy.io.savemat(path, {"box_new": rows})
    for split in ("train", "test"):
        names = _cells([prw_name(frame) for frame in world.frames(split)])
        scipy.io.savemat(out / f"frame_{split}.mat", {f"img_index_{split}": names})
    lines = []
    for query in world.queries:
        x, y, w, h = _location(photos[query.frame.image_id].boxes[query.row])[0]
        lines.append(f"{query.person + 1} {x:g} {y:g} {w:g} {h:g} {prw_name(query.frame)}\r\n")
    (out / "query_info.txt").write_bytes("".join(lines).encode())
    return len(photos)


def _draw(
    world: FrameWorld, folder: pathlib.Path, name: Name, workers: int | None
) -> dict[str, FramePhotograph]:
    """Draws all frames into a folder; returns image_id → photograph."""
    photos = {}
    frames = [*world.frames("train"), *world.frames("test")]
    for photo in frame_photographs(world, frames, workers, progress="SkyGround"):
        (folder / name(photo.frame)).write_bytes(photo.jpeg)
        photos[photo.frame.image_id] = photo
    return photos


FRAME_LAYOUTS = {"cuhk_sysu": write_cuhk_sysu, "g2aps": write_g2aps, "prw": write_prw}
