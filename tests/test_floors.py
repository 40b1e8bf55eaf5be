"""Imports point down the floors of the house; nothing below imports what stands above it."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "g2ajax"
# The floors of the house, the lowest first; a module may import those of its own folder, and what its
# folder names of the floors below.
FLOORS = (
    ("config",),
    ("losses", "detection", "retrieval"),
    ("nn", "backbones", "report"),
    ("methods", "data", "interop", "synthetic"),
    ("evaluation",),
    ("tasks",),
    ("training",),
    ("recipes",),
    ("models",),
    ("apps",),
    ("cli",),
    ("__main__",),
)
MAY_IMPORT = {
    "config": set(),
    "losses": set(),
    "detection": set(),
    "retrieval": set(),
    "synthetic": set(),
    "report": set(),
    "nn": set(),
    "backbones": {"nn"},
    "interop": {"nn", "backbones"},
    "methods": {"config", "losses", "detection", "retrieval", "nn", "backbones"},
    "data": {"config"},
    "evaluation": {"config", "retrieval", "data", "methods"},
    "tasks": {
        *("config", "detection", "retrieval", "report", "synthetic"),
        *("methods", "data", "evaluation"),
    },
    "training": {
        *("config", "nn", "report", "methods", "data", "interop", "evaluation", "tasks"),
    },
    "recipes": {"config", "backbones", "methods", "tasks", "training"},
    "models": {
        *("config", "detection", "retrieval", "backbones", "methods", "data", "interop"),
        *("tasks", "training", "recipes"),
    },
    "apps": {
        *("config", "detection", "retrieval", "report", "methods", "data", "evaluation"),
        *("tasks", "models"),
    },
    "cli": {
        *("config", "report", "synthetic", "methods", "data", "interop", "evaluation"),
        *("tasks", "training", "recipes", "models", "apps"),
    },
    "__main__": {"cli", "config"},
}
# `training` may name no kind of data. These files have kinds of schedules and options named after the
# papers that they are from.
OF_ORIGIN = ("schedules.py", "optimizer.py")
HEAVY_FORBIDDEN = {"torch", "tensorflow"}


def _modules():
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: pathlib.Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write it in full"
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    floor = parts[0]
    for name, line in _imports(path):
        top = name.split(".")
        assert top[0] not in HEAVY_FORBIDDEN, f"{path}:{line} imports {name}"
        if top[0] != "g2ajax" or len(top) < 2 or floor == "__init__":
            continue
        assert top[1] == floor or top[1] in MAY_IMPORT[floor], (
            f"{path}:{line}: {floor} may not import {top[1]}; move the shared part down"
        )


def test_the_table_is_of_the_floors():
    height = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    folders = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in _modules()}
    assert folders - {"__init__"} == set(MAY_IMPORT) == set(height)
    for name, below in MAY_IMPORT.items():
        for other in below:
            # `backbones` stand on `nn`, on the same floor.
            assert height[other] < height[name] or (name, other) == ("backbones", "nn")


def test_no_circle_of_imports():
    """Imports inside functions count: one that hides a circle is none the less a circle."""
    paths = {}
    for path in _modules():
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {name: _imported(name, path, paths) for name, path in paths.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " imports ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _imported(name: str, path: pathlib.Path, known: dict) -> set[str]:
    """The modules of the package that a module names: of `from a import b` the module a.b, or a."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                named.add(inner if inner in known else node.module)
    return (named & known.keys()) - {name}


def test_training_knows_no_kind_of_data():
    for path in (PACKAGE / "training").glob("*.py"):
        if path.name not in OF_ORIGIN:
            found = re.findall(r"(?i)frame|caption|irra|transreid|seqnet", path.read_text())
            assert not found, f"{path}: {found}; what a kind of data needs is its task's"


def test_a_method_is_asked_for_a_capability():
    probe = re.compile(r"setup: Any|hasattr\(.*(model|method)|getattr\(model")
    for path in _modules():
        lines = [line for line in path.read_text().splitlines() if probe.search(line)]
        assert not lines, f"{path}: {lines}; declare it in methods/base.py, ask with isinstance"


@pytest.mark.parametrize("floor", ["losses", "detection", "retrieval"])
def test_first_floor_needs_neither_flax_nor_config(floor):
    for path in (PACKAGE / floor).rglob("*.py"):
        for name, line in _imports(path):
            assert name.split(".")[0] not in {"flax", "ml_collections", "optax"}, f"{path}:{line}"


def test_no_long_file_no_long_function_and_no_junk_drawer():
    for path in _modules():
        text = path.read_text()
        lines = text.count("\n")
        assert lines <= 400, f"{path} has {lines} lines; split it"
        assert path.stem not in {"utils", "helpers", "misc"}, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= 80, f"{path}: {node.name} has {lines} lines; split it"
