"""The tokens of a transformer by name, and functions of them around and inside its blocks.

View-aware methods change a ViT or CLIP's image tower with three things: special tokens behind the class
token (`ViT(tokens=...)`), hooks, and read-outs by a token's name.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Layout:
    """The order of a sequence: special tokens, the class token `cls` first, then the patches."""

    special: tuple[str, ...] = ("cls",)

    def __post_init__(self) -> None:
        if self.special[:1] != ("cls",) or len(set(self.special)) < len(self.special):
            raise ValueError(
                f"special tokens {self.special}: expected `cls` first, and no name twice"
            )

    def place(self, name: str) -> int:
        """The index of a special token. Raises ValueError for a name that is none."""
        if name not in self.special:
            raise ValueError(f"no token {name!r}; this network has {', '.join(self.special)}")
        return self.special.index(name)

    def token(self, tokens: Float[Array, "B T D"], name: str) -> Float[Array, "B D"]:
        """Reads a special token out of the sequence."""
        return tokens[:, self.place(name)]

    def patches(self, tokens: Float[Array, "B T D"]) -> Float[Array, "B N D"]:
        """Cuts the special tokens off."""
        return tokens[:, len(self.special) :]

    def replace(
        self, tokens: Float[Array, "B T D"], name: str, value: Float[Array, "B D"]
    ) -> Float[Array, "B T D"]:
        """Puts another value in place of a special token; the others stay."""
        i = self.place(name)
        return jnp.concatenate([tokens[:, :i], value[:, None], tokens[:, i + 1 :]], axis=1)


Place = Literal["before", "after", "beside_attention", "beside_mlp", "context", "mlp"]


@dataclasses.dataclass(frozen=True)
class Hook:
    """A function of the tokens around or inside blocks of a transformer.

    A block computes x + attention(norm1(x)), then x + mlp(norm2(x)). Where a hook acts (`place`):

    - `before`, `after`: f(x) replaces all tokens at that side of the block.
    - `beside_attention`: x + attention(norm1(x)) + f(x), with x as it entered: not normalised.
    - `beside_mlp`: x + mlp(norm2(x)) + f(x), with x as it left the attention. Neither f is subject
      to drop path.
    - `context`: the tokens f(norm1(x)) are appended to norm1(x) and attended to like them; their own
      outputs are cut off.
    - `mlp`: f(norm2(x)) in place of mlp(norm2(x)); one for each block.

    With `remat` the function is computed again with its block. It may read parameters from outside,
    but it must not write any state. In and after a block that computes only the first tokens
    (`only_first`), `beside_mlp`, `mlp` and `after` see those alone.
    """

    function: Callable[[Float[Array, "B T D"]], Float[Array, "B T2 D"]]
    """Tokens to tokens; padding is cut off before."""
    place: Place = "after"
    blocks: tuple[int, ...] | None = None
    """Numbers of the blocks, from 0; None: every block. A function that changes the number of
    tokens has a hook of its own for each block: a loop needs equal blocks."""

    def acts_on(self, block: int) -> bool:
        """True if the hook acts on the block of this number."""
        return self.blocks is None or block in self.blocks


def at(hooks: Sequence[Hook], *places: Place) -> list[Hook]:
    """The hooks of these places, in their order."""
    return [hook for hook in hooks if hook.place in places]


def stretches(numbers: Sequence[int], hooks: Sequence[Hook], count: int) -> list[list[int]]:
    """Cuts blocks, in their order, into runs that have the same hooks: each may be one loop.

    Raises ValueError for a hook that names a block outside 0 to `count` - 1.
    """
    for hook in hooks:
        wrong = [number for number in hook.blocks or () if not 0 <= number < count]
        if wrong:
            raise ValueError(f"a hook names the blocks {wrong}; expected 0 to {count - 1}")
    runs = itertools.groupby(numbers, lambda number: [hook.acts_on(number) for hook in hooks])
    return [list(run) for _, run in runs]
