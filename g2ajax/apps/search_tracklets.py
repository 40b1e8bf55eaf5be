"""Finding a tracklet among the user's own: folders of images, and tracks of videos.

import g2ajax
gallery = g2ajax.search_tracklets("runs/vsla_clip", "walks/")
print(gallery.by_tracklet("anna/", top=10))                 # a folder of images
print(gallery.by_tracklet("walks/gate.mp4", track=7))       # a track of a video
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm
from jaxtyping import Float, Int, UInt8

from g2ajax.apps.search import (
    batched,
    check_alone,
    embeds_tracklets,
    found_in,
    read_store,
    store_of,
    write_store,
)
from g2ajax.data.clips import ClipOptions, Clips, planned_clips
from g2ajax.data.images import decode, resize
from g2ajax.data.mot import read_tracks
from g2ajax.data.tracklet_files import (
    IMAGES,
    Crops,
    Tracklet,
    content_of,
    folder_tracklet,
    table_of,
    tracklets_below,
    video_crops,
    video_tracks,
)
from g2ajax.methods import EmbedsTracklets
from g2ajax.models.load import load
from g2ajax.models.model import Model
from g2ajax.retrieval.prepared import Prepared, prepare

Skipped = list[tuple[pathlib.Path, str]]
STRIP = 6
"""Most images of a strip."""


@dataclasses.dataclass(frozen=True)
class FoundTracklet:
    """One tracklet of the gallery."""

    tracklet: Tracklet
    distance: float
    """Distance by the model's metric; smaller is more similar."""


class _Plan(NamedTuple):
    """The images of a tracklet that a test of the model sees."""

    clips: Clips
    places: Int[np.ndarray, " n"]


class _Read(NamedTuple):
    """A tracklet of which the images of its clips have been read."""

    number: int
    """Its place in the list."""
    tracklet: Tracklet
    """The same without images that cannot be read."""
    key: str
    crops: Crops | None
    """Its images by their place; None where the embedding is known."""


class _Images(Sequence):
    """The images of a tracklet as a sequence, of which some places hold one."""

    def __init__(self, count: int, crops: Crops) -> None:
        self.count, self.crops = count, crops

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: Any) -> np.ndarray:
        return self.crops[int(place)]


@dataclasses.dataclass(frozen=True, eq=False)
class TrackletGallery:
    """Embedded tracklets; `open_tracklet_gallery` makes it."""

    model: Model
    tracklets: tuple[Tracklet, ...]
    """Tracklets in the order of the embeddings."""
    skipped: tuple[tuple[pathlib.Path, str], ...]
    """Files and tracklets that were left out, and why."""
    embedded: int
    """Number of tracklets embedded by this call; the others were cached."""
    prepared: Prepared
    by_hash: Mapping[str, np.ndarray]
    """Embeddings by the content of the images that the model sees."""

    def by_tracklet(
        self, source: str | os.PathLike, track: int | None = None, top: int = 10
    ) -> tuple[FoundTracklet, ...]:
        """The `top` tracklets most similar to one: a folder of its images, or a `track` of a video.

        Raises as `query_tracklets`, and ValueError if one of its images cannot be read.
        """
        queries = query_tracklets(source, () if track is None else (track,), [])
        return self.find(self.embed_queries(queries), top)[0]

    def embed_queries(self, queries: Sequence[Tracklet]) -> Float[np.ndarray, "Q D"]:
        """The embeddings of tracklets; those of the gallery are not computed again.

        Raises ValueError naming the file or frame that cannot be read.
        """
        skipped: Skipped = []
        features = dict(self.by_hash)
        done = _embed(self.model, queries, features, skipped)
        if skipped:
            path, why = skipped[0]
            raise ValueError(f"the query cannot be read: {path}: {why}")
        return np.stack([features[key] for _, key in done])

    def find(
        self, features: Float[np.ndarray, "Q D"], top: int = 10
    ) -> list[tuple[FoundTracklet, ...]]:
        """The `top` tracklets nearest to each embedding."""
        if top < 1:
            raise ValueError(f"top is {top}; at least 1 tracklet can be found")
        return found_in(self.prepared, features, top, self.tracklets, FoundTracklet)

    def images(
        self, tracklets: Sequence[Tracklet], most: int = STRIP
    ) -> list[list[UInt8[np.ndarray, "_ _ 3"]]]:
        """The images that the model sees of each tracklet, at most `most`, in order of time; a video
        is read once for all its tracks."""
        clip = self.model.options.clip
        pairs = []
        for tracklet in tracklets:
            places = _plan(len(tracklet), clip).places
            pairs.append((tracklet, places[spread(len(places), most)]))
        images: list[list] = [[] for _ in tracklets]
        for video, numbers in _by_source(tracklets):
            if video is None:
                for number in numbers:
                    tracklet, places = pairs[number]
                    files = [tracklet.files[place] for place in places]
                    images[number] = [decode(file.read_bytes(), str(file)) for file in files]
                continue
            for place, crops in video_crops(video, [pairs[number] for number in numbers]):
                images[numbers[place]] = [crops[key] for key in sorted(crops)]
        return images


