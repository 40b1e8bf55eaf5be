"""Lists the public files of weights of the field, and checks a local file against the list."""

import argparse
import pathlib

from g2ajax.interop.load import InitOptions, open_weights
from g2ajax.models.architectures import ARCHITECTURES, choose
from g2ajax.models.public_files import PUBLIC_FILES, PublicFile, known_file


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    if options.check:
        return _check(options.check)
    if options.architectures:
        width = max(map(len, ARCHITECTURES))
        for name, one in ARCHITECTURES.items():
            print(f"{name:{width}}  {one.title}")
        return 0
    for one in PUBLIC_FILES:
        print(_described(one))
    print(f"{len(PUBLIC_FILES)} files; scores are their publishers' and were not measured here")
    return 0


def _described(one: PublicFile) -> str:
    lines = [one.name, f"  architecture  {one.architecture or '(a starting point of training)'}"]
    size = f", {one.megabytes} MB" if one.megabytes else ""
    lines += [f"  from          {one.where}{size}", f"  licence       {one.licence}"]
    if one.trained_on:
        lines.append(f"  trained on    {one.trained_on}")
    if one.published:
        lines.append(f"  published     {one.published}")
    if one.sha256:
        lines.append(f"  sha256        {one.sha256}{'...' if len(one.sha256) < 64 else ''}")
    return "\n".join(lines) + "\n"


def _check(path: pathlib.Path) -> int:
    one, sentence = known_file(path)
    print(sentence)
    file = open_weights(InitOptions(file=str(path)))
    print(f"{len(file.tensors)} tensors, {file.family.name} ({file.why})")
    try:
        print(f"architecture: {choose(file)}")
    except ValueError as error:
        print(error)
    if one:
        print("\n" + _described(one))
    return 0
