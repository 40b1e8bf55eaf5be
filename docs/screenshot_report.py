"""Makes a picture of a run's report: its first screen, or the screen that begins at an element of the page.

    PYTHONPATH=. python docs/screenshot_report.py --report=runs/demo/report.html --out=docs/report.webp
    PYTHONPATH=. python docs/screenshot_report.py --report=runs/demo/report.html --at='#queries' --out=docs/report_queries.webp

Needs Chromium. `--width=390 --dark` shows a phone's screen in the dark.
"""

import argparse
import pathlib
import tempfile

from tests.browser import browse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--report", required=True, type=pathlib.Path)
    parser.add_argument("--at", default="body", help="CSS selector of the element at the top")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browse(args.report.resolve().as_uri(), profile) as page,
    ):
        page.size(args.width, args.height, dark=args.dark)
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        page.wait("document.readyState === 'complete'")
        page.run(f"document.querySelector({args.at!r}).scrollIntoView()")
        page.picture(args.out)


if __name__ == "__main__":
    main()
