"""Embeddings of a folder of images as a Parquet file, computed by one machine or by many.

Parts are written as they are computed, each whole or not at all, and joined at the end: a killed process
continues where it stopped, and nothing is embedded twice.
"""

import dataclasses
import importlib
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm

from g2ajax.apps.search import NOT_AN_IMAGE, batched, check_alone, files_of, read_files
from g2ajax.models.model import Model
from g2ajax.report.files import naming, shown

ROWS = 1024
"""Images in a part."""


@dataclasses.dataclass(frozen=True)
class Embedded:
    """The file that was written, and how many embeddings it holds."""

    path: pathlib.Path
    rows: int
    new: int
    """Images embedded by this call; the others were there."""
    skipped: tuple[tuple[pathlib.Path, str], ...]
    """Files that are no images, and why."""


def embed_folder(
    model: Model, folder: pathlib.Path, out: pathlib.Path, *, shard: tuple[int, int] = (0, 1)
) -> Embedded:
    """Embeds the images below a folder into `out`: columns `path`, `sha256` and `embedding`.

    `shard` (i, n): every n-th file, from the i-th on; each shard has a file of its own. An image whose
    path and content are in `out` already is not embedded again.

    Raises ValueError without pyarrow, for embeddings of another model in `out`, and for a folder
    without images.
    """
    parquet = _parquet()
    check_alone(model.method)
    skipped: list[tuple[pathlib.Path, str]] = []
    files = files_of(folder, skipped)[shard[0] :: shard[1]]
    parts = out.with_name(out.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    for unfinished in parts.glob("*.partial"):
        unfinished.unlink()
    written = ([out] if out.is_file() else []) + sorted(parts.glob("*.parquet"))
    done: set[tuple[str, str]] = set()
    for path in written:
        table = _read(parquet, path, model)
        done |= set(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    fresh = (
        (name, key, image)
        for name, key, image in _images(model, folder, files, skipped)
        if (name, key) not in done
    )
    new = 0
    with tqdm.tqdm(unit="image", delay=3, disable=not sys.stderr.isatty()) as bar:
        for rows in batched(fresh, ROWS):
            new += _write_part(parquet, parts, rows, model)
            bar.update(len(rows))
    if not done and not new:
        raise ValueError(f"{folder} has no images ({len(skipped)} other files)")
    return Embedded(out, _join(parquet, out, parts), new, tuple(skipped))


def _images(
    model: Model,
    folder: pathlib.Path,
    files: tuple[pathlib.Path, ...],
    skipped: list[tuple[pathlib.Path, str]],
) -> Iterator[tuple[str, str, np.ndarray]]:
    for file, key, image in read_files(model, files, {}):
        if image is None:
            skipped.append((file, NOT_AN_IMAGE))
        else:
            yield shown(file.relative_to(folder).as_posix()), key, image


def _write_part(
    parquet: Any,
    parts: pathlib.Path,
    rows: list[tuple[str, str, np.ndarray]],
    model: Model,
) -> int:
    import pyarrow

    names, keys, images = zip(*rows, strict=True)
    features = model.embed(np.stack(images), progress=False)
    column = pyarrow.FixedSizeListArray.from_arrays(
        pyarrow.array(features.reshape(-1)), features.shape[1]
    )
    table = pyarrow.table({"path": list(names), "sha256": list(keys), "embedding": column})
    table = table.replace_schema_metadata(
        {"model": model.key, "origin": model.card.origin, "metric": model.method.metric}
    )
    number = 1 + max((int(path.stem) for path in parts.glob("*.parquet")), default=-1)
    partial = parts / f"{number:08d}.parquet.partial"
    with naming(partial):
        parquet.write_table(table, partial)
    partial.replace(parts / f"{number:08d}.parquet")
    return len(rows)


def _read(parquet: Any, path: pathlib.Path, model: Model) -> Any:
    """The paths and hashes of a file. Raises ValueError for one that this model has not written."""
    try:
        table = parquet.read_table(path, columns=["path", "sha256"])
    except Exception as error:  # a damaged file makes pyarrow raise errors of several kinds
        raise ValueError(
            f"{path} is no Parquet file of embeddings ({error}); move it away, or name another --out"
        ) from None
    key = (table.schema.metadata or {}).get(b"model", b"").decode()
    if key != model.key:
        raise ValueError(
            f"{path} has embeddings of another model or size ({key or 'unknown'}, this one: {model.key}); "
            "name another --out"
        )
    return table


def _join(parquet: Any, out: pathlib.Path, parts: pathlib.Path) -> int:
    """Joins all parts into one file; a path whose content changed keeps its newest row."""
    import pyarrow

    paths = ([out] if out.is_file() else []) + sorted(parts.glob("*.parquet"))
    tables = [parquet.read_table(path) for path in paths]
    table = pyarrow.concat_tables([one.cast(tables[0].schema) for one in tables])
    last = {name: row for row, name in enumerate(table["path"].to_pylist())}
    table = table.take(sorted(last.values()))
    partial = out.with_name(out.name + ".partial")
    with naming(partial):
        parquet.write_table(table, partial)
    partial.replace(out)
    shutil.rmtree(parts)
    return len(table)


def _parquet() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(
            "writing Parquet needs the package pyarrow; `pip install 'g2ajax[parquet]'`"
        ) from None
