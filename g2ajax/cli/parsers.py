"""The arguments of all commands, in one place: the same option has the same name everywhere.

Nothing here imports jax, so that `--help` answers at once.
"""

import argparse
import os
import pathlib
from collections.abc import Callable

Parser = argparse.ArgumentParser


def _parser(name: str, text: str) -> Parser:
    return Parser(
        prog=f"g2ajax {name}",
        description=text.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _path(text: str) -> pathlib.Path:
    return pathlib.Path(os.path.expanduser(text))


def _model(parser: Parser, *, checkpoint: str = "best") -> None:
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


def _data(parser: Parser) -> None:
    place = {"default": "", "type": os.path.expanduser}
    parser.add_argument("--data-dir", "--data_dir", **place, help="folder of built datasets")
    parser.add_argument(
        "--manual-dir", "--manual_dir", **place, help="folder of what you downloaded"
    )


def _out(parser: Parser, folder: str) -> None:
    parser.add_argument(
        "--out", type=_path, help=f"folder of the results; default: {folder} in the model's"
    )


def _evaluation(parser: Parser) -> None:
    """A missing argument has the model's own value."""
    parser.add_argument("--rankings", default="", help="such as reid,rerank,query_expansion")
    parser.add_argument("--flip", action="store_true", help="add each image's mirror")
    parser.add_argument("--k1", type=int, help="re-ranking: neighbours that count as near")
    parser.add_argument("--k2", type=int, help="re-ranking: neighbours of the mean")
    parser.add_argument("--lambda", type=float, dest="lambda_value", help="re-ranking: 0 to 1")
    _data(parser)


def evaluate() -> Parser:
    """Scores of a model on datasets."""
    parser = _parser(
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
    _model(parser)
    parser.add_argument(
        "--datasets", default="", help="names with commas; default: the model's own"
    )
    parser.add_argument(
        "--report", action="store_true", help="write cross_report.html, a page for each dataset"
    )
    parser.add_argument("--out", type=_path, help="folder of the results")
    _evaluation(parser)
    return parser


def rank() -> Parser:
    """Ranked lists as figures and pages."""
    parser = _parser(
        "rank",
        """
Shows whom a model finds: ranked lists as figures (SVG) and as a page (HTML).

  g2ajax rank --model=runs/agreid_vit --protocol=A2G --worst=20
  g2ajax rank --model=runs/agreid_vit --queries=0,12,name.jpg --rankings=rerank
  g2ajax rank --model=osnet_x0_25_market1501.pt --dataset=market1501

The lists are the ones behind the scores. A query is a number (its place among the queries of the protocol)
or the name of a query image.""",
    )
    _model(parser)
    parser.add_argument("--dataset", default="", help="default: the model's own")
    parser.add_argument("--protocol", help="who is searched in whom; default: the first")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--queries", default="", help="numbers or names, with commas")
    which.add_argument("--worst", type=int, default=10, help="so many of the lowest AP (default)")
    parser.add_argument("--top", type=int, default=10, help="gallery images shown (1 to 20)")
    _out(parser, "rank")
    _evaluation(parser)
    return parser


def explain() -> Parser:
    """Explained distances as a page."""
    parser = _parser(
        "explain",
        """
Explains whom a model finds for an image, and why: a page (HTML).

  g2ajax explain --model=runs/agreid_vit --query=12
  g2ajax explain --model=runs/agreid_vit --query=photo.jpg --platform=aerial

Needs a run whose phase `explain` has been trained. A query is a number (its place among the queries of the
protocol), the name of a query image, or an image file.""",
    )
    _model(parser, checkpoint="latest")
    parser.add_argument(
        "--query",
        required=True,
        type=os.path.expanduser,
        help="number, name of a query image, or a file",
    )
    parser.add_argument("--top", type=int, default=5, help="gallery images shown (1 to 10)")
    parser.add_argument("--protocol", help="who is searched in whom; default: the first")
    parser.add_argument("--platform", help="where a file of your own is from: aerial, ground, ...")
    _out(parser, "explain")
    _data(parser)
    return parser


def search() -> Parser:
    """Search in a folder of crops."""
    parser = _parser(
        "search",
        """
Finds people in a folder of crops, by images or by sentences; writes a page (HTML), CSV and JSON.

  g2ajax search --model=runs/agreid_vit --gallery=crops --query=photo.jpg
  g2ajax search --model=runs/irra --gallery=crops --text="a red coat" --text="blue shoes"
  g2ajax search --model=ViT-B-16.pt --gallery=crops --text="a person in a red coat"

A query is an image or a folder of images. Every image of the gallery is embedded once for each model.""",
    )
    _model(parser)
    parser.add_argument("--gallery", required=True, type=_path, help="folder of crops")
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        type=_path,
        help="an image or a folder of them; may be repeated",
    )
    parser.add_argument(
        "--text", action="append", default=[], help="a sentence about a person; may be repeated"
    )
    parser.add_argument("--top", type=int, default=10, help="images found for each query")
    _out(parser, "search")
    return parser


def search_frames() -> Parser:
    """Search in whole frames."""
    parser = _parser(
        "search-frames",
        """
Finds a person in whole frames, a folder of images or a video, and draws where (PNG and HTML).

  g2ajax search-frames --model=runs/seqnet --query=image.jpg --box=410,120,470,300 --frames=video.mp4

The person is the one in the box of the query image, in pixels from its upper left corner.""",
    )
    _model(parser)
    parser.add_argument("--query", required=True, type=_path, help="image with the person")
    parser.add_argument("--box", required=True, help="x0,y0,x1,y1 of the person in it, in pixels")
    parser.add_argument("--frames", required=True, type=_path, help="folder or video")
    parser.add_argument("--every", type=int, default=1, help="take every N-th frame of a video")
    parser.add_argument("--top", type=int, default=10, help="frames shown")
    _out(parser, "search-frames")
    return parser


def embed() -> Parser:
    """Embeddings as a Parquet file."""
    parser = _parser(
        "embed",
        """
Writes the embeddings of all images of a folder as Parquet: path, sha256, embedding.

  g2ajax embed --model=runs/agreid_vit --images=DIR --out=embeddings.parquet
  g2ajax embed --model=model/ --images=DIR --out=part-3.parquet --shard=3/16

Vector databases read the file. A killed command goes on where it stopped; run again, it embeds new and
changed images only. `--shard=3/16` is the third of sixteen parts, one for each machine.""",
    )
    _model(parser)
    parser.add_argument("--images", required=True, type=_path, help="folder of crops")
    parser.add_argument("--out", required=True, type=_path, help="file to write")
    parser.add_argument("--shard", default="1/1", help="i/n: the i-th of n parts, from 1")
    return parser


def export() -> Parser:
    """An embedding as a program."""
    parser = _parser(
        "export",
        """
Writes a model's embedding as one file (StableHLO or ONNX), checked against the model.

  g2ajax export --model=runs/agreid_vit --format=stablehlo --part=image
  g2ajax export --model=runs/irra --format=onnx --part=text --out=exported
  g2ajax export --model=runs/agreid_vit --format=onnx --resize""",
    )
    _model(parser)
    parser.add_argument("--format", choices=("stablehlo", "onnx"), default="stablehlo")
    parser.add_argument("--part", choices=("image", "text"), default="image")
    parser.add_argument(
        "--resize", action="store_true", help="the program takes images of any size"
    )
    _out(parser, "export")
    return parser


def pack() -> Parser:
    """A model's folder."""
    parser = _parser(
        "pack",
        """
Makes a model's folder of a run's checkpoint or of a public file: weights and model.json, no data.

  g2ajax pack --model=runs/agreid_vit --checkpoint=latest --out=agreid_vit_last
  g2ajax pack --model=osnet_x0_25_market1501.pt --out=osnet --licence=MIT

A finished run has one already, WORKDIR/model, of its best checkpoint.""",
    )
    _model(parser)
    parser.add_argument("--out", required=True, type=_path, help="folder to write")
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
    parser = _parser(
        "weights",
        """
Lists the public files of weights of the field, and checks a local file against the list.

  g2ajax weights
  g2ajax weights --check=osnet_x0_25_market1501.pt

A file is opened by g2ajax.load(FILE), or --model=FILE of every command; one without an architecture is a
starting point of training (--config.init.file=FILE).""",
    )
    parser.add_argument("--check", type=_path, metavar="FILE", help="check a local file")
    parser.add_argument(
        "--architectures", action="store_true", help="list the architectures instead"
    )
    return parser


def published() -> Parser:
    """Published scores."""
    parser = _parser(
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
    parser = _parser(
        "verify",
        """
Checks a dataset, building it first where needed: counts, content hashes, every image.

  g2ajax verify --dataset=agreid --manual-dir=DIR

Exit status: 0 if nothing is wrong (warnings are printed), 1 if something is.""",
    )
    parser.add_argument("--dataset", required=True, help='such as "agreid" or "agreid/partial"')
    _data(parser)
    return parser


def skyground() -> Parser:
    """The embedded world as files."""
    parser = _parser(
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


PARSERS: dict[str, Callable[[], Parser]] = {
    "evaluate": evaluate,
    "search": search,
    "search-frames": search_frames,
    "embed": embed,
    "rank": rank,
    "explain": explain,
    "export": export,
    "pack": pack,
    "weights": weights,
    "published": published,
    "verify": verify,
    "skyground": skyground,
}
