"""Writes SkyGround, the embedded aerial-ground world, as files."""

import argparse
import sys

from g2ajax.config import nearest
from g2ajax.synthetic.frame_layouts import FRAME_LAYOUTS
from g2ajax.synthetic.frames import FrameWorld
from g2ajax.synthetic.layouts import LAYOUTS
from g2ajax.synthetic.sheet import contact_sheet, frame_sheet, tracklet_sheet
from g2ajax.synthetic.tracklet_layouts import TRACKLET_LAYOUTS
from g2ajax.synthetic.tracklets import TRACKLET_SIZES, TrackletWorld
from g2ajax.synthetic.world import SIZES, World


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    layouts = {**LAYOUTS, **FRAME_LAYOUTS, **TRACKLET_LAYOUTS}
    walking = options.tracklets or options.layout in TRACKLET_LAYOUTS
    sizes = TRACKLET_SIZES if walking else SIZES
    if options.size not in sizes:
        raise ValueError(f"no size {options.size!r}; {nearest(options.size, sizes)}")
    if options.layout and options.layout not in layouts:
        raise ValueError(f"no layout {options.layout!r}; {nearest(options.layout, layouts)}")
    framed = options.frames or options.layout in FRAME_LAYOUTS
    for flag, own in (("frames", FRAME_LAYOUTS), ("tracklets", TRACKLET_LAYOUTS)):
        if getattr(options, flag) and options.layout and options.layout not in own:
            print(
                f"--layout={options.layout} is not of --{flag}, whose layouts are {', '.join(own)}",
                file=sys.stderr,
            )
            return 2
    kind = TrackletWorld if walking else FrameWorld if framed else World
    world = kind(options.size, options.seed)
    if options.sheet:
        draw = tracklet_sheet if walking else frame_sheet if framed else contact_sheet
        sheet = draw(world)
        sheet.save(options.sheet, optimize=True)
        print(f"wrote {options.sheet}")
    if options.layout:
        if not options.out:
            print("--layout needs --out=DIR, the folder to write into", file=sys.stderr)
            return 2
        write = layouts[options.layout]
        count = write(world, options.out, workers=options.workers)
        written = "tracklets" if walking else "frames" if framed else "images"
        print(f"wrote {count} {written} of {len(world.people)} people")
    if not (options.sheet or options.layout):
        print("nothing to do: pass --layout=agreid --out=DIR, or --sheet=FILE", file=sys.stderr)
        return 2
    return 0
