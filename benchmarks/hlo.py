"""Reads the text of a compiled program: its computations, instructions, and their lines of code."""

import dataclasses
import functools
import math
import re
from collections.abc import Collection, Iterator, Mapping

WIDTHS = {
    **dict.fromkeys(("pred", "s8", "u8", "s4", "u4", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
}
TPU_ON_CHIP = (1, 2, 3, 4)
"""Memory spaces of a TPU beside its HBM: VMEM (`S(1)` in the text), semaphores, scalar memory."""
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_HEAD = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = ")
_OPERAND = re.compile(r"%([\w.\-]+)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(r"\b(?:calls|body|to_apply)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    """Name of the operation, with the target of a custom call: `custom-call:__cublas$gemm`."""
    arrays: tuple[int, ...]
    """Bytes of each array of the result, 0 for those in a memory on the chip."""
    whole: tuple[int, ...]
    """Bytes of each array of the result, in whichever memory."""
    scratch: int
    """Bytes of the workspace in the result."""
    operands: tuple[str, ...]
    text: str

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return sum(self.arrays)

    @property
    def collective(self) -> str:
        """The kind of collective that the instruction is or starts, "" for none."""
        if self.opcode.endswith("-done"):
            return ""
        return next((kind for kind in COLLECTIVES if self.opcode.startswith(kind)), "")

    @property
    def channel(self) -> str:
        """Identifier shared by all parts of one collective."""
        return self._found(r"channel_id=(\d+)") or self.name

    @property
    def group(self) -> int:
        """Devices among which a collective exchanges; 0: all."""
        if text := self._found(r"replica_groups=\{\{([\d,]*)\}"):
            return len(text.split(","))
        if grid := re.search(r"replica_groups=\[(\d+),(\d+)\]", self.text):
            return int(grid.group(2))
        if match := re.search(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}", self.text):
            lengths = dict(re.findall(r"'(\w+)'=(\d+)", match.group(1)))
            axes = re.findall(r"'(\w+)'", match.group(2))
            return math.prod(int(lengths[axis]) for axis in axes)
        return 0

    @property
    def called(self) -> str:
        """The computation that the instruction calls or fuses."""
        match = _CALLED.search(self.text)
        return match.group(1) if match else ""

    @property
    def entered(self) -> list[str]:
        """The computations that the instruction runs, without fused ones."""
        if self.opcode in ("while", "call", "async-start"):
            return [self.called]
        if self.opcode != "conditional":
            return []
        groups = (several or one for several, one in _BRANCHES.findall(self.text))
        return [name for group in groups for name in re.split(r",\s*", group.replace("%", ""))]

    def trips(self, bodies: "Computations") -> int:
        """Number of iterations of a loop: as the compiler recorded it, else the one constant in its
        condition; 1 if unknown."""
        count = self._found(r'"known_trip_count":\{"n":"(\d+)"\}')
        if count:
            return int(count)
        condition = list(fused_in(self._found(r"condition=%?([\w.\-]+)"), bodies))
        below = [one for one in condition if "direction=LT" in one.text]
        ends = [one._found(r" constant\((\d+)\)") for one in condition]
        ends = [int(end) for end in ends if end]
        return ends[0] if len(below) == len(ends) == 1 else 1

    @property
    def operation(self) -> str:
        """The traced operation behind the instruction: `jit(step)/dot_general`."""
        return self._found(r'op_name="([^"]*)"') or self.opcode

    @property
    def number(self) -> int:
        """Number of a parameter."""
        return int(self._found(r"parameter\((\d+)\)"))

    def source(self, frames: Mapping[str, str]) -> str:
        """File and line, "" where unknown; `frames` are those of `sources`."""
        frame = self._found(r"stack_frame_id=(\d+)")
        plain = re.search(r'source_file="([^"]*)" source_line=(\d+)', self.text)
        return frames.get(frame) or (f"{plain.group(1)}:{plain.group(2)}" if plain else "")

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, self.text)
        return match.group(1) if match else ""


Computations = Mapping[str, list[Instruction]]


def fused_in(name: str, bodies: Computations) -> Iterator[Instruction]:
    """The instructions of a computation, those of the fusions in it too."""
    for one in bodies.get(name, []):
        yield one
        if one.opcode == "fusion":
            yield from fused_in(one.called, bodies)


def computations(
    text: str, on_chip: Collection[int] = ()
) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of every computation by its name, and the name of the entry."""
    bodies: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head and " = " not in line.split("(", 1)[0]:
            current = bodies.setdefault(head.group(2), [])
            entry = head.group(2) if head.group(1) else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (instruction := _instruction(line, on_chip)):
            current.append(instruction)
    return bodies, entry


def _instruction(line: str, on_chip: Collection[int]) -> Instruction | None:
    head = _HEAD.match(line)
    if not head:
        return None
    kind, after = _split_type(line[head.end() :])
    match = re.match(r"\s*([\w\-]+)\(", after)
    if not match:
        return None
    operands = tuple(_OPERAND.findall(_parenthesised(after[match.end() - 1 :])))
    opcode, arrays, scratch = match.group(1), _arrays(kind, on_chip), 0
    if opcode == "custom-call":
        target = re.search(r'custom_call_target="([^"]*)"', line)
        opcode += f":{target.group(1)}" if target else ""
        scratch = sum(
            size
            for size, (dtype, dims, _) in zip(arrays[1:], _SHAPE.findall(kind)[1:], strict=True)
            if dtype in ("s8", "u8") and "," not in dims
        )
    return Instruction(head.group(1), opcode, arrays, _arrays(kind), scratch, operands, line)


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


def sources(text: str) -> dict[str, str]:
    """Stack frame → "file:line" of its innermost frame inside this package, else of the frame itself;
    from the tables at the head of the text."""
    table = functools.partial(_table, text)
    files = dict(re.findall(r'^(\d+) "([^"]*)"$', table("FileNames"), re.M))
    places = {
        number: (files.get(file, ""), line)
        for number, file, line in re.findall(
            r"^(\d+) \{file_name_id=(\d+).*?\bline=(\d+)", table("FileLocations"), re.M
        )
    }
    pattern = r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?"
    frames = {
        # The parent's number is stored plus one; 0: none.
        number: (place, str(int(parent or 1) - 1))
        for number, place, parent in re.findall(pattern, table("StackFrames"), re.M)
    }
    return {number: _innermost(number, frames, places) for number in frames}


def _innermost(
    number: str, frames: Mapping[str, tuple[str, str]], places: Mapping[str, tuple[str, str]]
) -> str:
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
