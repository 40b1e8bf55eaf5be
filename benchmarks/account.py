"""Compiles a program for a target; accounts for its memory, FLOPs and bytes, and their bounds."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import jax
from jax._src.cudnn import (
    fused_attention_stablehlo,
)  # asks the GPU; JAX has no public way to tell it

from benchmarks import flops
from benchmarks.chips import Chip, Target
from benchmarks.hlo import TPU_ON_CHIP
from benchmarks.programs import Experiment, Program
from benchmarks.traffic import collectives, largest, totals, traffic
from g2ajax.nn.attention import Device, traced_for

GIB = 2**30


class DoesNotFit(ValueError):
    """A program needs more memory than a chip has."""


@dataclasses.dataclass(frozen=True)
class Account:
    """One program on one target; all values are for one chip and one call."""

    configuration: str
    program: str
    target: str
    chips: int
    fsdp: int
    examples: int
    """Examples on all chips."""
    share: int
    """Examples on each chip."""
    state_bytes: int
    """State of a training step: parameters, statistics and optimizer, whole."""
    peak_bytes: int
    argument_bytes: int
    temporary_bytes: int
    flops: dict[str, float]
    """FLOPs by "kind precision"."""
    bytes: dict[str, int]
    """Bytes by kind of `traffic.KINDS`; `scratch` is no traffic."""
    largest: list[dict[str, Any]]
    collectives: dict[str, tuple[int, int, int]]
    """Kind → count, bytes of operands and results, bytes sent."""
    compiler: dict[str, float]
    """FLOPs and bytes of XLA's own cost analysis, if it has one: values kept on the chip count."""
    compile_seconds: float
    trace_seconds: float
    seconds: dict[str, float]
    """The bound of each kind: max(FLOPs / rate, bytes / bandwidth); `collective`: bytes sent / link."""
    mfu: float
    """Highest share of the chip's bfloat16 rate: FLOPs / (rate x `bound`)."""

    @property
    def moved(self) -> int:
        """Bytes that go to or come from memory, scratch left out."""
        return sum(size for kind, size in self.bytes.items() if kind != "scratch")

    @property
    def alone(self) -> float:
        """The bound without collectives."""
        return sum(value for kind, value in self.seconds.items() if kind != "collective")

    @property
    def bound(self) -> float:
        """Lower bound of a call's seconds: the kinds one after another, collectives beside them."""
        return max(self.alone, self.seconds["collective"])

    @property
    def efficiency(self) -> tuple[float, float]:
        """Bounds on the speed of a chip among many over its speed alone: with collectives that never
        run beside computation, and with collectives that always do."""
        sent = self.seconds["collective"]
        return self.alone / (self.alone + sent), self.alone / max(self.alone, sent)


@contextlib.contextmanager
def present(chip: Chip) -> Iterator[None]:
    """Answers for an absent chip where JAX asks the GPU of this machine what cuDNN can do on it: heads up
    to 256 wide need compute capability 9.0. JAX has no public way to tell it."""

    def capable(least: str) -> bool:
        return chip.capability >= float(least)

    with mock.patch.object(fused_attention_stablehlo, "check_compute_capability", capable):
        yield


def compiled(program: Program, chip: Chip) -> tuple[Any, Any, float, float]:
    """A program traced and compiled for a chip, and the seconds of both."""
    start = time.perf_counter()
    with traced_for(Device(chip.platform, chip.capability)), present(chip):
        traced = program.call.trace(*program.arguments)
        lowered = traced.lower(lowering_platforms=(chip.platform,))
    middle = time.perf_counter()
    result = lowered.compile()
    return traced, result, middle - start, time.perf_counter() - middle


