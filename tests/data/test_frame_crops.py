"""People cut out of the frames of the embedded world."""

import numpy as np
import pytest

from g2ajax.data.builders import PLATFORMS
from g2ajax.data.crop_source import KINDS
from g2ajax.data.frame_source import open_frames
from g2ajax.data.images import decode
from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import evaluate_crops, protocol_rows

NAME = "skyground/frames_tiny"


@pytest.fixture(scope="module")
def both():
    return open_frames(NAME), open_dataset(NAME)


def test_training_takes_who_has_an_identity(both):
    frames, crops = (dataset.splits["train"] for dataset in both)
    known = frames.label >= 0
    assert 0 < known.sum() < len(known)
    assert sorted(crops.label.tolist()) == sorted(frames.label[known].tolist())
    assert crops.image_id.tolist() == sorted(set(crops.image_id.tolist()))
    # The rows of a table of identities are those of a detector's on the same dataset.
    for label, identity in set(zip(crops.label.tolist(), crops.identity.tolist(), strict=True)):
        assert set(frames.identity[frames.label == label]) == {identity}


def test_an_image_is_its_box(both):
    frames, crops = (dataset.splits["gallery"] for dataset in both)
    for row in (0, len(crops) // 2, len(crops) - 1):
        frame, _, place = crops.image_id[row].rpartition(":")
        number = frames.image_id.tolist().index(frame)
        x0, y0, x1, y1 = frames.boxes[frames.people(number)][int(place)]
        whole = decode(frames.read(number))
        height, width = whole.shape[:2]
        left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
        right, bottom = min(int(np.ceil(x1)), width), min(int(np.ceil(y1)), height)
        np.testing.assert_array_equal(decode(crops.read(row)), whole[top:bottom, left:right])
        assert crops.platform[row] == frames.platform[number]
    taken = crops.take(np.array([3, 1]))
    assert taken.read(0) == crops.read(3) and taken.read(1) == crops.read(1)


def test_protocols_are_pairs_of_platforms_without_the_own_frame(both):
    frames, crops = both
    assert [row["name"] for row in crops.protocols] == ["G2A", "A2G", "ALL"]
    gallery = crops.splits["gallery"]
    assert len(gallery) == len(frames.splits["gallery"].boxes)
    distractors = gallery.kind == KINDS.index("distractor")
    np.testing.assert_array_equal(distractors, gallery.identity < 0)
    # Features that tell the identity find everyone, in other frames only.
    features = {
        name: np.eye(200, dtype=np.float32)[split.identity % 200]
        for name, split in crops.splits.items()
        if name != "train"
    }
    results = evaluate_crops(
        features, crops, metric="cosine", feature_name="identity", bootstrap_samples=20
    )
    for result in results:
        assert result.mAP == pytest.approx(100.0, abs=1e-4)
        assert result.filter == "same identity and frame left out"
        rows = protocol_rows(crops, result.protocol)[1]
        assert (len(rows) == len(gallery)) == (result.protocol == "ALL")
    for name in ("G2A", "A2G"):
        query, rows = protocol_rows(crops, name)
        asked, described = frames.protocol(name)
        assert len(query) == len(asked)
        platform = PLATFORMS.index(described["gallery_platform"])
        np.testing.assert_array_equal(
            gallery.platform == platform, np.isin(np.arange(len(gallery)), rows)
        )


def test_a_query_shares_the_number_of_its_frame_with_the_gallery(both):
    crops = both[1]
    query, gallery = crops.splits["query"], crops.splits["gallery"]
    own = [f"{i.rpartition(':')[0].rpartition(':')[0]}" for i in query.image_id]
    for image_id, frame in zip(own, query.frame, strict=True):
        same = gallery.frame == frame
        assert all(i.rpartition(":")[0] == image_id for i in gallery.image_id[same])
