"""Datasets that come with lists of their images: text files with an image a line."""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Line:
    """An image that a list names."""

    place: str
    """Dataset, file and number of the line, for messages."""
    image_id: str
    path: pathlib.Path
    rest: tuple[str, ...]
    """The words after the path."""


def read_list(
    file: pathlib.Path, root: pathlib.Path, dataset: str, *, below: str = "", strict: bool = True
) -> list[Line]:
    """The lines of a list whose paths are below `root / below`; `/` and `\\` are alike.

    Raises ValueError, naming file and line, for an image that is listed twice and one that is not
    there. Not `strict` (a partial copy), lines of absent images are passed over with a warning.
    """
    found, seen, absent = [], set(), []
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
            found.append(Line(place, image_id, path, tuple(words[1:])))
            continue
        absent.append(number)
        if strict:
            raise ValueError(
                f"{place}: {image_id} is not among the images; an incomplete download? A partial "
                "copy builds with the configuration `partial`"
            )
    if absent:
        warnings.warn(
            f"{dataset}: {file.name}: {len(absent)} lines name images that are not there; they are "
            f"passed over (the first is line {absent[0]})",
            stacklevel=2,
        )
    return found


def read_protocols(
    files: Mapping[str, pathlib.Path],
    root: pathlib.Path,
    protocols: Sequence[Mapping[str, Any]],
    record_of: Callable[[Line, str], dict[str, Any]],
    dataset: str,
    *,
    strict: bool = True,
) -> dict[str, list[dict[str, Any]]]:
    """Queries and gallery of protocols that have a list each: name of the protocol → its list.

    An image in a folder query… is a query, any other is of the gallery. `record_of(line, split)` is
    what `crop` takes but for `protocols`. Raises what `read_list` does, and ValueError for an image
    of another platform than the protocol's.
    """
    splits: dict[str, dict[str, dict[str, Any]]] = {"query": {}, "gallery": {}}
    for index, row in enumerate(protocols):
        for line in read_list(files[row["name"]], root, dataset, strict=strict):
            split = "query" if line.image_id.startswith("query") else "gallery"
            known = splits[split].get(line.image_id)
            record = known or {**record_of(line, split), "protocols": []}
            wanted = row[f"{split}_platform"]
            if wanted not in ("any", record["platform"]):
                raise ValueError(
                    f"{line.place}: {line.image_id} is of a camera of the platform "
                    f"{record['platform']}; the {split} images of {row['name']} are {wanted}"
                )
            record["protocols"].append(index)
            splits[split][line.image_id] = record
    return {split: [rows[name] for name in sorted(rows)] for split, rows in splits.items()}
