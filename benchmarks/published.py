"""Published sizes of the configurations' datasets: they set a model's shapes and a run's length.

They repeat numbers of `tfds_builders`, because a program is compiled where neither TFDS nor the
data is installed.
"""

import dataclasses
from collections.abc import Mapping

from g2ajax.config import nearest

# AG-ReID's fifteen groups of attributes, and those of TBAGPR.
AGREID_CLASSES = (3, 4, 5, 4, 5, 7, 6, 3, 3, 4, 5, 13, 10, 7, 9)
TBAGPR_CLASSES = (2, 3, 2, 3, 3, 3, 2)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """One dataset."""

    images: int
    """Training images, or frames."""
    identities: int
    """Identities of the training split."""
    cameras: int
    query: int
    """Query images (or sentences, or people), over all protocols."""
    gallery: int
    """Gallery images or frames, over all protocols."""
    gallery_identities: int
    captions: int = 0
    """Captions of the training split."""
    attributes: tuple[int, ...] = ()
    """Number of classes of each attribute."""
    frames: int = 1
    """Frames of an image: several for a tracklet, as a mean."""
    pairs: int = 0
    """Pairs of a query and a gallery image, over all protocols; 0: each query meets the whole gallery."""

    @property
    def compared(self) -> int:
        return self.pairs or self.query * self.gallery


KNOWN: Mapping[str, Sizes] = {
    "agreid": Sizes(
        11554,
        199,
        2,
        2663,
        10535,
        189,
        attributes=AGREID_CLASSES,
        pairs=1701 * 3331 + 962 * 7204,
    ),
    "agreid_v2": Sizes(
        51530,
        807,
        3,
        8499,
        40473,
        808,
        attributes=AGREID_CLASSES,
        pairs=2356 * 6347 + 2209 * 12912 + 1811 * 14362 + 2340 * 12568,
    ),
    "market1501": Sizes(12936, 751, 6, 3368, 15913, 750),
    "msmt17": Sizes(30248, 1041, 15, 11659, 82161, 3060),
    "cargo": Sizes(51451, 2500, 13, 312, 50712, 2500),
    "lagper": Sizes(40770, 2708, 21, 9138, 43454, 1523, pairs=3046 * (15533 + 7717 + 20204)),
    "g2aps_reid": Sizes(100871, 1569, 2, 9752, 99993, 1219, pairs=4876 * (37202 + 62791)),
    # The one crop table of which a count is published: DRHIT01 of the UAV network's paper, 101
    # people with about 459 images each. Split in halves here.
    "crops_from_csv": Sizes(23180, 51, 2, 2318, 20861, 50),
    "cuhk_pedes": Sizes(34054, 11003, 1, 6156, 3074, 1000, captions=68126),
    # The images of the training split are not published: as many as captions at most.
    "tbagpr": Sizes(31340, 1180, 2, 3200, 3200, 529, captions=31340, attributes=TBAGPR_CLASSES),
    "cuhk_sysu": Sizes(11206, 5532, 1, 2900, 6978, 2900),
    "prw": Sizes(5704, 482, 6, 2057, 6112, 450),
    "g2aps": Sizes(21962, 2078, 2, 566, 9808, 566),
    # Tracklets in the place of images; the mean number of frames in the last field.
    "mars": Sizes(8298, 625, 6, 1980, 12180, 634, frames=58),
    # Half of the published totals each way: the split is not published.
    "g2a_vreid": Sizes(2788, 1394, 2, 1394, 1394, 1394, frames=33),
    "skyground/tracklets_tiny": Sizes(12, 4, 2, 8, 8, 4, attributes=AGREID_CLASSES, frames=4),
    "skyground/tracklets_small": Sizes(
        320, 64, 2, 192, 240, 48, attributes=AGREID_CLASSES, frames=12
    ),
    "skyground/crops_tiny": Sizes(80, 8, 2, 16, 64, 8, attributes=AGREID_CLASSES),
    "skyground/crops_small": Sizes(2016, 96, 2, 384, 1632, 96, attributes=AGREID_CLASSES),
    "skyground/crops_many": Sizes(7680, 1920, 2, 384, 1632, 96, attributes=AGREID_CLASSES),
    "skyground/captions_tiny": Sizes(80, 8, 2, 32, 32, 8, captions=80, attributes=TBAGPR_CLASSES),
    "skyground/captions_small": Sizes(
        2016, 96, 2, 864, 768, 96, captions=2016, attributes=TBAGPR_CLASSES
    ),
    "skyground/frames_tiny": Sizes(24, 6, 2, 8, 16, 4),
    "skyground/frames_small": Sizes(480, 64, 2, 96, 240, 48),
}
"""Sizes by the dataset's name in a configuration. SkyGround's captions and queries: about as many."""


def sizes(dataset: str) -> Sizes:
    """The sizes of a dataset. Raises ValueError, naming the nearest, for an unknown one."""
    if dataset not in KNOWN:
        raise ValueError(
            f"benchmarks/published.py does not know the sizes of {dataset!r}; {nearest(dataset, KNOWN)}"
        )
    return KNOWN[dataset]
