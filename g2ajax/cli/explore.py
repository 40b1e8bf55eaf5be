"""Serves a page on this machine to search a folder of crops with marks and filters."""

import argparse

from g2ajax.apps import search
from g2ajax.apps.explore import compiled, make_explorer
from g2ajax.apps.explore_server import Server
from g2ajax.cli.opening import open_model


def run(options: argparse.Namespace) -> int:
    """Runs the command until it is stopped. Raises ValueError or OSError when something does not
    fit."""
    if not 0 <= options.port <= 65535:
        raise ValueError(f"--port={options.port}; expected 0 (any free one) to 65535")
    if options.camera:
        compiled(options.camera)
    search.files_of(options.gallery)
    model = open_model(options)
    gallery = search.open_gallery(model, options.gallery)
    for path, why in gallery.skipped:
        print(f"skipped: {path} ({why})")
    content = make_explorer(gallery, options.gallery, options.camera)
    away = int((~content.among).sum())
    if away:
        print(f"{away} images are links that leave {options.gallery} and are not shown")
    content.warm()
    with Server(content, options.port) as server:
        print(f"{int(content.among.sum())} images; Ctrl-C ends it. Open {server.url}", flush=True)
        server.serve_forever()
    return 0
