"""A run that is killed or stopped and started again ends as one that never was, bit for bit."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from g2ajax.training import loop, phase, setup
from g2ajax.training.checkpoint import Checkpoints
from tests.fake_data import make_dataset
from tests.runs import changed, on_one_device, opens, tiny_config

ROOT = pathlib.Path(__file__).parents[2]
LONG = {"phase__reid__epochs": 10, "evaluate__every_epochs": 5, "phase__reid__ema": 0.9}


def tensors(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of the latest checkpoint, its optimizer's too."""
    store = Checkpoints(workdir, read_only=True)
    step = store.steps()["latest"]
    items = store.managers["latest"].restore(step)
    store.close()
    arrays = {
        name: items[name] for name in ("params", "stats", "optimizer", "ema") if name in items
    }
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)
    }


def losses(workdir: pathlib.Path) -> dict[int, float]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return {e["step"]: e["loss"] for e in entries if e["kind"].startswith("train")}


def assert_same(one: pathlib.Path, other: pathlib.Path) -> None:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert losses(one) == losses(other)
    results = [json.loads((w / "results.json").read_text()) for w in (one, other)]
    assert results[0] == results[1]


def start(workdir: pathlib.Path, **changes) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.run_fake", str(workdir), json.dumps(changes)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(process: subprocess.Popen, workdir: pathlib.Path, step: int) -> None:
    while process.poll() is None:
        if (workdir / "metrics.jsonl").exists():
            text = (workdir / "metrics.jsonl").read_text()
            if f'"step": {step},' in text:
                return
        time.sleep(0.01)
    raise AssertionError(f"the run ended before step {step}:\n{process.stdout.read()}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    process = start(workdir, **LONG)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return workdir


def test_requests_to_stop_save_and_a_kill_loses_little(uninterrupted, tmp_path):
    """Ctrl-C, then SIGTERM, then a kill at a random step, then the rest."""
    for number, step, status in ((signal.SIGINT, 5, 130), (signal.SIGTERM, 12, 0)):
        process = start(tmp_path, **LONG)
        wait_for_step(process, tmp_path, step)
        process.send_signal(number)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output
        assert "stopped at step" in output and "Traceback" not in output
    process = start(tmp_path, **LONG)
    wait_for_step(process, tmp_path, int(np.random.default_rng().integers(18, 28)))
    process.kill()
    process.wait()
    assert not (tmp_path / "results.json").exists()
    last = start(tmp_path, **LONG)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0, output
    assert "goes on at step" in output
    assert_same(uninterrupted, tmp_path)


def two_phases() -> dict:
    """Three steps with the backbone frozen, then six of everything, averaged."""
    config = tiny_config(phases=("warm", "reid"), phase__reid__ema=0.5)
    config["phase"]["warm"] = {**config["phase"]["reid"], "epochs": 1, "frozen": ("backbone",)}
    return config


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished run of two phases on one device: its folder and results."""
    workdir = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch, opens(make_dataset()):
        patch.setattr(setup, "make_mesh", on_one_device)
        return workdir, loop.run(two_phases(), workdir)


@pytest.fixture
def finished(finished_run, one_device, fake_dataset, tmp_path):
    """A copy of it, and its results."""
    workdir, results = finished_run
    return shutil.copytree(workdir, tmp_path / "copy"), results


def test_another_configuration_is_refused_with_the_difference(finished):
    with pytest.raises(ValueError, match=r"seed: 0 -> 1|seed: 'absent' -> 1"):
        loop.run({**two_phases(), "seed": 1}, finished[0])


def test_a_run_of_an_earlier_version_goes_on_or_says_why_not(finished):
    """Its configuration states fewer options, or one that is no more."""
    workdir, results = finished
    stated = changed(two_phases(), task="crops", dtype="float32", data__interpolation="bicubic")
    again = loop.run(stated, workdir)
    assert [r.mAP for r in again] == [r.mAP for r in results]
    stored = workdir / "config.json"
    stored.write_text(json.dumps({**json.loads(stored.read_text()), "mixup": 0.2}))
    with pytest.raises(ValueError, match=r"written by another version .* no option 'mixup'"):
        loop.run(two_phases(), workdir)


def test_a_finished_run_is_scored_again_without_training(finished, tmp_path, capsys):
    (workdir, first), config = finished, two_phases()
    again = loop.run(config, workdir)
    assert "accuracy" not in capsys.readouterr().out
    assert [r.mAP for r in again] == [r.mAP for r in first]
    latest = loop.evaluate(config, workdir, "latest")
    assert [r.mAP for r in latest] == [r.mAP for r in first if r.checkpoint == "last"]
    only = loop.evaluate(config, workdir, "best")
    assert [r.mAP for r in only] == [r.mAP for r in first if r.checkpoint.startswith("best")]
    assert all("chosen on the test split" in r.checkpoint for r in only)
    with pytest.raises(ValueError, match="has no best checkpoint"):
        loop.evaluate(config, tmp_path / "elsewhere", "best")


@pytest.mark.parametrize("step", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_phases_follow_each_other_and_resume_in_the_second(
    finished_run, one_device, fake_dataset, tmp_path, step
):
    whole, _ = finished_run

    def stop(total_step: int) -> bool:
        return total_step == step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "stop_requests", lambda: contextlib.nullcontext(stop))
        with pytest.raises(phase.Stopped):
            loop.run(two_phases(), tmp_path)
    loop.run(two_phases(), tmp_path)
    assert_same(whole, tmp_path)
    assert max(losses(whole)) == 9
