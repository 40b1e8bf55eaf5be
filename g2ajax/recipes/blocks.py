"""Configurations with every option of a run, made from the dataclasses that state them.

The blocks are those of `RunOptions` and of the task, with `method` the `Options` of the method's module (and of the
method inside it), `backbone` the keyword arguments of the network, and the options of each phase.
"""

import inspect
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from g2ajax import methods, tasks
from g2ajax.backbones import clip, osnet, resnet, vit
from g2ajax.config.blocks import Block, Option, block, config_dict, joined, listing
from g2ajax.tasks.base import Task
from g2ajax.training.options import PhaseOptions, RunOptions

NETWORKS = {resnet: resnet.ResNet, osnet: osnet.OSNet, vit: vit.ViT, clip: clip.CLIP}
# Arguments of a network that the method sets, or that its name implies.
GIVEN = {"image_size", "dtype", "rngs", "norm", "block", "cameras", "views", "tokens"}


def experiment(
    name: str, *, task: str, dataset: str, method: Mapping[str, Any], phases: tuple[str, ...]
) -> ConfigDict:
    """The configuration of a run with every option at its default, but computing in bfloat16.

    `task`: one of `tasks.KINDS`, or a dotted name; `method`: its `name` and its non-default options.
    """
    values = {
        "name": name,
        "task": task,
        "dataset": dataset,
        "dtype": "bfloat16",
        "method": method,
        "phases": phases,
        "phase": {phase: {} for phase in phases},
    }
    return config_dict(run_block(values))


def method(values: Mapping[str, Any]) -> ConfigDict:
    """The block of a method, from its `name` and its non-default options."""
    return config_dict(method_block(values))


def set_network(method: ConfigDict, **values: Any) -> None:
    """Puts another network into a method's block, from its `name` and its non-default options."""
    method.backbone = config_dict(network_block(values, _options_of(method.name)))


def of(instance: Any) -> ConfigDict:
    """The block of a dataclass's instance."""
    return config_dict(block(type(instance), {}, default=instance))


def add_phase(config: ConfigDict, name: str) -> ConfigDict:
    """Gives the configuration a further phase, and returns its block; `phases` gives its place."""
    with config.unlocked():
        kind = tasks.task_class(config.task)
        config.phase[name] = config_dict(phase_block({}, kind))
    return config.phase[name]


def method_block(values: Mapping[str, Any]) -> Block:
    """Every option of the method `values["name"]`, and of the method and the network inside it."""
    name = values["name"]
    rest = {key: value for key, value in values.items() if key != "name"}
    cls, own = vars(methods.module(name)).get("Options"), _options_of(name)
    name_entry = {"name": Option(name, str, sentence="Module of `g2ajax.methods`.")}
    if cls is None:  # a method outside the package that states its options nowhere
        return Block(name_entry | {key: Option(value, Any) for key, value in rest.items()})

    def free(field: str, value: Any) -> Block | None:
        if not isinstance(value, Mapping) or "name" not in value:
            return None
        return network_block(value, own) if field == "backbone" else method_block(value)

    method = block(cls, rest, free=free)
    return Block(name_entry | method.entries, method.sentence)


def _options_of(method: str) -> set[str]:
    cls = vars(methods.module(method)).get("Options")
    return set(typing.get_type_hints(cls)) if cls else set()


def network_block(values: Mapping[str, Any], taken: set[str]) -> Block:
    """The keyword arguments of the network `values["name"]`, but for those `taken` by the method.

    None stands for the network's own default, which its variant or the method may decide.
    """
    name = values["name"]
    module = next((module for module in NETWORKS if name in module.VARIANTS), None)
    if module is None:  # unknown, or known to a method outside the package
        return Block({key: Option(value, Any) for key, value in values.items()})
    entries = {"name": Option(name, str, sentence="One of " + ", ".join(module.VARIANTS) + ".")}
    for function in (module.build, NETWORKS[module].__init__):
        hints = typing.get_type_hints(function)
        for key, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and key not in GIVEN | taken:
                entries[key] = Option(values.get(key), hints[key], parameter.default)
    entries |= {key: Option(value, Any) for key, value in values.items() if key not in entries}
    text, _, _ = (inspect.getdoc(NETWORKS[module]) or "").partition("\nRaises:")
    return Block(entries, " ".join(text.split()))


def run_block(values: Mapping[str, Any]) -> Block:
    """Every option of a run and of its task, with the values of a configuration."""
    kind = tasks.task_class(tasks.task_name(values))
    phases = {name: phase_block(value, kind) for name, value in values["phase"].items()}
    blocks = {
        "method": method_block(values["method"]),
        "phase": Block(phases, "The phases by name."),
    }
    return _without_parts(
        joined((RunOptions, kind.Options), values, free=lambda name, value: blocks.get(name))
    )


def phase_block(values: Mapping[str, Any], kind: type[Task]) -> Block:
    """Every option of a phase on one kind of data."""
    return _without_parts(joined((PhaseOptions, kind.PhaseOptions), values))


def _without_parts(block: Block) -> Block:
    """A block without the field that holds the task's part in the dataclass."""
    entries = {name: entry for name, entry in block.entries.items() if name != "task_options"}
    return block._replace(entries=entries)


def description(config: Mapping[str, Any]) -> str:
    """Every option of a configuration: type, value, default and sentence, block by block."""
    return "\n".join(listing(run_block(config), "config"))