def spread(count: int, most: int) -> Int[np.ndarray, " n"]:
    """At most `most` places of a sequence of `count`, evenly spaced."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def open_tracklet_gallery(
    model: Model | str | os.PathLike,
    folder: str | os.PathLike,
    *,
    cache: str | os.PathLike | None = None,
    **options: Any,
) -> TrackletGallery:
    """Embeds the tracklets of a folder: its folders of images, and the tracks of its videos.

    `model`: a model of tracklets, or what `g2ajax.load` takes, with its `options`. Of a tracklet only
    the images of the model's test clips are decoded. It is embedded once for each model: the folder
    `cache` keeps the embeddings by content, as `open_gallery` does. An image that cannot be read is
    left out of its tracklet, a track that cannot be read whole out of the gallery; `skipped` names
    both.

    Raises FileNotFoundError without the folder; ValueError for a model of crops, for one that needs
    camera or platform, and for a folder without tracklets or with a table that cannot be read.
    """
    folder = pathlib.Path(os.path.expanduser(folder))
    skipped: Skipped = []
    tracklets = tracklets_below(folder, skipped)
    if not isinstance(model, Model):
        model = load(model, **options)
    check_tracklets(model)
    store = store_of(model, cache, "tracklets")
    by_hash = read_store(store)
    before = len(by_hash)
    try:
        done = _embed(model, tracklets, by_hash, skipped)
    finally:  # also of a search that is stopped: what has been embedded is kept
        if len(by_hash) > before:
            write_store(store, by_hash)
    if not done:
        path, why = skipped[0]
        raise ValueError(f"no tracklet of {folder} can be read; the first: {path}: {why}")
    whole, keys = zip(*done, strict=True)
    prepared = prepare(np.stack([by_hash[key] for key in keys]), model.method.metric)
    return TrackletGallery(model, whole, tuple(skipped), len(by_hash) - before, prepared, by_hash)


def check_tracklets(model: Model) -> None:
    """Raises ValueError for a model of crops, and for one that needs more than pixels."""
    if not embeds_tracklets(model):
        raise ValueError(
            f"{model.home or model.card.name} is a model of {model.card.task}; tracklets are searched by "
            "a model of tracklets (configs/vsla_clip.py, configs/temporal_baseline.py), folders of crops "
            "by this one (`g2ajax.search`, or `g2ajax search` with a folder of images)"
        )
    check_alone(model.method, EmbedsTracklets, "a gallery of tracklets")


def query_tracklets(
    source: str | os.PathLike, tracks: Sequence[int], skipped: Skipped
) -> list[Tracklet]:
    """The tracklet of a folder of images, or the `tracks` of a video with a table of its name.

    Raises FileNotFoundError for a missing path or table; ValueError for a video without `tracks` or
    without one of them, for a folder with `tracks` but no table, and for a folder without images.
    """
    source = pathlib.Path(os.path.expanduser(source))
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; name a folder of images, or a video")
    table = table_of(source)
    if not tracks and source.is_dir() and not table.is_file():
        return [folder_tracklet(source)]
    if not tracks and source.suffix.lower() in IMAGES:
        raise ValueError(
            f"{source} is one image; a tracklet is a folder of images of one person, and single images "
            "are searched by a model of crops"
        )
    if not tracks:
        ids = ", ".join(map(str, read_tracks(table).ids[:20])) if table.is_file() else ""
        hint = f" ({table.name} has {ids})" if ids else f", a number of its table {table.name}"
        raise ValueError(f"{source} is a video: name the track of the person, --track=ID{hint}")
    if source.is_dir() and not table.is_file():
        raise ValueError(
            f"{source} is a folder without a table {table.name} beside it; leave --track out, or name "
            "a video"
        )
    by_number = {one.track: one for one in video_tracks(source, skipped)}
    for track in tracks:
        if track not in by_number:
            read_tracks(table).of(track)  # says which there are
            raise ValueError(
                f"track {track} of {source} lies outside the picture in all its frames"
            )
    return [by_number[track] for track in tracks]


def _embed(
    model: Model, tracklets: Sequence[Tracklet], by_hash: dict[str, Any], skipped: Skipped
) -> list[tuple[Tracklet, str]]:
    """The tracklets that can be read, in order, with the keys of their embeddings in `by_hash`, to which
    those of new ones are added."""
    done: dict[int, tuple[Tracklet, str]] = {}
    with tqdm.tqdm(
        total=len(tracklets), unit="tracklet", delay=3, disable=not sys.stderr.isatty()
    ) as bar:
        for part in batched(_read(model, tracklets, by_hash, skipped), model.batch_size):
            bar.update(len(part))
            fresh = {one.key: one for one in part if one.crops and one.key not in by_hash}
            if fresh:
                images = [_Images(len(one.tracklet), one.crops) for one in fresh.values()]
                features = model.embed_tracklets(images, normalised=False)
                by_hash |= dict(zip(fresh, features, strict=True))
            done |= {one.number: (one.tracklet, one.key) for one in part}
    return [done[number] for number in sorted(done)]


def _read(
    model: Model, tracklets: Sequence[Tracklet], by_hash: Mapping[str, Any], skipped: Skipped
) -> Iterator[_Read]:
    """The images of the clips of all tracklets, at the model's size."""
    clip = model.options.clip

    def change(image: np.ndarray) -> np.ndarray:
        return resize(image, model.image_size, model.options.data.test_interpolation)

    for video, numbers in _by_source(tracklets):
        if video is None:
            for number in numbers:
                if one := _read_folder(number, tracklets[number], clip, by_hash, skipped, change):
                    yield one
            continue
        content, fresh = content_of(video), {}
        for number in numbers:
            tracklet, plan = tracklets[number], _plan(len(tracklets[number]), clip)
            boxes = tracklet.boxes.take(plan.places)
            key = _key([content, boxes.frame.tolist(), boxes.box.tolist()], plan)
            if key in by_hash:
                yield _Read(number, tracklet, key, None)
            else:
                fresh[number] = tracklet, plan.places, key
        rest = list(fresh)
        pairs = [(tracklet, places) for tracklet, places, _ in fresh.values()]
        try:
            for place, crops in video_crops(video, pairs, change):
                number = list(fresh)[place]
                rest.remove(number)
                yield _Read(number, fresh[number][0], fresh[number][2], crops)
        except ValueError as error:
            names = ", ".join(str(fresh[number][0].track) for number in rest[:10])
            more = f" and {len(rest) - 10} more" * (len(rest) > 10)
            skipped.append((video, f"tracks {names}{more}: {error}"))


