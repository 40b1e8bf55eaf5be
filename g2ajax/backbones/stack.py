"""A stack of pre-norm blocks with hooks: one after another, or as a loop.

In a loop a compiler handles one block and not twelve. It compiles in a third of the time for TPUs, and moves
three times the bytes there, because each turn writes and reads the values for the backward pass: it is for those who compile often and run little.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.backbones.tokens import Hook, at, stretches
from g2ajax.nn.attention import pad_tokens

Loop = Callable[[Sequence[nnx.Module], Array, Callable[..., Array]], Array]


def pre_norm(
    x: Float[Array, "B T D"],
    norm1: Callable[[Array], Array],
    attention: Callable[..., Array],
    norm2: Callable[[Array], Array],
    mlp: Callable[[Array], Array],
    *,
    first: int | None = None,
    hooks: Sequence[Hook] = (),
    drop: Callable[[Array, int], Array] | None = None,
) -> Float[Array, "B T2 D"]:
    """x + attention(norm1(x)), then x + mlp(norm2(x)), with the hooks inside a block.

    `attention(tokens, queries=...)`. `first`: only that many first tokens are computed; None: all.
    `drop(y, 0 or 1)`: drop path of the two branches.

    Raises ValueError for two hooks that replace the MLP.
    """
    # Norms and the MLP see plain rows [B*T, D]: with three axes XLA stores the tokens in
    # another order for a reduction over the batch, and transposes them in every block.
    batch, count, dim = x.shape

    def tokens(rows: Array) -> Float[Array, "B T2 D"]:
        return rows.reshape(batch, -1, dim)

    def residual(rows: Float[Array, "N D"], y: Array, branch: int) -> Float[Array, "N D"]:
        y = drop(tokens(y), branch) if drop else y
        return rows + y.reshape(rows.shape)

    def add(rows: Float[Array, "N D"], extra: Array) -> Float[Array, "N D"]:
        return rows + extra.astype(rows.dtype).reshape(rows.shape)

    y, queries = tokens(norm1(x.reshape(-1, dim))), first
    if context := at(hooks, "context"):
        y = jnp.concatenate([y, *(hook.function(y).astype(y.dtype) for hook in context)], axis=1)
        queries = count if first is None else first
    rows = residual(x[:, :first].reshape(-1, dim), attention(y, queries=queries), 0)
    for hook in at(hooks, "beside_attention"):
        rows = add(rows, hook.function(x)[:, :first])
    y, raw = norm2(rows), tokens(rows)
    replacements = at(hooks, "mlp")
    if len(replacements) > 1:
        raise ValueError(f"{len(replacements)} hooks replace the MLP of one block; expected one")
    y = replacements[0].function(tokens(y)).astype(x.dtype) if replacements else mlp(y)
    rows = residual(rows, y, 1)
    for hook in at(hooks, "beside_mlp"):
        rows = add(rows, hook.function(raw))
    return tokens(rows)


def run_blocks(
    blocks: Sequence[nnx.Module | None],
    tokens: Float[Array, "B T D"],
    *traced: Any,
    start: int = 0,
    stop: int | None = None,
    only_first: int | None = None,
    hooks: Sequence[Hook] = (),
    remat: bool = False,
    loop: Loop | None = None,
    **fixed: Any,
) -> Float[Array, "B T2 D"]:
    """Tokens after the blocks `start` to `stop` (as a slice; negative counts from the end) and
    their hooks, all or the `only_first` of them.

    A block is called as `block(x, *traced, length=, first=, hooks=, **fixed)`: tokens from `length`
    on are padding, and `hooks` those inside it. A block that does not run may be None.
    `loop(blocks, x, call)` runs blocks with equal hooks as a loop.
    """
    numbers = range(len(blocks))[start:stop]
    for run in stretches(numbers, hooks, len(blocks)):
        equal, own = blocks[run[0] : run[-1] + 1], [h for h in hooks if h.acts_on(run[0])]
        first = only_first if run[-1] == numbers[-1] else None
        length = tokens.shape[1]
        x = tokens if own else pad_tokens(tokens, equal[-1].attn)
        if loop and len(equal) > 1:
            # Without the last block, which computes only the tokens that are read.
            x, equal = loop(equal[:-1], x, _caller(length, None, own, fixed)), equal[-1:]
        for i, block in enumerate(equal):
            call = _caller(length, first if i == len(equal) - 1 else None, own, fixed)
            x = (nnx.remat(call) if remat else call)(block, x, *traced)
        tokens = x if own else x[:, :length]
    return tokens


def _caller(
    length: int, first: int | None, hooks: Sequence[Hook], fixed: dict[str, Any]
) -> Callable[..., Array]:
    """Calls a block and its hooks, with numbers that `nnx.remat` must not see: it traces arguments
    with defaults. Without hooks the tokens come padded and stay so."""
    inside = at(hooks, "beside_attention", "beside_mlp", "context", "mlp")

    def call(block: nnx.Module, x: Array, *traced: Any) -> Array:
        if not hooks:
            return block(x, *traced, length=length, first=first, hooks=(), **fixed)
        for hook in at(hooks, "before"):
            x = hook.function(x)
        real = x.shape[1]
        if inside:  # attention pads for itself
            x = block(x, *traced, length=None, first=first, hooks=inside, **fixed)
        else:
            x = pad_tokens(x, block.attn)
            x = block(x, *traced, length=real, first=first, hooks=(), **fixed)[:, :real]
        for hook in at(hooks, "after"):
            x = hook.function(x)
        return x

    return call


def scan_blocks(
    blocks: Sequence[nnx.Module],
    x: Float[Array, "B T D"],
    call: Callable[[nnx.Module, Float[Array, "B T D"], Any], Float[Array, "B T D"]],
    each: Any = None,
    *,
    dtype: Any,
    remat: bool = False,
) -> Float[Array, "B T D"]:
    """Applies `x = call(block, x, slice of each)` for one block after another.

    The blocks differ in their parameters alone and have no statistics. Their parameters are stacked
    here, in every step, and are stored separately as before; kernels are stacked in `dtype`, to
    which their layers convert them anyway, so that stacking moves no more bytes than the
    conversion. `each`: arrays with a leading axis of the blocks. `remat` computes each block again
    in the backward pass.
    """

    def cast(path: tuple, leaf: Array) -> Array:
        return leaf.astype(dtype) if path[-1].key == "kernel" else leaf

    graphdef = nnx.graphdef(blocks[0])
    states = [
        jax.tree_util.tree_map_with_path(cast, nnx.to_pure_dict(nnx.state(block)))
        for block in blocks
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    shape = nnx.state(blocks[0])

    def body(x: Array, part: Any) -> tuple[Array, None]:
        values, own = part
        state = jax.tree.map(lambda leaf: leaf, shape)
        nnx.replace_by_pure_dict(state, values)
        y = call(nnx.merge(graphdef, state), x, own)
        if y.shape != x.shape:
            raise ValueError(
                f"a loop over blocks got tokens of shape {x.shape} and gave {y.shape}; a hook that "
                "changes their number must name one block"
            )
        return y, None

    body = jax.checkpoint(body, prevent_cse=False) if remat else body
    return jax.lax.scan(body, x, (stacked, each))[0]
