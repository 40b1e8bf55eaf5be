"""Shows whom a trained model finds: ranked lists as figures (PNG) and as a page (HTML).

python -m g2ajax rank --workdir=runs/agreid_vit --protocol=A2G --worst=20
python -m g2ajax rank --workdir=runs/agreid_vit --queries=0,12,name.jpg --rankings=rerank

The lists are the ones behind the scores. A query is a number (its place among the queries of the
protocol) or the name of a query image.
"""

import argparse
import pathlib

import numpy as np

from g2ajax.apps import rank
from g2ajax.apps.evaluate import check_trained
from g2ajax.cli.evaluate import add_evaluation, evaluation_config, words
from g2ajax.config import nearest
from g2ajax.data.crop_source import CropSplit
from g2ajax.report import draw, page
from g2ajax.tasks import crops
from g2ajax.training.loop import reopen


def main(argv: list[str]) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m g2ajax rank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of the run")
    parser.add_argument("--protocol", help="whom is asked to find whom; default: the run's first")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--queries", default="", help="numbers or names, with commas")
    which.add_argument("--worst", type=int, default=10, help="so many of the lowest AP (default)")
    parser.add_argument("--top", type=int, default=10, help="gallery images shown (1 to 20)")
    parser.add_argument("--checkpoint", choices=("best", "latest"), default="best")
    parser.add_argument("--out", type=pathlib.Path, help="folder; default: WORKDIR/rank")
    add_evaluation(parser)
    options = parser.parse_args(argv)
    return _rank(options)


def _rank(options: argparse.Namespace) -> int:
    if not 1 <= options.top <= 20:
        raise ValueError(f"--top={options.top}; from 1 to 20 images fit a figure")
    if options.worst < 1:
        raise ValueError(f"--worst={options.worst}; at least 1 query is needed")
    names = words(options.rankings) or ("reid",)
    config = evaluation_config(options)
    run, meta = reopen(config, options.workdir, options.checkpoint, of=crops.Task)
    for name in names:
        check_trained(run, meta["phase"], name)
    if options.protocol and options.protocol not in run.task.protocols:
        raise ValueError(
            f"no protocol {options.protocol!r}; {nearest(options.protocol, run.task.protocols)}"
        )
    protocol = options.protocol or run.task.protocols[0]
    queries = words(options.queries)
    rows, _, _ = run.task.dataset.protocol(protocol)
    places = _chosen(run.task.dataset.splits["query"].take(rows), protocol, queries)
    folder = options.out or options.workdir / "rank"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        lists = rank.rank_queries(run.model, run.task.embedder, protocol, name, options.top)
        if not queries:
            places = rank.worst(lists.result, options.worst).tolist()
        figures = rank.figures(lists, places, run.task.dataset.name)
        for row, figure in zip(places, figures, strict=True):
            (folder / f"{protocol}-{name}-{row}.png").write_bytes(draw(figure))
            marks = "".join("+" if item.correct else "-" for item in figure.ranked)
            print(f"{marks}  {figure.query.title}")
        text = page(f"{run.options.name}: {protocol}, {name}", figures, intro=rank.INTRO)
        file = folder / f"{protocol}-{name}.html"
        file.write_text(text)
        print(f"written: {file}, and a PNG for each query")
    return 0


def _chosen(query: CropSplit, protocol: str, asked: tuple[str, ...]) -> list[int]:
    """Places of the queries among those of the protocol."""
    places = []
    for text in asked:
        matches = np.flatnonzero(query.image_id == text)
        if text.isdigit() and int(text) < len(query):
            places.append(int(text))
        elif len(matches):
            places.append(int(matches[0]))
        else:
            raise ValueError(
                f"--queries: {text!r} is neither the name of a query of {protocol} (such as "
                f"{query.image_id[0]}) nor a number from 0 to {len(query) - 1}"
            )
    return places
