"""Numeric parity with the reference implementations: one test a case, one runner a kind.

`goldens/index.json` lists the cases, their arguments and tolerances; `<case>.npz` holds `in_*` and
`out_*` arrays in the reference's layout and `<case>.keys.json` its state-dict entries, whose
values `reference_weights.py` draws. `G2AJAX_GOLDENS=<folder>` runs any other folder of this form.
"""

import importlib
import json
import os
import pathlib
import pkgutil
import re

import jax
import numpy as np
import pytest

from tests.parity import reference_weights, runners, sampler_invariants

HERE = pathlib.Path(__file__).parent
FOLDER = pathlib.Path(os.environ.get("G2AJAX_GOLDENS", HERE / "goldens"))
INDEX = json.loads((FOLDER / "index.json").read_text())


def _runners() -> dict:
    found = {}
    for module in pkgutil.iter_modules(runners.__path__):
        found |= importlib.import_module(f"tests.parity.runners.{module.name}").RUNNERS
    return found


RUNNERS = _runners()
# Costly cases of ours whose parts are those of others: head distillation into SeqNet, COAT without it. In another
# folder every case runs.
COSTLY = ("ps_hkd_coat_train", "ps_seqnet_train") if FOLDER == HERE / "goldens" else ()


def _weights(case: str, request: dict) -> dict[str, np.ndarray]:
    """Draws the case's weights and applies its `aliases`, `scale` and `extra`, in this order."""
    keys_file = FOLDER / f"{case}.keys.json"
    if not keys_file.exists():
        return {}
    seed, aliases = INDEX["seed"], request.get("aliases", {})
    weights = {}
    for name, shape, dtype in json.loads(keys_file.read_text()):
        source = name
        for alias, original in aliases.items():
            source = source.replace(alias, original)
        weights[name] = reference_weights.draw(source, shape, dtype, seed)
    for rule in request.get("scale", []):
        for name in weights:
            if re.search(rule["regex"], name):
                weights[name] = weights[name] * np.float32(rule["factor"])
    for extra in request.get("extra", []):
        for name, shape, dtype in extra["keys"]:
            weights[extra["prefix"] + name] = reference_weights.draw(
                name, shape, dtype, seed + extra["seed_offset"]
            )
    return weights


def _described(value, descriptor: dict) -> np.ndarray:
    value = np.asarray(value)
    if descriptor.get("ravel"):
        value = value.ravel()
    if "slice" in descriptor:
        value = value[eval("np.s_" + descriptor["slice"], {"np": np})]
    return value


def _compare(name: str, got: np.ndarray, expected: np.ndarray, rule: dict) -> None:
    if got.size == expected.size == 1:
        got, expected = got.reshape(()), expected.reshape(())
    assert got.shape == expected.shape, f"{name}: shape {got.shape}, expected {expected.shape}"
    if rule["rtol"] == rule["atol"] == 0:
        np.testing.assert_array_equal(got, expected, err_msg=name)
        return
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if rule.get("equal_nan"):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), err_msg=name)
        got, expected = np.nan_to_num(got), np.nan_to_num(expected)
    peak = np.abs(expected).max(initial=0.0)
    bound = rule["atol"] * (peak if rule["scale"] == "max" else 1.0) + rule["rtol"] * np.abs(
        expected
    )
    counted = np.abs(expected) >= rule["above"] * peak if "above" in rule else True
    wrong = ~(np.abs(got - expected) <= bound) & counted
    assert not wrong.any(), (
        f"{name}: {wrong.sum()} of {wrong.size} entries off, worst by "
        f"{np.abs(got - expected)[wrong].max():.3g} where the largest expected is {peak:.3g}"
    )


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=pytest.mark.slow if c in COSTLY else ())
        for c in sorted(INDEX["cases"])
    ],
)
def test_case(case):
    entry = INDEX["cases"][case]
    args = entry["args"]
    if entry["kind"] not in RUNNERS:
        pytest.skip(f"unsupported: {entry['kind']}")
    stored = dict(np.load(FOLDER / f"{case}.npz")) if (FOLDER / f"{case}.npz").exists() else {}
    inputs = {name: value for name, value in stored.items() if name.startswith("in_")}
    for name, file in args.get("files", {}).items():
        inputs[name] = json.loads((FOLDER / file).read_text())
    weights = _weights(case, args.get("weights", {}))
    try:
        with jax.default_matmul_precision("highest"):
            results = RUNNERS[entry["kind"]](args, inputs, weights)
    except NotImplementedError as error:
        pytest.skip(f"unsupported: {entry['kind']}, {error}")
    descriptors = args.get("outputs", {})
    for name, rule in entry["outputs"].items():
        assert name in results, f"{entry['kind']} did not return {name}"
        descriptor = descriptors.get(name, {})
        if "file" in rule:
            assert results[name] == json.loads((FOLDER / rule["file"]).read_text()), name
        elif rule.get("compare") == "invariants":
            sampler_invariants.check(results[name], descriptor["invariants"], args, inputs)
        else:
            _compare(name, _described(results[name], descriptor), stored[name], rule)
