"""Explanations without a model."""

import numpy as np

from g2ajax.report import Explanation, Query, RankedImage


def picture(shape, level):
    """An image of one colour, another one for each level."""
    return np.full((*shape, 3), (level, 255 - level, level // 2), np.uint8)


def explanation(attributes, top, shapes=((64, 32), (40, 40), (20, 50))):
    """`top` ranked images, by turns right, wrong and unknown; the plain ranking reversed."""
    rng = np.random.default_rng(attributes)
    kinds = (True, False, None)

    def images():
        for i in range(top):
            shape = shapes[i % len(shapes)]
            yield picture(shape, 20 * i + 40), f"image {i}", kinds[i % 3], 0.5 + i

    def ranked(image, title, correct, distance):
        shares = rng.uniform(0.5, 1.5, attributes).astype(np.float32)
        return RankedImage(
            image,
            title,
            correct,
            distance,
            shares / shares.sum(),
            rng.uniform(size=attributes) < 0.3,
            rng.uniform(size=(attributes, 6, 3)).astype(np.float32),
        )

    maps = rng.uniform(size=(attributes, 6, 3)).astype(np.float32)
    return Explanation(
        Query(picture((48, 24), 0), "the query", maps),
        tuple(f"attribute {k}" for k in range(attributes)),
        tuple(ranked(*image) for image in images()),
        tuple(RankedImage(*image) for image in reversed(list(images()))),
        "sum of d^k",
        "SkyGround (synthetic)",
    )
