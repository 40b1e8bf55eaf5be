"""Makes `explore.webp`, a picture of the explorer's page with a query and two marks.

    g2ajax skyground --layout=market1501 --size=tiny --out=market
    PYTHONPATH=. python docs/screenshot_explore.py --model=runs/demo --gallery=market --row=40 --wrong=8 --height=900

Needs Chromium. `--width=390 --dark` shows a phone's screen in the dark.
"""

import argparse
import pathlib
import tempfile
import threading

from g2ajax.apps.explore_galleries import open_explorer
from g2ajax.apps.explore_server import Server
from g2ajax.models.load import load
from tests.browser import browse

HERE = pathlib.Path(__file__).parent
SETTLED = "!document.getElementById('message').innerText.includes('…')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--gallery", required=True, type=pathlib.Path)
    parser.add_argument("--camera", default="_c([0-9]+)")
    parser.add_argument(
        "--row", type=int, default=0, help="the image that is searched, of the first 64"
    )
    parser.add_argument(
        "--right", type=int, default=1, help="place of the image marked right, from 0"
    )
    parser.add_argument(
        "--wrong", type=int, default=5, help="place of the image marked wrong, from 0"
    )
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "explore.webp")
    args = parser.parse_args()
    content = open_explorer(load(args.model), args.gallery, args.camera)
    content.warm()
    with (
        Server(content) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browse(server.url, profile) as page:
            page.size(args.width, args.height, dark=args.dark)
            page.wait("document.querySelectorAll('.card').length")
            page.run(f"document.querySelectorAll('[data-act=query]')[{args.row}].click()")
            page.wait(f"document.querySelector('.acts [data-act=right]') && {SETTLED}")
            for kind, place in (("right", args.right), ("wrong", args.wrong)):
                page.run(f"document.querySelectorAll('.acts [data-act={kind}]')[{place}].click()")
            page.run("document.activeElement.blur()")
            page.picture(args.out)
        server.shutdown()


if __name__ == "__main__":
    main()
