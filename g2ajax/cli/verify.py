"""Checks a dataset, building it first where needed: counts, content hashes, every image.

python -m g2ajax verify --dataset=agreid --manual_dir=DIR

Exit status: 0 if nothing is wrong (warnings are printed), 1 if something is.
"""

import argparse
import sys

from g2ajax.data.builders import data_root, make_builder, schema_of
from g2ajax.data.frame_source import open_frames
from g2ajax.data.source import open_dataset
from g2ajax.data.verify import table, verify
from g2ajax.data.verify_frames import frame_table, verify_frames


def main(argv: list[str]) -> int:
    """Runs the command; 0 if the dataset is sound, 1 if not. Raises as `open_dataset`."""
    parser = argparse.ArgumentParser(
        prog="python -m g2ajax verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", required=True, help='such as "agreid" or "agreid/partial"')
    parser.add_argument("--data_dir", help="folder of built datasets")
    parser.add_argument("--manual_dir", help="folder of what you downloaded")
    options = parser.parse_args(argv)
    folders = {"data_dir": options.data_dir, "manual_dir": options.manual_dir}
    builder = make_builder(options.dataset, data_root(options.data_dir))
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
