"""A configuration with every default filled in, so that two spellings of one run are equal."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from g2ajax import methods
from g2ajax.config import options
from g2ajax.training.options import run_options


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a run and of its method with its value, as a nested dictionary.

    A configuration from before an option existed is equal to one that states its default. Raises
    ValueError for what `run_options` and the method's options refuse.
    """
    run = dataclasses.asdict(run_options(config))
    return {**run, "method": _method(run["method"], "method")}


def _method(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    rest = dict(values)
    name = rest.pop("name")
    cls = getattr(methods.module(name), "Options", None)
    if cls is not None:
        rest = dataclasses.asdict(options(cls, rest, where))
    for key, value in rest.items():
        if key != "backbone" and isinstance(value, Mapping) and "name" in value:
            rest[key] = _method(value, f"{where}.{key}")
    return {"name": name, **rest}
