"""Writes SkyGround, the embedded aerial-ground world, as files.

python -m g2ajax skyground --layout=agreid --size=small --out=DIR
python -m g2ajax skyground --size=small --sheet=sheet.png
"""

import argparse
import sys

from g2ajax.synthetic.layouts import LAYOUTS
from g2ajax.synthetic.sheet import contact_sheet
from g2ajax.synthetic.world import SIZES, World


def main(argv: list[str]) -> int:
    """Runs the command; 0 if something was written, 2 if nothing was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m g2ajax skyground",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layout", choices=sorted(LAYOUTS), help="write the files of this dataset")
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world")
    parser.add_argument("--out", help="folder of the layout")
    parser.add_argument("--workers", type=int, help="processes; default: one a core")
    parser.add_argument("--sheet", metavar="FILE", help="draw a contact sheet instead")
    options = parser.parse_args(argv)
    world = World(options.size, options.seed)
    if options.sheet:
        contact_sheet(world).save(options.sheet, optimize=True)
        print(f"wrote {options.sheet}")
    if options.layout:
        if not options.out:
            print("--layout needs --out=DIR, the folder to write into", file=sys.stderr)
            return 2
        count = LAYOUTS[options.layout](world, options.out, workers=options.workers)
        print(f"wrote {count} images of {len(world.people)} people")
    if not (options.sheet or options.layout):
        print("nothing to do: pass --layout=agreid --out=DIR, or --sheet=FILE", file=sys.stderr)
        return 2
    return 0
