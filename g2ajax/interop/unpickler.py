"""A safe unpickler that builds tensors and plain containers only.

Python's own unpickler runs any code that a file names. This one interprets the opcodes itself: it
imports nothing and calls only the functions of `_CALLS`, so that a hostile file is refused at worst.
Globals stay bare names; harmless classes that checkpoints often contain (an argparse namespace, a yacs
configuration) become inert records. Opcodes come from `pickletools`; the layout of tensors is that of
PyTorch's `torch._utils` and `torch.serialization`.
"""

import dataclasses
import pickle
import pickletools
import re
from collections.abc import Callable
from io import BufferedIOBase
from typing import Any

import numpy as np

from g2ajax.interop.storage import DTYPES, Storage, Tensor


class RefusedPickle(pickle.UnpicklingError, ValueError):
    """Raised for a file that contains anything but tensors and plain containers."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A global name in the pickle; never imported."""

    name: str


@dataclasses.dataclass
class Inert:
    """A record of an object whose class is not instantiated: name, arguments, items and state."""

    name: str
    args: tuple = ()
    items: dict = dataclasses.field(default_factory=dict)
    state: Any = None


@dataclasses.dataclass
class _Parameter:
    data: Any = None


@dataclasses.dataclass
class _Dtype:
    text: str
    order: str = "="

    def numpy(self) -> np.dtype:
        if not re.fullmatch(r"[biufcSU]\d+", self.text):
            raise RefusedPickle(f"the pickle holds a NumPy array of type {self.text!r}")
        return np.dtype(self.text).newbyteorder(self.order if self.order in "<>" else "=")


@dataclasses.dataclass
class _Array:
    value: np.ndarray | None = None


_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# Names that are allowed and kept as names.
_NAMES = re.compile(
    r"torch\.(cuda\.)?(storage\.)?\w*Storage|torch\.(Tensor|strided|contiguous_format|"
    r"(u?int|float|bfloat|complex)\d+|float8_\w+|bool|double|half|long)|"
    r"builtins\.(dict|list|set|tuple|int|float|bool|str|bytes|object|complex|long|unicode)|"
    r"numpy\.(ndarray|bool_?|str_|(u?int|float|complex)\d+)"
)
# Classes whose objects are kept as records.
_RECORDS = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|yacs\.config\.CfgNode|\w+\.(config\.)+CfgNode|"
    r"easydict\.EasyDict|addict(\.addict)?\.Dict|ml_collections\.config_dict\.\w+\.ConfigDict|"
    r"(mmcv|mmengine)(\.utils)?\.config(\.config)?\.ConfigDict|collections\.(Counter|deque)|"
    r"pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path|datetime\.(datetime|timedelta|date)|"
    r"torch\.device|__torch__\.[\w.]+"
)
_REASONS = (
    (r"torch\._utils\._rebuild_(q|sparse_|meta_|nested_)\w+", "a tensor of a kind not read here"),
    (r"torch\.nn\.modules\..*", "a whole pickled module instead of its tensors"),
)


def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *rest: Any) -> Tensor:
    # `rest`: gradient flag, hooks, and flags of lazily conjugated or negated tensors.
    if any(any(flags.values()) for flags in rest[2:] if isinstance(flags, dict)):
        raise RefusedPickle("a lazily conjugated or negated tensor; save it after .resolve_conj()")
    return _tensor_of(storage, storage.dtype, offset, size, stride)


def _tensor_v3(storage: Any, offset: int, size: tuple, stride: tuple, *rest: Any) -> Tensor:
    return _tensor_of(storage, DTYPES[rest[2].name.rpartition(".")[2]], offset, size, stride)


def _tensor_of(storage: Any, dtype: np.dtype, offset: int, size: tuple, stride: tuple) -> Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int for n in numbers):
        raise ValueError("a tensor without a storage or with a shape that is no numbers")
    return Tensor(storage, dtype, offset, tuple(size), tuple(stride))


def _scalar(dtype: _Dtype, raw: Any) -> Any:
    return np.frombuffer(_bytes(raw), dtype.numpy())[0]


