"""No shortcuts: on the small world a colour histogram is a fair baseline, the rest is chance."""

import numpy as np
import pytest

from g2ajax.synthetic import skeleton
from g2ajax.synthetic.world import World, render

pytestmark = pytest.mark.slow


def _histogram(pixels):
    """Square roots of the shares of 8×8×8 colours, so that a product is their affinity."""
    bins = (pixels.reshape(-1, 3) >> 5).astype(np.int64)
    count = np.bincount(bins @ np.array([64, 8, 1]), minlength=512)
    return np.sqrt(count / max(1, len(bins)))


def _mean_average_precision(query, gallery, query_identity, gallery_identity):
    values = []
    for feature, identity in zip(query, query_identity, strict=True):
        hits = gallery_identity[np.argsort(-(gallery @ feature), kind="stable")] == identity
        values.append((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean())
    return 100 * float(np.mean(values))


@pytest.fixture(scope="module")
def features():
    world = World("small")
    result = {}
    for split in ("query", "gallery"):
        rows = []
        for shot in world.shots(split):
            crop = render(world, shot)
            ground = crop.image[crop.parts == skeleton.GROUND]
            high, wide = crop.parts.shape
            shape = np.array([np.log(wide / high), np.log(high / 150)])
            # As a unit vector, so that a product ranks by closeness.
            shape = np.append(shape, 1) / np.sqrt(shape @ shape + 1)
            rows.append(
                (shot.identity, shot.camera, _histogram(crop.image), _histogram(ground), shape)
            )
        result[split] = [np.array(column) for column in zip(*rows, strict=True)]
    return result


@pytest.mark.parametrize("query_camera", [0, 1])
def test_baselines(features, query_camera):
    query = [column[features["query"][1] == query_camera] for column in features["query"]]
    gallery = [column[features["gallery"][1] != query_camera] for column in features["gallery"]]

    def score(q, g):
        return _mean_average_precision(q, g, query[0], gallery[0])

    rng = np.random.default_rng(0)
    chance = score(rng.normal(size=(len(query[0]), 64)), rng.normal(size=(len(gallery[0]), 64)))
    assert chance < 4
    assert 15 <= score(query[2], gallery[2]) <= 40
    assert score(query[3], gallery[3]) == pytest.approx(chance, abs=2), "the ground tells who it is"
    assert score(query[4], gallery[4]) == pytest.approx(chance, abs=2), "the box tells who it is"
