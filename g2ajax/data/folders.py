"""The files of a folder and of those in it, through symbolic links too."""

import os
import pathlib

Passed = tuple[pathlib.Path, str]
"""A path that was passed over, and why."""


def files_below(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[Passed]]:
    """All files below a folder, sorted, and the paths that were passed over.

    Hidden files and folders are in neither list.

    Links are followed, and every real folder is read once: one that lies below `folder` under its own
    name, not under a link's. Passed over are links that lead nowhere, to a folder that is read anyway
    or back to `folder` or to one above it, and folders that cannot be opened.
    """
    files: list[pathlib.Path] = []
    passed: list[Passed] = []
    root = pathlib.Path(os.path.realpath(folder))
    read = {root}
    folders, links = [folder], []
    while folders or links:
        if not folders:  # what stands in its own place comes first
            link = links.pop(0)
            target = pathlib.Path(os.path.realpath(link))
            if target == root or target in root.parents:
                passed.append((link, "a link that leads back up"))
            elif target in read:
                passed.append((link, "a link to a folder that is read already"))
            else:
                read.add(target)
                folders.append(link)
            continue
        here = folders.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            passed.append((here, f"cannot be opened: {error.strerror}"))
            continue
        for entry in entries:
            path = here / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not path.exists():
                passed.append((path, "a link that leads nowhere"))
            elif entry.is_symlink() and path.is_dir():
                links.append(path)
            elif entry.is_dir():
                real = pathlib.Path(os.path.realpath(path))
                if real in read:  # only below a link: another link led here first
                    passed.append((path, "a folder that is read already"))
                else:
                    read.add(real)
                    folders.append(path)
            elif entry.is_file():
                files.append(path)
    return sorted(files), sorted(passed)
