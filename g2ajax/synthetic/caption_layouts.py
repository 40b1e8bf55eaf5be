"""Writes a world to disk as TBAGPR ships its files."""

import json
import pathlib
from collections.abc import Sequence

from g2ajax.synthetic.captions import attribute_codes, said
from g2ajax.synthetic.layouts import agreid_folder
from g2ajax.synthetic.pool import photographs
from g2ajax.synthetic.world import Shot, World

SOURCES = (("AG-ReID", "agtext"), ("G2APS-AG", "g2aps"))
SPLITS = {"train": "train", "test": "query", "val": "gallery"}
"""TBAGPR's split → the world's."""


def tbagpr_path(shot: Shot) -> tuple[str, str, str]:
    """Source, folder and file of a shot: every other person is of G2APS."""
    if shot.person.number % 2:
        return SOURCES[1][0], "img", shot.image_id
    return SOURCES[0][0], agreid_folder(shot), shot.image_id


def write_tbagpr(world: World, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes the images, the six annotation files and `attrs.json`; returns the image count."""
    out = pathlib.Path(out)
    shots = {split: world.shots(part) for split, part in SPLITS.items()}
    everything = [shot for part in shots.values() for shot in part]
    for shot in everything:
        out.joinpath(*tbagpr_path(shot)[:2]).mkdir(parents=True, exist_ok=True)
    for done in photographs(world, everything, workers, progress="SkyGround"):
        out.joinpath(*tbagpr_path(done.shot)).write_bytes(done.jpeg)
    for source, name in SOURCES:
        for split, those in shots.items():
            own = [shot for shot in those if tbagpr_path(shot)[0] == source]
            content = _items(world, own) if split == "train" else _lists(world, own)
            (out / source / f"{name}_{split}.json").write_text(json.dumps(content))
    attributes = [{_key(shot): list(attribute_codes(shot))} for shot in everything]
    (out / "attrs.json").write_text(json.dumps(attributes))
    return len(everything)


def _pairs(world: World, shots: Sequence[Shot]) -> list[tuple[int, Shot, Shot, str]]:
    """(number of the person from 0, aerial image, ground image, sentence)."""
    people = sorted({shot.identity for shot in shots})
    return [
        (people.index(shot.identity), shot, partner, text)
        for shot, told in zip(shots, said(world.seed, shots), strict=True)
        for text, partner in told
    ]


def _place(shot: Shot) -> list[str]:
    return list(tbagpr_path(shot)[1:])


def _items(world: World, shots: Sequence[Shot]) -> list[list]:
    return [
        [pid, number, _place(aerial), _place(ground), text]
        for number, (pid, aerial, ground, text) in enumerate(_pairs(world, shots))
    ]


def _lists(world: World, shots: Sequence[Shot]) -> dict[str, list]:
    pairs = _pairs(world, shots)
    return {
        "image_pids": [pid for pid, *_ in pairs],
        "img_paths": [_place(aerial) for _, aerial, _, _ in pairs],
        "pair_img_paths": [_place(ground) for _, _, ground, _ in pairs],
        "caption_pids": [pid for pid, *_ in pairs],
        "captions": [text for *_, text in pairs],
    }


def _key(shot: Shot) -> str:
    source, folder, file = tbagpr_path(shot)
    return f"{folder}_{file.rpartition('.')[0]}" if source == "AG-ReID" else file[-22:]
