"""Reads the text of a compiled program: the bytes it moves, by kind, and its collectives.

The bytes of an instruction are those of its operands and its result, each read or written once.
Bitcasts, tuples and parameters move nothing; the body of a loop counts once a trip. A fusion that
takes a slice of an operand, or writes a slice in place (stacked layers in a loop), counts the slice
alone. Arrays in a memory space of `on_chip` (a TPU's VMEM, `S(1)` in the text) do not count.
"""

import collections
import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

WIDTHS = {
    **dict.fromkeys(("pred", "s8", "u8", "s4", "u4", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
}
TPU_ON_CHIP = (1, 2, 3, 4)
"""Memory spaces of a TPU beside its HBM: VMEM, semaphores, scalar memory."""
KINDS = ("matmul", "attention", "fusion", "copy", "collective", "other", "scratch")
"""`matmul`: matrix products and convolutions, with what is fused to them. `attention`: fused attention
kernels. `scratch`: workspaces that a product or kernel is given; how much of one it touches is unknown."""
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("partition-id", "replica-id", "opt-barrier", "custom-call:ConcatBitcast"),
    *("custom-call:AllocateBuffer", "custom-call:AsyncCollectiveStart"),
    "custom-call:AsyncCollectiveDone",
}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
MATMULS = ("dot", "convolution", "__cublas", "__cudnn$conv", "__triton_gemm")
ATTENTION = ("__cudnn$fmha", "tpu_custom_call")
COPIES = ("copy", "transpose", "reshape", "slice", "concatenate", "dynamic-slice", "pad")

_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_HEAD = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = ")
_OPERAND = re.compile(r"%([\w.\-]+)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(r"\b(?:calls|body|to_apply)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_FRAME = re.compile(r"stack_frame_id=(\d+)")
_OPERATION = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    """Of a custom call with its target: `custom-call:__cublas$gemm`."""
    arrays: tuple[int, ...]
    """Bytes of each array of the result, 0 for those on the chip."""
    whole: tuple[int, ...]
    """The same wherever they are."""
    scratch: int
    """Bytes of the workspace among them."""
    operands: tuple[str, ...]
    text: str

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return sum(self.arrays)

    @property
    def collective(self) -> str:
        """The kind of collective that it starts, "" for none."""
        if self.opcode.endswith("-done"):
            return ""
        return next((kind for kind in COLLECTIVES if self.opcode.startswith(kind)), "")


Computations = Mapping[str, list[Instruction]]


@dataclasses.dataclass(frozen=True)
class Moved:
    """The traffic of one instruction over a run of the program."""

    kind: str
    """One of `KINDS`."""
    bytes: int
    calls: int
    name: str
    source: str
    """File and line of this package behind the instruction, where known."""
    operation: str
    """The traced operation behind it: `jit(step)/dot_general`."""


def computations(
    text: str, on_chip: Collection[int] = ()
) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of every computation by its name, and the name of the entry."""
    found: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head and " = " not in line.split("(", 1)[0]:
            current = found.setdefault(head.group(2), [])
            entry = head.group(2) if head.group(1) else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (instruction := _instruction(line, on_chip)):
            current.append(instruction)
    return found, entry


def _instruction(line: str, on_chip: Collection[int]) -> Instruction | None:
    head = _HEAD.match(line)
    if not head:
        return None
    kind, after = _split_type(line[head.end() :])
    match = re.match(r"\s*([\w\-]+)\(", after)
    if not match:
        return None
    operands = tuple(_OPERAND.findall(_parenthesised(after[match.end() - 1 :])))
    opcode, arrays, whole, scratch = match.group(1), _arrays(kind, on_chip), _arrays(kind), 0
    if opcode == "custom-call":
        target = _TARGET.search(line)
        opcode += f":{target.group(1)}" if target else ""
        scratch = sum(
            size
            for size, (dtype, dims, _) in zip(arrays[1:], _SHAPE.findall(kind)[1:], strict=True)
            if dtype in ("s8", "u8") and "," not in dims
        )
    return Instruction(head.group(2), opcode, arrays, whole, scratch, operands, line)


def _arrays(text: str, on_chip: Collection[int] = ()) -> tuple[int, ...]:
    """Bytes of each array in the text of a type; 0 for those in a memory on the chip."""
    sizes = []
    for dtype, dims, layout in _SHAPE.findall(text):
        space = _SPACE.search(layout)
        count = WIDTHS.get(dtype, 0) * (not space or int(space.group(1)) not in on_chip)
        for length in filter(None, dims.split(",")):
            count *= int(length)
        sizes.append(count)
    return tuple(sizes)


def _split_type(text: str) -> tuple[str, str]:
    """The type at the start of the text, and what follows it."""
    if not text.startswith("("):
        kind, _, rest = text.partition(" ")
        return kind, rest
    kind = _parenthesised(text)
    return kind, text[len(kind) :]


def _parenthesised(text: str) -> str:
    """The text up to the parenthesis that closes its first one."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[: place + 1]
    return text


def traffic(text: str, on_chip: Collection[int] = ()) -> list[Moved]:
    """The bytes moved by each instruction of the program, loops unrolled in the count.

    A collective that is started in one fusion and ended in another (one channel) counts once. The
    trips of a loop are those that the compiler has written down; an unknown number counts as one.
    """
    bodies, entry = computations(text, on_chip)
    return list(_walk(bodies, entry, 1, _sources(text), set()))


def _walk(
    bodies: Computations, name: str, trips: int, sources: Mapping[str, str], channels: set[str]
) -> Iterator[Moved]:
    body = {instruction.name: instruction for instruction in bodies[name]}
    for one in body.values():
        if one.opcode in FREE or one.opcode.endswith(("-done", "-update")):
            continue
        inner = _entered(one)
        if inner:
            match = _TRIPS.search(one.text)
            count = trips * (int(match.group(1)) if match else 1)
            for target in inner:
                yield from _walk(bodies, target, count, sources, channels)
            continue
        about = (trips, one.name, _source(one, sources), _operation(one))
        within = [one] if one.collective else _collectives_in(one, bodies)
        if within:
            new = [c for c in within if _channel(c) not in channels]
            channels.update(map(_channel, new))
            for c in new:
                place = body if c is one else {i.name: i for i in bodies[_called(one)]}
                yield Moved(
                    "collective", _exchanged(c, place) * trips, trips, c.collective, *about[2:]
                )
            if one in within or not _multiplies(one, bodies):
                continue
        size = _moved(one, body, bodies)
        size -= sum(_exchanged(c, {i.name: i for i in bodies[_called(one)]}) for c in within)
        yield Moved(_kind(one, bodies), max(size - one.scratch, 0) * trips, *about)
        if one.scratch:
            yield Moved("scratch", one.scratch * trips, *about)


def _entered(one: Instruction) -> list[str]:
    """The computations that run when the instruction does, other than fused ones."""
    if one.opcode in ("while", "call", "async-start"):
        return _CALLED.findall(one.text)[:1]
    if one.opcode == "conditional":
        found = [a or b for a, b in _BRANCHES.findall(one.text)]
        return [name for group in found for name in re.split(r",\s*", group.replace("%", ""))]
    return []


def _called(one: Instruction) -> str:
    found = _CALLED.search(one.text)
    return found.group(1) if found else ""


def _fused(one: Instruction, bodies: Computations) -> Iterator[Instruction]:
    """The instructions inside a fusion, those of fusions inside it too."""
    if one.opcode == "fusion":
        for inner in bodies.get(_called(one), []):
            yield inner
            yield from _fused(inner, bodies)


def _multiplies(one: Instruction, bodies: Computations) -> bool:
    return any(inner.opcode in ("dot", "convolution") for inner in _fused(one, bodies))


def _collectives_in(one: Instruction, bodies: Computations) -> list[Instruction]:
    """The collectives inside a fusion."""
    if one.opcode != "fusion":
        return []
    return [inner for inner in bodies.get(_called(one), []) if inner.collective]


def _channel(one: Instruction) -> str:
    found = _CHANNEL.search(one.text)
    return found.group(1) if found else one.name


def _exchanged(one: Instruction, body: Mapping[str, Instruction]) -> int:
    """Bytes of a collective's operands and result, in whichever memory they are."""
    given = sum(sum(body[name].whole) for name in one.operands if name in body)
    result = sum(one.whole)
    if one.opcode.endswith("-start"):
        # An all-gather's start has (operands, results); an all-reduce's the results alone.
        result -= given if one.collective != "all-reduce" else 0
    return given + max(result, 0)


def _moved(one: Instruction, body: Mapping[str, Instruction], bodies: Computations) -> int:
    """Bytes of operands and result, slices alone where a fusion takes or writes only those."""
    sizes = [body[name].size if name in body else 0 for name in one.operands]
    if one.opcode in ("dynamic-slice", "slice"):
        return 2 * one.size
    if one.opcode == "dynamic-update-slice":
        return 2 * (sizes[1] if len(sizes) > 1 else 0)
    if one.opcode == "copy-start":
        return sum(sizes) + one.arrays[0]
    if one.opcode.endswith("-start"):  # of a slice: (operands, result, context)
        result = len(sizes)
        return one.arrays[result] + (one.whole[result] if any(sizes) else 0)
    if one.opcode == "fusion":
        return _fusion(one, sizes, bodies.get(_called(one), []))
    return sum(sizes) + one.size


def _fusion(one: Instruction, sizes: list[int], inner: list[Instruction]) -> int:
    by_name = {i.name: i for i in inner}
    users = collections.defaultdict(list)
    for user in inner:
        for operand in user.operands:
            users[operand].append(user)
    numbered = {
        int(re.search(r"parameter\((\d+)\)", i.text).group(1)): i.name
        for i in inner
        if i.opcode == "parameter"
    }
    sizes, result = list(sizes), one.size
    for number, size in enumerate(sizes):
        uses = _uses(numbered.get(number, ""), users)
        if uses and all(u.opcode == "dynamic-slice" for u, _ in uses):
            sizes[number] = min(size, sum(u.size for u, _ in uses))
        elif uses and all(
            u.opcode == "dynamic-update-slice" and u.operands[0] == via for u, via in uses
        ):
            result -= size - sum(by_name[u.operands[1]].size for u, _ in uses)
            sizes[number] = 0
    return sum(sizes) + max(result, 0)


def _uses(name: str, users: Mapping[str, list[Instruction]]) -> list[tuple[Instruction, str]]:
    """The instructions that use a value, looked for behind bitcasts, and the name they use."""
    found = []
    for user in users[name]:
        found += _uses(user.name, users) if user.opcode == "bitcast" else [(user, name)]
    return found


def _kind(one: Instruction, bodies: Computations) -> str:
    name = one.opcode.removeprefix("custom-call:")
    if name.startswith(ATTENTION):
        return "attention"
    if name.startswith(MATMULS) or _multiplies(one, bodies):
        return "matmul"
    if name == "fusion":
        return "fusion"
    return "copy" if name.removesuffix("-start") in COPIES else "other"


def _sources(text: str) -> dict[str, str]:
    """Stack frame → "file:line" of its innermost frame inside this package, else of the frame itself;
    from the tables at the head of the text."""
    files = dict(re.findall(r'^(\d+) "([^"]*)"$', _table(text, "FileNames"), re.M))
    places = {
        number: (files.get(file, ""), line)
        for number, file, line in re.findall(
            r"^(\d+) \{file_name_id=(\d+).*?\bline=(\d+)", _table(text, "FileLocations"), re.M
        )
    }
    frames = {
        number: (place, str(int(parent or 1) - 1))  # written one higher than it is; 0: none
        for number, place, parent in re.findall(
            r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?",
            _table(text, "StackFrames"),
            re.M,
        )
    }
    return {number: _innermost(number, frames, places) for number in frames}


def _innermost(number: str, frames: Mapping, places: Mapping) -> str:
    own = ""
    while number in frames:
        place, number = frames[number]
        file, line = places.get(place, ("", ""))
        if "g2ajax/" in file:
            return f"{file[file.rfind('g2ajax/') :]}:{line}"
        own = own or f"{file}:{line}"
    return own


def _table(text: str, name: str) -> str:
    start = text.find(f"\n{name}\n")
    return text[start : text.find("\n\n", start + 1)] if start >= 0 else ""


def _source(one: Instruction, sources: Mapping[str, str]) -> str:
    frame = _FRAME.search(one.text)
    if frame and frame.group(1) in sources:
        return sources[frame.group(1)]
    plain = re.search(r'source_file="([^"]*)" source_line=(\d+)', one.text)
    return f"{plain.group(1)}:{plain.group(2)}" if plain else ""


def _operation(one: Instruction) -> str:
    found = _OPERATION.search(one.text)
    return found.group(1) if found else one.opcode


def totals(moved: Iterable[Moved]) -> dict[str, int]:
    """Bytes of each kind, every kind present."""
    found = dict.fromkeys(KINDS, 0)
    for one in moved:
        found[one.kind] += one.bytes
    return found


def largest(moved: Iterable[Moved], count: int = 10) -> list[Moved]:
    """The largest movers, those of one kind, source line and operation (one a layer) added up."""
    groups: dict[tuple, list[Moved]] = collections.defaultdict(list)
    for one in moved:
        groups[one.kind, one.source, one.operation.rpartition("/")[2]].append(one)
    added = [
        Moved(
            kind, sum(m.bytes for m in group), sum(m.calls for m in group),
            group[0].name, source, operation,
        )
        for (kind, source, operation), group in groups.items()
    ]  # fmt: skip
    return sorted(added, key=lambda m: -m.bytes)[:count]


def collectives(moved: Iterable[Moved]) -> dict[str, tuple[int, int]]:
    """Kind of collective → how many run, and the bytes of their operands and results."""
    found: dict[str, tuple[int, int]] = {}
    for one in moved:
        if one.kind == "collective":
            count, size = found.get(one.name, (0, 0))
            found[one.name] = (count + one.calls, size + one.bytes)
    return found
