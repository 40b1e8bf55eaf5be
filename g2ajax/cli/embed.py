"""Writes the embeddings of all images of a folder as Parquet: path, sha256, embedding."""

import argparse
import re

from g2ajax.apps.embed import embed_folder
from g2ajax.cli.opening import open_model


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    shard = _shard(options.shard)
    if not options.images.is_dir():
        raise FileNotFoundError(f"--images={options.images} is not a folder")
    written = embed_folder(open_model(options), options.images, options.out, shard=shard)
    for path, why in written.skipped:
        print(f"skipped: {path} ({why})")
    there = written.rows - written.new
    print(f"written: {written.path}, {written.rows} images ({there} of them embedded before)")
    return 0


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"--shard={text}; expected i/n with i from 1 to n, such as 3/16")
    return number - 1, count