def _bytes(raw: Any) -> bytes:
    if not isinstance(raw, str | bytes | bytearray):  # bytes(number) allocates that many
        raise ValueError(f"a {type(raw).__name__} in place of bytes")
    return raw.encode("latin-1") if isinstance(raw, str) else bytes(raw)


def _dict(*args: Any) -> dict:
    pairs = args[-1] if args and isinstance(args[-1], list | tuple | dict) else ()
    pairs = pairs.items() if isinstance(pairs, dict) else pairs
    return {_key(key): value for key, value in pairs}


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": lambda data, *_: _Parameter(data),
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: _Parameter(data),
    "torch._tensor._rebuild_from_type_v2": lambda function, _type, args, _state: _call(
        function, args
    ),
    "torch.nn.parameter.Parameter": lambda data=None, *_: _Parameter(data),
    "torch.nn.parameter.Buffer": lambda data=None, *_: _Parameter(data),
    "torch.autograd.variable.Variable": lambda data=None, *_: _Parameter(data),
    "torch.Size": lambda sizes=(): tuple(sizes),
    "torch.jit._pickle.build_intlist": lambda items: items,
    "torch.jit._pickle.build_doublelist": lambda items: items,
    "torch.jit._pickle.build_boollist": lambda items: items,
    "torch.jit._pickle.build_tensorlist": lambda items: items,
    "torch.jit._pickle.restore_type_tag": lambda value, _tag: value,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda _factory=None, *pairs: _dict(*pairs),
    "builtins.set": lambda items=(): list(items),
    "builtins.frozenset": lambda items=(): list(items),
    "builtins.bytearray": lambda *args: _bytes(args[0]) if args else b"",
    "builtins.complex": lambda real, imaginary=0.0: complex(float(real), float(imaginary)),
    "_codecs.encode": lambda text, _encoding="latin1": text.encode("latin-1"),
    "copyreg._reconstructor": lambda cls, _base, _state: _call(cls, ()),
    "numpy.dtype": lambda text, *_: _Dtype(str(text)),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy.core.numeric._frombuffer": lambda raw, dtype, shape, order: _Array(
        np.frombuffer(_bytes(raw), dtype.numpy()).reshape(shape, order=order)
    ),
}


def _global(module: str, name: str) -> Global:
    module = _RENAMED.get(module, module).replace("numpy._core", "numpy.core")
    full = f"{module}.{name}"
    if full in _CALLS or _NAMES.fullmatch(full) or _RECORDS.fullmatch(full):
        return Global(full)
    reason = "neither a tensor nor a plain container, and could run code"
    for pattern, explanation in _REASONS:
        if re.fullmatch(pattern, full):
            reason = explanation
    raise RefusedPickle(
        f"the file's pickle asks for {full!r}: {reason}; nothing of it was run. If you trust the "
        "file's origin, load it once with the program that wrote it and save only the tensors: "
        'torch.save({"state_dict": model.state_dict()}, "clean.pth")'
    )


def _call(function: Any, args: tuple) -> Any:
    name = function.name if isinstance(function, Global) else repr(function)
    if name in _CALLS:
        return _CALLS[name](*args)
    if isinstance(function, Global) and _RECORDS.fullmatch(name):
        return Inert(name, tuple(args))
    raise RefusedPickle(f"the file's pickle calls {name[:80]}, which is only ever named; refused")


def _key(key: Any) -> Any:
    """Checks that a key is a scalar or a flat tuple: deep tuples take exponential time to hash."""
    for part in key if isinstance(key, tuple) else (key,):
        if not isinstance(part, str | int | float | bool | bytes | np.generic | None):
            raise ValueError(f"a dictionary key of type {type(part).__name__}")
    return key


