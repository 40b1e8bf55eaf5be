"""An ONNX graph as it is written: nodes, the constants that they read, and lengths known later."""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET, IR_VERSION = 18, 8
"""Old enough for any onnxruntime of the last years."""

LARGEST = 2_000_000_000
"""Bytes of parameters in a file."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array that the graph computes."""

    name: str
    shape: tuple
    """1 along an axis that may stand for more: most nodes repeat such an axis themselves."""


Value = Tensor | np.ndarray
"""An `ndarray` is known while the graph is written."""


class Graph:
    """Nodes in the order of the computation, from one `input` of a dtype and a shape."""

    def __init__(self, dtype: np.dtype, shape: tuple) -> None:
        self.input = Tensor("input", shape)
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._numbers = itertools.count()
        # A length that is not known here, and the graph's int64 array [1] with its value.
        self.symbols: list[tuple[Any, Tensor]] = []
        for axis, length in enumerate(shape):
            if not known([length]):
                value = self.add("Shape", self.input, shape=(1,), start=axis, end=axis + 1)
                self.symbols.append((length, value))

    def name(self, value: Value) -> str:
        """The name of a value; equal constants are stored once."""
        if isinstance(value, Tensor):
            return value.name
        content = hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
        name = "_".join(map(str, ("constant", value.dtype, *value.shape, content[:32])))
        self.constants[name] = value
        return name

    def add(self, op: str, *inputs: Value, shape: Sequence, **attributes: Any) -> Tensor:
        """Adds a node with one output."""
        return self.add_several(op, *inputs, shapes=[shape], **attributes)[0]

    def add_several(
        self, op: str, *inputs: Value, shapes: Sequence[Sequence], **attributes: Any
    ) -> list[Tensor]:
        """Adds a node with an output of each shape."""
        name = f"{op}_{next(self._numbers)}"  # old versions of onnxruntime want it to be unique
        outputs = [Tensor(f"{name}_{i}", tuple(shape)) for i, shape in enumerate(shapes)]
        sources, targets = [self.name(value) for value in inputs], [x.name for x in outputs]
        self.nodes.append(helper.make_node(op, sources, targets, name=name, **attributes))
        return outputs

    def length(self, dim: Any) -> Value:
        """The length of an axis as an int64 array [1]."""
        if known([dim]):
            return np.asarray([dim], np.int64)
        for unit, value in self.symbols:
            times = dim // unit
            if known([times]) and times * unit == dim:
                return self.add("Mul", value, np.asarray([times], np.int64), shape=(1,))
        raise unsupported(f"an axis of length {dim}")

    def full(self, value: Value, shape: Sequence) -> Value:
        """The value repeated along its axes of length 1 until it has the shape."""
        if tuple(value.shape) == tuple(shape):
            return value
        if isinstance(value, np.ndarray) and known(shape):
            return np.broadcast_to(value, shape)
        own = (1,) * (len(shape) - len(value.shape)) + tuple(value.shape)
        repeats = [1 if a == b else b for a, b in zip(own, shape, strict=True)]
        return self.add("Expand", value, self.lengths(repeats), shape=shape)

    def lengths(self, shape: Sequence) -> Value:
        """The lengths of several axes as an int64 array."""
        if known(shape):
            return np.asarray(shape, np.int64)
        return self.add("Concat", *map(self.length, shape), shape=(len(shape),), axis=0)

    def reshape(self, value: Value, shape: Sequence) -> Value:
        """The value's elements in order in another shape."""
        if tuple(value.shape) == tuple(shape):
            return value
        if isinstance(value, np.ndarray):
            return value.reshape(shape)
        sizes = [dim if known([dim]) else -1 for dim in shape]
        lengths = np.asarray(sizes, np.int64) if sizes.count(-1) < 2 else self.lengths(shape)
        return self.add("Reshape", value, lengths, shape=shape)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """The value with its axes in another order."""
        if list(order) == sorted(order):
            return value
        if isinstance(value, np.ndarray):
            return value.transpose(order)
        return self.add("Transpose", value, shape=[value.shape[i] for i in order], perm=list(order))

    def slice(
        self, value: Value, starts: Sequence, stops: Sequence, steps: Sequence, shape: Sequence
    ) -> Value:
        """The value between starts and stops, one of each for each axis; whole axes are left out."""
        rows = [
            (axis, start, stop, step)
            for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True))
            if (start, stop, step) != (0, value.shape[axis], 1)
        ]
        if not rows:
            return value
        if not all(map(known, rows)):
            raise unsupported(f"a part of an array of shape {value.shape}")
        axes, starts, stops, steps = (np.asarray(x, np.int64) for x in zip(*rows, strict=True))
        return self.add("Slice", value, starts, stops, axes, steps, shape=shape)

    def model(self, output: Value, dtype: np.dtype, shape: Sequence) -> bytes:
        """The graph from `input` to `embedding`, serialised, without nodes that it does not need."""
        name = self.name(self.full(output, shape))
        self.nodes.append(helper.make_node("Identity", [name], ["embedding"]))
        names, nodes = {"embedding"}, []
        for node in reversed(self.nodes):
            if names.intersection(node.output):
                names.update(node.input)
                nodes.append(node)
        size = sum(value.nbytes for name, value in self.constants.items() if name in names)
        if size >= LARGEST:
            raise ValueError(
                f"{size / 1e9:.1f} GB of parameters: an ONNX file has at most 2 GB; use "
                "format=stablehlo"
            )
        constants = [
            numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
            for name, value in self.constants.items()
            if name in names
        ]
        ends = [_described("input", self.dtype, self.input.shape)]
        ends.append(_described("embedding", dtype, shape))
        graph = helper.make_graph(nodes[::-1], "g2ajax", ends[:1], ends[1:], constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        return model.SerializeToString()


def _described(name: str, dtype: np.dtype, shape: Sequence) -> onnx.ValueInfoProto:
    sizes = [int(dim) if known([dim]) else str(dim) for dim in shape]
    return helper.make_tensor_value_info(name, element_type(dtype), sizes)


def element_type(dtype: Any) -> int:
    """ONNX's number of a dtype."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def known(shape: Sequence) -> bool:
    """True if every length is a number, not a symbol."""
    return all(isinstance(dim, int | np.integer) for dim in shape)


def unsupported(what: str) -> ValueError:
    """The error for what cannot be written."""
    return ValueError(f"export to ONNX does not know {what}; use format=stablehlo")
