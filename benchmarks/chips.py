"""Chips that programs are compiled for, with the facts behind the bounds, and their devices in JAX.

Imports JAX only where devices are made: `environment` must come before that.
"""

import dataclasses
import importlib.util
import os
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from g2ajax.config import nearest

TARGETS = pathlib.Path(__file__).parent / "targets"
# XLA cannot measure an absent NVIDIA GPU: no autotuning, and no Triton products, whose tile sizes
# come from it. cuBLAS computes them instead.
GPU_FLAGS = {"--xla_gpu_enable_triton_gemm": "false", "--xla_gpu_autotune_level": "0"}
TPU_VARIABLES = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # Nothing is run: several processes may compile at once.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published facts of one chip. Rates in FLOP/s, dense; bandwidths in bytes/s."""

    name: str
    memory: float
    """Bytes of its memory, as the vendor counts them."""
    bandwidth: float
    matrix: Mapping[str, float]
    """Matrix rate by the type of the product: `bfloat16`, `float32` (at JAX's default precision)
    and `float32 highest`."""
    link: float
    """Bytes/s that one chip sends to others of its slice or host, all its links together."""
    sources: tuple[str, ...]
    capability: float = 0.0
    """Compute capability of an NVIDIA GPU."""

    @property
    def platform(self) -> str:
        return "cuda" if self.capability else "tpu"


@dataclasses.dataclass(frozen=True)
class Target:
    """A number of chips in one slice or host."""

    chip: Chip
    devices: int
    topology: str
    """Name in `jax.experimental.topologies`."""
    accelerator: str = ""
    """Value of `TPU_ACCELERATOR_TYPE`."""


_HOPPER = {"bfloat16": 989e12, "float32": 494e12, "float32 highest": 67e12}


def _tpu(rate: float) -> dict[str, float]:
    """A TPU multiplies float32 in passes of bfloat16: one at the default precision, six at the
    highest."""
    return {"bfloat16": rate, "float32": rate, "float32 highest": rate / 6}


# NVIDIA's data sheets give matrix rates with structured sparsity: half of them here. NVLink is given in
# both directions together, as Google gives the ICI: half of it here.
H200 = Chip(
    "NVIDIA H200 SXM", 141e9, 4.8e12, _HOPPER, 450e9,
    ("NVIDIA H200 Tensor Core GPU data sheet: 141 GB HBM3e, 4.8 TB/s; BFLOAT16 1,979 and TF32 989 "
     "TFLOPS with sparsity, FP32 67 TFLOPS; NVLink 900 GB/s",),
    capability=9.0,
)  # fmt: skip
H100 = Chip(
    "NVIDIA H100 SXM", 80e9, 3.35e12, _HOPPER, 450e9,
    ("NVIDIA H100 Tensor Core GPU data sheet: 80 GB HBM3, 3.35 TB/s; BFLOAT16 1,979 and TF32 989 "
     "TFLOPS with sparsity, FP32 67 TFLOPS; NVLink 900 GB/s",),
    capability=9.0,
)  # fmt: skip
A100 = Chip(
    "NVIDIA A100 SXM 80 GB", 80e9, 2.039e12,
    {"bfloat16": 312e12, "float32": 156e12, "float32 highest": 19.5e12}, 300e9,
    ("NVIDIA A100 Tensor Core GPU data sheet: 80 GB HBM2e, 2,039 GB/s; BFLOAT16 312 and TF32 156 "
     "TFLOPS, FP32 19.5 TFLOPS; NVLink 600 GB/s",),
    capability=8.0,
)  # fmt: skip
V5E = Chip(
    "TPU v5e", 16e9, 819e9, _tpu(197e12), 200e9,
    ("cloud.google.com/tpu/docs/v5e: 16 GB, 819 GB/s; bf16 197 TFLOPS; ICI 400 GB/s both ways",),
)  # fmt: skip
V5P = Chip(
    "TPU v5p", 95e9, 2765e9, _tpu(459e12), 300e9,
    ("cloud.google.com/tpu/docs/v5p: 95 GB, 2,765 GB/s; bf16 459 TFLOPS; ICI 4,800 Gbit/s both ways",),
)  # fmt: skip
V6E = Chip(
    "TPU v6e", 32e9, 1638e9, _tpu(918e12), 400e9,
    ("cloud.google.com/tpu/docs/v6e: 32 GB, 1,638 GB/s; bf16 918 TFLOPS; ICI 800 GB/s both ways",),
)  # fmt: skip