def _build(target: Any, state: Any) -> None:
    if isinstance(target, Inert):
        target.state = state
    elif isinstance(target, _Parameter):
        if isinstance(state, tuple) and len(state) == 5:  # the first PyTorch releases
            target.data = state[0]
    elif isinstance(target, _Dtype):
        target.order = state[1]
    elif isinstance(target, _Array):
        _version, shape, dtype, fortran, raw = state
        values = np.frombuffer(_bytes(raw), dtype.numpy())
        target.value = values.reshape(shape, order="F" if fortran else "C")
    elif not isinstance(target, dict | Tensor):  # their state is metadata only
        raise RefusedPickle(f"the file's pickle sets the state of a {type(target).__name__}")


def _insert(target: Any, pairs: list) -> None:
    items = target.items if isinstance(target, Inert) else target
    if not isinstance(items, dict):
        raise ValueError("items set on what is no dictionary")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        items[_key(key)] = value


def _extend(target: Any, values: list) -> None:
    if isinstance(target, Inert):
        target.items.update(enumerate(values, len(target.items)))
    elif isinstance(target, list):
        target.extend(values)
    else:
        raise ValueError("values appended to what is no list")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_IGNORED = {"PROTO", "FRAME", "STOP"}
_VALUES = re.compile(r"(BIN)?(INT[12]?|LONG[14]?|FLOAT)|(SHORT_)?(BIN)?(STRING|BYTES8?|UNICODE8?)")


def unpickle(stream: BufferedIOBase, persistent: Callable[[Any], Any]) -> Any:
    """Reads one pickle from `stream` and leaves the stream behind its end.

    `persistent(id)` returns the object of a persistent id. Tensors become `Tensor`, sets become lists,
    unknown but harmless objects `Inert`. Raises RefusedPickle for anything else, and ValueError if
    the pickle is damaged.
    """
    try:
        return _run(stream, persistent)
    except RefusedPickle:
        raise
    except Exception as error:
        raise ValueError(f"the file's pickle is damaged or truncated: {error}") from error


def _run(stream: BufferedIOBase, persistent: Callable[[Any], Any]) -> Any:
    stack: list = []
    marks: list[list] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list:
        nonlocal stack
        items, stack = stack, marks.pop()
        return items

    for opcode, arg, _ in pickletools.genops(stream):
        name = opcode.name
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif _VALUES.fullmatch(name) or name == "BYTEARRAY8":
            stack.append(arg)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name.endswith("PUT"):
            memo[arg] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[arg])
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name == "POP":
            if stack:
                stack.pop()
            else:
                stack = marks.pop()
        elif name == "POP_MARK":
            since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
        elif name in ("TUPLE", "LIST", "DICT", "FROZENSET"):
            items = since_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
            if name == "DICT":
                stack[-1] = {}
                _insert(stack[-1], items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            values = [stack.pop()] if name == "APPEND" else since_mark()
            _extend(stack[-1], values)
        elif name in ("SETITEM", "SETITEMS"):
            pairs = [stack.pop(-2), stack.pop()] if name == "SETITEM" else since_mark()
            _insert(stack[-1], pairs)
        elif name in ("GLOBAL", "INST"):
            cls = _global(*arg.split(" ", 1))
            stack.append(_call(cls, tuple(since_mark())) if name == "INST" else cls)
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_global(module, attribute))
        elif name == "OBJ":
            cls, *args = since_mark()
            stack.append(_call(cls, tuple(args)))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            if name == "NEWOBJ_EX":
                stack.pop()
            args, function = stack.pop(), stack.pop()
            stack.append(_call(function, tuple(args)))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name in ("PERSID", "BINPERSID"):
            stack.append(persistent(stack.pop() if name == "BINPERSID" else arg))
        elif name not in _IGNORED:
            raise RefusedPickle(f"the file's pickle uses {name}, which no checkpoint needs")
    if len(stack) != 1 or marks:
        raise ValueError("it ends with an unfinished object")
    return plain(stack[0]) if isinstance(stack[0], _Parameter | _Array) else stack[0]


def plain(value: Any) -> Any:
    """The tensor of a parameter or the values of an array; anything else unchanged."""
    if isinstance(value, _Parameter):
        return plain(value.data)
    return value.value if isinstance(value, _Array) else value
