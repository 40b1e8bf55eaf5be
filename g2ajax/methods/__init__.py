"""One paper, one file. A method is named by its module: `config.method.name = "strong_baseline"`.

A method's module has `build(options, facts, *, rngs) -> Method`, `options` being the rest of its
configuration block and `facts` a `DataFacts`. `base.py` is the contract: the attributes that callers
read, and the capabilities that a method declares.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from flax import nnx

from g2ajax import backbones
from g2ajax.config import nearest, options
from g2ajax.methods.base import (
    CAPABILITIES,
    DataFacts,
    Detected,
    Detects,
    EmbedsCaptions,
    EmbedsCrops,
    EmbedsTracklets,
    Explained,
    Explains,
    Method,
    PredictsAttributes,
    Preprocessing,
    SearchesPersons,
    method_name,
)

__all__ = [
    "CAPABILITIES",
    "DataFacts",
    "Detected",
    "Detects",
    "EmbedsCaptions",
    "EmbedsCrops",
    "EmbedsTracklets",
    "Explained",
    "Explains",
    "Method",
    "PredictsAttributes",
    "Preprocessing",
    "SearchesPersons",
    "build",
    "capabilities",
    "drawn",
    "evaluated",
    "method_name",
    "module",
    "names",
    "network",
    "require",
    "resolved",
]


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> Method:
    """Builds the method `config["name"]`; a dotted name is a module outside this package.

    Raises ValueError for an unknown method (naming the nearest) or option, and for a module whose
    `build` gives no `Method`.
    """
    rest = dict(config)
    name = rest.pop("name")
    model = module(name).build(rest, facts, rngs=rngs)
    if not isinstance(model, Method):
        raise ValueError(
            f"method {name!r} builds a {type(model).__name__}; expected a g2ajax.methods.Method, "
            "which has the attributes that a run reads"
        )
    return model


def network(config: Mapping[str, Any]) -> str:
    """The backbone that a method's block names, or the first in a block inside it, for a reader; ""
    for none."""
    backbone = config.get("backbone")
    if isinstance(backbone, Mapping) and "name" in backbone:
        return backbones.title(backbone["name"])
    inside = (network(value) for value in config.values() if isinstance(value, Mapping))
    return next(filter(None, inside), "")


def drawn(config: Mapping[str, Any], facts: DataFacts, *, seed: int = 0) -> Method:
    """`build` with parameters drawn from `seed`, on the device.

    All under one jit: eager draws would compile once for every shape.
    """
    return nnx.jit(lambda: build(config, facts, rngs=nnx.Rngs(params=seed)))()


def evaluated(model: nnx.Module) -> tuple[nnx.GraphDef, nnx.State]:
    """`nnx.split` of the model in evaluation mode: no dropout, running statistics."""
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    return nnx.split(view)


def names() -> list[str]:
    """The names of this package's methods."""
    return [m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"]


def module(name: str) -> Any:
    """The module of the method `name`.

    Raises ValueError for a method that is not in this package, or a dotted name that is no module.
    """
    if "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            raise ValueError(
                f"method {name!r} is no module that Python finds ({error}); is its folder in PYTHONPATH?"
            ) from None
    if name not in names():
        raise ValueError(f"no method {name!r}; {nearest(name, names())}")
    return importlib.import_module(f"{__name__}.{name}")


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """A method's block with every default filled in, if its module states them (`Options`); a
    method inside another one, too. Two blocks that mean the same are then equal."""
    rest = dict(config)
    name = rest.pop("name")
    kind = vars(module(name)).get("Options")
    if kind is not None:
        rest = dataclasses.asdict(options(kind, rest, "method"))
    for key, value in rest.items():
        if isinstance(value, Mapping) and value.get("name") in names():
            rest[key] = resolved(value)
    return {"name": name, **rest}


@functools.cache
def capabilities(name: str) -> frozenset[type]:
    """The capabilities of the methods that the module `name` defines."""
    members = vars(module(name)).values()
    own = [m for m in members if inspect.isclass(m) and issubclass(m, Method)]
    own = [m for m in own if method_name(m) == name]
    return frozenset(c for c in CAPABILITIES for m in own if issubclass(m, c))


def require(model: Method, capability: type, why: str) -> None:
    """Raises ValueError, naming the methods that have it, unless the model has a capability.

    `why`: the beginning of the sentence, which names what needs the capability.
    """
    if isinstance(model, capability):
        return
    able = ", ".join(sorted(name for name in names() if capability in capabilities(name)))
    raise ValueError(
        f"{why} needs a method that {CAPABILITIES[capability]}, and {method_name(model)!r}, as configured, does not; "
        f"{f'choose from {able}' if able else 'no method of this package does'}"
    )
