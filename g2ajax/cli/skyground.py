"""Writes SkyGround, the embedded aerial-ground world, as files.

python -m g2ajax skyground --layout=agreid --size=small --out=DIR
python -m g2ajax skyground --layout=g2aps --size=small --out=DIR    (whole frames)
python -m g2ajax skyground --size=small --sheet=sheet.png           (with --frames: of frames)
"""

import argparse
import sys

from g2ajax.synthetic.frame_layouts import FRAME_LAYOUTS
from g2ajax.synthetic.frames import FrameWorld
from g2ajax.synthetic.layouts import LAYOUTS
from g2ajax.synthetic.sheet import contact_sheet, frame_sheet
from g2ajax.synthetic.world import SIZES, World


def main(argv: list[str]) -> int:
    """Runs the command; 0 if something was written, 2 without anything to write."""
    parser = argparse.ArgumentParser(
        prog="python -m g2ajax skyground",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = sorted([*LAYOUTS, *FRAME_LAYOUTS])
    parser.add_argument("--layout", choices=names, help="write the files of this dataset")
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world")
    parser.add_argument("--out", help="folder of the layout")
    parser.add_argument("--workers", type=int, help="processes; default: one a core")
    parser.add_argument("--sheet", metavar="FILE", help="draw a contact sheet instead")
    parser.add_argument("--frames", action="store_true", help="the sheet shows whole frames")
    options = parser.parse_args(argv)
    framed = options.frames or options.layout in FRAME_LAYOUTS
    if options.frames and options.layout in LAYOUTS:
        print(f"--layout={options.layout} is of crops, not of --frames", file=sys.stderr)
        return 2
    world = (FrameWorld if framed else World)(options.size, options.seed)
    if options.sheet:
        sheet = frame_sheet(world) if framed else contact_sheet(world)
        sheet.save(options.sheet, optimize=True)
        print(f"wrote {options.sheet}")
    if options.layout:
        if not options.out:
            print("--layout needs --out=DIR, the folder to write into", file=sys.stderr)
            return 2
        write = {**LAYOUTS, **FRAME_LAYOUTS}[options.layout]
        count = write(world, options.out, workers=options.workers)
        print(f"wrote {count} {'frames' if framed else 'images'} of {len(world.people)} people")
    if not (options.sheet or options.layout):
        print("nothing to do: pass --layout=agreid --out=DIR, or --sheet=FILE", file=sys.stderr)
        return 2
    return 0
