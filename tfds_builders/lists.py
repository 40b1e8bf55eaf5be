"""Lists of images: text files with an image on each line."""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Line:
    """An image of a list."""

    place: str
    """Dataset, file and line number, for messages."""
    image_id: str
    path: pathlib.Path
    rest: tuple[str, ...]
    """The words after the path."""


def read_list(
    file: pathlib.Path, root: pathlib.Path, dataset: str, *, below: str = "", strict: bool = True
) -> list[Line]:
    """Reads the lines of a list whose paths are below `root / below`; `/` and `\\` are alike.

    Raises ValueError, naming file and line, for an image that is listed twice or missing. Unless
    `strict` (for a partial copy), missing images are skipped with a warning.
    """
    listed, seen, missing = [], set(), []
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        place = f"{dataset}: {file.name}, line {number}"
        image_id = "/".join(filter(None, (below, words[0].replace("\\", "/"))))
        if image_id in seen:
            raise ValueError(f"{place}: {image_id} is listed twice")
        seen.add(image_id)
        path = root / image_id
        if path.is_file():
            listed.append(Line(place, image_id, path, tuple(words[1:])))
            continue
        missing.append(number)
        if strict:
            raise ValueError(
                f"{place}: {image_id} is not among the images; an incomplete download? A partial "
                "copy builds with the configuration `partial`"
            )
    if missing:
        warnings.warn(
            f"{dataset}: {file.name}: {len(missing)} lines name images that are not there; they are "
            f"passed over (the first is line {missing[0]})",
            stacklevel=2,
        )
    return listed


def read_protocols(
    files: Mapping[str, pathlib.Path],
    root: pathlib.Path,
    protocols: Sequence[Mapping[str, Any]],
    record_of: Callable[[Line, str], dict[str, Any]],
    dataset: str,
    *,
    strict: bool = True,
) -> dict[str, list[dict[str, Any]]]:
    """Reads queries and gallery of protocols with a list each (`files`: protocol → its list).

    Images in folders query… are queries, all others belong to the gallery. `record_of(line, split)`
    returns the arguments of `crop` without `protocols`. Raises what `read_list` raises, and
    ValueError for an image that is not of the protocol's platform.
    """
    splits: dict[str, dict[str, dict[str, Any]]] = {"query": {}, "gallery": {}}
    for index, row in enumerate(protocols):
        for line in read_list(files[row["name"]], root, dataset, strict=strict):
            split = "query" if line.image_id.startswith("query") else "gallery"
            record = splits[split].get(line.image_id)
            record = record or {**record_of(line, split), "protocols": []}
            platform = row[f"{split}_platform"]
            if platform not in ("any", record["platform"]):
                raise ValueError(
                    f"{line.place}: {line.image_id} is of a camera of the platform "
                    f"{record['platform']}; the {split} images of {row['name']} are {platform}"
                )
            record["protocols"].append(index)
            splits[split][line.image_id] = record
    return {split: [rows[name] for name in sorted(rows)] for split, rows in splits.items()}
