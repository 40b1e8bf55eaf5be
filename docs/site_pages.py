"""Pages of the site that are not files of `docs/`: those of the root, the notebooks, and the API.

mkdocs calls the functions `on_...` (https://www.mkdocs.org/user-guide/configuration/#hooks).
"""

import json
import pathlib
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
OUTSIDE = {
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "RESULTS.md": "benchmarks/RESULTS.md",
}
"""Pages of the site that lie elsewhere in the repository."""

# The folders of the API in the order of a reader: first those that a notebook uses.
API = {
    "models": "Models",
    "apps": "Commands as functions",
    "retrieval": "Retrieval",
    "evaluation": "Evaluation",
    "detection": "Detection",
    "losses": "Losses",
    "data": "Data",
    "synthetic": "SkyGround",
    "interop": "Weights of others",
    "methods": "Methods",
    "backbones": "Backbones",
    "nn": "Layers",
    "tasks": "Tasks",
    "training": "Training",
    "recipes": "Recipes",
    "report": "Reports",
    "config": "Configuration",
}


def on_config(config: Any) -> Any:
    """Adds the pages of the API to the navigation."""
    pages = [{title: f"api/{folder}.md"} for folder, title in API.items()]
    config.nav.append({"API": [{"The package": "api/index.md"}, *pages]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages. Raises KeyError for a folder of the package that `API` lacks."""
    folders = {path.parent.name for path in (ROOT / "g2ajax").glob("*/__init__.py")} - {"cli"}
    for folder in folders - API.keys():
        raise KeyError(f"g2ajax/{folder} has no page; name it in API of docs/site_pages.py")
    pages = {f"api/{folder}.md": _api(folder, title) for folder, title in API.items()}
    pages["api/index.md"] = _package()
    for name, source in OUTSIDE.items():
        pages[name] = _linked((ROOT / source).read_text(), posixpath.dirname(source))
    for path in sorted((ROOT / "docs").glob("*.ipynb")):
        pages[f"notebooks/{path.stem}.md"] = _notebook(path)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links to files outside `docs/`, and to notebooks, into links to their pages."""
    if page.file.src_uri in OUTSIDE or "/" in page.file.src_uri:
        return markdown
    return _linked(markdown, "docs")


def _linked(text: str, folder: str) -> str:
    """The text of a file in a folder of the repository, with links as of the site's root; a link to a
    file that is no page becomes its text."""
    places = {source: name for name, source in OUTSIDE.items()}

    def replace(match: re.Match) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        place = posixpath.normpath(posixpath.join(folder, target))
        if place.endswith(".ipynb"):
            place = f"notebooks/{pathlib.PurePosixPath(place).stem}.md"
        elif place in places:
            place = places[place]
        elif not place.startswith("docs/") and (ROOT / place).exists():
            return label
        return f"[{label}]({place.removeprefix('docs/')}{anchor})"

    return re.sub(r"\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)", replace, text)


def _api(folder: str, title: str) -> str:
    """A page of all public functions and classes of a folder of the package."""
    package = ROOT / "g2ajax" / folder
    blocks = [f"# {title}"]
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] != "__init__" and not parts[-1].startswith("_"):
            blocks.append(
                f"## {'.'.join(parts[2:])}\n\n::: {name}\n    options:\n      show_root_heading: false"
            )
    return "\n\n".join(blocks) + "\n"


def _package() -> str:
    """The names of `g2ajax` itself."""
    names = {
        "load": "g2ajax.models.load.load",
        "Model": "g2ajax.models.model.Model",
        "evaluate": "g2ajax.apps.evaluate.evaluate_datasets",
        "search": "g2ajax.apps.search.open_gallery",
        "datasets": "g2ajax.data.builders.names",
    }
    lines = [
        "# The package",
        "",
        "`import g2ajax` takes milliseconds and brings no jax; each name is loaded on use.",
        "",
    ]
    for name, place in names.items():
        lines += [f"- [`g2ajax.{name}`][{place}]"]
    return "\n".join(lines) + "\n"


def _notebook(path: pathlib.Path) -> str:
    """A notebook as Markdown: its text, its code, and the outputs stored with it."""
    blocks = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(source)
            continue
        blocks.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                blocks.append(f"![plot](data:image/png;base64,{data['image/png'].strip()})")
            elif text := "".join(output.get("text", data.get("text/plain", ()))):
                blocks.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(blocks) + "\n"
