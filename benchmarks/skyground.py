"""SkyGround crops that one core draws and encodes in a second.

python benchmarks/skyground.py --size=small --count=200
"""

import argparse
import time

from g2ajax.synthetic.world import SIZES, World, encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="small", choices=list(SIZES))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    world = World(options.size, options.seed)
    shots = world.shots("train")
    shots = shots[:: max(1, len(shots) // options.count)][: options.count]
    encode(world, shots[0])
    for name, camera in (("aerial", 0), ("ground", 1)):
        views = [shot for shot in shots if shot.camera == camera]
        start = time.perf_counter()
        size = sum(len(encode(world, shot)) for shot in views)
        seconds = time.perf_counter() - start
        print(
            f"{name}: {len(views) / seconds:.0f} crops/s, {size / len(views) / 1024:.1f} kB a crop"
        )


if __name__ == "__main__":
    main()
