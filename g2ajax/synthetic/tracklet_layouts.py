"""Writes a world of tracklets to disk in the file layouts of real datasets."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import scipy.io

from g2ajax.synthetic import sensor, tracklets
from g2ajax.synthetic.pool import tracklet_photographs
from g2ajax.synthetic.tracklets import Tracklet, TrackletWorld

# Camera of SkyGround → its number in the names.
MARS_CAMERAS = (1, 2)
G2A_CAMERAS = (2, 1)
"""G2A-VReID's camera 1 is the ground."""


def mars_stem(identity: int, camera: int, number: int) -> str:
    """Begin of the names of a tracklet's images; identity 0 is a distractor, −1 junk."""
    digits = "00-1" if identity < 0 else f"{identity:04d}"
    return f"{digits}C{camera}T{number + 1:04d}"


def _write_mars(
    world: TrackletWorld,
    out: str | pathlib.Path,
    cameras: Sequence[int],
    *,
    strangers: bool,
    workers: int | None,
) -> int:
    out = pathlib.Path(out)
    (out / "info").mkdir(parents=True, exist_ok=True)
    queries, count = [], 0
    for part, splits in (("train", ("train",)), ("test", ("query", "gallery"))):
        written: list[tuple[str, dict[int, bytes], int, int]] = []
        chosen = [one for split in splits for one in world.tracklets(split)]
        for photo in tracklet_photographs(world, chosen, workers, progress="SkyGround"):
            one, camera = photo.tracklet, cameras[photo.tracklet.camera]
            stem = mars_stem(one.identity + 1, camera, one.number)
            frames = dict(zip(photo.frame_ids, photo.frames, strict=True))
            written.append((stem, frames, one.identity + 1, camera))
        if part == "test":
            is_query = [one.split == "query" for one in chosen]
            if strangers:
                written += _strangers(world, cameras)
            order = sorted(range(len(written)), key=lambda i: written[i][0])
            queries = [
                place + 1 for place, i in enumerate(order) if i < len(chosen) and is_query[i]
            ]
            written = [written[i] for i in order]
        count += len(written)
        _write_part(out, part, written)
    scipy.io.savemat(out / "info" / "query_IDX.mat", {"query_IDX": np.array([queries], float)})
    return count


def _write_part(
    out: pathlib.Path, part: str, written: Sequence[tuple[str, dict[int, bytes], int, int]]
) -> None:
    """Writes images, the list of their names and the table of tracklets."""
    names, table = [], []
    for stem, frames, identity, camera in written:
        folder = out / f"bbox_{part}" / stem[:4]
        folder.mkdir(parents=True, exist_ok=True)
        table.append((len(names) + 1, len(names) + len(frames), identity, camera))
        for number, data in frames.items():
            names.append(f"{stem}F{number + 1:03d}.jpg")
            (folder / names[-1]).write_bytes(data)
    (out / "info" / f"{part}_name.txt").write_text("\n".join(names) + "\n")
    name = f"track_{part}_info"
    scipy.io.savemat(out / "info" / f"tracks_{part}_info.mat", {name: np.array(table, float)})


def _strangers(
    world: TrackletWorld, cameras: Sequence[int]
) -> list[tuple[str, dict[int, bytes], int, int]]:
    """A distractor (a passer-by) and junk (people cut at half their height) for every third tracklet
    of the gallery."""
    written = []
    for number, one in enumerate(world.tracklets("gallery")[::3]):
        passer_by = world.crowd[number % len(world.crowd)]
        stranger: Tracklet = dataclasses.replace(one, person=passer_by, number=1000 + number)
        camera = cameras[one.camera]
        for identity, drawn in ((0, stranger), (-1, one)):
            frames = {}
            for frame, crop in tracklets.render(world, drawn).items():
                half = crop.image if identity == 0 else crop.image[: len(crop.image) // 2]
                frames[frame] = sensor.jpeg(half, crop.quality)
            written.append((mars_stem(identity, camera, number), frames, identity, camera))
    return written


def write_mars(world: TrackletWorld, out: str | pathlib.Path, *, workers: int | None = None) -> int:
    """Writes images, lists and tables as MARS ships them; returns the number of tracklets.

    The drone is camera 1, CCTV camera 2; identities are numbered from 1. The test table also holds
    distractors (0000) and junk (00-1).
    """
    return _write_mars(world, out, MARS_CAMERAS, strangers=True, workers=workers)


def write_g2a_vreid(
    world: TrackletWorld, out: str | pathlib.Path, *, workers: int | None = None
) -> int:
    """Writes a world as G2A-VReID ships it, in MARS's layout; returns the number of tracklets.

    CCTV is camera 1, the drone camera 2. A person has more than the one tracklet of each there.
    """
    return _write_mars(world, out, G2A_CAMERAS, strangers=False, workers=workers)


AG_VPREID_CAMERAS = (4, 0)
"""A drone is camera 4 there, CCTV camera 0."""


def ag_vpreid_folder(one: Tracklet) -> str:
    """Folder of a tracklet in AG-VPReID: case 1 has aerial queries, case 2 ground queries."""
    place = "train"
    if one.split != "train":
        aerial_queries = (one.camera == 0) == (one.split == "query")
        case = "case1_aerial_to_ground" if aerial_queries else "case2_ground_to_aerial"
        place = f"{case}/{one.split}"
    return f"{place}/{one.identity:04d}/{one.tracklet_id}"


def write_ag_vpreid(
    world: TrackletWorld, out: str | pathlib.Path, *, workers: int | None = None
) -> int:
    """Writes a world as AG-VPReID ships it, without attributes; returns the number of tracklets."""
    chosen = [one for split in tracklets.SPLITS for one in world.tracklets(split)]
    for photo in tracklet_photographs(world, chosen, workers, progress="SkyGround"):
        one, folder = photo.tracklet, pathlib.Path(out) / ag_vpreid_folder(photo.tracklet)
        folder.mkdir(parents=True, exist_ok=True)
        camera, level = AG_VPREID_CAMERAS[one.camera], max(one.level, 0)
        stem = f"P{one.identity:04d}T00000A{level}C{camera}E0K{one.number:02d}"
        for number, data in zip(photo.frame_ids, photo.frames, strict=True):
            (folder / f"{stem}F{number}.jpg").write_bytes(data)
    return len(chosen)


TRACKLET_LAYOUTS = {
    "ag_vpreid": write_ag_vpreid,
    "g2a_vreid": write_g2a_vreid,
    "mars": write_mars,
}
