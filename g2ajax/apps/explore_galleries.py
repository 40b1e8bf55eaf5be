"""Explorers of a folder, by what the model embeds: crops, the people of whole frames, or tracklets."""

import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from g2ajax.apps import search
from g2ajax.apps.explore import THUMBNAIL, Embed, Explorer, Groups, Kind, Shot, as_jpeg, inside
from g2ajax.apps.search_frames import check_searches
from g2ajax.apps.search_tracklets import STRIP, open_tracklet_gallery, spread
from g2ajax.data.footage import footage
from g2ajax.data.tracklet_files import Tracklet
from g2ajax.methods import Detects, EmbedsCaptions
from g2ajax.models.model import Model
from g2ajax.report.files import shown
from g2ajax.report.strips import strip
from g2ajax.retrieval.prepared import Prepared, prepare

Say = Callable[[str], Any]
CROPS = Kind()
PEOPLE = Kind("person", "people", "an image cut to one person")
TRACKLETS = Kind("tracklet", "tracklets", "an image, a tracklet of one,")


def open_explorer(
    model: Model, folder: str | os.PathLike, camera: str = "", *, say: Say = print
) -> Explorer:
    """The explorer of a folder: of crops, of the tracklets of `open_tracklet_gallery` for a model of
    tracklets, of the people found in a folder of whole frames for a model of person search.

    `camera`: a regular expression with one group, which finds the camera in the path of an image in
    the folder, such as "_c([0-9]+)"; "" for no cameras. `say` is told what was left out.

    Raises ValueError for a pattern that does not fit, for a folder without images of the kind, and where
    every image is a link that leaves the folder.
    """
    folder = pathlib.Path(os.path.expanduser(folder))
    if isinstance(model.method, Detects):
        return explore_people(model, folder, camera, say)
    if search.embeds_tracklets(model):
        return explore_tracklets(model, folder, camera, say)
    return explore_crops(model, folder, camera, say)


def explore_crops(model: Model, folder: pathlib.Path, camera: str, say: Say) -> Explorer:
    """The explorer of a folder of crops."""
    gallery = search.open_gallery(model, folder)
    for path, why in gallery.skipped:
        say(f"skipped: {path} ({why})")
    paths = [file.relative_to(folder) for file in gallery.files]
    return _explorer(
        model,
        folder,
        paths,
        [Shot((file,)) for file in gallery.files],
        gallery.prepared,
        camera,
        say,
        embed_image=lambda pixels: model.embed(pixels, progress=False)[0],
    )


def explore_people(model: Model, folder: pathlib.Path, camera: str, say: Say) -> Explorer:
    """The explorer of the people that the model finds in a folder of frames.

    They are compared by the cosine: the detector's score takes no part, unlike in `search_frames`.
    """
    check_searches(model)
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder; write a video as a folder of its frames to explore it, or search "
            "it by `g2ajax search-frames`"
        )
    skipped: list[str] = []
    detected = {  # frames of one size are computed together, out of order
        number: (name, people)
        for number, (name, _), people in model.finder.detect(footage(folder, skipped))
    }
    for name in skipped:
        say(f"skipped: {name} cannot be read")
    paths, shots, features, names = [], [], [], []
    for _, (name, people) in sorted(detected.items()):
        for place, box in enumerate(people.boxes.tolist(), start=1):
            paths.append(pathlib.PurePath(name))
            names.append(f"{name}, person {place}")
            shots.append(Shot((folder / name,), tuple(box)))
        features.append(people.features)
    if not paths:
        raise ValueError(f"nobody was found in the {len(detected)} frames of {folder}")
    say(f"{len(paths)} people in {len(detected)} frames")
    return _explorer(
        model,
        folder,
        paths,
        shots,
        prepare(np.concatenate(features)),
        camera,
        say,
        names=names,
        kind=PEOPLE,
        embed_image=lambda pixels: model.embed_people(
            pixels, [(0, 0, pixels.shape[1], pixels.shape[0])]
        )[0],
    )


def explore_tracklets(model: Model, folder: pathlib.Path, camera: str, say: Say) -> Explorer:
    """The explorer of the tracklets of a folder."""
    gallery = open_tracklet_gallery(model, folder)
    for path, why in gallery.skipped:
        say(f"skipped: {path} ({why})")
    of_videos = [one for one in gallery.tracklets if one.boxes is not None]
    stills = iter(
        as_jpeg(Image.fromarray(strip(images)), THUMBNAIL) for images in gallery.images(of_videos)
    )
    shots = [
        Shot(tuple(one.files[place] for place in spread(len(one), STRIP)))
        if one.boxes is None
        else Shot((one.source,), still=next(stills))
        for one in gallery.tracklets
    ]
    return _explorer(
        model,
        folder,
        [_path(one, folder) for one in gallery.tracklets],
        shots,
        gallery.prepared,
        camera,
        say,
        names=[one.name for one in gallery.tracklets],
        kind=TRACKLETS,
        embed_image=lambda pixels: model.embed_tracklets([[pixels]], normalised=False)[0],
    )


def _path(tracklet: Tracklet, folder: pathlib.Path) -> pathlib.PurePath:
    """The folder of the images, or as if the tracks of a video lay in it."""
    path = tracklet.source.relative_to(folder)
    return path if tracklet.track is None else path / f"track {tracklet.track}"


def _explorer(
    model: Model,
    folder: pathlib.Path,
    paths: Sequence[pathlib.PurePath],
    shots: Sequence[Shot],
    prepared: Prepared,
    camera: str,
    say: Say,
    *,
    embed_image: Embed,
    names: Sequence[str] | None = None,
    kind: Kind = CROPS,
) -> Explorer:
    root = pathlib.Path(os.path.realpath(folder))
    among = np.array([all(inside(file, root) for file in shot.files) for shot in shots])
    if not among.any():
        raise ValueError(
            f"every image of {folder} is a link that leaves it; give the folder that holds the images"
        )
    away = int((~among).sum())
    if away:
        say(f"{away} {kind.many} are links that leave {folder} and are not shown")
    return Explorer(
        root=root,
        names=tuple(map(shown, names or [path.as_posix() for path in paths])),
        shots=tuple(shots),
        prepared=prepared,
        features=on_host(prepared),
        among=among,
        folders=folders_of(paths),
        cameras=cameras_of(paths, camera),
        embed_image=embed_image,
        embed_text=(
            (lambda text: model.embed_text(text)[0])
            if isinstance(model.method, EmbedsCaptions)
            else None
        ),
        title=f"{model.card.name} in {folder.name or folder}",
        kind=kind,
    )


def on_host(prepared: Prepared) -> Float[np.ndarray, "G D"]:
    """The embeddings of a gallery, at the scale of the queries."""
    features = np.asarray(prepared.features)
    return np.ldexp(features, prepared.exponent) if prepared.exponent else features


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
