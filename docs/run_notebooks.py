"""Runs notebooks from top to bottom and stores their output: printed text without this machine's folders, and figures as PNG.

MPLBACKEND=agg python docs/run_notebooks.py docs/compare.ipynb
"""

import base64
import contextlib
import io
import json
import os
import pathlib
import sys
from typing import Any

import matplotlib.pyplot as plt


def run(path: pathlib.Path) -> None:
    """Runs a notebook and writes it with its outputs; an exception ends it and nothing is written."""
    content = json.loads(path.read_text())
    names: dict[str, Any] = {}
    count = 0
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            cell["outputs"] = outputs("".join(cell["source"]), names)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def outputs(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a cell in the notebook's format."""
    plt.close("all")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(source, names)
    stored: list[dict[str, Any]] = []
    if text := printed.getvalue():
        folder = os.environ.get("TFDS_DATA_DIR") or str(pathlib.Path.home() / "tensorflow_datasets")
        lines = text.replace(folder, "~/tensorflow_datasets").splitlines(keepends=True)
        stored.append({"output_type": "stream", "name": "stdout", "text": lines})
    for number in plt.get_fignums():
        buffer = io.BytesIO()
        plt.figure(number).savefig(buffer, format="png", dpi=72, bbox_inches="tight")
        data = {"image/png": base64.b64encode(buffer.getvalue()).decode()}
        stored.append({"output_type": "display_data", "metadata": {}, "data": data})
    return stored


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(pathlib.Path(name))
