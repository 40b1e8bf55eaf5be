"""The folder of a run: locked by one run at a time, tied to one configuration."""

import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from g2ajax.config import flatten

# Fields for the place and speed of a run, or for further scores at its end; they may change between
# start and resume.
FREE_FIELDS = (
    "name",
    "data.dir",
    "data.manual_dir",
    "data.residency",
    "data.num_workers",
    "data.num_threads",
    "log",
    "checkpoint",
    "cache",
    "mesh",
    "resume",
    "evaluate.rankings",
    "evaluate.rerank",
    "evaluate.expansion",
    "evaluate.reported_queries",
)


@contextmanager
def hold(workdir: pathlib.Path, *, process: int = 0) -> Iterator[None]:
    """Makes `workdir` and keeps other runs out of it until the run ends, however it ends.

    Raises ValueError when it cannot be written, or is held by another run.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / f".lock-{process}", "a+")
    except OSError as error:
        raise ValueError(
            f"cannot write to the workdir {workdir}: {error}; name another one with --workdir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise ValueError(
                f"the workdir {workdir} is in use by process {lock.read().strip() or 'unknown'}; "
                "wait for that run, or name another --workdir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def check_space(workdir: pathlib.Path, needed_bytes: int) -> None:
    """Raises ValueError when the disk of `workdir` cannot take `needed_bytes`."""
    free = shutil.disk_usage(workdir).free
    if free < needed_bytes:
        raise ValueError(
            f"the disk of {workdir} has {free / 2**20:.0f} MiB free, but the checkpoints of this "
            f"run need about {needed_bytes / 2**20:.0f} MiB; free some space or name another "
            "--workdir"
        )


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as one dictionary with dotted names; tuples become lists, as in JSON."""
    return {name: _as_lists(value) for name, value in flatten(config) if value != {}}


def _as_lists(value: Any) -> Any:
    """A value as JSON gives it back: every tuple is a list, also inside another."""
    return [_as_lists(item) for item in value] if isinstance(value, tuple | list) else value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each field that differs and may not."""
    old, new = flat_config(old), flat_config(new)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        free = any(name == field or name.startswith(field + ".") for field in FREE_FIELDS)
        before, after = old.get(name, "absent"), new.get(name, "absent")
        if before != after and not free:
            lines.append(f"  {name}: {before!r} -> {after!r}")
    return lines


def settle_config(
    workdir: pathlib.Path,
    config: Mapping[str, Any],
    *,
    write: bool,
    resolve: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> None:
    """Stores the configuration of a new run, or compares that of a resumed one.

    Both are compared after `resolve`: a missing field has its default, so that a configuration of
    an earlier version, which states fewer, is equal.

    Raises ValueError with the difference when the folder's run was started with other settings, and
    with the reason for a stored configuration that this version does not understand.
    """
    path = workdir / "config.json"
    if path.exists():
        earlier = json.loads(path.read_text())
        try:
            before = resolve(earlier)
        except ValueError as error:
            raise ValueError(
                f"{path} was written by another version of g2ajax and cannot be resumed: {error}; "
                "name another --workdir"
            ) from error
        lines = differences(before, resolve(config))
        if lines:
            raise ValueError(
                f"{workdir} holds a run of another configuration; what differs:\n"
                + "\n".join(lines)
                + "\nresume it with its own settings, or name another --workdir"
            )
    elif write:
        replace_text(path, json.dumps(config, indent=2) + "\n")


def stored_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The configuration of the run in `workdir`. Raises FileNotFoundError without one."""
    path = workdir / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{workdir} holds no run ({path} is missing)")
    return json.loads(path.read_text())


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a file so that a reader, or a kill, never sees half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
