"""The notebook's code runs, and the pages name files that exist."""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def test_notebook_runs(capsys):
    cells = json.loads((ROOT / "docs" / "evaluate.ipynb").read_text())["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    printed = capsys.readouterr().out.splitlines()
    scores = [line for line in printed if "mAP" in line]
    assert [line[:3] for line in scores] == ["A2G", "G2A"]
    assert names["result"].mAP > 0.2


@pytest.mark.parametrize("page", ["README.md", "docs/datasets.md", "docs/skyground.md"])
def test_pages_link_to_files_that_exist(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{page} links to {target}"
