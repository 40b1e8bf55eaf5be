"""The arguments of all commands, in one place: the same option has the same name everywhere.

Nothing here imports jax, so that `--help` answers at once.
"""

import os
from collections.abc import Callable

from g2ajax.cli.arguments import (
    Parser,
    command,
    path,
    take_data,
    take_evaluation,
    take_model,
    take_out,
)


def evaluate() -> Parser:
    """Scores of a model on datasets."""
    parser = command(
        "evaluate",
        """
Scores a model, on its own dataset or on others, and prints one matrix.

  g2ajax evaluate --model=runs/agreid_vit --rankings=reid,rerank
  g2ajax evaluate --model=runs/agreid_vit --datasets=market1501,skyground/crops_small
  g2ajax evaluate --model=osnet_x0_25_market1501.pt --datasets=market1501

Each row is a protocol of a dataset with 95% intervals; results go to cross_results.json, .md and .csv in the
folder of the model. On another dataset all its protocols are scored. --report adds a page for each dataset:
curves, groups and the ranked lists of its queries.""",
    )
    take_model(parser)
    parser.add_argument(
        "--datasets", default="", help="names with commas; default: the model's own"
    )
    parser.add_argument(
        "--report", action="store_true", help="write cross_report.html, a page for each dataset"
    )
    parser.add_argument("--out", type=path, help="folder of the results")
    take_evaluation(parser)
    return parser


def rank() -> Parser:
    """Ranked lists as figures and pages."""
    parser = command(
        "rank",
        """
Shows whom a model finds: ranked lists as figures (SVG) and as a page (HTML).

  g2ajax rank --model=runs/agreid_vit --protocol=A2G --worst=20
  g2ajax rank --model=runs/agreid_vit --queries=0,12,name.jpg --rankings=rerank
  g2ajax rank --model=osnet_x0_25_market1501.pt --dataset=market1501

The lists are the ones behind the scores. A query is a number (its place among the queries of the protocol)
or the name of a query image.""",
    )
    take_model(parser)
    parser.add_argument("--dataset", default="", help="default: the model's own")
    parser.add_argument("--protocol", help="such as A2G; default: the first")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--queries", default="", help="numbers or names, with commas")
    which.add_argument("--worst", type=int, default=10, help="so many of the lowest AP (default)")
    parser.add_argument("--top", type=int, default=10, help="gallery images shown (1 to 20)")
    take_out(parser, "rank")
    take_evaluation(parser)
    return parser


def compare() -> Parser:
    """The difference of two runs."""
    parser = command(
        "compare",
        """
Compares two models on the same protocols: the difference of mAP and rank-1, B minus A, with a 95% interval
from the paired bootstrap over identities, and the queries that changed most.

  g2ajax compare runs/a runs/b
  g2ajax compare runs/a runs/b --dataset=market1501 --protocol=STD
  g2ajax compare runs/a runs/a --rankings=reid,rerank

A model is a run, a model's folder, hf:org/repo, or a public file. Both are scored again on the dataset; runs
of different protocols are refused. Writes compare.json, compare.csv (a row for each query) and, for crops
and tracklets, a page for each protocol.""",
    )
    where = "run, model or file of weights"
    parser.add_argument("a", metavar="A", type=os.path.expanduser, help=where)
    parser.add_argument("b", metavar="B", type=os.path.expanduser, help=where)
    parser.add_argument("--checkpoint", choices=("best", "latest"), default="best", help="of runs")
    parser.add_argument("--dataset", default="", help="default: the one that both are trained on")
    parser.add_argument("--protocol", default="", help="the only one; default: all in common")
    parser.add_argument("--rankings", default="reid", help="of both, or that of A and that of B")
    parser.add_argument("--changed", type=int, default=10, help="queries shown (default: 10)")
    parser.add_argument("--top", type=int, default=10, help="gallery images shown (1 to 20)")
    parser.add_argument("--samples", type=int, default=1000, help="bootstrap draws")
    take_out(parser, "compare")
    take_data(parser)
    return parser


def explain() -> Parser:
    """Explained distances as a page."""
    parser = command(
        "explain",
        """
Explains whom a model finds for an image, and why: a page (HTML).

  g2ajax explain --model=runs/agreid_vit --query=12
  g2ajax explain --model=runs/agreid_vit --query=photo.jpg --platform=aerial

Needs a run whose phase `explain` has been trained. A query is a number (its place among the queries of the
protocol), the name of a query image, or an image file.""",
    )
    take_model(parser, checkpoint="latest")
    parser.add_argument(
        "--query",
        required=True,
        type=os.path.expanduser,
        help="number, name of a query image, or a file",
    )
    parser.add_argument("--top", type=int, default=5, help="gallery images shown (1 to 10)")
    parser.add_argument("--protocol", help="such as A2G; default: the first")
    parser.add_argument("--platform", help="where a file of your own is from: aerial, ground, ...")
    take_out(parser, "explain")
    take_data(parser)
    return parser


