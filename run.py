"""Trains and evaluates the experiment of a configuration file.

    python run.py --config=configs/agreid_vit.py --workdir=runs/agreid_vit
    python run.py --config=configs/agreid_vit.py:skyground --config.seed=1
    python run.py --config=configs/agreid_vit.py --help_config
    python run.py --config=configs/agreid_vit.py --workdir=runs/agreid_vit --evaluate=best

A run that was stopped or killed goes on from its last checkpoint when it is started again.
"""

import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, with its arguments after a colon.", lock_config=True
)
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
ERRORS = (ValueError, FileNotFoundError, FloatingPointError, flags.Error)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; what is wrong with the configuration is said in one line."""
    from g2ajax.recipes import files

    try:
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
        sys.exit(f"error: {error}")


def main(argv: list[str]) -> None:
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
    workdir = WORKDIR.value or str(pathlib.Path("runs") / name)
    try:
        if EVALUATE.value:
            loop.evaluate(config, workdir, EVALUATE.value)
        else:
            loop.run(config, workdir)
    except ERRORS as error:
        if TRACEBACK.value:
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)
