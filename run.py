"""Trains and evaluates the experiment of a configuration file.

    python run.py --config=configs/agreid_vit.py --workdir=runs/agreid_vit
    python run.py --config=configs/agreid_vit.py:skyground --config.seed=1
    python run.py --config=configs/agreid_vit.py --workdir=runs/agreid_vit --evaluate=best

A run that was stopped or killed goes on from its last checkpoint when it is started again.
"""

import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, with its variant after a colon.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run's checkpoints and results; default: runs/<config>."
)
EVALUATE = flags.DEFINE_enum(
    "evaluate", None, ["best", "latest"], "Only score this checkpoint of the workdir."
)
TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where an error was raised.")


def _default_workdir() -> str:
    file, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return str(pathlib.Path("runs") / "_".join(filter(None, [pathlib.Path(file).stem, variant])))


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings look like --config.seed=1")
    # Imported here: grain's worker processes import this file too and need none of it.
    from g2ajax.training import loop, mesh

    mesh.initialise_processes()
    config = CONFIG.value.to_dict()
    workdir = WORKDIR.value or _default_workdir()
    try:
        if EVALUATE.value:
            loop.evaluate(config, workdir, EVALUATE.value)
        else:
            loop.run(config, workdir)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        if TRACEBACK.value:
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
