"""Trains and evaluates the experiment of a recipe or of a configuration file.

    g2ajax train --recipe=agreid_vit:skyground
    g2ajax train --recipe=finetune --model=runs/agreid_vit_skyground --images=DIR
    g2ajax train --config=my_experiment.py --workdir=runs/mine --config.seed=1
    g2ajax train --recipe=agreid_vit --help_config
    g2ajax train --recipe=agreid_vit --workdir=runs/agreid_vit --evaluate=best

A run that was stopped or killed continues from its last checkpoint when it is started again. In a checkout
`python run.py` is the same program.
"""

import os
import pathlib
import re
import sys
from collections.abc import Sequence

from absl import app, flags
from ml_collections import config_flags

from g2ajax.cli.errors import EXPECTED, sentence

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, with its arguments after a colon.", lock_config=True
)
RECIPE = flags.DEFINE_string(
    "recipe", None, "Name of a configuration of this package, with its arguments after a colon."
)
MODEL = flags.DEFINE_string("model", None, "Model to start from, of the recipe finetune.")
IMAGES = flags.DEFINE_string("images", None, "Folder of your images, of the recipe finetune.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run's checkpoints and results; default: runs/<config>."
)
EVALUATE = flags.DEFINE_enum(
    "evaluate", None, ["best", "latest"], "Only score this checkpoint of the workdir."
)
HELP_CONFIG = flags.DEFINE_bool(
    "help_config", False, "Print every option of the configuration and exit."
)
TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where an error was raised.")
ERRORS = (*EXPECTED, FloatingPointError, flags.Error)


def parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags; a wrong configuration ends the program with one line."""
    from g2ajax.recipes import files

    try:
        argv = _with_file(list(argv))
        # ml_collections answers a missing file and a wrong path with tracebacks: both are checked
        # before it sees them.
        for argument, following in zip(argv, [*argv[1:], ""], strict=True):
            name, equals, value = argument.lstrip("-").partition("=")
            if argument.startswith("-") and name == "config":
                files.check_overrides(files.load(value if equals else following), argv)
        return flags.FLAGS(argv)
    except ERRORS as error:
        if "--traceback" in argv:
            raise
        sys.exit(f"error: {sentence(error)}")


def _with_file(argv: list[str]) -> list[str]:
    """The arguments with `--config=FILE` in place of `--recipe=NAME`."""
    from g2ajax.recipes import files

    values = {}
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name in ("recipe", "config", "model", "images"):
            values[name] = value if equals else following
    if "recipe" not in values and "config" not in values:
        raise ValueError(
            "name an experiment: --recipe=NAME (such as --recipe=agreid_vit:skyground) or --config=FILE"
        )
    if "recipe" not in values:
        home = re.compile("(--?config=)(~.*)")
        return [home.sub(lambda m: m[1] + os.path.expanduser(m[2]), text) for text in argv]
    if "config" in values:
        raise ValueError("--recipe and --config both name an experiment; give one of them")
    name, colon, arguments = values["recipe"].partition(":")
    path = files.recipe_path(name)
    if path.stem == "finetune":
        arguments = files.paths_as_arguments(model=values.get("model"), images=values.get("images"))
        colon = ":"
    elif "model" in values or "images" in values:
        raise ValueError("--model and --images are arguments of --recipe=finetune")
    return [argv[0], f"--config={path}{colon}{arguments}", *argv[1:]]


def train(argv: list[str]) -> None:
    """Trains or evaluates as the parsed flags say."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings look like --config.seed=1")
    # Imported here: grain's worker processes import this file too and need none of it.
    from g2ajax.recipes import blocks, files
    from g2ajax.training import loop, mesh

    config = CONFIG.value.to_dict()
    if HELP_CONFIG.value:
        print(blocks.description(config))
        return
    mesh.initialise_processes()
    name = files.run_name(config_flags.get_config_filename(flags.FLAGS["config"]))
    workdir = os.path.expanduser(WORKDIR.value or pathlib.Path("runs") / name)
    try:
        if EVALUATE.value:
            loop.evaluate(config, workdir, EVALUATE.value)
        else:
            loop.run(config, workdir)
    except ERRORS as error:
        if TRACEBACK.value:
            raise
        sys.exit(f"error: {sentence(error)}")


def main(argv: list[str]) -> int:
    """Runs the command, and ends the program."""
    if any(argument in ("-h", "--help") for argument in argv):
        print(f"usage: g2ajax train --recipe=NAME|--config=FILE [--workdir=DIR] ...\n\n{__doc__}")
        return 0
    app.run(train, argv=["g2ajax train", *argv], flags_parser=parse)
    return 0
