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

from g2ajax.recipes.files import load
from g2ajax.training import loop, setup
from g2ajax.training.mesh import make_mesh
from g2ajax.training.workdir import stored_config
from tests.fake_data import make_dataset
from tests.runs import on_one_device, opens, tiny_config
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


@pytest.mark.parametrize(
    "backbone", ["resnet_tiny", pytest.param("vit_test", marks=pytest.mark.slow)]
)
def test_four_devices_give_the_losses_of_one(fake_dataset, tmp_path, backbone):
    one = run_on(1, tmp_path / "1", backbone=backbone)
    assert_close(one, run_on(4, tmp_path / "4", backbone=backbone))


@pytest.fixture(scope="module")
def one_device_losses(tmp_path_factory):
    with opens(make_dataset()):
        return run_on(1, tmp_path_factory.mktemp("1"))


def test_sharded_parameters_give_the_same_losses(
    one_device_losses, fake_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("g2ajax.training.mesh.FSDP_MIN_ELEMENTS", 64)
    assert_close(one_device_losses, run_on(4, tmp_path, mesh__fsdp=2))


def test_host_and_device_residency_give_the_same_bits(one_device_losses, fake_dataset, tmp_path):
    """(That their batches are equal on several devices is tested in `tests/data/test_residency.py`.)"""
    assert tiny_config()["data"]["residency"] == "device"
    assert run_on(1, tmp_path, data__residency="host") == one_device_losses


def test_two_processes_with_two_devices_give_the_losses_of_one(one_device_losses, tmp_path):
    run_processes("-m", "tests.training.run_fake", tmp_path, json.dumps(STEPS), processes=2)
    assert_close(one_device_losses, losses(tmp_path))


@pytest.mark.slow
def test_frames_give_the_terms_and_tables_of_one_device(tmp_path):
    """Ten steps of gentle SGD; the heads and the tables see the regions of all devices."""
    run_on_all("seqnet", tmp_path, steps=10)
    assert_terms_are_those_of_one_device(tmp_path, steps=10)
    tables = oim_tables(tmp_path / "1")
    assert np.linalg.norm(tables["lookup"], axis=1).sum() > 3
    for other in (tmp_path / "4", tmp_path / "2x2"):
        for name, table in oim_tables(other).items():
            np.testing.assert_allclose(table, tables[name], atol=TOLERANCE, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "phases"), [("temporal_baseline", 1), ("vsla_clip", 2)])
def test_tracklets_give_the_terms_of_one_device(tmp_path, experiment, phases):
    """Six steps of gentle SGD in each phase; with a dual memory of clusters, whose loss is nothing but
    rounding at its own temperature, where a class begins as its first features."""
    memory = [f"--config.method.memory.{option}=1" for option in ("weight", "temperature")]
    run_on_all(experiment, tmp_path, *memory, steps=6)
    assert_terms_are_those_of_one_device(tmp_path, steps=6 * phases)


def run_on_all(experiment: str, folder: pathlib.Path, *flags: str, steps: int) -> None:
    """Runs `:tiny` with so many steps a phase on one device (`folder/1`), on four (`4`), and in two
    processes of two (`2x2`), compiled as XLA does for a user: the tests' settings round otherwise, and
    ten steps of a detector show it in the fifth digit."""
    config = load(f"configs/{experiment}.py:tiny")
    gentle = {"optimizer.name": "sgd", "optimizer.clip_norm": 0.3, "epochs": 1}
    settings = [
        f"--config.phase.{phase}.{name}={value}"
        for phase in config.phases
        for name, value in {**gentle, "steps_per_epoch": steps}.items()
    ]
    for name, processes, devices in (("1", 1, 1), ("4", 1, 4), ("2x2", 2, 2)):
        run_processes(
            *("run.py", f"--config=configs/{experiment}.py:tiny", f"--workdir={folder / name}"),
            *(*settings, *flags),
            processes=processes,
            devices=devices,
            xla_flags="",
        )


def assert_terms_are_those_of_one_device(folder: pathlib.Path, *, steps: int) -> None:
    """Compares every term of every step of the runs of `run_on_all`."""
    one = terms(folder / "1")
    assert len(one) == steps
    for other in (terms(folder / "4"), terms(folder / "2x2")):
        assert other.keys() == one.keys()
        for step, row in other.items():
            assert row.keys() == one[step].keys()
            for term, value in row.items():
                np.testing.assert_allclose(value, one[step][term], rtol=TOLERANCE, err_msg=term)


def run_processes(
    *command: str | pathlib.Path, processes: int, devices: int = 2, xla_flags: str | None = None
) -> None:
    """Runs Python with these arguments in several processes of one computation; `xla_flags`: None for
    those of the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
    if xla_flags is not None:
        settings["XLA_FLAGS"] = xla_flags
    if processes > 1:
        settings |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env={**settings, "JAX_PROCESS_ID": str(i)} if processes > 1 else settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(processes)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert not any(process.returncode for process in started), "\n".join(outputs)


def terms(workdir: pathlib.Path) -> dict[int, dict[str, float]]:
    """Every term of the loss at each step."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    said = ("kind", "time", "rate", "step", "gradient_norm")
    return {
        e["step"]: {name: value for name, value in e.items() if name not in said}
        for e in entries
        if e["kind"].startswith("train")
    }


def oim_tables(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """The lookup table, the queue and its header of the last checkpoint, read by one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "make_mesh", on_one_device)
        run, _ = loop.reopen(stored_config(workdir), workdir, "latest")
    return run.model.roi_heads.reid_loss.tables()._asdict()
