"""Runs of the view-aware methods, stopped inside each of their phases and spread over devices."""

import contextlib
import itertools

import jax
import numpy as np
import pytest

from g2ajax.recipes.files import load
from g2ajax.training import loop, phase, setup
from g2ajax.training.mesh import make_mesh
from tests.training.test_resume import assert_same, losses

METHODS = (
    "vdt",
    "secap",
    "dts",
    "gsalign",
    "sd_reid",
    "visa",
    "clip_reid",
    "latex",
    "uni_prompt",
    "tag_clip",
)
# Plain descent in small steps: see test_devices.
GENTLE = {"name": "sgd", "learning_rate": 1e-3, "clip_norm": 0.3}


def run(config: dict, workdir, devices: int = 1, stop_at: int | None = None) -> None:
    """The run of a configuration on the first devices, up to its end or to a step."""

    def make(*sizes):
        return make_mesh(*sizes, devices=jax.devices()[:devices])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "make_mesh", make)
        if stop_at is None:
            loop.run(config, workdir)
            return
        stopped = contextlib.nullcontext(lambda total_step: total_step == stop_at)
        patch.setattr(loop, "stop_requests", lambda: stopped)
        with pytest.raises(phase.Stopped):
            loop.run(config, workdir)


def tiny(method: str) -> dict:
    config = load(f"configs/{method}.py:tiny").to_dict()
    config["log"]["tensorboard"] = False
    return config


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_stopped_inside_each_phase_ends_the_same(method, tmp_path):
    config = tiny(method)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(config, whole)
    phases = [config["phase"][name] for name in config["phases"]]
    lengths = [one["epochs"] * one["steps_per_epoch"] for one in phases]
    for before in itertools.accumulate(lengths[:-1], initial=0):
        run(config, cut, stop_at=before + 2)  # the second of the phase's three or six steps
    run(config, cut)
    assert max(losses(whole)) == sum(lengths)
    assert_same(whole, cut)


# A method of each kind: learned prompts, hooks, selected tokens, experts.
@pytest.mark.slow
@pytest.mark.parametrize("method", ["clip_reid", "gsalign", "dts", "visa"])
def test_four_devices_give_the_losses_of_one(method, tmp_path):
    config = tiny(method)
    for name in config["phases"]:
        config["phase"][name]["optimizer"].update(GENTLE)
    config["checkpoint"]["every_steps"] = 100
    for devices in (1, 4):
        run(config, tmp_path / str(devices), devices)
    one, four = losses(tmp_path / "1"), losses(tmp_path / "4")
    assert one.keys() == four.keys() and len(one) > 3
    np.testing.assert_allclose(list(four.values()), list(one.values()), rtol=1e-5)
