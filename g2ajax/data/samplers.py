"""Identity samplers as pure functions of (seed, step): the images of each batch.

A sampler's stream is a chain of passes; a pass is planned from `default_rng((*seed, pass))` alone, so
batch t does not depend on whether the batches before it were drawn.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from g2ajax.config import nearest

Batches = Int[np.ndarray, "S B"]


@dataclasses.dataclass
class Sampler:
    """`batch_indices(step)` gives the rows of batch `step`, counted from 0."""

    plan: Callable[[np.random.Generator], Batches]
    seed: tuple[int, ...]
    batch_size: int
    _ends: list[int] = dataclasses.field(default_factory=list)
    _pass: tuple[int, Batches] | None = None

    def batch_indices(self, step: int) -> Int[np.ndarray, " B"]:
        """The rows of the split that make batch `step`. Raises ValueError for a negative step."""
        if step < 0:
            raise ValueError(f"no batch for step {step}; steps count from 0")
        number = int(np.searchsorted(self._ends, step, side="right"))
        while number == len(self._ends):
            end = (self._ends[-1] if self._ends else 0) + len(self.batches_of_pass(number))
            self._ends.append(end)
            if end <= step:
                number += 1
        start = self._ends[number - 1] if number else 0
        return self.batches_of_pass(number)[step - start]

    def batches_of_pass(self, number: int) -> Batches:
        """All batches of one pass over the data; the latest pass is kept."""
        if self._pass is None or self._pass[0] != number:
            planned = self.plan(np.random.default_rng((*self.seed, number)))
            self._pass = (number, np.asarray(planned, np.int32).reshape(-1, self.batch_size))
        return self._pass[1]


def make_sampler(
    name: str,
    label: Int[np.ndarray, " N"],
    camera: Int[np.ndarray, " N"],
    *,
    identities: int,
    images: int,
    seed: tuple[int, ...] = (0,),
    allow_single_image: bool = False,
    identity: Int[np.ndarray, " N"] | None = None,
    platform: Int[np.ndarray, " N"] | None = None,
) -> Sampler:
    """The sampler `name` over a split; rows with a negative label are never drawn.

    `identity`: how people appear in messages (default: their labels). `platform`: platform of each
    image; `balanced_platform` needs it.

    `random_identity` (reid-strong-baseline, TransReID, torchreid) and `naive_identity` (fast-reid,
    the same pass as an endless stream): each identity's images are shuffled and cut into groups
    of K; P identities that have a group left are drawn until fewer than P are.
    `balanced_identity` (fast-reid): each pass takes every identity once, with one image and K − 1
    of its images from other cameras. `shuffled`: plain shuffled passes, batches of P·K.
    `balanced_platform`: `naive_identity` whose groups have as many aerial as ground images, as far
    as the identity has both; a pass draws no image twice and leaves out images without a
    counterpart.

    Raises ValueError for an unknown name, an empty split, P above the number of identities, P or K
    below 1, identities with one image (unless `allow_single_image`, or K is 1), and for
    `balanced_platform` a split in which no identity is seen from two platforms.
    """
    if name not in PLANS:
        raise ValueError(f"no sampler {name!r}; {nearest(name, PLANS)}")
    if identities < 1 or images < 1:
        raise ValueError(f"a batch of {identities} identities with {images} images each is empty")
    label, camera = np.asarray(label), np.asarray(camera)
    rows = np.flatnonzero(label >= 0)
    if not len(rows):
        raise ValueError("the training split has no labelled image")
    size = identities * images
    if name == "shuffled":
        if len(rows) < size:
            raise ValueError(f"a batch of {size} images, but the split has {len(rows)}")
        return Sampler(_Shuffled(rows, size), seed, size)
    present, counts = np.unique(label[rows], return_counts=True)
    if identities > len(present):
        raise ValueError(
            f"sampler.identities = {identities} a batch, but the training split has only "
            f"{len(present)} identities"
        )
    single = present[counts == 1]
    if images > 1 and len(single) and not allow_single_image:
        names_of = label if identity is None else np.asarray(identity)
        names = [str(names_of[np.flatnonzero(label == one)[0]]) for one in single]
        raise ValueError(
            f"{len(single)} identities have one image, so {images} of each cannot be drawn "
            f"({', '.join(names[:8])}{', ...' if len(names) > 8 else ''}); leave them out, or "
            "repeat their image with sampler.allow_single_image=True"
        )
    groups = [rows[label[rows] == identity] for identity in present]
    origin = camera
    if name == "balanced_platform":
        origin = np.full(len(label), -1) if platform is None else np.asarray(platform)
        if all(len(np.unique(origin[group])) == 1 for group in groups):
            raise ValueError(
                "sampler 'balanced_platform': no identity of the training split is seen from two "
                "platforms; use naive_identity"
            )
    return Sampler(PLANS[name](groups, origin, identities, images), seed, size)


def index_table(sampler: Sampler, start: int, stop: int) -> Int[np.ndarray, "S B"]:
    """The rows of batches `start` to `stop`."""
    table = np.empty((max(stop - start, 0), sampler.batch_size), np.int32)
    for i in range(len(table)):
        table[i] = sampler.batch_indices(start + i)
    return table


@dataclasses.dataclass(frozen=True)
class _Shuffled:
    rows: np.ndarray
    batch_size: int

    def __call__(self, rng: np.random.Generator) -> Batches:
        whole = len(self.rows) // self.batch_size * self.batch_size
        return rng.permutation(self.rows)[:whole].reshape(-1, self.batch_size)


@dataclasses.dataclass(frozen=True)
class _Groups:
    """Groups of K images of an identity, P identities a batch, until fewer than P have one left."""

    of_identity: list[np.ndarray]
    origin: np.ndarray
    """Camera or platform of each row of the split."""
    identities: int
    images: int

    def __call__(self, rng: np.random.Generator) -> Batches:
        queues = [list(self._groups(rows, rng)) for rows in self.of_identity]
        remaining = np.array([len(queue) for queue in queues])
        batches = []
        while (remaining > 0).sum() >= self.identities:
            picks = rng.choice(np.flatnonzero(remaining), self.identities, replace=False)
            batches.append(np.concatenate([queues[i].pop() for i in picks]))
            remaining[picks] -= 1
        return np.stack(batches)

    def _groups(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        k = self.images
        rows = rng.permutation(rows) if len(rows) >= k else rng.choice(rows, k)
        return rows[: len(rows) // k * k].reshape(-1, k)


@dataclasses.dataclass(frozen=True)
class _Platforms(_Groups):
    """Groups with equal shares of the platforms from which their identity is seen."""

    def _groups(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows, k = rng.permutation(rows), self.images
        platforms = rng.permutation(np.unique(self.origin[rows]))
        if len(platforms) == 1:
            return super()._groups(rows, rng)
        of_platform = [rows[self.origin[rows] == one] for one in platforms]
        # If K is no multiple, the permutation decides which platforms give one more.
        share = [k // len(platforms) + (i < k % len(platforms)) for i in range(len(platforms))]
        shares = list(zip(of_platform, share, strict=True))
        number = min(len(those) // each for those, each in shares if each)
        if number:
            return np.concatenate(
                [those[: number * each].reshape(number, each) for those, each in shares], axis=1
            )
        # One group: images of each platform, then further images of the others, then repetitions.
        first = np.concatenate([those[:each] for those, each in shares])
        spare = np.concatenate([those[each:] for those, each in shares])
        group = np.concatenate([first, spare])[:k]
        return np.concatenate([group, rng.choice(rows, k - len(group))])[None]


@dataclasses.dataclass(frozen=True)
class _Balanced:
    """Every identity once a pass; the rest of its group from other cameras than the first image."""

    of_identity: list[np.ndarray]
    origin: np.ndarray
    """Camera of each row of the split."""
    identities: int
    images: int

    def __call__(self, rng: np.random.Generator) -> Batches:
        order = rng.permutation(len(self.of_identity))
        order = order[: len(order) // self.identities * self.identities]
        groups = [self._group(self.of_identity[i], rng) for i in order]
        return np.stack(groups).reshape(-1, self.identities * self.images)

    def _group(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        first, k = rng.choice(rows), self.images
        others = rows[self.origin[rows] != self.origin[first]]
        if not len(others):
            others = rows[rows != first]
        if not len(others):
            return np.full(k, first)
        # fast-reid draws without replacement only where at least K others exist, not K − 1.
        rest = rng.choice(others, k - 1, replace=len(others) < k)
        return np.concatenate([[first], rest])


PLANS = {
    "random_identity": _Groups,
    "naive_identity": _Groups,
    "balanced_identity": _Balanced,
    "balanced_platform": _Platforms,
    "shuffled": _Shuffled,
}
