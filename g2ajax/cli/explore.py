"""Serves a page on this machine to search a folder with marks and filters."""

import argparse

from g2ajax.apps.explore_galleries import compiled, open_explorer
from g2ajax.apps.explore_server import Server
from g2ajax.apps.search import gallery_files
from g2ajax.cli.opening import open_model


def run(options: argparse.Namespace) -> int:
    """Runs the command until it is stopped. Raises ValueError or OSError when something does not
    fit."""
    if not 0 <= options.port <= 65535:
        raise ValueError(f"--port={options.port}; expected 0 (any free one) to 65535")
    if options.camera:
        compiled(options.camera)
    gallery_files(options.gallery)
    content = open_explorer(open_model(options), options.gallery, options.camera)
    content.warm()
    with Server(content, options.port) as server:
        count, kind = int(content.among.sum()), content.kind
        noun = kind.one if count == 1 else kind.many
        print(f"{count} {noun}; Ctrl-C ends it. Open {server.url}", flush=True)
        server.serve_forever()
    return 0
