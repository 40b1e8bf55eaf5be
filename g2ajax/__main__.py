"""The program `g2ajax`, also `python -m g2ajax`: each command is a module of `g2ajax.cli`.

A ValueError or OSError (something does not fit, or the system refuses it) ends a command with one line
and exit status 1.
"""

import importlib
import io
import signal
import sys

import g2ajax
from g2ajax.cli.errors import EXPECTED, sentence
from g2ajax.cli.interrupt import end_at_interrupt
from g2ajax.cli.parsers import PARSERS
from g2ajax.config import nearest

COMMANDS = {
    "train": "train and evaluate the experiment of a recipe or of a configuration file",
    "evaluate": "score a model on datasets",
    "search": "find people in a folder of crops, by images or sentences",
    "search-frames": "find a person in whole frames or a video",
    "embed": "write the embeddings of a folder of images as Parquet, resumable",
    "rank": "draw the ranked lists of a dataset's queries",
    "compare": "compare two models on the same protocols, with intervals and the queries that changed",
    "explain": "show which attributes make two people differ",
    "export": "write an embedding as one StableHLO or ONNX file",
    "pack": "make a model's folder of a run or of a public file",
    "weights": "list the public files of weights of the field, and check a local one",
    "published": "print the published scores on a dataset, protocol by protocol",
    "verify": "check every record and image of a dataset",
    "skyground": "write the embedded world in the files of public datasets",
    "explore": "search a folder of crops on a page of this machine, with marks and filters",
}


def usage() -> str:
    """The commands, one a line."""
    lines = [f"  {name:14} {sentence}" for name, sentence in COMMANDS.items()]
    head = f"g2ajax {g2ajax.__version__}: finds a person across the sky and the ground"
    return "\n".join([head, "", "usage: g2ajax COMMAND [--help]", "", *lines])


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(g2ajax.__version__)
        return 0
    if argv[0] not in COMMANDS:
        print(f"no command {argv[0]!r}; {nearest(argv[0], COMMANDS)}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # file names need not be text of the terminal
    name, module = argv[0], f"g2ajax.cli.{argv[0].replace('-', '_')}"
    try:
        if name == "train":  # its flags are those of the configuration
            end_at_interrupt()
            return importlib.import_module(module).main(argv[1:])
        options = PARSERS[name]().parse_args(argv[1:])
        return importlib.import_module(module).run(options)
    except EXPECTED as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
