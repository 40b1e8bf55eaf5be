"""Experiment files: opened by path (`configs/seqnet.py:dataset=prw,hkd`), found by name (`seqnet`)."""

import importlib.util
import os
import pathlib
import re
from collections.abc import Iterator

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


def recipes() -> dict[str, pathlib.Path]:
    """The experiments of this package: name → file, in a wheel or in a checkout."""
    package = pathlib.Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}
    return {}


def recipe_path(name: str) -> pathlib.Path:
    """The file of an experiment of this package. Raises ValueError, naming the nearest, without one."""
    paths = recipes()
    if name not in paths:
        raise ValueError(f"no recipe {name!r}; {nearest(name, paths)}")
    return paths[name]


def paths_as_arguments(**paths: str | None) -> str:
    """Arguments of an experiment file that are paths, `model=runs/a,images=crops`.

    Raises ValueError for one that is missing, or that a comma would cut.
    """
    for name, path in paths.items():
        if not path:
            raise ValueError(f"--{name}=PATH is missing; this recipe needs it")
        if "," in path:
            raise ValueError(
                f"--{name}={path}: a path with a comma cannot be given here; rename it"
            )
    return ",".join(f"{name}={os.path.expanduser(path)}" for name, path in paths.items())


def check_overrides(config: ConfigDict, arguments: list[str]) -> None:
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


def _paths(config: ConfigDict, where: str) -> Iterator[str]:
    for key, value in config.items():
        yield f"{where}.{key}"
        if hasattr(value, "items"):
            yield from _paths(value, f"{where}.{key}")


def run_name(text: str) -> str:
    """A name for the run of an experiment file: `seqnet_prw_hkd` of `seqnet.py:dataset=prw,hkd`."""
    name, _, arguments = text.partition(":")
    words = re.sub(r"\w+=", "", arguments).split(",")
    return "_".join(filter(None, (pathlib.Path(name).stem, *words)))
