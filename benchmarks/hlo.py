"""Reads the text of a compiled program: the bytes it moves, by kind, and its collectives.

The bytes of an instruction are its operands and its result, read or written once each. Bitcasts,
tuples and parameters move nothing; the body of a loop counts once a trip. A fusion that takes a
slice of an operand, or writes a slice in place (stacked layers in a loop), counts the slice alone.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping

WIDTHS = {
    **dict.fromkeys(("pred", "s8", "u8", "s4", "u4", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
}
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("partition-id", "replica-id", "opt-barrier"),
}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
MATMULS = ("dot", "convolution", "__cublas", "__cudnn$conv", "__triton_gemm", "cublas")

_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_HEAD = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = ")
_OPERAND = re.compile(r"%([\w.\-]+)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(r"(?:calls|body|to_apply)=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    size: int
    """Bytes of the result."""
    operands: tuple[str, ...]
    text: str
    is_root: bool


@dataclasses.dataclass(frozen=True)
class Moved:
    """The traffic of one instruction over a run of the program."""

    kind: str
    """matmul, attention, fusion, copy, collective or other."""
    bytes: int
    calls: int
    name: str
    source: str
    """File and line of the operation that gave the instruction its name, where known."""


def shape_bytes(text: str) -> int:
    """Bytes of all arrays in the text of a type."""
    total = 0
    for dtype, dims in _SHAPE.findall(text):
        if dtype in WIDTHS:
            count = 1
            for length in filter(None, dims.split(",")):
                count *= int(length)
            total += count * WIDTHS[dtype]
    return total


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
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
        elif current is not None and (instruction := _instruction(line)):
            current.append(instruction)
    return found, entry


def _instruction(line: str) -> Instruction | None:
    head = _HEAD.match(line)
    if not head:
        return None
    rest = line[head.end() :]
    kind, after = _split_type(rest)
    match = re.match(r"\s*([\w\-]+)\(", after)
    if not match:
        return None
    arguments = _parenthesised(after[match.end() - 1 :])
    operands = tuple(_OPERAND.findall(arguments))
    return Instruction(
        head.group(2), match.group(1), shape_bytes(kind), operands, line, bool(head.group(1))
    )


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


def traffic(text: str) -> list[Moved]:
    """The bytes moved by each instruction of the program, loops unrolled in the count."""
    bodies, entry = computations(text)
    sources = _sources(text)
    return list(_walk(bodies, entry, 1, sources))


def _walk(
    bodies: Mapping[str, list[Instruction]], name: str, trips: int, sources: Mapping[str, str]
) -> Iterator[Moved]:
    body = {instruction.name: instruction for instruction in bodies[name]}
    for one in body.values():
        opcode = one.opcode
        if opcode in FREE or opcode.endswith("-done"):
            continue
        if opcode in ("while", "call", "conditional"):
            match = _TRIPS.search(one.text)
            inner = trips * (int(match.group(1)) if match else 1)
            called = _CALLED.findall(one.text)
            called += re.findall(r"branch_computations=\{([^}]*)\}", one.text)
            for target in called[:1] if opcode != "conditional" else called:
                for branch in re.split(r",\s*", target.replace("%", "")):
                    yield from _walk(bodies, branch, inner, sources)
            continue
        size = _moved(one, body, bodies) * trips
        yield Moved(_kind(one, bodies), size, trips, one.name, _source(one, sources))


def _moved(one: Instruction, body: Mapping, bodies: Mapping) -> int:
    """Bytes of operands and result, slices alone where a fusion takes or writes only those."""
    sizes = [body[name].size if name in body else 0 for name in one.operands]
    if one.opcode == "dynamic-slice":
        return 2 * one.size
    if one.opcode == "dynamic-update-slice":
        return 2 * (sizes[1] if len(sizes) > 1 else 0)
    if one.opcode.startswith(COLLECTIVES) or one.opcode.endswith("-start"):
        return sum(sizes) + (one.size if not one.opcode.endswith("-start") else sum(sizes))
    result = one.size
    called = _CALLED.findall(one.text) if one.opcode == "fusion" else []
    if called and called[0] in bodies:
        inner = bodies[called[0]]
        by_name = {i.name: i for i in inner}
        users = collections.defaultdict(list)
        for i in inner:
            for operand in i.operands:
                users[operand].append(i)
        numbered = {}
        for i in inner:
            if i.opcode == "parameter":
                numbered[int(re.search(r"parameter\((\d+)\)", i.text).group(1))] = i.name
        for number in range(len(sizes)):
            uses = _uses(numbered.get(number, ""), users)
            if uses and all(u.opcode == "dynamic-slice" for u, _ in uses):
                sizes[number] = min(sizes[number], sum(u.size for u, _ in uses))
            elif uses and all(
                u.opcode == "dynamic-update-slice" and u.operands[0] == via for u, via in uses
            ):
                written = sum(by_name[u.operands[1]].size for u, _ in uses)
                result -= sizes[number] - written
                sizes[number] = 0
    return sum(sizes) + max(result, 0)


def _uses(name: str, users: Mapping) -> list[tuple[Instruction, str]]:
    """The instructions that use a value, looked for behind bitcasts, and the name they use."""
    out = []
    for user in users[name]:
        out += _uses(user.name, users) if user.opcode == "bitcast" else [(user, name)]
    return out


def _kind(one: Instruction, bodies: Mapping) -> str:
    opcode = one.opcode
    if opcode.startswith(COLLECTIVES):
        return "collective"
    target = re.search(r'custom_call_target="([^"]*)"', one.text)
    if target and ("fmha" in target.group(1) or "tpu_custom_call" in target.group(1)):
        return "attention"
    name = target.group(1) if target else opcode
    if name.startswith(MATMULS):
        return "matmul"
    if opcode == "fusion":
        called = _CALLED.findall(one.text)
        inner = bodies.get(called[0], []) if called else []
        if any(i.opcode in ("dot", "convolution") for i in inner):
            return "matmul"
        return "fusion"
    if opcode in ("copy", "transpose", "copy-start", "reshape", "slice", "concatenate"):
        return "copy"
    return "other"


def _sources(text: str) -> dict[str, str]:
    """Stack frame → "file:line", from the tables at the head of the text."""
    head = text.partition("\n\n%")[0]
    files = dict(re.findall(r'^(\d+) "([^"]*)"$', _table(text, "FileNames"), re.M))
    places = {
        number: (file, line)
        for number, file, line in re.findall(
            r"^(\d+) \{file_name_id=(\d+).*?\bline=(\d+)", _table(text, "FileLocations"), re.M
        )
    }
    frames = dict(
        re.findall(r"^(\d+) \{file_location_id=(\d+)", _table(text, "StackFrames"), re.M)
    )
    del head
    out = {}
    for frame, place in frames.items():
        file, line = places.get(place, ("", ""))
        name = files.get(file, "")
        out[frame] = f"{name[name.find('g2ajax') :] if 'g2ajax/' in name else name}:{line}"
    return out


def _table(text: str, name: str) -> str:
    start = text.find(f"\n{name}\n")
    if start < 0:
        return ""
    end = text.find("\n\n", start + 1)
    return text[start:end]


def _source(one: Instruction, sources: Mapping[str, str]) -> str:
    frame = re.search(r"stack_frame_id=(\d+)", one.text)
    if frame and frame.group(1) in sources:
        return sources[frame.group(1)]
    plain = re.search(r'source_file="([^"]*)" source_line=(\d+)', one.text)
    return f"{plain.group(1)}:{plain.group(2)}" if plain else ""


def operation(text: str, name: str) -> str:
    """The traced operation behind an instruction."""
    found = re.search(rf'%{re.escape(name)} = .*?op_name="([^"]*)"', text)
    return found.group(1) if found else ""


def totals(moved: list[Moved]) -> dict[str, int]:
    """Bytes of each kind."""
    out: collections.Counter = collections.Counter()
    for one in moved:
        out[one.kind] += one.bytes
    return dict(out)


def collectives(moved: list[Moved]) -> dict[str, tuple[int, int]]:
    """Kind of collective → how many run, and the bytes of their operands and results."""
    out: dict[str, tuple[int, int]] = {}
    for one in moved:
        if one.kind == "collective":
            kind = re.sub(r"[.\d]+$", "", one.name)
            count, size = out.get(kind, (0, 0))
            out[kind] = (count + one.calls, size + one.bytes)
    return out
