"""A JAX function as an ONNX model: traced once, each of its operations written as ONNX nodes.

Values that depend on parameters alone are computed at export. Functions in functions (jit, a gradient of
their own, recomputation) are written in line and loops unrolled. `RULES` holds the operations of JAX that
are known, which are those of methods in evaluation; a new one is a function of a few lines there.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from g2ajax.apps.onnx_graph import Graph, Value, element_type, known, unsupported

SAME_OP = {
    **{"abs": "Abs", "add": "Add", "add_any": "Add", "and": "And", "ceil": "Ceil", "div": "Div"},
    **{"eq": "Equal", "erf": "Erf", "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual"},
    **{"gt": "Greater", "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less"},
    **{"max": "Max", "min": "Min", "mul": "Mul", "neg": "Neg", "not": "Not", "or": "Or"},
    **{"pow": "Pow", "sign": "Sign", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh"},
}
"""Operations on each element, and the ONNX node that does the same."""
COMPOSED = (
    "clamp",
    "convert_element_type",
    "erfc",
    "integer_pow",
    "ne",
    "rsqrt",
    "select_n",
    "square",
)
SHAPED = ("broadcast_in_dim", "dim_as_value", "iota")
"""Operations whose result may stay shorter, or longer than is known here."""
RULES: dict[str, Callable[..., Value | list[Value]]] = {}


def to_onnx(
    function: Callable[[Array], Array], example: np.ndarray, lengths: Sequence[str]
) -> bytes:
    """`function` of arrays like `example` as an ONNX model from `input` to `embedding`.

    The first axes may have any length; `lengths` names them.

    Raises ValueError for an operation that is not known.
    """
    symbols = jax.export.symbolic_shape(", ".join(lengths))
    shape = (*symbols, *example.shape[len(symbols) :])
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, example.dtype))
    graph = Graph(example.dtype, shape)
    with jax.default_matmul_precision("highest"):  # for values computed here
        (result,) = _evaluate(graph, traced, [graph.input])
    return graph.model(result, traced.out_avals[0].dtype, traced.out_avals[0].shape)


def _evaluate(graph: Graph, program: Any, inputs: Sequence[Value]) -> list[Value]:
    """Writes a jaxpr, closed or not, and returns its outputs."""
    jaxpr = getattr(program, "jaxpr", program)
    constants = [np.asarray(x) for x in getattr(program, "consts", ())]
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))

    def read(variable: Any) -> Value:
        literal = hasattr(variable, "val")
        return np.asarray(variable.val, variable.aval.dtype) if literal else values[variable]

    for equation in jaxpr.eqns:
        outputs = _apply(graph, equation, [read(variable) for variable in equation.invars])
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(graph: Graph, equation: Any, inputs: list[Value]) -> list[Value]:
    name, parameters = equation.primitive.name, equation.params
    inner = parameters.get("jaxpr", parameters.get("call_jaxpr"))
    if inner is not None and name not in RULES:
        return _evaluate(graph, inner, inputs)
    if name not in RULES:
        raise unsupported(f"the operation {name!r}")
    made_here = all(isinstance(x, np.ndarray) for x in inputs)
    if name in SAME_OP or name in COMPOSED:
        if made_here:
            return _computed(equation, np.broadcast_arrays(*inputs))
    elif name not in SHAPED:
        shapes = [variable.aval.shape for variable in equation.invars]
        inputs = [graph.full(*pair) for pair in zip(inputs, shapes, strict=True)]
        if made_here and all(map(known, (*shapes, _out(equation)))) and inner is None:
            return _computed(equation, inputs)
    result = RULES[name](graph, equation, *inputs)
    return result if isinstance(result, list) else [result]


def _computed(equation: Any, inputs: Any) -> list[np.ndarray]:
    result = equation.primitive.bind(*map(jnp.asarray, inputs), **equation.params)
    return [np.asarray(x) for x in (result if equation.primitive.multiple_results else [result])]


def _rule(*names: str) -> Callable[[Callable], Callable]:
    """Registers how operations are written: a function of the graph, the equation and its inputs."""

    def register(write: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, write))
        return write

    return register


def _out(equation: Any) -> tuple:
    return equation.outvars[0].aval.shape


def _joined(*inputs: Value) -> list:
    """The shape of inputs that repeat their axes of length 1."""
    rank = max(len(x.shape) for x in inputs)
    shapes = [(1,) * (rank - len(x.shape)) + tuple(x.shape) for x in inputs]
    longest = [
        [dim for dim in dims if not (known([dim]) and dim == 1)]
        for dims in zip(*shapes, strict=True)
    ]
    return [dims[0] if dims else 1 for dims in longest]


@_rule(*SAME_OP)
def _same(graph: Graph, equation: Any, *inputs: Value) -> Value:
    name = equation.primitive.name
    if name in ("and", "not", "or") and equation.outvars[0].aval.dtype.kind != "b":
        raise unsupported(f"{name!r} of integers")
    return graph.add(SAME_OP[name], *inputs, shape=_joined(*inputs))


@_rule(*COMPOSED)
def _composed(graph: Graph, equation: Any, *inputs: Value) -> Value:
    dtype = equation.outvars[0].aval.dtype
    x, node = inputs[0], functools.partial(graph.add, shape=_joined(*inputs))
    match equation.primitive.name:
        case "clamp":
            return node("Min", node("Max", inputs[1], inputs[0]), inputs[2])
        case "convert_element_type":
            return node("Cast", x, to=element_type(dtype))
        case "erfc":
            return node("Sub", np.ones((), dtype), node("Erf", x))
        case "integer_pow":
            return node("Pow", x, np.asarray(equation.params["y"], dtype))
        case "ne":
            return node("Not", node("Equal", *inputs))
        case "rsqrt":
            return node("Reciprocal", node("Sqrt", x))
        case "square":
            return node("Mul", x, x)
        case "select_n" if len(inputs) == 3 and dtype.kind != "b":
            return node("Where", node("Cast", x, to=element_type(bool)), inputs[2], inputs[1])
        case name:
            raise unsupported(f"{name!r} of {len(inputs)} arrays of {dtype}")


@_rule("copy", "copy_p", "optimization_barrier", "sharding_constraint", "stop_gradient")
def _unchanged(graph: Graph, equation: Any, *inputs: Value) -> list[Value]:
    return list(inputs)


@_rule("broadcast_in_dim")
def _broadcast(graph: Graph, equation: Any, x: Value) -> Value:
    shape = [1] * len(_out(equation))
    for axis, length in zip(equation.params["broadcast_dimensions"], x.shape, strict=True):
        shape[axis] = length
    return graph.reshape(x, shape)


@_rule("iota")
def _iota(graph: Graph, equation: Any) -> Value:
    axis, dtype, length = (equation.params[key] for key in ("dimension", "dtype", "shape"))
    length = length[axis]
    if known([length]):
        x = np.arange(length).astype(dtype)
    else:
        zero, one = np.asarray(0, np.int64), np.asarray(1, np.int64)
        x = graph.add("Range", zero, graph.reshape(graph.length(length), ()), one, shape=(length,))
        x = graph.add("Cast", x, shape=x.shape, to=element_type(dtype))
    return graph.reshape(x, [length if i == axis else 1 for i in range(len(_out(equation)))])


@_rule("dim_as_value")
def _length(graph: Graph, equation: Any) -> Value:
    x = graph.reshape(graph.length(equation.params["dim"]), ())
    return graph.add("Cast", x, shape=(), to=element_type(equation.outvars[0].aval.dtype))


@_rule("reshape", "squeeze", "expand_dims")
def _reshape(graph: Graph, equation: Any, x: Value) -> Value:
    return graph.reshape(x, _out(equation))


@_rule("transpose")
def _transpose(graph: Graph, equation: Any, x: Value) -> Value:
    return graph.transpose(x, equation.params["permutation"])


@_rule("concatenate", "stack")
def _concatenate(graph: Graph, equation: Any, *inputs: Value) -> Value:
    axis = equation.params.get("dimension", equation.params.get("axis"))
    if equation.primitive.name == "stack":
        inputs = [graph.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in inputs]
    return graph.add("Concat", *inputs, shape=_out(equation), axis=int(axis))


@_rule("split")
def _split(graph: Graph, equation: Any, x: Value) -> list[Value]:
    sizes = equation.params["sizes"]
    shapes = [variable.aval.shape for variable in equation.outvars]
    axis = int(equation.params["axis"])
    return graph.add_several("Split", x, np.asarray(sizes, np.int64), shapes=shapes, axis=axis)


@_rule("tile")
def _tile(graph: Graph, equation: Any, x: Value) -> Value:
    return graph.add("Tile", x, graph.lengths(equation.params["reps"]), shape=_out(equation))


@_rule("pad")
def _pad(graph: Graph, equation: Any, x: Value, fill: Value) -> Value:
    low, high, between = zip(*equation.params["padding_config"], strict=True)
    if any(between):
        raise unsupported("padding between elements")
    if not any((*low, *high)):
        return x
    return graph.add("Pad", x, np.asarray([*low, *high], np.int64), fill, shape=_out(equation))


@_rule("slice")
def _slice(graph: Graph, equation: Any, x: Value) -> Value:
    parameters = equation.params
    steps = parameters["strides"] or (1,) * len(x.shape)
    return graph.slice(
        x, parameters["start_indices"], parameters["limit_indices"], steps, _out(equation)
    )


def _part(graph: Graph, x: Value, starts: dict[int, Any], sizes: Sequence) -> Value:
    """Cuts `sizes` from x at the starts of some axes, moved inside the array as JAX does."""
    begin = [0] * len(sizes)
    for axis, start in starts.items():
        if sizes[axis] != x.shape[axis]:
            begin[axis] = int(np.clip(start, 0, x.shape[axis] - sizes[axis]))
    stops = [start + size for start, size in zip(begin, sizes, strict=True)]
    return graph.slice(x, begin, stops, [1] * len(sizes), sizes)


@_rule("rev")
def _reverse(graph: Graph, equation: Any, x: Value) -> Value:
    turned = equation.params["dimensions"]
    axes, backwards = np.asarray(turned, np.int64), np.full(len(turned), -1, np.int64)
    before = np.full(len(turned), np.iinfo(np.int64).min, np.int64)
    return graph.add("Slice", x, backwards, before, axes, backwards, shape=x.shape)


@_rule("gather")
def _gather(graph: Graph, equation: Any, x: Value, indices: Value) -> Value:
    """A part of constant place, or entries of x looked up along some axes, whole along the others."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axes, out, shared = numbers.start_index_map, _out(equation), numbers.operand_batching_dims
    if isinstance(indices, np.ndarray) and indices.ndim == 1:
        part = _part(graph, x, dict(zip(axes, indices, strict=True)), sizes)
        return graph.reshape(part, out)
    rest = [i for i in range(len(x.shape)) if i not in (*shared, *axes)]
    if (
        equation.params["mode"] == jax.lax.GatherScatterMode.CLIP
        or tuple(numbers.start_indices_batching_dims) != tuple(range(len(shared)))
        or sorted(numbers.collapsed_slice_dims) != sorted(axes)
        or any(sizes[i] != x.shape[i] for i in rest)
    ):
        raise unsupported(f"a gather of the form {numbers}")
    order = [i for i in range(len(out)) if i not in numbers.offset_dims] + [*numbers.offset_dims]
    entries = graph.add(
        "GatherND",
        graph.transpose(x, (*shared, *axes, *rest)),
        graph.add("Cast", indices, shape=indices.shape, to=element_type(np.int64)),
        shape=[out[i] for i in order],
        batch_dims=len(shared),
    )
    return graph.transpose(entries, np.argsort(order).tolist())


