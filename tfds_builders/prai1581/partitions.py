"""Reads PRAI-1581's `partitions.pkl` safely: a pickle could run any code."""

import pathlib
import pickle
from typing import Any

import numpy as np

KEYS = ("trainval_im_names", "test_im_names", "test_marks")
# Names that pickles of lists, dictionaries and NumPy arrays need, in old and new versions.
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}


class Reader(pickle.Unpickler):
    """An unpickler of plain containers, numbers, texts and arrays only."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises UnpicklingError for all names that arrays do not need."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_partitions(path: pathlib.Path) -> dict[str, list[str]]:
    """Reads split → names of its images.

    Raises ValueError for a file of another format, one that names other functions, and unknown marks.
    """
    problem = f"prai1581: {path.name}"
    try:
        with path.open("rb") as file:
            # latin1: arrays and texts of Python 2.
            table = Reader(file, encoding="latin1").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise ValueError(
            f"{problem} is not a table of names ({error}); it was not opened further"
        ) from error
    missing = [key for key in KEYS if not isinstance(table, dict) or key not in table]
    if missing:
        raise ValueError(f"{problem} lacks {', '.join(missing)}")
    train, test, marks = (np.asarray(table[key]).ravel().tolist() for key in KEYS)
    if len(test) != len(marks):
        raise ValueError(f"{problem} has {len(test)} test_im_names, but {len(marks)} test_marks")
    unknown = sorted({str(mark) for mark in marks if mark not in (0, 1)})
    if unknown:
        raise ValueError(
            f"{problem}: test_marks hold {', '.join(unknown)}; expected 0 (query) and 1 (gallery)"
        )
    return {
        "train": [str(name) for name in train],
        "query": [str(name) for name, mark in zip(test, marks, strict=True) if mark == 0],
        "gallery": [str(name) for name, mark in zip(test, marks, strict=True) if mark == 1],
    }
