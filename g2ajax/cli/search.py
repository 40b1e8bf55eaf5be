"""Finds a person in a folder of crops, by an image or by a sentence, and writes a page (HTML).

python -m g2ajax search --workdir=runs/agreid_vit --gallery=crops --query=photo.jpg
python -m g2ajax search --workdir=runs/irra --gallery=crops --text="a person in a red coat"

Every image is embedded once for each checkpoint; WORKDIR/search keeps the embeddings.
"""

import argparse
import pathlib

from g2ajax.apps import search
from g2ajax.report import page
from g2ajax.tasks import crops
from g2ajax.training.loop import reopen
from g2ajax.training.workdir import stored_config

INTRO = """\
The images of a folder, the most similar first. Nobody has said who they show: the order is the \
model's, and the nearest image need not show the person."""


def main(argv: list[str]) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m g2ajax search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of the run")
    parser.add_argument("--gallery", required=True, type=pathlib.Path, help="folder of crops")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--query", type=pathlib.Path, help="an image of the person")
    group.add_argument("--text", help="a sentence about the person")
    parser.add_argument("--top", type=int, default=10, help="images shown (1 to 20)")
    parser.add_argument("--checkpoint", choices=("best", "latest"), default="best")
    parser.add_argument("--out", type=pathlib.Path, help="folder; default: WORKDIR/search")
    options = parser.parse_args(argv)
    return _search(options)


def _search(options: argparse.Namespace) -> int:
    # Everything that can be wrong with the query is checked before the folder is embedded.
    if not 1 <= options.top <= 20:
        raise ValueError(f"--top={options.top}; from 1 to 20 images fit a figure")
    if options.query and not options.query.is_file():
        raise FileNotFoundError(f"--query={options.query} is not a file")
    files = search.files_of(options.gallery)
    config = stored_config(options.workdir)
    run, _ = reopen(config, options.workdir, options.checkpoint, of=crops.Task)
    if options.text is not None:
        search.check_text(run, options.text)
    cache = options.workdir / "search"
    gallery = search.embedded_gallery(run, options.gallery, files, cache)
    for path, why in gallery.skipped:
        print(f"skipped: {path} ({why})")
    cached = len(gallery.files) - gallery.embedded
    print(f"{len(gallery.files)} images, {cached} of them embedded before or twice there")
    if options.query:
        name, title = options.query.stem, options.query.name
        results = gallery.by_image(options.query, options.top)
        figure = search.figure(gallery, results, image=options.query)
    else:
        name, title = "text", options.text
        results = gallery.by_text(options.text, options.top)
        figure = search.figure(gallery, results, text=options.text)
    for item in results:
        print(f"{item.distance:9.4f}  {item.path}")
    folder = options.out or cache
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.html"
    file.write_text(page(f"{run.options.name}: {title}", [figure], intro=INTRO))
    print(f"written: {file}")
    return 0
