"""Matches of a query in the gallery, and the entries that its ranking leaves out."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from g2ajax.retrieval.labels import Flags, Labels, camera_pair, flags, label_pair


class Pairs:
    """Indices of the gallery entries that match each query and of those it drops.

    `sizes`: numbers of queries and gallery entries; `labels`: their identities and cameras, as numbers
    that are equal where the labels are. Raises ValueError for labels of another length or of different
    kinds, an empty gallery, no queries, and queries none of which has a match.
    """

    def __init__(
        self,
        sizes: tuple[int, int],
        query_identity: Labels,
        gallery_identity: Labels,
        query_camera: Labels | None,
        gallery_camera: Labels | None,
        drop_same_camera: bool,
        junk: Flags | None,
        distractor: Flags | None,
    ):
        queries, entries = sizes
        identity = label_pair(query_identity, gallery_identity, sizes, "identity")
        camera = camera_pair(query_camera, gallery_camera, sizes)
        q_id, g_id = identity.query, identity.gallery
        if camera is None:
            drop_same_camera = False
            q_cam, g_cam = np.zeros(queries, np.int64), np.zeros(entries, np.int64)
        else:
            q_cam, g_cam = camera.query, camera.gallery
        junk, distractor = flags(junk, entries, "junk"), flags(distractor, entries, "distractor")
        if not entries:
            raise ValueError("the gallery is empty")
        if not queries:
            raise ValueError("there are no queries")
        order = np.argsort(g_id, kind="stable")
        starts = np.searchsorted(g_id[order], q_id, side="left")
        ends = np.searchsorted(g_id[order], q_id, side="right")
        self.labels, self.drop_same_camera = (q_id, g_id, q_cam, g_cam), drop_same_camera
        self.is_junk, self.is_distractor = junk, distractor
        self.junk = np.flatnonzero(junk).astype(np.int32)
        self.matches, self.dropped = [], []
        for start, end, camera in zip(starts, ends, q_cam, strict=True):
            same = order[start:end]
            same_camera = (g_cam[same] == camera) & ~distractor[same] & bool(drop_same_camera)
            self.dropped.append(same[same_camera | junk[same]])
            self.matches.append(same[~same_camera & ~junk[same] & ~distractor[same]])
        self.counts = np.array([len(m) for m in self.matches])
        if not self.counts.any():
            absent = ~np.isin(q_id, g_id)
            raise ValueError(
                f"none of the {len(q_id)} queries has a match in the gallery: "
                f"{absent.sum()} have an identity that the gallery lacks (the first: "
                f"{identity.given[absent][:5].tolist()}), {(~absent).sum()} only matches of their own camera; "
                "check that identities of query and gallery are numbered alike"
            )

    @property
    def listed(self) -> Int[np.ndarray, " Q"]:
        """Number of entries in each query's ranking: all but those it drops and junk."""
        dropped = [np.count_nonzero(~self.is_junk[rows]) for rows in self.dropped]
        return len(self.is_junk) - len(self.junk) - np.array(dropped, np.int64)

    def blocks(self, size: int) -> Iterator[Int[np.ndarray, " B"]]:
        """Yields rows with similar numbers of matches, so that padded lists have few widths."""
        by_count = np.argsort(self.counts, kind="stable")
        by_count = by_count[self.counts[by_count] > 0]
        for start in range(0, len(by_count), size):
            yield by_count[start : start + size]


def padded_lists(lists: list[np.ndarray], rows: int) -> Int[np.ndarray, "B M"]:
    """Stacks lists of indices to a table padded with −1; its width is a power of 2."""
    width = 1
    while width < max(len(indices) for indices in lists):
        width *= 2
    table = np.full((rows, width), -1, np.int32)
    for row, indices in zip(table, lists, strict=False):
        row[: len(indices)] = indices
    return table
