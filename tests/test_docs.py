"""The notebook's code runs, and the pages name files that exist."""

import json
import pathlib
import re

import pytest

from g2ajax import __main__

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


def test_code_of_the_evaluation_page_runs(capsys):
    text = (ROOT / "docs" / "evaluation.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    for block in blocks:
        exec(block, {})
    assert blocks and len(capsys.readouterr().out.splitlines()) >= 3


@pytest.mark.parametrize("name", ["evaluation", "explanations", "export", "search"])
def test_commands_of_a_page_have_their_arguments(name, capsys):
    text = (ROOT / "docs" / f"{name}.md").read_text()
    for command, rest in re.findall(r"^python -m g2ajax ([\w-]+) (.*)$", text, re.M):
        with pytest.raises(SystemExit):
            __main__.main([command, "--help"])
        known = re.findall(r"--\w+", capsys.readouterr().out)
        assert set(re.findall(r"--\w+", rest)) <= set(known), command


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
)
def test_pages_link_to_files_that_exist(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{page} links to {target}"
