"""TFDS builders of `tfds_builders`: finds one by name, builds it if missing, opens its records."""

import contextlib
import functools
import importlib
import io
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from g2ajax.config import nearest

PLATFORMS = ("aerial", "ground", "wearable")
"""Platforms by their codes in the records."""
SAY_SECONDS = 5.0
"""Time between two lines about a dataset that is being built."""


def protocol_column(dataset: str, protocols: Sequence[Mapping[str, Any]], name: str) -> int:
    """The index of a protocol of a dataset. Raises ValueError for an unknown protocol."""
    names = [row["name"] for row in protocols]
    if name not in names:
        raise ValueError(f"{dataset} has no protocol {name!r}; {nearest(name, names)}")
    return names.index(name)


def ensure_built(
    builder: Any, name: str, root: pathlib.Path, *, manual_dir: str | None, build: bool
) -> Any:
    """Builds a dataset if it is missing, or if it was built from other files than those in
    `manual_dir`; returns its builder. Raises as `source.open_dataset`.
    """
    manual = pathlib.Path(os.path.expanduser(manual_dir or root / "downloads" / "manual"))
    folder = pathlib.Path(builder.data_dir)
    if (folder / "dataset_info.json").exists():
        # Builders of a user's own files say what they were built from; others have counts to check.
        source = getattr(builder, "source_hash", None)
        current = source(manual) if source and build else ""
        if not current or current == (builder.info.metadata or {}).get("source"):
            return builder
        print(f"{name}: the files in {manual} are not those it was built from; building it again")
        shutil.rmtree(folder)
        records.cache_clear()
        builder = make_builder(name, root)
    elif not build:
        raise FileNotFoundError(f"{name} is not built in {root}")
    _build(builder, manual)
    return builder


def data_root(data_dir: str | None) -> pathlib.Path:
    """The folder of built datasets."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(os.path.expanduser(folder))


def schema_of(builder: Any) -> str:
    """The kind of a builder's records: "crops", "frames" or "tracklets"."""
    return (builder.info.metadata or {}).get("schema", "crops")


def make_builder(name: str, data_dir: pathlib.Path) -> Any:
    """The TFDS builder of `name`, with its configuration after a slash.

    A dotted name is a folder outside `tfds_builders`: `my_folder.my_set` has its `Builder` in
    `my_folder/my_set/my_set_dataset_builder.py`. Raises ValueError for an unknown name.
    """
    dataset, _, config = name.partition("/")
    builder = _builder_class(dataset)
    configs = list(builder.builder_configs)
    if config and config not in configs:
        raise ValueError(f"{dataset} has no configuration {config!r}; {nearest(config, configs)}")
    return builder(data_dir=str(data_dir.absolute()), **({"config": config} if config else {}))


def names() -> list[str]:
    """The names of the datasets of this package."""
    import tfds_builders

    package = pathlib.Path(tfds_builders.__file__).parent
    return sorted(p.parent.name for p in package.glob("*/*_dataset_builder.py"))


def _builder_class(dataset: str) -> Any:
    datasets = names()
    if "." not in dataset and dataset not in datasets:
        raise ValueError(f"no dataset {dataset!r}; {nearest(dataset, datasets)}")
    folder = dataset if "." in dataset else f"tfds_builders.{dataset}"
    module = f"{folder}.{folder.rpartition('.')[2]}_dataset_builder"
    try:
        return importlib.import_module(module).Builder
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise ValueError(
            f"dataset {dataset!r}: Python finds no {module} ({error}); is its folder in PYTHONPATH?"
        ) from None


def _build(builder: Any, manual_dir: pathlib.Path) -> None:
    import tensorflow_datasets as tfds  # late, as in `records`

    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if instructions and not (manual_dir.is_dir() and any(manual_dir.iterdir())):
        raise FileNotFoundError(
            f"{builder.name} is neither built in {builder.data_dir} nor downloaded in {manual_dir}.\n"
            f"{instructions}\nPut it below {manual_dir}, or say where it is with "
            "--config.data.manual_dir=..."
        )
    settings = {"manual_dir": str(manual_dir.absolute())} if instructions else {}
    counts: dict[str, int] = {}
    started, own = time.monotonic(), builder._split_generators
    name = "/".join(filter(None, (builder.name, getattr(builder.builder_config, "name", ""))))
    say = functools.partial(print, file=sys.stdout, flush=True)  # as it is before TFDS is silenced
    # A builder that draws its data says itself how many of how many there are.
    seconds = float("inf") if getattr(builder, "SHOWS_PROGRESS", False) else SAY_SECONDS

    @functools.wraps(own)
    def counted(*args: Any, **kwargs: Any) -> dict[str, Iterator[Any]]:
        splits = own(*args, **kwargs)
        return {
            key: _counted(key, value, counts, name, say, seconds) for key, value in splits.items()
        }

    builder._split_generators = counted
    tfds.disable_progress_bar()
    # What TFDS prints speaks of a download of unknown size; lines of ours take its place.
    say(f"building {name} in {builder.data_dir}")
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**settings))
    parts = ", ".join(f"{key} {count:,}" for key, count in counts.items())
    say(f"built {name}: {parts} ({time.monotonic() - started:.0f} s)")


def _counted(
    split: str,
    records: Iterable[Any],
    counts: dict[str, int],
    name: str,
    say: Callable[[str], None],
    seconds: float,
) -> Iterator[Any]:
    """Passes a split's records on and says every so many seconds how many there were."""
    counts[split], last = 0, time.monotonic()
    for record in records:
        yield record
        counts[split] += 1
        if time.monotonic() - last > seconds:
            last = time.monotonic()
            say(f"building {name}: {split} {counts[split]:,}")


@functools.lru_cache(maxsize=32)
def records(folder: str, split: str) -> Any:
    """The split's data source with undecoded images; opened once a process, never pickled."""
    # Imported here: code that only names columns, as training's options do, works without TFDS.
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    decoders = {"image": tfds.decode.SkipDecoding()} if "image" in builder.info.features else None
    return builder.as_data_source(split=split, decoders=decoders)
