"""Writes a world of tracklets to disk in the file layouts of real datasets."""

import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import scipy.io
from PIL import Image

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
        entries = [one for split in splits for one in world.tracklets(split)]
        for photo in tracklet_photographs(world, entries, workers, progress="SkyGround"):
            one, camera = photo.tracklet, cameras[photo.tracklet.camera]
            stem = mars_stem(one.identity + 1, camera, one.number)
            frames = dict(zip(photo.frame_ids, photo.frames, strict=True))
            written.append((stem, frames, one.identity + 1, camera))
        if part == "test":
            is_query = [one.split == "query" for one in entries]
            if strangers:
                written += _strangers(world, cameras)
            order = sorted(range(len(written)), key=lambda i: written[i][0])
            queries = [
                place + 1 for place, i in enumerate(order) if i < len(entries) and is_query[i]
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
    entries = [one for split in tracklets.SPLITS for one in world.tracklets(split)]
    for photo in tracklet_photographs(world, entries, workers, progress="SkyGround"):
        one, folder = photo.tracklet, pathlib.Path(out) / ag_vpreid_folder(photo.tracklet)
        folder.mkdir(parents=True, exist_ok=True)
        camera, level = AG_VPREID_CAMERAS[one.camera], max(one.level, 0)
        stem = f"P{one.identity:04d}T00000A{level}C{camera}E0K{one.number:02d}"
        for number, data in zip(photo.frame_ids, photo.frames, strict=True):
            (folder / f"{stem}F{number}.jpg").write_bytes(data)
    return len(entries)


def _pairs(world: TrackletWorld) -> list[Tracklet]:
    """The first tracklet of each person in each camera."""
    return [
        one for split in ("train", "query") for one in world.tracklets(split) if one.number == 0
    ]


def _halves(world: TrackletWorld) -> np.ndarray:
    """Ten random orders of the people, counted from 1; the first half of each is for testing."""
    draws = np.random.default_rng(world.seed)
    return np.array([draws.permutation(len(world.people)) + 1 for _ in range(10)])


def _write_pairs(
    world: TrackletWorld,
    out: pathlib.Path,
    cameras: Sequence[str],
    person: Callable[[int], str],
    workers: int | None,
) -> int:
    """Writes a folder of PNG files for each camera and person; returns the number of tracklets."""
    entries = _pairs(world)
    for photo in tracklet_photographs(world, entries, workers, progress="SkyGround"):
        one = photo.tracklet
        folder = out / cameras[one.camera] / person(one.identity + 1)
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in zip(photo.frame_ids, photo.frames, strict=True):
            with Image.open(io.BytesIO(data)) as image:
                image.save(folder / f"{number + 1:04d}.png")
    return len(entries)


def write_ilids_vid(
    world: TrackletWorld, out: str | pathlib.Path, *, workers: int | None = None
) -> int:
    """Writes a world as iLIDS-VID ships it; returns the number of tracklets.

    The drone is the first camera, CCTV the second. A person has one tracklet in each.
    """
    out = pathlib.Path(out)
    cameras = [f"i-LIDS-VID/sequences/cam{i}" for i in (1, 2)]
    count = _write_pairs(world, out, cameras, "person{:03d}".format, workers)
    (out / "train-test people splits").mkdir(exist_ok=True)
    table = out / "train-test people splits" / "train_test_splits_ilidsvid.mat"
    scipy.io.savemat(table, {"ls_set": _halves(world).astype(float)})
    return count


def write_prid2011(
    world: TrackletWorld, out: str | pathlib.Path, *, workers: int | None = None
) -> int:
    """Writes a world as PRID 2011's multi-shot version; returns the number of tracklets.

    The drone is camera a, CCTV camera b. A person has one tracklet in each.
    """
    out = pathlib.Path(out)
    cameras = [f"prid_2011/multi_shot/cam_{letter}" for letter in "ab"]
    count = _write_pairs(world, out, cameras, "person_{:04d}".format, workers)
    divisions = []
    for order in _halves(world).tolist():
        names = [f"person_{number:04d}" for number in order]
        half = len(names) // 2
        divisions.append({"train": sorted(names[half:]), "test": sorted(names[:half])})
    (out / "splits_prid2011.json").write_text(json.dumps(divisions))
    return count


LS_VID_CAMERAS = (1, 15)
"""SkyGround's drone and CCTV in LS-VID's names."""


def write_ls_vid(
    world: TrackletWorld, out: str | pathlib.Path, *, workers: int | None = None
) -> int:
    """Writes a world as LS-VID ships it; returns the number of tracklets. Raises ImportError without
    h5py, which writes the list of the queries."""
    import h5py

    out = pathlib.Path(out)
    (out / "list_sequence").mkdir(parents=True, exist_ok=True)
    (out / "test" / "data").mkdir(parents=True, exist_ok=True)
    queries, count = [], 0
    for part, splits in (("train", ("train",)), ("test", ("query", "gallery"))):
        entries = [one for split in splits for one in world.tracklets(split)]
        entries.sort(key=lambda one: one.tracklet_id)
        lines = []
        for photo in tracklet_photographs(world, entries, workers, progress="SkyGround"):
            one, camera = photo.tracklet, LS_VID_CAMERAS[photo.tracklet.camera]
            begin = f"tracklet_{part}/{one.identity:04d}/{len(lines):04d}_"
            (out / begin).parent.mkdir(parents=True, exist_ok=True)
            for number, data in zip(photo.frame_ids, photo.frames, strict=True):
                (out / f"{begin}{number:04d}_{camera:02d}_0.jpg").write_bytes(data)
            lines.append(f"{begin} {one.identity}")
            if one.split == "query":
                queries.append(len(lines))
        (out / "list_sequence" / f"list_seq_{part}.txt").write_text("\n".join(lines) + "\n")
        count += len(lines)
    with h5py.File(out / "test" / "data" / "info_test.mat", "w") as file:
        file["query"] = np.array([queries], float)
    return count


def p_destre_video(one: Tracklet) -> str:
    """Video of an aerial tracklet: date, camera and sequence."""
    return f"08-11-2019-{one.level + 1}-{one.number + 1}"


def write_p_destre(
    world: TrackletWorld, out: str | pathlib.Path, *, workers: int | None = None
) -> int:
    """Writes the aerial tracklets of a world as P-DESTRE ships its extracted people, without
    annotations of frames; returns the number of tracklets.

    In each of the five folds another half of the people trains; of the others the first tracklet is
    a query.
    """
    out = pathlib.Path(out)
    entries = [one for split in tracklets.SPLITS for one in world.tracklets(split)]
    entries = [one for one in entries if one.camera == 0]
    for photo in tracklet_photographs(world, entries, workers, progress="SkyGround"):
        one = photo.tracklet
        folder = out / "jpg_Extracted_PIDS" / p_destre_video(one) / str(one.identity)
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in zip(photo.frame_ids, photo.frames, strict=True):
            (folder / f"{one.identity}_{number}_08112019_1.jpg").write_bytes(data)
    lists = out / "pedestrian_reid_splits" / "Splits"
    lists.mkdir(parents=True, exist_ok=True)
    people = len(world.people)
    for fold in range(5):
        lines: dict[str, list[str]] = {"Train": [], "Query": [], "Gallery": []}
        for one in entries:
            place = (one.identity - fold * people // 5) % people
            test = "Gallery" if one.number else "Query"
            split = "Train" if place < people // 2 else test
            lines[split].append(f"{p_destre_video(one)}/{one.identity}")
        for split, names in lines.items():
            (lists / f"{split}_{fold}.txt").write_text("\n".join(sorted(names)) + "\n")
    return len(entries)


DETREIDX_PLACES = ("17.3_30_30", "40_80_30", "120_0_90")
"""Height, distance and angle of the drone in DetReIDX's names, for each level of altitude."""


def detreidx_folders(one: Tracklet) -> list[str]:
    """Folders of a tracklet in DetReIDX: aerial test tracklets are in two of the cases."""
    places = {
        ("query", 0): ("case1_aerial_to_ground", "case3_aerial_to_aerial"),
        ("query", 1): ("case2_ground_to_aerial",),
        ("gallery", 0): ("case2_ground_to_aerial", "case3_aerial_to_aerial"),
        ("gallery", 1): ("case1_aerial_to_ground",),
    }
    below = f"{one.identity:04d}/{one.tracklet_id}"
    if one.split == "train":
        return [f"train/{below}"]
    return [f"{case}/{one.split}/{below}" for case in places[one.split, one.camera]]


def write_detreidx(
    world: TrackletWorld, out: str | pathlib.Path, *, workers: int | None = None
) -> int:
    """Writes a world as DetReIDX ships it; returns the number of tracklets.

    Drones fly in session 2 for the gallery, else in session 1. Attributes are zeros; a field
    of no known use holds the number of the frame.
    """
    entries = [one for split in tracklets.SPLITS for one in world.tracklets(split)]
    for photo in tracklet_photographs(world, entries, workers, progress="SkyGround"):
        one = photo.tracklet
        session = 2 if one.split == "gallery" else 1
        for place in detreidx_folders(one):
            folder = pathlib.Path(out) / place
            folder.mkdir(parents=True, exist_ok=True)
            for number, data in zip(photo.frame_ids, photo.frames, strict=True):
                name = f"{one.identity:04d}_0_1_1_1_{number}_F"
                if one.camera == 0:
                    view, zeros = DETREIDX_PLACES[one.level], "_".join("0" * 11)
                    name = (
                        f"{one.identity:04d}_23_10_2024_09_18_{view}_{zeros}_{number}_1_S{session}"
                    )
                (folder / f"{name}.jpg").write_bytes(data)
    return len(entries)


TRACKLET_LAYOUTS = {
    "ag_vpreid": write_ag_vpreid,
    "detreidx": write_detreidx,
    "g2a_vreid": write_g2a_vreid,
    "ilids_vid": write_ilids_vid,
    "ls_vid": write_ls_vid,
    "mars": write_mars,
    "p_destre": write_p_destre,
    "prid2011": write_prid2011,
}