def _read_folder(
    number: int,
    tracklet: Tracklet,
    clip: ClipOptions,
    by_hash: Mapping[str, Any],
    skipped: Skipped,
    change: Callable[[np.ndarray], np.ndarray],
) -> _Read | None:
    """The images of a folder's clips, without those that cannot be read; None if none can."""
    while len(tracklet):
        plan = _plan(len(tracklet), clip)
        data, crops = {}, {}
        place = 0
        try:
            for place in plan.places.tolist():
                data[place] = tracklet.files[place].read_bytes()
            key = _key([hashlib.sha256(one).hexdigest() for one in data.values()], plan)
            if key in by_hash:
                return _Read(number, tracklet, key, None)
            for place in data:
                crops[place] = change(decode(data[place], str(tracklet.files[place])))
        except (OSError, ValueError):
            skipped.append((tracklet.files[place], "an image that cannot be read"))
            tracklet = tracklet.without(place)
            continue
        return _Read(number, tracklet, key, crops)
    skipped.append((tracklet.source, "none of its images can be read"))
    return None


def _plan(count: int, clip: ClipOptions) -> _Plan:
    _, clips = planned_clips(np.array([count]), clip)
    real = clips.real | (not clip.mask_padding)
    return _Plan(clips._replace(real=real), np.unique(clips.frame))


def _key(content: list[Any], plan: _Plan) -> str:
    """Hash of all that the embedding of a tracklet depends on but the model: the images that are seen,
    in which clips, and which of them only fill up."""
    order = np.searchsorted(plan.places, plan.clips.frame)
    text = json.dumps([content, order.tolist(), plan.clips.real.tolist()])
    return hashlib.sha256(text.encode()).hexdigest()


def _by_source(
    tracklets: Sequence[Tracklet],
) -> Iterator[tuple[pathlib.Path | None, list[int]]]:
    """The numbers of the tracklets of folders (None), then of each video."""
    groups: dict[pathlib.Path | None, list[int]] = {}
    for number, tracklet in enumerate(tracklets):
        groups.setdefault(None if tracklet.boxes is None else tracklet.source, []).append(number)
    yield from groups.items()
