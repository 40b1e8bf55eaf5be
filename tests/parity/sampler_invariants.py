"""Conditions that any draw of an identity sampler must satisfy, whatever its random stream."""

import collections

import numpy as np


def check(drawn: np.ndarray, invariants: list[str], args: dict, inputs: dict) -> None:
    """Asserts each named invariant of the drawn image indices."""
    drawn = np.asarray(drawn)
    identity, camera = inputs["in_pids"], inputs["in_camids"]
    batch_size, images_per_identity = args["batch_size"], args["num_instances"]
    groups = drawn.reshape(-1, images_per_identity)
    for name in invariants:
        assert CHECKS[name](drawn, groups, identity, camera, batch_size, images_per_identity), name


def _groups_share_identity(drawn, groups, identity, camera, batch_size, k):
    return (identity[groups] == identity[groups[:, :1]]).all()


def _identities_distinct(drawn, groups, identity, camera, batch_size, k):
    per_batch = identity[groups[:, 0]].reshape(-1, batch_size // k)
    return all(len(set(batch)) == batch_size // k for batch in per_batch)


def _length_multiple(drawn, groups, identity, camera, batch_size, k):
    return len(drawn) % batch_size == 0


def _length_at_most_declared(drawn, groups, identity, camera, batch_size, k):
    counts = collections.Counter(identity.tolist()).values()
    return len(drawn) <= sum(max(n, k) - max(n, k) % k for n in counts)


def _no_repeat(drawn, groups, identity, camera, batch_size, k):
    images_of = collections.Counter(identity.tolist())
    times = collections.Counter(drawn.tolist())
    return all(n == 1 or images_of[identity[image]] < k for image, n in times.items())


def _rest_from_other_cameras(drawn, groups, identity, camera, batch_size, k):
    for first, *rest in groups:
        others = np.flatnonzero((identity == identity[first]) & (camera != camera[first]))
        if len(others) and (camera[rest] == camera[first]).any():
            return False
        if len(others) >= k and len(set(rest)) < k - 1:
            return False
    return True


CHECKS = {
    "groups_of_K_share_identity": _groups_share_identity,
    "identities_distinct_in_batch": _identities_distinct,
    "length_multiple_of_batch": _length_multiple,
    "length_at_most_declared": _length_at_most_declared,
    "no_repeat_unless_fewer_than_K": _no_repeat,
    "rest_of_group_from_other_cameras": _rest_from_other_cameras,
}
