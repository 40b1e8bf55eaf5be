"""The numbers of a run do not depend on how many devices or processes compute it."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from g2ajax.training import loop, setup
from g2ajax.training.mesh import make_mesh
from tests.training.conftest import tiny_config
from tests.training.test_resume import ROOT, losses

# 20 steps of gentle SGD: Adam divides by small moments, and batch-hard mining switches partners at
# near ties, so either turns rounding into other steps within a few iterations.
STEPS = {
    "phase__reid__steps_per_epoch": 10,
    "phase__reid__optimizer": {"name": "sgd", "learning_rate": 1e-3, "clip_norm": 0.3},
    "sampler": {"identities": 4, "images": 4},
    "evaluate__every_epochs": 2,
    "checkpoint__every_steps": 100,
}
TOLERANCE = 1e-5


def run_on(devices: int, workdir: pathlib.Path, **changes) -> dict[int, float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            setup, "make_mesh", lambda *sizes: make_mesh(*sizes, devices=jax.devices()[:devices])
        )
        loop.run(tiny_config(**STEPS, **changes), workdir)
    return losses(workdir)


def assert_close(one: dict[int, float], other: dict[int, float]) -> None:
    assert one.keys() == other.keys()
    assert len(one) == 20
    np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=TOLERANCE)


@pytest.mark.parametrize("backbone", ["vit_test", "resnet_tiny"])
def test_four_devices_give_the_losses_of_one(fake_dataset, tmp_path, backbone):
    one = run_on(1, tmp_path / "1", backbone=backbone)
    assert_close(one, run_on(4, tmp_path / "4", backbone=backbone))


def test_sharded_parameters_give_the_same_losses(fake_dataset, tmp_path, monkeypatch):
    from g2ajax.training import mesh

    monkeypatch.setattr(mesh, "FSDP_MIN_ELEMENTS", 64)
    one = run_on(1, tmp_path / "1")
    assert_close(one, run_on(4, tmp_path / "4", mesh__fsdp=2))


def test_host_and_device_residency_give_the_same_bits(fake_dataset, tmp_path):
    device = run_on(2, tmp_path / "device", data__residency="device")
    assert run_on(2, tmp_path / "host", data__residency="host") == device


def test_two_processes_with_two_devices_give_the_losses_of_one(fake_dataset, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": "2",
    }
    command = [sys.executable, "-m", "tests.training.run_fake", str(tmp_path / "2x2")]
    processes = [
        subprocess.Popen(
            [*command, json.dumps(STEPS)],
            cwd=ROOT,
            env={**settings, "JAX_PROCESS_ID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert_close(run_on(1, tmp_path / "1"), losses(tmp_path / "2x2"))