def account(
    of: Experiment, program: Program, name: str, target: Target, fsdp: int = 1, hlo: Any = None
) -> Account:
    """The account of a program; its text goes to the file `hlo` if one is given.

    Raises DoesNotFit, saying what to change, for a program that needs more memory than a chip has.
    """
    chip = target.chip
    try:
        traced, result, trace_seconds, compile_seconds = compiled(program, chip)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFit(too_large(of, program, needed(str(error)), target, fsdp)) from error
    memory, text = result.memory_analysis(), result.as_text()
    if hlo:
        hlo.write_text(text)
    peak = memory.peak_memory_in_bytes
    if peak > chip.memory:
        raise DoesNotFit(too_large(of, program, peak, target, fsdp))
    moved = traffic(text, target.devices, TPU_ON_CHIP if chip.platform == "tpu" else ())
    parts = target.devices if program.dealt else 1
    counted = {key: n / parts for key, n in flops.count(traced.jaxpr).items() if n}
    seconds = bounds(counted, totals(moved), sum(one.sent for one in moved), chip)
    entry = Account(
        configuration=of.name,
        program=program.name,
        target=name,
        chips=target.devices,
        fsdp=fsdp,
        examples=program.examples,
        share=program.examples // parts,
        state_bytes=program.state_bytes,
        peak_bytes=peak,
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        flops={" ".join(key): value for key, value in counted.items()},
        bytes=totals(moved),
        largest=[dataclasses.asdict(m) for m in largest(m for m in moved if m.kind != "scratch")],
        collectives=collectives(moved),
        compiler=cost_analysis(result),
        compile_seconds=compile_seconds,
        trace_seconds=trace_seconds,
        seconds=seconds,
        mfu=0.0,
    )
    most = chip.matrix["bfloat16"] * entry.bound
    return dataclasses.replace(entry, mfu=sum(counted.values()) / most if most else 0.0)


def bounds(
    counted: dict[tuple[str, str], float], moved: dict[str, int], sent: int, chip: Chip
) -> dict[str, float]:
    """Seconds of each kind at the chip's rates. Scratch is left out: none of it need be touched."""
    seconds = {}
    for kind, size in moved.items():
        rates = (
            value / chip.matrix[precision]
            for (own, precision), value in counted.items()
            if own == kind
        )
        seconds[kind] = max(size / chip.bandwidth, sum(rates))
    del seconds["scratch"]
    return seconds | {"collective": sent / chip.link}


def needed(message: str) -> float:
    """The bytes that the compiler for TPUs reports as too many, 0 without such a report."""
    match = re.search(r"(?:Used|temporaries \() ?([\d.]+)([KMGT])", message)
    return float(match[1]) * 1024 ** ("KMGT".index(match[2]) + 1) if match else 0.0


def cost_analysis(result: Any) -> dict[str, float]:
    """XLA's own count of FLOPs and bytes, {} without one (NVIDIA GPUs)."""
    try:
        costs = result.cost_analysis()
    except Exception:  # what is raised depends on the compiler; it is beside our own count only
        return {}
    costs = (costs[0] if isinstance(costs, list) else costs) or {}
    names = {"flops": "flops", "bytes": "bytes accessed"}
    return {name: float(costs[key]) for name, key in names.items() if key in costs}


def too_large(of: Experiment, program: Program, size: float, target: Target, fsdp: int) -> str:
    """Message with the memory that a program needs, the memory available, and the remedies."""
    chip, batch = target.chip, program.examples // target.devices
    needs = f"needs {size / GIB:.1f} GiB" if size else "needs more memory than there is"
    text = (
        f"{of.name}, {program.name}: {needs} on each {chip.name}, which has "
        f"{chip.memory / GIB:.1f} GiB, for {batch} examples a chip"
    )
    state = program.state_bytes
    if not state:
        return f"{text}; change it by --set=evaluate.batch_size={max(program.examples // 2, 1)}"
    text += f" and {state / fsdp / GIB:.2f} GiB of parameters and optimizer"
    advice = []
    if batch > 1:
        rest = max(size - state / fsdp, 1.0)
        fits = int(batch * max(chip.memory - state / fsdp, 0) / rest) if size else batch // 2
        advice.append(f"--batch={max(min(fits, batch - 1), 1)}")
    advice += [f"--set={place}=True" for place in remats(of.options.method, "method")]
    if target.devices > fsdp and state > chip.memory / 4:
        advice.append(f"--fsdp={target.devices}")
    return f"{text}; change it by {' or '.join(advice) or 'a chip with more memory'}"


def remats(block: Mapping[str, Any], where: str) -> list[str]:
    """The settings of a method that would save memory by recomputing, and are off."""
    if block.get("remat"):
        return []
    settings = []
    for key, value in block.items():
        if key == "backbone" and not value.get("remat"):
            settings.append(f"{where}.backbone.remat")
        elif isinstance(value, Mapping):
            settings += remats(value, f"{where}.{key}")
    return settings