@_rule("reduce_max", "reduce_min", "reduce_sum")
def _reduce(graph: Graph, equation: Any, x: Value) -> Value:
    op = "Reduce" + equation.primitive.name.removeprefix("reduce_").title()
    axes = np.asarray(equation.params["axes"], np.int64)
    return graph.add(op, x, axes, shape=_out(equation), keepdims=0)


@_rule("argmax")
def _argmax(graph: Graph, equation: Any, x: Value) -> Value:
    (axis,), shape = equation.params["axes"], _out(equation)
    place = graph.add("ArgMax", x, shape=shape, axis=int(axis), keepdims=0)
    return graph.add("Cast", place, shape=shape, to=element_type(equation.params["index_dtype"]))


@_rule("dot_general")
def _dot(graph: Graph, equation: Any, left: Value, right: Value) -> Value:
    (summed_l, summed_r), (batch_l, batch_r) = equation.params["dimension_numbers"]
    free_l, free_r = (
        [i for i in range(len(x.shape)) if i not in (*summed, *batch)]
        for x, summed, batch in ((left, summed_l, batch_l), (right, summed_r, batch_r))
    )
    left = graph.transpose(left, (*batch_l, *free_l, *summed_l))
    right = graph.transpose(right, (*batch_r, *summed_r, *free_r))
    shared, rows = len(batch_l), len(batch_l) + len(free_l)
    plain = len(summed_l) == len(free_r) == 1 and (len(free_l) == 1 or (free_l and not shared))
    if plain:
        return graph.add("MatMul", left, right, shape=_out(equation))
    batch, size = left.shape[:shared], math.prod(left.shape[rows:])
    height = math.prod(left.shape[shared:rows])
    width = math.prod(right.shape[shared + len(summed_r) :])
    left = graph.reshape(left, (*batch, height, size))
    right = graph.reshape(right, (*batch, size, width))
    product = graph.add("MatMul", left, right, shape=(*batch, height, width))
    return graph.reshape(product, _out(equation))


