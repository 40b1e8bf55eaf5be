"""The bytes that a compiled program moves, by kind, and the bytes that its collectives send.

The bytes of an instruction are those of its operands and its result, each read or written once.
Bitcasts, tuples and parameters move nothing; the body of a loop counts once a trip (an unknown number
of trips as one). A fusion that takes a slice of an operand, or writes a slice in place (stacked layers
in a loop), or gathers rows, counts those alone. Arrays in a memory on the chip do not count.
"""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping

from benchmarks.hlo import Computations, Instruction, computations, fused_in, sources

KINDS = ("matmul", "attention", "fusion", "copy", "collective", "other", "scratch")
"""`matmul`: matrix products and convolutions, with what is fused to them. `attention`: fused attention
kernels. `scratch`: workspaces of products and kernels; how much of one is touched is unknown."""
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("partition-id", "replica-id", "opt-barrier", "custom-call:ConcatBitcast"),
    *("custom-call:AllocateBuffer", "custom-call:AsyncCollectiveStart"),
    "custom-call:AsyncCollectiveDone",
}
MATMULS = ("dot", "convolution", "__cublas", "__cudnn$conv", "__triton_gemm")
ATTENTION = ("__cudnn$fmha", "tpu_custom_call")
TAKEN = ("slice", "dynamic-slice", "gather")
"""Operations that read only the bytes of their result from the first operand."""
COPIES = ("copy", "transpose", "reshape", "slice", "concatenate", "dynamic-slice", "pad")


@dataclasses.dataclass(frozen=True)
class Moved:
    """The traffic of one instruction over a run of the program."""

    kind: str
    """One of `KINDS`."""
    bytes: int
    calls: int
    name: str
    """Name; for a collective, its kind."""
    source: str
    """File and line of this package behind the instruction, where known."""
    operation: str
    sent: int = 0
    """Bytes that one device sends for a collective at best (a ring)."""


def traffic(text: str, devices: int = 1, on_chip: Collection[int] = ()) -> list[Moved]:
    """The bytes moved on one of the devices by each instruction of a program, given as its text.

    A collective that is started in one fusion and ended in another (one channel) counts once.
    """
    bodies, entry = computations(text, on_chip)
    return list(_Walk(bodies, sources(text), devices).run(entry, 1))


class _Walk:
    """Goes through the instructions in the order in which they are written."""

    def __init__(self, bodies: Computations, frames: Mapping[str, str], devices: int) -> None:
        self.bodies, self.frames, self.devices = bodies, frames, devices
        self.channels: set[str] = set()

    def run(self, name: str, trips: int) -> Iterator[Moved]:
        body = {instruction.name: instruction for instruction in self.bodies[name]}
        for one in body.values():
            if one.opcode in FREE or one.opcode.endswith(("-done", "-update")):
                continue
            if one.entered:
                for target in one.entered:
                    yield from self.run(target, trips * one.trips(self.bodies))
                continue
            if one.collective:
                yield from self.collectives([one], body, trips)
                continue
            fused = self.bodies.get(one.called, []) if one.opcode == "fusion" else []
            within, apart = [i for i in fused if i.collective], 0
            if within:
                inner = {i.name: i for i in fused}
                scattered = one.called.startswith("all-reduce-scatter")
                yield from self.collectives(within, inner, trips, scattered)
                if not _multiplies(one, self.bodies):
                    continue
                apart = sum(sum(_exchanged(i, inner)) for i in within)
            about = (trips, one.name, one.source(self.frames), one.operation)
            size = _moved(one, body, self.bodies) - one.scratch - apart
            yield Moved(_kind(one, self.bodies), max(size, 0) * trips, *about)
            if one.scratch:
                yield Moved("scratch", one.scratch * trips, *about)

    def collectives(
        self,
        found: list[Instruction],
        body: Mapping[str, Instruction],
        trips: int,
        scattered: bool = False,
    ) -> Iterator[Moved]:
        """`scattered`: libtpu writes a reduce-scatter as the fusion of an all-reduce and a slice."""
        for one in found:
            if one.channel in self.channels:
                continue
            self.channels.add(one.channel)
            operands, result = _exchanged(one, body)
            devices, kind = one.group or self.devices, one.collective
            if scattered:
                kind, result = "reduce-scatter", result // devices
            sent = _sent(kind, operands, result, devices) * trips
            about = (trips, kind, one.source(self.frames), one.operation)
            yield Moved("collective", (operands + result) * trips, *about, sent)


def _sent(kind: str, given: int, result: int, devices: int) -> int:
    """Bytes that one device of a ring sends."""
    if kind == "collective-permute":
        return given
    share = {"all-reduce": 2 * given, "all-gather": result}.get(kind, given)
    return share * (devices - 1) // devices


