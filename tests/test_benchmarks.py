"""Benchmarks that promise to need a few packages only import nothing else."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What a docstring promises → the packages that it names, and what it may import of ours.
PROMISES = {
    "Needs jax, flax, optax, numpy and g2ajax;": (("jax", "flax", "optax", "numpy"), "g2ajax"),
    "Imports jax, numpy and g2ajax.retrieval only": (("jax", "numpy"), "g2ajax.retrieval"),
}
# Used where they can be imported, or with an option that needs more, as the docstrings say.
OPTIONAL = ("torch", "timm", "torchvision", "g2ajax.recipes")
# Shape annotations of g2ajax itself; it has no dependencies of weight.
ALWAYS = ("jaxtyping",)

CODE = """
import importlib, importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed", name=name)

sys.meta_path.insert(0, Absent())
for file, imports in {imports!r}.items():
    exec(compile(imports, file, "exec"))
    if {ours!r} == "g2ajax":
        # By name, from the options of a method.
        import pkgutil, g2ajax.methods
        for module in pkgutil.iter_modules(g2ajax.methods.__path__):
            importlib.import_module("g2ajax.methods." + module.name)
    modules = (f"{{name}}." for name in sys.modules if name.startswith("g2ajax."))
    strangers = [name for name in modules if not name.startswith({ours!r} + ".")]
    assert not strangers, f"{{file}} imports {{strangers}}"
"""


def promise(path: pathlib.Path) -> tuple[tuple[str, ...], str] | None:
    """The packages and the part of ours that a file's docstring promises to keep to."""
    text = re.sub(r"\s+", " ", ast.get_docstring(ast.parse(path.read_text())) or "")
    return next((found for words, found in PROMISES.items() if words in text), None)


def needed(packages: tuple[str, ...]) -> set[str]:
    """Distributions that are installed with `packages`."""
    found, left = set(), list(packages)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            requirements = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        left += [re.match(r"[\w.\-]+", r)[0] for r in requirements if "extra ==" not in r]
    return found


def imports(path: pathlib.Path) -> list[str]:
    """Every import of a file, those inside functions too."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


PROMISING = [path for path in sorted((ROOT / "benchmarks").glob("*.py")) if promise(path)]


def test_some_benchmarks_promise():
    assert {"train_step.py", "clip.py", "search.py"} <= {path.name for path in PROMISING}


@pytest.mark.parametrize(("packages", "ours"), PROMISES.values(), ids=lambda part: str(part))
def test_benchmarks_import_what_they_promise(packages, ours):
    """All of one promise in one process, which names the first that does not keep it."""
    allowed = needed((*packages, *ALWAYS))
    blocked = {
        top
        for top, names in importlib.metadata.packages_distributions().items()
        if top not in ("g2ajax", "configs", "tfds_builders")
        and not allowed & {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    }
    texts = {
        path.name: "\n".join(
            line
            for line in imports(path)
            if not any(f"{line.split()[1]}.".startswith(f"{name}.") for name in OPTIONAL)
        )
        for path in PROMISING
        if promise(path) == (packages, ours)
    }
    code = CODE.format(blocked=blocked, imports=texts, ours=ours)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
