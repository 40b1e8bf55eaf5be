"""Makes a model's folder of a run's checkpoint or of a public file: weights and model.json, no data."""

import argparse

from g2ajax.cli.opening import open_model


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    if options.out.is_dir() and any(options.out.iterdir()):
        raise ValueError(f"--out={options.out} is not empty; name another folder")
    model = open_model(options)
    changes = {"name": options.name, "licence": options.licence}
    folder = model.save(
        options.out,
        classifier=not options.without_classifier,
        **{k: v for k, v in changes.items() if v is not None},
    )
    megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"written: {folder} ({megabytes:.1f} MB); g2ajax.load({str(folder)!r}) opens it anywhere")
    return 0
