"""One kind of data, one file. A task is named by its module: `config.task = "crops"`.

A task's module has a class `Task` on `tasks.base.Task`; a dotted name is a module outside the package.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from g2ajax import methods
from g2ajax.config import nearest
from g2ajax.methods import EmbedsCaptions
from g2ajax.tasks.base import Task

KINDS = ("crops", "captions", "frames", "tracklets")


def task_name(config: Mapping[str, Any]) -> str:
    """The task of a configuration: its `task`, or the one its blocks imply if `task` is missing.

    Configurations older than the field `task` have `frames` for whole frames, and a method
    that embeds captions for images with sentences.
    """
    if config.get("task"):
        return config["task"]
    if config.get("frames"):
        return "frames"
    method = dict(config.get("method") or {}).get("name")
    if "text" in config or (method and EmbedsCaptions in methods.capabilities(method)):
        return "captions"
    return "crops"


def task_class(name: str) -> type[Task]:
    """The class of the task `name`.

    Raises ValueError for an unknown name (naming the nearest) and for a module without a `Task`.
    """
    if "." not in name:
        if name not in KINDS:
            raise ValueError(f"no task {name!r}; {nearest(name, KINDS)}, or the module of your own")
        return importlib.import_module(f"{__name__}.{name}").Task
    try:
        cls = vars(importlib.import_module(name)).get("Task")
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise ValueError(
            f"task {name!r} is no module that Python finds ({error}); is its folder in PYTHONPATH?"
        ) from None
    if not (inspect.isclass(cls) and issubclass(cls, Task)):
        raise ValueError(f"task {name!r}: expected a class `Task` on g2ajax.tasks.base.Task in it")
    return cls