def search() -> Parser:
    """Search in a folder of crops, or of tracklets."""
    parser = command(
        "search",
        """
Finds people in a folder of crops, by images or by sentences, or in a folder of tracklets, by a tracklet;
writes a page (HTML), CSV and JSON.

  g2ajax search --model=runs/agreid_vit --gallery=crops --query=photo.jpg
  g2ajax search --model=runs/irra --gallery=crops --text="a red coat" --text="blue shoes"
  g2ajax search --model=ViT-B-16.pt --gallery=crops --text="a person in a red coat"
  g2ajax search --model=runs/vsla_clip --gallery=walks --query=anna
  g2ajax search --model=runs/vsla_clip --gallery=walks --query=walks/gate.mp4 --track=7

A query is an image or a folder of images. Every image of the gallery is embedded once for each model.
For a model of tracklets the gallery is a folder with a folder of images for each tracklet, or with videos and
beside each its table of tracks (gate.mp4 and gate.txt, in MOTChallenge's format); a query is a folder of the
images of one person, or a video with --track.""",
    )
    take_model(parser)
    parser.add_argument("--gallery", required=True, type=path, help="folder of crops or tracklets")
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        type=path,
        help="an image, a folder of them, or a video; may be repeated",
    )
    parser.add_argument(
        "--track",
        action="append",
        default=[],
        type=int,
        help="number of a track of the query video; may be repeated",
    )
    parser.add_argument(
        "--text", action="append", default=[], help="a sentence about a person; may be repeated"
    )
    parser.add_argument("--top", type=int, default=10, help="results of each query")
    take_out(parser, "search")
    return parser


def search_frames() -> Parser:
    """Search in whole frames."""
    parser = command(
        "search-frames",
        """
Finds a person in whole frames, a folder of images or a video, and draws where (PNG and HTML).

  g2ajax search-frames --model=runs/seqnet --query=image.jpg --box=410,120,470,300 --frames=video.mp4

The person is the one in the box of the query image, in pixels from its upper left corner.""",
    )
    take_model(parser)
    parser.add_argument("--query", required=True, type=path, help="image with the person")
    parser.add_argument("--box", required=True, help="x0,y0,x1,y1 of the person in it, in pixels")
    parser.add_argument("--frames", required=True, type=path, help="folder or video")
    parser.add_argument("--every", type=int, default=1, help="take every N-th frame of a video")
    parser.add_argument("--top", type=int, default=10, help="frames shown")
    take_out(parser, "search-frames")
    return parser


def embed() -> Parser:
    """Embeddings as a Parquet file."""
    parser = command(
        "embed",
        """
Writes the embeddings of all images of a folder as Parquet: path, sha256, embedding.

  g2ajax embed --model=runs/agreid_vit --images=DIR --out=embeddings.parquet
  g2ajax embed --model=model/ --images=DIR --out=part-3.parquet --shard=3/16

Vector databases read the file. A killed command continues where it stopped; run again, it embeds new and
changed images only. `--shard=3/16` is the third of sixteen parts, one for each machine.""",
    )
    take_model(parser)
    parser.add_argument("--images", required=True, type=path, help="folder of crops")
    parser.add_argument("--out", required=True, type=path, help="file to write")
    parser.add_argument("--shard", default="1/1", help="i/n: the i-th of n parts, from 1")
    return parser


def export() -> Parser:
    """An embedding as a program."""
    parser = command(
        "export",
        """
Writes a model's embedding as one file (StableHLO or ONNX), checked against the model.

  g2ajax export --model=runs/agreid_vit --format=stablehlo --part=image
  g2ajax export --model=runs/irra --format=onnx --part=text --out=exported
  g2ajax export --model=runs/agreid_vit --format=onnx --resize""",
    )
    take_model(parser)
    parser.add_argument("--format", choices=("stablehlo", "onnx"), default="stablehlo")
    parser.add_argument("--part", choices=("image", "text"), default="image")
    parser.add_argument(
        "--resize", action="store_true", help="the program takes images of any size"
    )
    take_out(parser, "export")
    return parser