KNOWN: Mapping[str, Target] = {
    **{name: Target(chip, 1, "1x1x1") for name, chip in
       (("h200", H200), ("h100", H100), ("a100", A100))},
    **{f"{name}-8": Target(chip, 8, "1x1x8") for name, chip in
       (("h200", H200), ("h100", H100), ("a100", A100))},
    "v5e-8": Target(V5E, 8, "v5e:2x4", "v5litepod-8"),
    "v5e-64": Target(V5E, 64, "v5e:8x8", "v5litepod-64"),
    "v5e-256": Target(V5E, 256, "v5e:16x16", "v5litepod-256"),
    "v5p-8": Target(V5P, 8, "v5p:2x2x2", "v5p-16"),
    "v6e-8": Target(V6E, 8, "v6e:2x4", "v6e-8"),
}  # fmt: skip
"""Targets by the name of `--target`; the number counts chips."""


def target(name: str) -> Target:
    """The target of this name. Raises ValueError, naming the nearest, for an unknown one."""
    if name not in KNOWN:
        raise ValueError(f"no target {name!r}; {nearest(name, KNOWN)}")
    return KNOWN[name]


def check_installed(wanted: Target) -> None:
    """Raises ValueError, saying what to install, without the compiler of the target."""
    if wanted.chip.platform == "tpu":
        if importlib.util.find_spec("libtpu") is None:
            raise ValueError(
                f"compiling for {wanted.chip.name} needs libtpu: pip install 'g2ajax[tpu]' "
                '(or "jax[tpu]"), best in an environment of its own'
            )
    elif not any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (13, 12)):
        raise ValueError(
            f"compiling for {wanted.chip.name} needs JAX's CUDA plugin: pip install "
            "'g2ajax[cuda13]' (or \"jax[cuda13]\"), best in an environment of its own"
        )


def environment(wanted: Target, given: Mapping[str, str]) -> dict[str, str]:
    """The variables to set before JAX is imported.

    Raises ValueError if `XLA_FLAGS` of the `given` variables contradict the flags for compiling for
    an absent chip.
    """
    variables = {"JAX_PLATFORMS": "cpu"}
    if wanted.chip.platform == "tpu":
        return {**variables, **TPU_VARIABLES, "TPU_ACCELERATOR_TYPE": wanted.accelerator}
    flags = shlex.split(given.get("XLA_FLAGS", ""))
    for flag in flags:
        name, _, value = flag.partition("=")
        if name in GPU_FLAGS and (value or "true") != GPU_FLAGS[name]:
            raise ValueError(
                f"XLA_FLAGS has {flag}, but nothing can be tuned for a chip that is absent: it must "
                f"be {name}={GPU_FLAGS[name]}; take it out of XLA_FLAGS"
            )
    added = [f"{name}={value}" for name, value in GPU_FLAGS.items()]
    return {**variables, "XLA_FLAGS": " ".join(dict.fromkeys([*flags, *added]))}


def set_environment(wanted: Target) -> None:
    """Sets the variables of `environment`."""
    os.environ.update(environment(wanted, os.environ))


def devices(name: str, wanted: Target) -> list[Any]:
    """The devices of a target, for meshes to compile for; nothing can run on them.

    Raises ValueError if the compiler does not know the topology.
    """
    from jax.experimental import topologies

    chip = wanted.chip
    try:
        if chip.platform == "cuda":
            facts = (TARGETS / f"{name.partition('-')[0]}.txtpb").read_text()
            described = topologies.get_topology_desc(
                name, "cuda", target_config=facts, topology=wanted.topology
            )
        else:
            described = topologies.get_topology_desc(wanted.topology, "tpu")
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"{wanted.devices} x {chip.name} cannot be compiled for here: {str(error).strip()[:300]}"
        ) from error
    return list(described.devices)
