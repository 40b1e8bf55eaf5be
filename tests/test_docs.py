"""The notebooks' code runs, and the pages name files that exist."""

import json
import pathlib
import re
import shlex

import matplotlib.pyplot as pyplot
import numpy as np
import pytest
from PIL import Image

import g2ajax
from g2ajax.cli.parsers import PARSERS
from g2ajax.models.load import of_run
from tests.fake_captions import make_captions_dataset
from tests.runs import on_one_device, opens

ROOT = pathlib.Path(__file__).parents[1]


def run_cells(name: str) -> dict:
    """The names that a notebook's code leaves, run on the smallest world."""
    names: dict = {}
    for cell in json.loads((ROOT / "docs" / name).read_text())["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"]).replace("crops_small", "crops_tiny")
            exec(source.replace(":skyground", ":tiny"), names)
    return names


def test_the_notebook_that_scores_embeddings_runs(capsys):
    names = run_cells("evaluate.ipynb")
    printed = capsys.readouterr().out.splitlines()
    scores = [line for line in printed if "mAP" in line]
    assert [line[:3] for line in scores] == ["A2G", "G2A"]
    assert names["result"].mAP > 0.2


def test_the_notebook_that_compares_two_models_runs():
    pyplot.switch_backend("agg")
    names = run_cells("compare.ipynb")
    for a, b, comparison in zip(names["a"], names["b"], names["comparisons"], strict=True):
        assert comparison.mAP.value == pytest.approx(b.mAP - a.mAP)
        assert comparison.rank1.value == pytest.approx(b.rank1 - a.rank1)
    pyplot.close("all")


def test_the_notebook_that_looks_at_errors_runs(ranked_run, fake_dataset, tmp_path, monkeypatch):
    pyplot.switch_backend("agg")
    workdir, _, results = ranked_run
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(workdir)
    monkeypatch.chdir(tmp_path)
    names = run_cells("errors.ipynb")
    (stored,) = {
        r.mAP
        for r in results
        if (r.protocol, r.ranking) == ("A2G", "reid") and r.checkpoint.startswith("best")
    }
    parts = names["scores"]
    assert sum(map(np.sum, parts)) / sum(map(len, parts)) == pytest.approx(stored)
    pyplot.close("all")


def test_the_notebook_that_searches_by_a_sentence_runs(one_device, tmp_path, monkeypatch, capsys):
    pyplot.switch_backend("agg")
    monkeypatch.setattr("g2ajax.models.load.make_mesh", lambda devices: on_one_device(1, 1))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    with opens(make_captions_dataset()):
        names = run_cells("sentences.ipynb")
    assert names["model"].home == pathlib.Path("runs/sentences")
    (score,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("T2A mAP"))
    assert f" {100 * names['answers'].result.mAP:.1f} [" in score
    # Each person is in two of the ten aerial images.
    assert names["lists"]["T2A"].chance[1] == pytest.approx(20)
    pyplot.close("all")


def test_notebooks_have_outputs():
    for path in (ROOT / "docs").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert any(cell.get("outputs") for cell in cells), f"run docs/run_notebooks.py {path}"


def test_code_of_the_evaluation_page_runs(capsys):
    text = (ROOT / "docs" / "evaluation.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    for block in blocks:
        exec(block, {})
    assert blocks and len(capsys.readouterr().out.splitlines()) >= 3


PAGES = [
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_are_understood(page):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for line in re.findall(r"^ *(?:python -m )?g2ajax +((?!train)[a-z-]+ .*--.*)$", text, re.M):
        command, *arguments = shlex.split(line.partition("    (")[0], comments=True)
        PARSERS[command]().parse_args(arguments)


def test_the_lines_of_the_readme_embed_and_search(images_only, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    model = of_run(images_only, images_only.options.phases[0], "best", 0)
    model.save("runs/demo")
    pathlib.Path("crops").mkdir()
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 20, 3), np.uint8)
        Image.fromarray(pixels).save(f"crops/{name}")
    names: dict = {}
    exec(code, names)
    assert names["features"].shape == (2, model.width)
    first, second = capsys.readouterr().out.splitlines()
    assert abs(float(first.split()[0])) < 1e-3 and first.endswith("  crops/a.jpg")
    assert second.endswith("  crops/b.jpg")
    assert len(code.strip().splitlines()) <= 7


def test_every_page_is_in_the_sites_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in navigation, f"add {page.name} to nav in mkdocs.yml"
    for page in (ROOT / "docs").glob("*.ipynb"):
        assert f": notebooks/{page.stem}.md\n" in navigation, f"add {page.name} to nav"


def test_the_citation_and_the_changelog_have_the_version():
    assert f"\nversion: {g2ajax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f'\nversion = "{g2ajax.__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert heading[1] == g2ajax.__version__


def test_the_trackers_interface(images_only, tmp_path):
    (code,) = re.findall(
        r"```python\n(import numpy.*?)```", (ROOT / "docs/models.md").read_text(), re.S
    )
    names: dict = {}
    exec(code, names)
    model = of_run(images_only, images_only.options.phases[0], "best", 0)
    tracker = names["ReID"](str(model.save(tmp_path / "model")))
    frame = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    features = tracker.get_features(np.array([[-3.0, 4, 40, 80], [50, 10, 130, 90]]), frame)
    rgb = frame[:, :, ::-1]
    expected = model.embed([rgb[4:80, 0:40], rgb[10:90, 50:120]])
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize("page", PAGES)
def test_pages_link_to_files_that_exist(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{page} links to {target}"
