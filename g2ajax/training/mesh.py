"""Devices: several processes, the mesh, and the placement of parameters on it."""

import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from g2ajax.data.sharding import BATCH_AXES, replicated

# Sharding a tensor below this many elements costs more in messages than it saves in memory.
FSDP_MIN_ELEMENTS = 2**16


def initialise_processes() -> None:
    """Joins the other processes of a run, if the environment names any.

    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` start a run by hand; a SLURM
    job and a TPU pod are found by JAX itself. Must run before the first computation.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address:
        missing = [n for n in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if n not in os.environ]
        if missing:
            raise ValueError(f"JAX_COORDINATOR_ADDRESS={address} is set, but not {missing}")
        jax.distributed.initialize(
            address,
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
            process_id=int(os.environ["JAX_PROCESS_ID"]),
        )
    elif int(os.environ.get("SLURM_NTASKS", "1")) > 1 or "," in os.environ.get(
        "TPU_WORKER_HOSTNAMES", ""
    ):
        jax.distributed.initialize()


def make_mesh(data: int = -1, fsdp: int = 1, devices: list | None = None) -> Mesh:
    """The mesh `('data', 'fsdp')` over all devices; `data=-1` takes what `fsdp` leaves.

    Raises ValueError when the devices cannot be divided so.
    """
    devices = devices or jax.devices()
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(f"mesh.fsdp={fsdp} does not divide the {len(devices)} devices of the run")
    if data == -1:
        data = len(devices) // fsdp
    if data * fsdp != len(devices):
        raise ValueError(
            f"mesh.data={data} x mesh.fsdp={fsdp} = {data * fsdp}, but the run has "
            f"{len(devices)} devices; set mesh.data=-1 to use them all"
        )
    axis_types = (AxisType.Auto, AxisType.Auto)
    return Mesh(np.asarray(devices).reshape(data, fsdp), BATCH_AXES, axis_types=axis_types)


def state_sharding(leaf: jax.Array | jax.ShapeDtypeStruct, mesh: Mesh) -> NamedSharding:
    """Large tensors are split along their largest axis that `fsdp` divides; others are replicated.

    Optimizer moments have their parameter's shape, so the same rule places them alike.
    """
    parts = mesh.shape["fsdp"]
    if parts == 1 or leaf.size < FSDP_MIN_ELEMENTS:
        return replicated(mesh)
    axes = [axis for axis, length in enumerate(leaf.shape) if length % parts == 0]
    if not axes:
        return replicated(mesh)
    largest = max(axes, key=lambda axis: leaf.shape[axis])
    spec = [None] * leaf.ndim
    spec[largest] = "fsdp"
    return NamedSharding(mesh, PartitionSpec(*spec))
