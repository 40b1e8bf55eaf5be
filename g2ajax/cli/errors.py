"""Errors that end a command, as one line each."""

EXPECTED = (ValueError, OSError)
"""Errors that end a command with a sentence: something does not fit, or the system refuses it."""


def sentence(error: BaseException) -> str:
    """The error in one line; a system error names the path and the reason."""
    if isinstance(error, OSError) and error.strerror:
        paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
        return ": ".join([" -> ".join(paths), error.strerror] if paths else [error.strerror])
    return str(error)