def _exchanged(one: Instruction, body: Mapping[str, Instruction]) -> tuple[int, int]:
    """Bytes of a collective's operands and of its result, in whichever memory they are."""
    operands = sum(sum(body[name].whole) for name in one.operands if name in body)
    result = sum(one.whole)
    if one.opcode.endswith("-start") and one.collective != "all-reduce":
        result -= (
            operands  # an all-reduce starts with its results alone, others with (operands, results)
        )
    return operands, max(result, 0)


def _multiplies(one: Instruction, bodies: Computations) -> bool:
    if one.opcode != "fusion":
        return False
    return any(i.opcode in ("dot", "convolution") for i in fused_in(one.called, bodies))


def _moved(one: Instruction, body: Mapping[str, Instruction], bodies: Computations) -> int:
    """Bytes of operands and result; slices alone if only slices are read or written."""
    sizes = [body[name].size if name in body else 0 for name in one.operands]
    if one.opcode in ("dynamic-slice", "slice"):
        return 2 * one.size
    if one.opcode == "gather":
        return min(sizes[0], one.size) + sum(sizes[1:]) + one.size
    if one.opcode == "dynamic-update-slice":
        return 2 * (sizes[1] if len(sizes) > 1 else 0)
    if one.opcode == "copy-start":
        return sum(sizes) + one.arrays[0]
    if one.opcode.endswith("-start"):  # of a slice: (operands, result, context)
        result = len(sizes)
        return one.arrays[result] + (one.whole[result] if any(sizes) else 0)
    if one.opcode == "fusion":
        return _fusion(one, sizes, bodies.get(one.called, []))
    return sum(sizes) + one.size


def _fusion(one: Instruction, sizes: list[int], inner: list[Instruction]) -> int:
    by_name = {i.name: i for i in inner}
    users = collections.defaultdict(list)
    for user in inner:
        for operand in user.operands:
            users[operand].append(user)
    numbered = {i.number: i.name for i in inner if i.opcode == "parameter"}
    sizes, result = list(sizes), one.size
    for number, size in enumerate(sizes):
        uses = _uses(numbered.get(number, ""), users)
        if uses and all(u.opcode in TAKEN and u.operands[0] == via for u, via in uses):
            sizes[number] = min(size, sum(u.size for u, _ in uses))
        elif uses and all(
            u.opcode == "dynamic-update-slice" and u.operands[0] == via for u, via in uses
        ):
            result -= size - sum(by_name[u.operands[1]].size for u, _ in uses)
            sizes[number] = 0
    return sum(sizes) + max(result, 0)


def _uses(name: str, users: Mapping[str, list[Instruction]]) -> list[tuple[Instruction, str]]:
    """The instructions that use a value, also behind bitcasts, and the name they use."""
    uses = []
    for user in users[name]:
        uses += _uses(user.name, users) if user.opcode == "bitcast" else [(user, name)]
    return uses


def _kind(one: Instruction, bodies: Computations) -> str:
    name = one.opcode.removeprefix("custom-call:")
    if name.startswith(ATTENTION):
        return "attention"
    if name.startswith(MATMULS) or _multiplies(one, bodies):
        return "matmul"
    if name == "fusion":
        return "fusion"
    return "copy" if name.removesuffix("-start") in COPIES else "other"


def totals(moved: Iterable[Moved]) -> dict[str, int]:
    """Bytes of each kind, every kind present."""
    result = dict.fromkeys(KINDS, 0)
    for one in moved:
        result[one.kind] += one.bytes
    return result


def largest(moved: Iterable[Moved], count: int = 10) -> list[Moved]:
    """The largest movers; equal kinds, source lines and operations (one a layer) are added up."""
    groups: dict[tuple, list[Moved]] = collections.defaultdict(list)
    for one in moved:
        groups[one.kind, one.source, one.operation.rpartition("/")[2]].append(one)
    added = []
    for (kind, source, operation), group in groups.items():
        size, calls = sum(m.bytes for m in group), sum(m.calls for m in group)
        added.append(Moved(kind, size, calls, group[0].name, source, operation))
    return sorted(added, key=lambda m: -m.bytes)[:count]


def collectives(moved: Iterable[Moved]) -> dict[str, tuple[int, int, int]]:
    """Kind of collective → number that run, bytes of their operands and results, bytes sent."""
    totals: dict[str, tuple[int, int, int]] = {}
    for one in moved:
        if one.kind == "collective":
            count, size, sent = totals.get(one.name, (0, 0, 0))
            totals[one.name] = (count + one.calls, size + one.bytes, sent + one.sent)
    return totals
