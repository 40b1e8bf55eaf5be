"""Imports point down the floors of the house; nothing below imports what stands above it."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "g2ajax"
MAY_IMPORT = {
    "config": set(),
    "losses": set(),
    "detection": set(),
    "retrieval": set(),
    "synthetic": set(),
    "nn": set(),
    "backbones": {"nn"},
    "interop": {"config", "nn", "backbones"},
    "methods": {"config", "losses", "detection", "retrieval", "nn", "backbones"},
    "data": {"config"},
    "evaluation": {"config", "retrieval", "data"},
    "report": {"config"},
    "training": {
        *("config", "losses", "detection", "nn", "backbones", "methods", "retrieval"),
        *("data", "evaluation", "interop", "report", "synthetic"),
    },
}
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
        if top[0] != "g2ajax" or len(top) < 2 or floor not in MAY_IMPORT:
            continue
        assert top[1] == floor or top[1] in MAY_IMPORT[floor], (
            f"{path}:{line}: {floor} may not import {top[1]}; move the shared part down"
        )


@pytest.mark.parametrize("floor", ["losses", "detection", "retrieval"])
def test_first_floor_needs_neither_flax_nor_config(floor):
    for path in (PACKAGE / floor).rglob("*.py"):
        for name, line in _imports(path):
            assert name.split(".")[0] not in {"flax", "ml_collections", "optax"}, f"{path}:{line}"


def test_no_long_file_and_no_junk_drawer():
    for path in _modules():
        lines = path.read_text().count("\n")
        assert lines <= 500, f"{path} has {lines} lines; split it"
        assert path.stem not in {"utils", "helpers", "misc"}, path


def test_a_training_step_needs_no_input_pipeline():
    # What the benchmarks import: they run where grain, TFDS and ml_collections are not installed.
    imports = "g2ajax.training.state, g2ajax.training.options, g2ajax.methods.irra"
    code = f"""import sys
sys.modules |= dict.fromkeys(["grain", "tensorflow_datasets", "ml_collections"])
import {imports}"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
