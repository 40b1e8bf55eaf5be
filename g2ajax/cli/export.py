"""Writes a model's embedding as one file (StableHLO or ONNX), checked against the model."""

import argparse

from g2ajax.apps.export import check_packages, export
from g2ajax.cli.opening import folder_of, open_model


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    check_packages(options.format)
    model = open_model(options, dtype="float32")
    written = export(
        model,
        folder_of(model, options.out, "export"),
        part=options.part,
        format=options.format,
        resize=options.resize,
    )
    for rows, difference in written.differences.items():
        print(f"batch of {rows}: largest difference {difference:.1e}")
    if written.difference_resized is not None:
        print(f"resized images: largest difference {written.difference_resized:.1e}")
    megabytes = written.program.stat().st_size / 1e6
    print(f"written: {written.program} ({megabytes:.1f} MB), {written.description}")
    return 0
