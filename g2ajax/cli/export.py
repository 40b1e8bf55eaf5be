"""Writes a run's embedding as one file (StableHLO or ONNX), checked against the method.

python -m g2ajax export --workdir=runs/agreid_vit --format=stablehlo --part=image
python -m g2ajax export --workdir=runs/irra --format=onnx --part=text --out=exported
python -m g2ajax export --workdir=runs/agreid_vit --format=onnx --resize
"""

import argparse
import pathlib

from g2ajax.apps.export import export_run


def main(argv: list[str]) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m g2ajax export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of the run")
    parser.add_argument("--format", choices=("stablehlo", "onnx"), default="stablehlo")
    parser.add_argument("--part", choices=("image", "text"), default="image")
    parser.add_argument(
        "--resize",
        action="store_true",
        help="the program takes images of any size and resizes them",
    )
    parser.add_argument("--checkpoint", choices=("best", "latest"), default="best")
    parser.add_argument("--out", type=pathlib.Path, help="folder; default: WORKDIR/export")
    options = parser.parse_args(argv)
    written = export_run(
        options.workdir,
        options.out or options.workdir / "export",
        part=options.part,
        format=options.format,
        checkpoint=options.checkpoint,
        resize=options.resize,
    )
    for rows, difference in written.differences.items():
        print(f"batch of {rows}: largest difference {difference:.1e}")
    if written.difference_resized is not None:
        print(f"resized images: largest difference {written.difference_resized:.1e}")
    megabytes = written.program.stat().st_size / 1e6
    print(f"written: {written.program} ({megabytes:.1f} MB), {written.description}")
    return 0
