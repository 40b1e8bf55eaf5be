"""Pages and tables as files: whole or not at all, whatever their text."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


def shown(text: object) -> str:
    """The text with a question mark in the place of what UTF-8 cannot say, such as a byte of a file
    name in another encoding."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


@contextlib.contextmanager
def naming(file: pathlib.Path) -> Iterator[None]:
    """Names the file in errors of the system that do not, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(file)
        raise


def write_whole(file: pathlib.Path, content: str | bytes) -> None:
    """Writes a file of which no reader ever sees half.

    Raises OSError, naming the file, if it cannot be written; what was there before stays.
    """
    data = shown(content).encode() if isinstance(content, str) else content
    partial = file.with_name(f".{os.getpid()}.partial")
    with naming(file):
        try:
            partial.write_bytes(data)
            partial.replace(file)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
