"""Placement of the rows of a batch: split over all devices of the mesh `('data', 'fsdp')`."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH_AXES = ("data", "fsdp")


def check_batch(batch_size: int, mesh: Mesh, name: str = "batch") -> None:
    """Raises ValueError unless `batch_size` can be split evenly over the devices."""
    if batch_size % mesh.size:
        near = max(mesh.size, round(batch_size / mesh.size) * mesh.size)
        raise ValueError(
            f"a {name} of {batch_size} cannot be dealt to {mesh.size} devices; use {near}"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_whole(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Splits the rows of a batch that every process has whole over all devices."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_callback(value.shape, sharding, lambda i, v=value: v[i])
        for name, value in batch.items()
    }


def put_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Constrains the rows of a batch made inside a step to the mesh."""
    sharding = batch_sharding(mesh)
    return {k: jax.lax.with_sharding_constraint(v, sharding) for k, v in batch.items()}
