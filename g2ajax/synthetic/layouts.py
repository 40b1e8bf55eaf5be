"""Writes a world to disk in the file layouts of real datasets."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import scipy.io

from g2ajax.synthetic import attributes
from g2ajax.synthetic.captions import attribute_codes, sentences
from g2ajax.synthetic.pool import photographs
from g2ajax.synthetic.sensor import jpeg
from g2ajax.synthetic.world import CAMERAS, SPLITS, Shot, World, render

AGREID_ATTRIBUTES = "qut_attribute_v4_88_attributes.mat"


def agreid_folder(shot: Shot) -> str:
    """Folder of a shot in AG-ReID: one for training, two for each test split."""
    if shot.split == "train":
        return "bounding_box_train"
    place = {"query": "query_all", "gallery": "bounding_box_test_all"}[shot.split]
    return f"{place}_{CAMERAS[shot.camera].lower()}"


def write_agreid(world: World, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes five flat folders of JPEG files and the attribute file; returns the image count.

    Missing folders are created; existing images are overwritten.
    """
    count = _write(world, out, lambda shot: f"{agreid_folder(shot)}/{shot.image_id}", workers)
    tables = {
        "train": _table(world.shots("train")),
        "test": _table([*world.shots("query"), *world.shots("gallery")]),
    }
    path = pathlib.Path(out) / AGREID_ATTRIBUTES
    scipy.io.savemat(path, {"qut_attribute": tables}, format="5")
    return count


def _write(
    world: World, out: str | pathlib.Path, path_of: Callable[[Shot], str], workers: int | None
) -> int:
    """Draws all shots into the files `path_of(shot)` below `out`; returns their number."""
    out = pathlib.Path(out)
    shots = [shot for split in SPLITS for shot in world.shots(split)]
    for folder in {(out / path_of(shot)).parent for shot in shots}:
        folder.mkdir(parents=True, exist_ok=True)
    for photo in photographs(world, shots, workers, progress="SkyGround"):
        (out / path_of(photo.shot)).write_bytes(photo.jpeg)
    return len(shots)


def _table(shots: Sequence[Shot]) -> dict[str, np.ndarray]:
    """A row for each identity: its ten digits, and 88 columns of 1 (no) and 2 (yes)."""
    people = {shot.image_id.split("C")[0]: shot.person for shot in shots}
    tokens = sorted(people)
    digits = np.empty((1, len(tokens)), object)
    digits[0] = ["".join(c for c in token if c.isdigit()) for token in tokens]
    codes = np.array([people[token].attributes for token in tokens])
    columns = attributes.one_hot(codes).astype(np.float64) + 1.0
    by_name = {name: columns[None, :, i] for i, name in enumerate(attributes.COLUMNS)}
    return {"image_index": digits, **by_name}


def market1501_path(shot: Shot) -> str:
    """Path of a shot in Market-1501: the drone is camera 1, CCTV camera 2.

    Identities are numbered from 1, because 0000 marks distractors. Sequence 1 is a morning, 2 an
    afternoon.
    """
    folder = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    name = f"{shot.person.number + 1:04d}_{_market1501_view(shot)}_{shot.frame:06d}_01.jpg"
    return f"{folder[shot.split]}/{name}"


def _market1501_view(shot: Shot) -> str:
    return f"c{shot.camera + 1}s{1 + int(shot.session[-1])}"


