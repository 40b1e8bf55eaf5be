"""What a command says in one line when something does not fit."""

EXPECTED = (ValueError, OSError)
"""Errors that end a command with a sentence: what does not fit, and what the system refuses."""


def sentence(error: BaseException) -> str:
    """The error in one line; one of the system names the path and the reason."""
    if isinstance(error, OSError) and error.strerror:
        paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
        return ": ".join([" -> ".join(paths), error.strerror] if paths else [error.strerror])
    return str(error)
