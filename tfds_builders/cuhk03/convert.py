"""Writes the images and test sets of cuhk-03.mat, which is HDF5, as files; needs h5py.

python -m tfds_builders.cuhk03.convert DIR/cuhk03_release/cuhk-03.mat
"""

import csv
import pathlib
import sys

import numpy as np
from PIL import Image

from tfds_builders.cuhk03.protocols import COLUMNS, NEW, TESTSETS


def convert(path: pathlib.Path) -> dict[str, int]:
    """Writes PNG files and `testsets.csv` beside the file; returns kind → number of items.

    The ten images of a person are five from each view of a camera pair; empty ones are left out.
    MATLAB stores arrays transposed. Raises ImportError without h5py and ValueError for a file without
    the expected tables.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "cuhk-03.mat is an HDF5 file; converting it needs h5py: pip install h5py"
        ) from error
    counts = {}
    with h5py.File(path) as file:
        missing = [name for name in (*NEW, "testsets") if name not in file]
        if missing:
            raise ValueError(
                f"{path} holds {', '.join(file) or 'nothing'}, but not {', '.join(missing)}; is it "
                "cuhk-03.mat of the release cuhk03_release?"
            )
        for boxes in NEW:
            out = path.parent / f"images_{boxes}"
            out.mkdir(exist_ok=True)
            counts[boxes] = 0
            for pair, people in enumerate(file[boxes][:].ravel(), 1):
                for person, images in enumerate(file[people][:].T, 1):
                    for index, reference in enumerate(images, 1):
                        pixels = np.asarray(file[reference]).T
                        if pixels.ndim == 3 and pixels.size:
                            view = 1 if index <= 5 else 2
                            name = f"{pair}_{person:03d}_{view}_{index:02d}.png"
                            Image.fromarray(pixels.astype(np.uint8)).save(out / name)
                            counts[boxes] += 1
        sets = file["testsets"][:].ravel()
        with (path.parent / TESTSETS).open("w", newline="") as text:
            table = csv.writer(text, lineterminator="\n")
            table.writerow(COLUMNS)
            for split, reference in enumerate(sets):
                table.writerows([split, int(p), int(n)] for p, n in file[reference][:].T)
        counts["test sets"] = len(sets)
    return counts


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for kind, count in convert(pathlib.Path(sys.argv[1])).items():
        print(f"{kind}: {count}")
