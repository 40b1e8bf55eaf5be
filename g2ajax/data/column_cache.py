"""The columns of a built split, kept beside its records so that they are scanned once."""

import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np

Columns = dict[str, np.ndarray]


def columns_of(
    folder: pathlib.Path,
    file_name: str,
    scan: Callable[[], Columns],
    complete: Callable[[Columns], bool],
) -> Columns:
    """Columns cached in `file_name` of a built dataset's folder, or those from `scan`, which are
    then stored there.

    A cache of another build, one whose names are not `complete` (another version), or an unreadable
    one is ignored.
    """
    cache = folder / file_name
    build_time = (folder / "dataset_info.json").stat().st_mtime_ns
    cached = _stored(cache)
    if cached is not None and int(cached.pop("built", -1)) == build_time and complete(cached):
        return cached
    columns = scan()
    try:
        partial = cache.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, built=build_time, **columns)
        os.replace(partial, cache)
    except OSError:  # a read-only data folder: the scan is repeated at the next opening
        pass
    return columns


def _stored(cache: pathlib.Path) -> Columns | None:
    try:
        # Opened here, because numpy leaves a broken archive open.
        with cache.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
