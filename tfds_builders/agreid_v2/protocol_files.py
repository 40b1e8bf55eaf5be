"""Members of AG-ReID.v2's four protocols: from its text files, or by a rule that replaces them."""

import pathlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FILES = {
    "A2C": "exp1_aerial_to_cctv.txt",
    "A2W": "exp2_aerial_to_wearable.txt",
    "C2A": "exp4_cctv_to_aerial.txt",
    "W2A": "exp5_wearable_to_aerial.txt",
}
SIDES = {"A2C": ("C0", "C3"), "A2W": ("C0", "C2"), "C2A": ("C3", "C0"), "W2A": ("C2", "C0")}
"""Protocol → camera of its queries, camera of its gallery."""

Members = dict[str, set[str]]
"""Protocol → image_ids of its queries and of its gallery."""


def find_files(root: pathlib.Path) -> dict[str, pathlib.Path] | None:
    """Protocol → its file, in `root` or beside it; None if there are none.

    Raises FileNotFoundError if only some exist: protocols from files and by the rule would be two
    definitions in one table.
    """
    paths = {}
    for name, file in FILES.items():
        for place in (root / file, root.parent / file):
            if place.is_file():
                paths[name] = place
                break
    if not paths:
        return None
    missing = [file for name, file in FILES.items() if name not in paths]
    if missing:
        raise FileNotFoundError(
            f"agreid_v2: the protocol files {', '.join(missing)} are neither in {root} nor beside "
            f"it, but {', '.join(path.name for path in paths.values())} are; put all four there, or "
            "none to form the protocols from the identities"
        )
    return paths


def read_members(
    files: Mapping[str, pathlib.Path],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    strict: bool = True,
) -> Members:
    """Reads the files: a line is query/<identity>/<image>.jpg or gallery/<identity>/<image>.jpg.

    Raises ValueError, naming file and line, for a line of another form, an image that is not of the
    protocol's camera, a missing image, and a file without queries or gallery. Unless `strict` (for a
    partial copy), missing images are skipped with a warning.
    """
    cameras = {
        record["image_id"]: record["camera_raw"]
        for split in ("query", "gallery")
        for record in splits[split]
    }
    members: Members = {}
    for protocol, path in files.items():
        sides = dict(zip(("query", "gallery"), SIDES[protocol], strict=True))
        members[protocol], missing = set(), []
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            image_id = line.strip().replace("\\", "/")
            if not image_id:
                continue
            place = f"agreid_v2: {path.name}, line {number}: {image_id}"
            role = image_id.split("/")[0]
            if role not in sides or image_id.count("/") != 2:
                raise ValueError(
                    f"{place} is not of the form query/<identity>/<image>.jpg or "
                    "gallery/<identity>/<image>.jpg"
                )
            if image_id not in cameras:
                missing.append(number)
                if strict:
                    raise ValueError(
                        f"{place} is not among the images; an incomplete download? A partial copy "
                        "builds with the configuration `partial`"
                    )
                continue
            if cameras[image_id] != sides[role]:
                raise ValueError(
                    f"{place} is of camera {cameras[image_id]}; the {role} images of {protocol} "
                    f"are of {sides[role]}"
                )
            members[protocol].add(image_id)
        empty = [side for side in sides if not any(i.startswith(side) for i in members[protocol])]
        if empty and strict:
            raise ValueError(f"agreid_v2: {path.name} names no {' and no '.join(empty)} image")
        if missing:
            warnings.warn(
                f"agreid_v2: {path.name}: {len(missing)} lines name images that are not there; they "
                f"are passed over (the first is line {missing[0]})",
                stacklevel=2,
            )
    return members


def members_by_rule(splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> Members:
    """Selects images of the identities that both cameras of a protocol saw, as the files do.

    An identity counts as seen in queries or gallery. Warns that the rule is used.
    """
    warnings.warn(
        f"agreid_v2: none of the protocol files {', '.join(FILES.values())} is there; the protocols "
        "are formed from the test images: of each protocol's two cameras, the identities seen by "
        "both. The published files are the definition: put them in the folder if you have them",
        stacklevel=2,
    )
    seen = {
        camera: _identities(splits["query"], camera) | _identities(splits["gallery"], camera)
        for camera in ("C0", "C2", "C3")
    }
    members: Members = {}
    for protocol, (query, gallery) in SIDES.items():
        both = seen[query] & seen[gallery]
        members[protocol] = {
            record["image_id"]
            for split, camera in (("query", query), ("gallery", gallery))
            for record in splits[split]
            if record["camera_raw"] == camera and record["identity"] in both
        }
    return members


def _identities(records: Iterable[Mapping[str, Any]], camera: str) -> set[int]:
    return {record["identity"] for record in records if record["camera_raw"] == camera}