def pack() -> Parser:
    """A model's folder."""
    parser = command(
        "pack",
        """
Makes a model's folder of a run's checkpoint or of a public file: weights and model.json, no data.

  g2ajax pack --model=runs/agreid_vit --checkpoint=latest --out=agreid_vit_last
  g2ajax pack --model=osnet_x0_25_market1501.pt --out=osnet --licence=MIT

A finished run has one already, WORKDIR/model, of its best checkpoint.""",
    )
    take_model(parser)
    parser.add_argument("--out", required=True, type=path, help="folder to write")
    parser.add_argument("--name", help="name for tables of results; default: the model's")
    parser.add_argument("--licence", help="licence of the weights, such as MIT")
    parser.add_argument(
        "--without-classifier",
        action="store_true",
        help="leave out the weights of the training identities, which embed nothing",
    )
    return parser


def weights() -> Parser:
    """The public files of weights."""
    parser = command(
        "weights",
        """
Lists the public files of weights of the field, and checks a local file against the list.

  g2ajax weights
  g2ajax weights --check=osnet_x0_25_market1501.pt

A file is opened by g2ajax.load(FILE), or --model=FILE of every command; one without an architecture is a
starting point of training (--config.init.file=FILE).""",
    )
    parser.add_argument("--check", type=path, metavar="FILE", help="check a local file")
    parser.add_argument(
        "--architectures", action="store_true", help="list the architectures instead"
    )
    return parser


def published() -> Parser:
    """Published scores."""
    parser = command(
        "published",
        """
Prints the published scores on a dataset: a row for each method, a column for each protocol. Nothing in the
table was measured here; n is the number of valid queries. A run prints its method's row beside its own scores.

  g2ajax published --dataset=cargo""",
    )
    parser.add_argument("--dataset", required=True, help="cargo, agreid, agreid_v2, lagper, ...")
    return parser


def verify() -> Parser:
    """Check of a dataset."""
    parser = command(
        "verify",
        """
Checks a dataset, building it first where needed: counts, content hashes, every image.

  g2ajax verify --dataset=agreid --manual-dir=DIR

Exit status: 0 if nothing is wrong (warnings are printed), 1 if something is.""",
    )
    parser.add_argument("--dataset", required=True, help='such as "agreid" or "agreid/partial"')
    take_data(parser)
    return parser


def skyground() -> Parser:
    """The embedded world as files."""
    parser = command(
        "skyground",
        """
Writes SkyGround, the embedded aerial-ground world, as files.

  g2ajax skyground --layout=agreid --size=small --out=DIR
  g2ajax skyground --layout=g2aps --size=small --out=DIR    (whole frames)
  g2ajax skyground --layout=mars --size=small --out=DIR     (tracklets)
  g2ajax skyground --size=small --sheet=sheet.png           (with --frames: of frames; --tracklets: of tracklets)""",
    )
    parser.add_argument("--layout", help="write the files of this dataset, such as agreid")
    parser.add_argument("--size", default="tiny", help="tiny, small, many or full")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world")
    parser.add_argument("--out", type=os.path.expanduser, help="folder of the layout")
    parser.add_argument("--workers", type=int, help="processes; default: one a core")
    parser.add_argument(
        "--sheet", metavar="FILE", type=os.path.expanduser, help="draw a contact sheet instead"
    )
    parser.add_argument("--frames", action="store_true", help="the sheet shows whole frames")
    parser.add_argument("--tracklets", action="store_true", help="the sheet shows tracklets")
    return parser


def explore() -> Parser:
    """The explorer of a folder."""
    parser = command(
        "explore",
        """
Opens a folder on a page of this machine: drop an image or type a sentence, look at the ranking, search
on from any image of it, mark images right or wrong and rank again, filter by folder and camera. A model of
crops shows a folder of crops, one of tracklets its tracklets, one of person search the people in its frames.

  g2ajax explore --model=runs/agreid_vit --gallery=crops
  g2ajax explore --model=runs/seqnet --gallery=frames
  g2ajax explore --model=runs/irra --gallery=market1501/bounding_box_test --camera='_c([0-9]+)'

The page is served at 127.0.0.1 only, at an address with a random token. Ctrl-C ends it.""",
    )
    take_model(parser)
    parser.add_argument(
        "--gallery", required=True, type=path, help="folder of crops, of frames, or of tracklets"
    )
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument(
        "--camera",
        default="",
        metavar="PATTERN",
        help="regular expression with one group, the camera in an image's path; default: no cameras",
    )
    return parser


PARSERS: dict[str, Callable[[], Parser]] = {
    "evaluate": evaluate,
    "search": search,
    "search-frames": search_frames,
    "embed": embed,
    "rank": rank,
    "compare": compare,
    "explain": explain,
    "export": export,
    "pack": pack,
    "weights": weights,
    "published": published,
    "verify": verify,
    "skyground": skyground,
    "explore": explore,
}