def write_market1501(world: World, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes three flat folders of JPEG files, as `write_agreid`; returns the image count.

    As in the dataset, the gallery also holds distractors (0000, a passer-by), junk (-1, an image cut at
    half its height), one of each for every six images, and a Windows thumbnail file.
    """
    out = pathlib.Path(out)
    count = _write(world, out, market1501_path, workers)
    folder, gallery = out / "bounding_box_test", world.shots("gallery")[::6]
    for number, shot in enumerate(gallery):
        passer_by = world.crowd[number % len(world.crowd)]
        stranger = dataclasses.replace(shot, person=passer_by, number=1000 + number)
        for identity, drawn in (("0000", stranger), ("-1", shot)):
            crop = render(world, drawn)
            image = crop.image if drawn is stranger else crop.image[: len(crop.image) // 2]
            name = f"{identity}_{_market1501_view(shot)}_{number:06d}_01.jpg"
            (folder / name).write_bytes(jpeg(image, crop.quality))
    (folder / "Thumbs.db").write_bytes(b"")
    return count + 2 * len(gallery)


def cargo_path(shot: Shot) -> str:
    """Path of a shot in CARGO.

    CARGO has five aerial and eight ground cameras, SkyGround one of each: the numbers of person and
    shot select the camera's name. It is always day.
    """
    number = shot.person.number + shot.number
    camera = 1 + number % 5 if shot.camera == 0 else 6 + number % 8
    name = f"Cam{camera}_day_{shot.person.number}_{shot.number}.jpg"
    return f"{shot.split}/Cam{camera}/{name}"


def write_cargo(world: World, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes folders of cameras for three splits, as `write_agreid`; returns the image count."""
    return _write(world, out, cargo_path, workers)


TBAGPR_SOURCES = (("AG-ReID", "agtext"), ("G2APS-AG", "g2aps"))
"""Folder and file prefix of TBAGPR's two sources."""
TBAGPR_SPLITS = {"train": "train", "test": "query", "val": "gallery"}
"""TBAGPR's split → the world's."""


def tbagpr_path(shot: Shot) -> tuple[str, str, str]:
    """Source, folder and file of a shot; every other person comes from G2APS."""
    if shot.person.number % 2:
        return TBAGPR_SOURCES[1][0], "img", shot.image_id
    return TBAGPR_SOURCES[0][0], agreid_folder(shot), shot.image_id


def write_tbagpr(world: World, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes the images, the six annotation files and `attrs.json`; returns the image count."""
    out = pathlib.Path(out)
    shots = {split: world.shots(part) for split, part in TBAGPR_SPLITS.items()}
    all_shots = [shot for part in shots.values() for shot in part]
    for shot in all_shots:
        out.joinpath(*tbagpr_path(shot)[:2]).mkdir(parents=True, exist_ok=True)
    for photo in photographs(world, all_shots, workers, progress="SkyGround"):
        out.joinpath(*tbagpr_path(photo.shot)).write_bytes(photo.jpeg)
    for source, name in TBAGPR_SOURCES:
        for split, part in shots.items():
            own = [shot for shot in part if tbagpr_path(shot)[0] == source]
            content = _tbagpr_items(world, own) if split == "train" else _tbagpr_lists(world, own)
            (out / source / f"{name}_{split}.json").write_text(json.dumps(content))
    attributes = [{_tbagpr_key(shot): list(attribute_codes(shot))} for shot in all_shots]
    (out / "attrs.json").write_text(json.dumps(attributes))
    return len(all_shots)


def _tbagpr_pairs(world: World, shots: Sequence[Shot]) -> list[tuple[int, Shot, Shot, str]]:
    """Rows of (person's number from 0, aerial image, ground image, sentence)."""
    people = sorted({shot.identity for shot in shots})
    return [
        (people.index(shot.identity), shot, partner, text)
        for shot, pairs in zip(shots, sentences(world.seed, shots), strict=True)
        for text, partner in pairs
    ]


def _tbagpr_place(shot: Shot) -> list[str]:
    return list(tbagpr_path(shot)[1:])


def _tbagpr_items(world: World, shots: Sequence[Shot]) -> list[list]:
    return [
        [pid, number, _tbagpr_place(aerial), _tbagpr_place(ground), text]
        for number, (pid, aerial, ground, text) in enumerate(_tbagpr_pairs(world, shots))
    ]


def _tbagpr_lists(world: World, shots: Sequence[Shot]) -> dict[str, list]:
    pairs = _tbagpr_pairs(world, shots)
    return {
        "image_pids": [pid for pid, *_ in pairs],
        "img_paths": [_tbagpr_place(aerial) for _, aerial, _, _ in pairs],
        "pair_img_paths": [_tbagpr_place(ground) for _, _, ground, _ in pairs],
        "caption_pids": [pid for pid, *_ in pairs],
        "captions": [text for *_, text in pairs],
    }


def _tbagpr_key(shot: Shot) -> str:
    source, folder, file = tbagpr_path(shot)
    return f"{folder}_{file.rpartition('.')[0]}" if source == "AG-ReID" else file[-22:]


LAYOUTS = {
    "agreid": write_agreid,
    "cargo": write_cargo,
    "market1501": write_market1501,
    "tbagpr": write_tbagpr,
}