@_rule("conv_general_dilated")
def _convolution(graph: Graph, equation: Any, x: Value, kernel: Value) -> Value:
    parameters = equation.params
    if parameters["batch_group_count"] != 1 or any(n != 1 for n in parameters["lhs_dilation"]):
        raise unsupported("a transposed convolution")
    numbers = parameters["dimension_numbers"]
    low, high = zip(*parameters["padding"], strict=True)
    y = graph.add(
        "Conv",
        graph.transpose(x, numbers.lhs_spec),
        graph.transpose(kernel, numbers.rhs_spec),
        shape=[_out(equation)[axis] for axis in numbers.out_spec],
        strides=list(parameters["window_strides"]),
        pads=[*low, *high],
        dilations=list(parameters["rhs_dilation"]),
        group=parameters["feature_group_count"],
    )
    return graph.transpose(y, np.argsort(numbers.out_spec).tolist())


@_rule("scan")
def _scan(graph: Graph, equation: Any, *inputs: Value) -> list[Value]:
    """Writes the body once for each step."""
    inner = equation.params["jaxpr"]
    body = getattr(inner, "jaxpr", inner)
    # Inputs: constants, values carried on, and arrays of which each step takes a row, so that they
    # have an axis more outside. Outputs: what was carried.
    pairs = zip(equation.invars, body.invars, strict=True)
    rows = sum(len(a.aval.shape) > len(b.aval.shape) for a, b in pairs)
    pairs = zip(equation.outvars, body.outvars, strict=True)
    if (
        not rows
        or equation.params["reverse"]
        or any(a.aval.shape != b.aval.shape for a, b in pairs)
    ):
        raise unsupported("a loop that runs backwards, over nothing, or collects its results")
    first = len(inputs) - rows
    start = first - len(equation.outvars)
    carried = list(inputs[start:first])
    for step in range(equation.invars[-1].aval.shape[0]):
        each = [_row(graph, x, step) for x in inputs[first:]]
        carried = _evaluate(graph, inner, [*inputs[:start], *carried, *each])
    return carried


def _row(graph: Graph, x: Value, place: int) -> Value:
    if isinstance(x, np.ndarray):
        return x[place]
    return graph.reshape(_part(graph, x, {0: place}, (1, *x.shape[1:])), x.shape[1:])
