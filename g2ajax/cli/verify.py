"""Checks a dataset, building it first where needed: counts, content hashes, every image."""

import argparse
import sys

from g2ajax.data.builders import data_root, make_builder, schema_of
from g2ajax.data.frame_source import open_frames
from g2ajax.data.source import open_dataset
from g2ajax.data.verify import table, verify
from g2ajax.data.verify_frames import frame_table, verify_frames


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    folders = {"data_dir": options.data_dir or None, "manual_dir": options.manual_dir or None}
    builder = make_builder(options.dataset, data_root(options.data_dir or None))
    frames = schema_of(builder) == "frames"
    dataset = (open_frames if frames else open_dataset)(options.dataset, **folders)
    result = verify_frames(dataset) if frames else verify(dataset)
    print(f"{dataset.name} {dataset.version}, fingerprint {dataset.fingerprint}\n")
    print(frame_table(result.counts) if frames else table(result.counts))
    print()
    for content in result.contents:
        state = "not recorded" if content.recorded is None else "as built"
        if content.recorded not in (None, content.digest):
            state = "NOT as built"
        images = len(dataset.splits[content.split])
        print(
            f"{content.split}: {images - len(content.unreadable):,} of {images:,} images decode; "
            f"content {content.digest[:12]} ({state})"
        )
    for text in result.warnings:
        print(f"warning: {text}")
    for text in result.errors:
        print(f"error: {text}", file=sys.stderr)
    return 1 if result.errors else 0
