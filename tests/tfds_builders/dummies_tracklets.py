"""Small copies of datasets of tracklets, as SkyGround's layouts write them."""

import pytest

from g2ajax.synthetic import tracklet_layouts
from g2ajax.synthetic.tracklet_layouts import TRACKLET_LAYOUTS
from g2ajax.synthetic.tracklets import TrackletPhotograph, TrackletWorld
from tests.tfds_builders import dummies


def undrawn(world, selection, workers=None, progress=""):
    """Stands for `tracklet_photographs`: one to three frames of noise, every other number."""
    for one in selection:
        count = 1 + (one.identity + one.camera) % 3
        frames = tuple(dummies.encoded(seed=10 * one.identity + i) for i in range(count))
        yield TrackletPhotograph(one, frames, tuple(range(0, 2 * count, 2)), 20.0, 9.0, 60.0)


def write(layout, root):
    """Writes a world of noise; returns the number of tracklets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracklet_layouts, "tracklet_photographs", undrawn)
        return TRACKLET_LAYOUTS[layout](TrackletWorld("tiny"), root)


def frames_of(one):
    """The encoded frames that `undrawn` gives for a tracklet."""
    (photo,) = undrawn(None, [one])
    return photo.frames


def rows(split):
    """Name of each tracklet of an opened split → its row."""
    return {str(name): row for row, name in enumerate(split.image_id)}
