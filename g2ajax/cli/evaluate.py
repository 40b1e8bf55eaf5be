"""Scores a trained model, on its own dataset or across others, and prints one matrix.

python -m g2ajax evaluate --workdir=runs/agreid_vit --rankings=reid,rerank
python -m g2ajax evaluate --workdir=runs/agreid_vit --datasets=market1501,skyground/crops_small

Each row is a protocol of a dataset with 95% intervals; results go to WORKDIR/cross_results.json, .md
and .csv. On another dataset all its protocols are scored.
"""

import argparse
import pathlib

from g2ajax.apps.evaluate import evaluate_datasets
from g2ajax.evaluation import cross
from g2ajax.training.workdir import stored_config


def main(argv: list[str]) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m g2ajax evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of the run")
    parser.add_argument("--checkpoint", choices=("best", "latest"), default="best")
    parser.add_argument("--datasets", default="", help="names with commas; default: the run's own")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the results; default: WORKDIR")
    add_evaluation(parser)
    options = parser.parse_args(argv)
    config = evaluation_config(options)
    results = evaluate_datasets(
        config,
        options.workdir,
        options.checkpoint,
        words(options.datasets),
        words(options.rankings),
    )
    folder = options.out or options.workdir
    folder.mkdir(parents=True, exist_ok=True)
    cross.write(results, config["dataset"], folder)
    print(cross.as_text(results, config["dataset"]))
    print(f"written: {folder / 'cross_results'}.json, .md, .csv")
    return 0


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments for scoring a trained model; a missing one has the run's own value."""
    parser.add_argument("--rankings", default="", help="such as reid,rerank,query_expansion")
    parser.add_argument("--flip", action="store_true", help="add each image's mirror")
    parser.add_argument("--k1", type=int, help="re-ranking: neighbours that count as near")
    parser.add_argument("--k2", type=int, help="re-ranking: neighbours of the mean")
    parser.add_argument("--lambda", type=float, dest="lambda_value", help="re-ranking: 0 to 1")
    parser.add_argument("--data_dir", help="folder of built datasets")
    parser.add_argument("--manual_dir", help="folder of what you downloaded")


def evaluation_config(options: argparse.Namespace) -> dict:
    """The run's configuration with what the command line changes."""
    config = stored_config(options.workdir)
    evaluate = dict(config.get("evaluate", {}))
    rerank = {k: getattr(options, k) for k in ("k1", "k2", "lambda_value")}
    rerank = {k: v for k, v in rerank.items() if v is not None}
    if rerank:
        evaluate["rerank"] = {**evaluate.get("rerank", {}), **rerank}
    if options.flip:
        evaluate["flip"] = True
    if options.rankings:
        # The parameters of these are checked before any compute.
        evaluate["rankings"] = words(options.rankings)
    data = dict(config.get("data", {}))
    folders = {"dir": options.data_dir, "manual_dir": options.manual_dir}
    data |= {k: v for k, v in folders.items() if v is not None}
    return {**config, "evaluate": evaluate, "data": data}


def words(text: str) -> tuple[str, ...]:
    """The words between commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
