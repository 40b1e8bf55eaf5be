"""Explains whom a trained model finds for an image, and why: a figure (PNG) and a page (HTML).

python -m g2ajax explain --workdir=runs/agreid_vit --query=12
python -m g2ajax explain --workdir=runs/agreid_vit --query=photo.jpg --platform=aerial

Needs a run whose phase `explain` has been trained. A query is a number (its place among the queries
of the protocol), the name of a query image, or an image file.
"""

import argparse
import pathlib

import numpy as np

from g2ajax.config import nearest
from g2ajax.data.builders import PLATFORMS
from g2ajax.data.crop_source import Dataset
from g2ajax.evaluation.crops import protocol_rows
from g2ajax.methods import Explains
from g2ajax.report import draw, page
from g2ajax.tasks import crops
from g2ajax.tasks import explanation_pages as pages
from g2ajax.training.loop import reopen
from g2ajax.training.workdir import stored_config


def main(argv: list[str]) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m g2ajax explain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of the run")
    parser.add_argument("--query", required=True, help="number, name of a query image, or a file")
    parser.add_argument("--top", type=int, default=5, help="gallery images shown (1 to 10)")
    parser.add_argument("--protocol", help="whom is asked to find whom; default: the run's first")
    parser.add_argument("--platform", choices=PLATFORMS, help="where a file of your own is from")
    parser.add_argument("--checkpoint", choices=("latest", "best"), default="latest")
    parser.add_argument("--out", type=pathlib.Path, help="folder; default: WORKDIR/explain")
    options = parser.parse_args(argv)
    return _explain(options)


def _explain(options: argparse.Namespace) -> int:
    if not 1 <= options.top <= 10:
        raise ValueError(f"--top={options.top}; from 1 to 10 images fit a figure")
    config = stored_config(options.workdir)
    run, meta = reopen(config, options.workdir, options.checkpoint, of=crops.Task)
    trained = run.options.phase[meta["phase"]].task_options.rankings
    if not isinstance(run.model, Explains) or "decomposed" not in trained:
        raise ValueError(
            f"{options.workdir} has no trained explainable stream (its {options.checkpoint} "
            f"checkpoint is of phase {meta['phase']!r}); train configs/agreid_vit.py to its end"
        )
    if options.protocol and options.protocol not in run.task.protocols:
        raise ValueError(
            f"no protocol {options.protocol!r}; {nearest(options.protocol, run.task.protocols)}"
        )
    protocol = options.protocol or run.task.protocols[0]
    query, name = _asked(run.task.dataset, protocol, options)
    (explanation,) = pages.explain(run.model, run.task.embedder, protocol, query, options.top)
    folder = options.out or options.workdir / "explain"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.png").write_bytes(draw(explanation))
    title = f"{run.options.name}: {query.titles[0]}"
    (folder / f"{name}.html").write_text(page(title, [explanation], intro=pages.INTRO))
    for item in explanation.ranked:
        mark = {True: "right", False: "wrong", None: "?"}[item.correct]
        largest = np.argsort(-item.shares)[:3]
        why = ", ".join(f"{explanation.attributes[k]} {100 * item.shares[k]:.1f}%" for k in largest)
        print(f"{item.distance:9.2f}  {mark:5}  {item.title}  ({why})")
    print(f"written: {folder / name}.png, {folder / name}.html")
    return 0


def _asked(dataset: Dataset, protocol: str, options: argparse.Namespace) -> tuple[pages.Asked, str]:
    """The query and a file name for its figure."""
    query = dataset.splits["query"]
    rows, _ = protocol_rows(dataset, protocol)
    text, path = options.query, pathlib.Path(options.query)
    if text.isdigit():
        if int(text) >= len(rows):
            raise ValueError(f"--query={text}, but {protocol} has {len(rows)} queries, from 0")
        return pages.from_queries(query, [int(rows[int(text)])]), f"{protocol}-{text}"
    matches = np.flatnonzero(query.image_id == text)
    if len(matches):
        return pages.from_queries(query, matches.tolist()), path.stem
    if not path.is_file():
        raise FileNotFoundError(
            f"--query={text} is neither a number nor a file nor the name of a query image; "
            f"{nearest(text, query.image_id.tolist()[:2000]).partition('known:')[0]}"
            f"names look like {query.image_id[0]}"
        )
    platform = options.platform or dataset.protocol(protocol)[2]["query_platform"]
    if platform not in PLATFORMS:
        raise ValueError(f"say with --platform where {path} is from: {', '.join(PLATFORMS)}")
    return pages.from_file(path, platform=platform), path.stem
