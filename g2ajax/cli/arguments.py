"""Arguments that several commands have."""

import argparse
import os
import pathlib

Parser = argparse.ArgumentParser


def command(name: str, text: str) -> Parser:
    """An empty parser of `g2ajax <name>`."""
    return Parser(
        prog=f"g2ajax {name}",
        description=text.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def path(text: str) -> pathlib.Path:
    """A path, with `~` for the home."""
    return pathlib.Path(os.path.expanduser(text))


def take_model(parser: Parser, *, checkpoint: str = "best") -> None:
    """The model of a command."""
    parser.add_argument(
        "--model",
        "--workdir",
        required=True,
        type=os.path.expanduser,
        help="folder of a run or of a model, hf:org/repo, or a public file of weights",
    )
    parser.add_argument(
        "--architecture", default="", help="of a file of weights, where its tensors do not say"
    )
    parser.add_argument(
        "--checkpoint", choices=("best", "latest"), default=checkpoint, help="of a run"
    )


def take_data(parser: Parser) -> None:
    """The folders of datasets."""
    place = {"default": "", "type": os.path.expanduser}
    parser.add_argument("--data-dir", "--data_dir", **place, help="folder of built datasets")
    parser.add_argument(
        "--manual-dir", "--manual_dir", **place, help="folder of what you downloaded"
    )


def take_out(parser: Parser, folder: str) -> None:
    """The folder that is written to."""
    parser.add_argument(
        "--out", type=path, help=f"folder of the results; default: {folder} in the model's"
    )


def take_evaluation(parser: Parser) -> None:
    """Adds the arguments of scores and lists; a missing one has the model's own value."""
    parser.add_argument("--rankings", default="", help="such as reid,rerank,query_expansion")
    parser.add_argument("--flip", action="store_true", help="add each image's mirror")
    parser.add_argument("--k1", type=int, help="re-ranking: neighbours that count as near")
    parser.add_argument("--k2", type=int, help="re-ranking: neighbours of the mean")
    parser.add_argument("--lambda", type=float, dest="lambda_value", help="re-ranking: 0 to 1")
    take_data(parser)
