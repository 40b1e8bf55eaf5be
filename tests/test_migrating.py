"""`docs/migrating.md` tells the truth: its fields exist, its commands fit, its code runs."""

import dataclasses
import inspect
import pathlib
import re

import pytest

from g2ajax.backbones.osnet import OSNet
from g2ajax.backbones.resnet import ResNet
from g2ajax.backbones.resnet import build as build_resnet
from g2ajax.backbones.vit import ViT
from g2ajax.config import options
from g2ajax.methods import strong_baseline, transreid
from g2ajax.recipes import files
from g2ajax.training.options import resolved, run_options

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "migrating.md").read_text()
PROSE = re.sub(r"```python\n.*?```", "", PAGE, flags=re.S)
FIELDS = sorted({name.rstrip(".") for name in re.findall(r"\bconfig\.([a-z_0-9.]+)", PROSE)})
VALUES = re.findall(r"`config\.([a-z_0-9.]+)=([^`]+)`", PAGE)
COMMANDS = re.findall(r"python run\.py (.*?)\n\n", PAGE.replace("\\\n", " "), re.S)


def load(name):
    return files.load(f"configs/{name}")


def run_config(path, *value):
    """A run's configuration with one field set, to the value given or to the one it has."""
    config = load("market1501_bot_r50.py").to_dict()
    if path.startswith("phase.head"):
        config = load("agreid_sbs_r50.py").to_dict()
    found = resolved(config)
    *blocks, last = path.split(".")
    target = config
    for block in blocks:
        found = found[block]
        target = target.setdefault(block, {})
    target[last] = value[0] if value else found[last]
    return config


def backbone_options():
    of = [ResNet.__init__, OSNet.__init__, ViT.__init__, build_resnet]
    return {"name"}.union(*(inspect.signature(function).parameters for function in of))


def check(path, *value):
    if path.startswith("method.backbone."):
        assert path.removeprefix("method.backbone.") in backbone_options()
    elif path.startswith("method."):
        _, *blocks, last = path.split(".")
        accepted = []
        for module in (strong_baseline, transreid):
            cls = module.Options
            fields = {field.name: field for field in dataclasses.fields(cls)}
            for block in blocks:
                default = fields[block].default if block in fields else None
                fields = {f.name: f for f in dataclasses.fields(default)} if default else {}
            if last not in fields:
                continue
            inner = {last: value[0] if value else fields[last].default}
            for block in reversed(blocks):
                inner = {block: inner}
            options(cls, {"backbone": {"name": "resnet50"}, **inner})
            accepted.append(module)
        assert accepted
    else:
        run_options(run_config(path, *value))


def test_the_page_was_read():
    assert len(FIELDS) > 80
    assert len(VALUES) > 20
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("path", [field for field in FIELDS if field not in ("phase", "phases")])
def test_fields_exist(path):
    check(path)


@pytest.mark.parametrize(("path", "value"), VALUES)
def test_values_are_accepted(path, value):
    check(path, eval(value, {}))


@pytest.mark.parametrize(
    "path", ["augment.autoaugment", "method.head.pooling", "evaluate.rerank.k"]
)
def test_the_check_refuses_what_does_not_exist(path):
    with pytest.raises((ValueError, AssertionError, AttributeError)):
        check(path, 1)


def test_configuration_files_exist():
    names = set(re.findall(r"configs/(\w+\.py[:=\w,]*)", PAGE))
    assert len(names) >= 10
    for name in names:
        run_options(load(name).to_dict())


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_set_fields_that_their_file_has(command):
    (name,) = re.findall(r"--config=configs/(\w+\.py)", command)
    config = load(name)
    for path in re.findall(r"--config\.([a-z_.]+)=", command):
        value = config
        for part in path.split("."):
            value = value[part]
