"""Opening of the model that a command names, and the folder of its results."""

import argparse
import os
import pathlib
from typing import Any

from g2ajax.models.load import load
from g2ajax.models.model import Model
from g2ajax.training.startup import keep_programs


def open_model(options: argparse.Namespace, **more: Any) -> Model:
    """The model of the arguments. Raises ValueError or FileNotFoundError where none can be opened."""
    keep_programs("auto")
    return load(
        options.model, architecture=options.architecture, checkpoint=options.checkpoint, **more
    )


def folder_of(model: Model, asked: pathlib.Path | None, name: str) -> pathlib.Path:
    """The folder of a command's results: `asked` if given, else `name` in that of the model,
    or, for a single file, in the present one.

    Called before anything is computed: raises ValueError for one that cannot be written.
    """
    folder = asked or (model.home or pathlib.Path()) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be made: {error.strerror}; name another folder with --out"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{folder} cannot be written; name another folder with --out")
    return folder
