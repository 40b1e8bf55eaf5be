"""Experiment files, found by path: `configs/seqnet.py:dataset=prw,hkd`."""

import importlib.util
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from g2ajax.config import elsewhere, nearest


def load(text: str) -> ConfigDict:
    """The configuration of an experiment file, with its arguments after a colon.

    Raises:
      FileNotFoundError: naming the nearest file beside the missing one.
      ValueError: for a file without `get_config`, and for unknown arguments.
    """
    name, colon, arguments = text.partition(":")
    path = pathlib.Path(name)
    if not path.is_file():
        names = [str(other) for other in path.parent.glob("*.py")]
        hint = nearest(str(path), names) if names else "give the path of a file in configs/"
        raise FileNotFoundError(f"there is no configuration file {name!r}; {hint}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None:
        raise ValueError(f"{name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{name} has no function get_config(arguments) that returns a ConfigDict")
    return module.get_config(arguments) if colon else module.get_config()


def check_overrides(config: Mapping[str, Any], arguments: list[str]) -> None:
    """Raises ValueError for a `--config.<path>` that `config` does not have, with the nearest one."""
    for argument in arguments:
        match = re.match(r"--?(?:no)?config\.([\w.]+)(=|$)", argument)
        if not match:
            continue
        node, where = config, "config"
        for key in match[1].split("."):
            if not hasattr(node, "items"):
                raise ValueError(f"{where} is one option and has no {key!r} in it")
            if key not in node:
                hint = elsewhere(key, _paths(config, "config")) or nearest(key, node)
                raise ValueError(f"{where} has no option {key!r}; {hint}")
            node, where = node[key], f"{where}.{key}"


def _paths(config: Mapping[str, Any], where: str) -> Iterator[str]:
    for key, value in config.items():
        yield f"{where}.{key}"
        if hasattr(value, "items"):
            yield from _paths(value, f"{where}.{key}")


def run_name(text: str) -> str:
    """A name for the run of an experiment file: `seqnet_prw_hkd` of `seqnet.py:dataset=prw,hkd`."""
    name, _, arguments = text.partition(":")
    words = re.sub(r"\w+=", "", arguments).split(",")
    return "_".join(filter(None, (pathlib.Path(name).stem, *words)))
