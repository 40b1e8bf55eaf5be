"""A training step of every method can be made for the accelerators that are not here."""

import importlib.util
import pathlib
import pkgutil
import re
import subprocess
import sys

import jax
import pytest

from g2ajax import methods
from g2ajax.training.mesh import make_mesh
from tests.lowering import CONFIGS, CUDNN_ATTENTION, H200, V5E, tracing_for, training_steps

CUDNN = {"strong_baseline", "transreid", "irra"}
"""Methods whose steps attend, and are traced once more as an H200 would: through cuDNN. (The others
that attend are where they are compiled.)"""
# In the text of a program before it is compiled: 64-bit floats, calls of the host, dynamic sizes.
FORBIDDEN = {
    "float64": r"[x<]f64>",
    "host callback": r"custom_call @\S*(callback|py_func|host)\S*|stablehlo\.(send|recv|infeed|outfeed)",
    "dynamic shape": r"tensor<(\d+x)*\?|stablehlo\.(dynamic_reshape|real_dynamic_slice|dynamic_pad)",
}


def test_every_method_has_a_configuration():
    names = {module.name for module in pkgutil.iter_modules(methods.__path__)}
    assert names - {"base"} == set(CONFIGS)


@pytest.mark.parametrize("method", CONFIGS)
def test_training_lowers_for_absent_devices(method):
    mesh = make_mesh(devices=jax.devices()[:1])
    for device in [V5E, H200] if method in CUDNN else [V5E]:
        platforms = (device.platform,) if method in CUDNN else ("tpu", "cuda")
        for loss, step, arguments in training_steps(method, mesh):
            with tracing_for(device):
                lowered = step.trace(*arguments).lower(lowering_platforms=platforms)
            text = lowered.as_text()
            for what, pattern in FORBIDDEN.items():
                found = re.search(pattern, text)
                assert not found, f"{loss} for {device}: {what}: {found[0]}"
            assert all(name in text for name in CUDNN_ATTENTION) == (device == H200), loss


def installed(*modules: str) -> bool:
    return any(importlib.util.find_spec(module) for module in modules)


@pytest.mark.slow
@pytest.mark.parametrize(
    "platform",
    [
        pytest.param(
            "tpu",
            marks=pytest.mark.skipif(
                not installed("libtpu"),
                reason="compiling for a TPU needs pip install 'g2ajax[tpu]'",
            ),
        ),
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(
                not installed("jax_cuda13_plugin", "jax_cuda12_plugin"),
                reason="compiling for a GPU needs pip install 'g2ajax[cuda13]'",
            ),
        ),
    ],
)
def test_training_compiles_for_absent_devices(platform):
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.compile_steps", platform, *CONFIGS],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    expected = [f"{name} OK" for name in CONFIGS]
    assert done.stdout.splitlines() == expected, done.stdout + done.stderr[-8000:]
