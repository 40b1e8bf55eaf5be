"""Draws many shots in several processes; results do not depend on their number."""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from g2ajax.synthetic import frames, sensor, tracklets
from g2ajax.synthetic.frames import Frame, FramePhotograph, FrameWorld
from g2ajax.synthetic.tracklets import TRACKLET_SIZES, Tracklet, TrackletPhotograph, TrackletWorld
from g2ajax.synthetic.world import Shot, World, render

_FEW = 400
"""Minimum number of shots for which starting processes pays off."""

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Photograph:
    """An encoded shot and the metadata of its camera."""

    shot: Shot
    jpeg: bytes
    altitude_m: float
    """Height of the camera."""
    distance_m: float
    """Distance along the ground."""
    angle_deg: float
    """Pitch below the horizon."""


def photograph(world: World, shot: Shot) -> Photograph:
    """Draws and encodes one shot."""
    crop = render(world, shot)
    data = sensor.jpeg(crop.image, crop.quality)
    view = crop.view
    return Photograph(shot, data, view.position[2], view.distance, view.pitch)


@functools.lru_cache(maxsize=1)
def _world(size: str, seed: int) -> World:
    return World(size, seed)


def _work(size: str, seed: int, image_id: str) -> tuple[bytes, float, float, float]:
    world = _world(size, seed)
    photo = photograph(world, world.shot(image_id))
    return photo.jpeg, photo.altitude_m, photo.distance_m, photo.angle_deg


def photographs(
    world: World, shots: Sequence[Shot], workers: int | None = None, progress: str = ""
) -> Iterator[Photograph]:
    """Draws and encodes shots in order. `workers`: number of processes, by default one per core.

    `progress`: label of the progress that is printed to stderr every five seconds. With several
    workers and many shots a script needs the guard `if __name__ == "__main__"`, as always with
    multiprocessing.
    """
    workers = _workers(workers, len(shots))
    if workers == 1:
        yield from (photograph(world, shot) for shot in shots)
        return
    names = [shot.image_id for shot in shots]
    results = _spread(functools.partial(_work, world.size, world.seed), names, workers, progress)
    for shot, result in zip(shots, results, strict=True):
        yield Photograph(shot, *result)


@functools.lru_cache(maxsize=1)
def _frame_world(size: str, seed: int) -> FrameWorld:
    return FrameWorld(size, seed)


def _frame_work(size: str, seed: int, image_id: str) -> FramePhotograph:
    world = _frame_world(size, seed)
    return frames.photograph(world, world.frame(image_id))


def frame_photographs(
    world: FrameWorld, selection: Sequence[Frame], workers: int | None = None, progress: str = ""
) -> Iterator[FramePhotograph]:
    """Draws and encodes whole frames in order, as `photographs`."""
    workers = _workers(workers, len(selection))
    if workers == 1:
        yield from (frames.photograph(world, frame) for frame in selection)
        return
    names = [frame.image_id for frame in selection]
    yield from _spread(
        functools.partial(_frame_work, world.size, world.seed), names, workers, progress
    )


@functools.lru_cache(maxsize=1)
def _tracklet_world(size: str, seed: int) -> TrackletWorld:
    return TrackletWorld(size, seed)


def _tracklet_work(size: str, seed: int, tracklet_id: str) -> TrackletPhotograph:
    world = _tracklet_world(size, seed)
    return tracklets.photograph(world, world.tracklet(tracklet_id))


def tracklet_photographs(
    world: TrackletWorld,
    selection: Sequence[Tracklet],
    workers: int | None = None,
    progress: str = "",
) -> Iterator[TrackletPhotograph]:
    """Draws and encodes tracklets in order, as `photographs`."""
    workers = _workers(workers, len(selection) * TRACKLET_SIZES[world.size].frames[0])
    if workers == 1:
        yield from (tracklets.photograph(world, one) for one in selection)
        return
    names = [one.tracklet_id for one in selection]
    work = functools.partial(_tracklet_work, world.size, world.seed)
    yield from _spread(work, names, workers, progress)


def _workers(workers: int | None, images: int) -> int:
    workers = (os.cpu_count() or 1) if workers is None else workers
    return 1 if images < _FEW else max(workers, 1)


def _spread(
    work: Callable[[str], Result], names: Sequence[str], workers: int, progress: str
) -> Iterator[Result]:
    """Yields the results of `work` in the order of the names."""
    # Spawned, not forked: the parent may run threads of JAX.
    context = multiprocessing.get_context("spawn")
    start = last = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as executor:
        for number, result in enumerate(executor.map(work, names, chunksize=16)):
            if progress and number and time.monotonic() - last > 5:
                last = time.monotonic()
                rate = number / (last - start)
                seconds = (len(names) - number) / max(rate, 1e-9)
                text = f"{progress}: {number} of {len(names)}, {rate:.0f} a second, {seconds:.0f} s left"
                print(text, file=sys.stderr, flush=True)
            yield result
