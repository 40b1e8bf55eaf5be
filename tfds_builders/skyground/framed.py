"""SkyGround's whole frames as records of the frame schema."""

from collections.abc import Iterator, Sequence
from typing import Any

from g2ajax.synthetic.frames import CAMERAS, PLATFORMS, FramePhotograph, FrameWorld
from g2ajax.synthetic.pool import frame_photographs
from tfds_builders.frames import gallery_column, protocol


def protocols(world: FrameWorld) -> list[dict[str, Any]]:
    """Protocols from ground to aerial, back, and between all frames; then with drawn galleries."""
    pairs = (("G2A", "ground", "aerial"), ("A2G", "aerial", "ground"))
    return [
        *(protocol(*pair) for pair in pairs),
        protocol("ALL", "any", "any"),
        *(
            protocol(f"{name}_{size}", query, gallery, gallery=gallery_column(size))
            for size in world.counts.galleries
            for name, query, gallery in pairs
        ),
    ]


def splits(world: FrameWorld) -> dict[str, Iterator[dict[str, Any]]]:
    """Arguments of `frame`, split by split; frames are drawn while they are written."""
    return {
        "train": _records(world, "train"),
        "gallery": _records(world, "test"),
        "query": _queries(world),
    }


def _records(world: FrameWorld, split: str) -> Iterator[dict[str, Any]]:
    progress = f"SkyGround frames, {split}"
    for photo in frame_photographs(world, world.frames(split), progress=progress):
        yield _record(photo, range(len(photo.boxes)))


def _queries(world: FrameWorld) -> Iterator[dict[str, Any]]:
    table = protocols(world)
    frames = sorted({query.frame.image_id for query in world.queries})
    photos = frame_photographs(
        world, [world.frame(name) for name in frames], progress="SkyGround frames, query"
    )
    photo_of = dict(zip(frames, photos, strict=True))
    other = {"aerial": "ground", "ground": "aerial"}
    for query in world.queries:
        platform = query.frame.platform
        yield {
            **_record(photo_of[query.frame.image_id], [query.row]),
            "protocols": [
                i for i, row in enumerate(table) if row["query_platform"] in ("any", platform)
            ],
            "galleries": {
                size: world.gallery(query, size, other[platform]).tolist()
                for size in world.counts.galleries
            },
        }


def _record(photo: FramePhotograph, rows: Sequence[int]) -> dict[str, Any]:
    """Arguments of `frame` for some of a frame's people."""
    camera = photo.frame.camera
    return {
        "image": photo.jpeg,
        "image_id": photo.frame.image_id,
        "boxes": photo.boxes[list(rows)],
        "identities": photo.identity[list(rows)].tolist(),
        "camera": camera,
        "camera_raw": CAMERAS[camera],
        "platform": PLATFORMS[camera],
        "altitude_m": photo.altitude_m,
        "frame": photo.frame.number,
    }
