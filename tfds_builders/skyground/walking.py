"""SkyGround's tracklets as records of the tracklet schema."""

from collections.abc import Iterator
from typing import Any

from g2ajax.synthetic.pool import tracklet_photographs
from g2ajax.synthetic.tracklets import CAMERAS, TrackletWorld
from tfds_builders.base import labels_of


def records(world: TrackletWorld, split: str) -> Iterator[dict[str, Any]]:
    """Arguments of `tracklet`; tracklets are drawn while they are written."""
    labels = labels_of(one.identity for one in world.tracklets("train"))
    photos = tracklet_photographs(
        world, world.tracklets(split), progress=f"SkyGround tracklets, {split}"
    )
    for photo in photos:
        one = photo.tracklet
        # Camera 0 is the drone: its queries belong to A2G (0), its gallery tracklets to G2A (1).
        as_query, as_gallery = one.camera, 1 - one.camera
        yield {
            "frames": photo.frames,
            "frame_ids": photo.frame_ids,
            "tracklet_id": one.tracklet_id,
            "identity": one.identity,
            "identity_raw": f"{one.identity:04d}",
            "label": labels[one.identity] if split == "train" else -1,
            "camera": one.camera,
            "camera_raw": CAMERAS[one.camera],
            "platform": "aerial" if one.camera == 0 else "ground",
            "time_of_day": "day",
            "altitude_m": photo.altitude_m,
            "distance_m": photo.distance_m,
            "angle_deg": photo.angle_deg,
            "altitude_level": one.level,
            "sequence": one.number,
            "attributes": one.person.attributes,
            "protocols": {"train": [], "query": [as_query, 2], "gallery": [as_gallery, 2]}[split],
        }
