"""Phases with data of their own: another dataset, augmentation or sampler, or features for images."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from flax import nnx

from g2ajax.data.crop_source import Dataset
from g2ajax.tasks import crops
from g2ajax.tasks.embedder import embed_split
from g2ajax.training import loop, phase, setup
from g2ajax.training.options import run_options
from tests.fake_data import make_dataset
from tests.runs import changed, on_one_device, tiny_config
from tests.training.test_resume import assert_same, losses, tensors

pytestmark = pytest.mark.usefixtures("one_device")


def stopped_and_resumed(config, workdir, step: int) -> None:
    """A run that is stopped after this step of all, and goes on."""
    with pytest.MonkeyPatch.context() as patch:
        stop = contextlib.nullcontext(lambda total: total == step)
        patch.setattr(loop, "stop_requests", lambda: stop)
        with pytest.raises(phase.Stopped):
            loop.run(config, workdir)
    loop.run(config, workdir)


def probe_config(**changes) -> dict:
    """Three steps on images, then three of the classifier on features that were computed once."""
    config = tiny_config(phases=("reid", "probe"))
    config["method"] = {"name": "tests.probe_method", "backbone": {"name": "resnet_tiny"}}
    reid = config["phase"]["reid"] | {"epochs": 1}
    probe = {
        **reid,
        "trainable": ("classifier",),
        "loss": "feature_loss",
        "source": "features",
        "sampler": {"name": "shuffled", "identities": 8, "images": 1},
    }
    config["phase"] = {"reid": reid, "probe": probe}
    return changed(config, **changes)


@pytest.mark.parametrize("step", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_features_are_computed_once_and_a_run_resumes(fake_dataset, tmp_path, monkeypatch, step):
    passes = []
    real = crops.embed_training_images

    def counted(model, *arguments):
        features = real(model, *arguments)
        passes.append((model, features))
        return features

    monkeypatch.setattr(crops, "embed_training_images", counted)
    loop.run(probe_config(), tmp_path / "whole")
    assert len(passes) == 1 and max(losses(tmp_path / "whole")) == 6
    _, features = passes[0]
    assert len(features) == len(fake_dataset.splits["train"])
    stopped_and_resumed(probe_config(), tmp_path / "cut", step)
    assert_same(tmp_path / "whole", tmp_path / "cut")
    np.testing.assert_array_equal(passes[-1][1], features)
    # They are those of the model of the first phase, which the second leaves as it is.
    run, _ = loop.reopen(probe_config(), tmp_path / "whole", "latest")
    options = run.task.options
    split, state = fake_dataset.splits["train"], nnx.state(run.model)
    again = embed_split(run.task.embedder.embed, state, split, options.data, 16, run.mesh)
    np.testing.assert_allclose(again, features, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase__probe__trainable": ("*",)}, r"phase.probe trains parts on which its features"),
        ({"phase__probe__feature": "embedding"}, "has no 'embedding'"),
        ({"phase__probe__source": "feature"}, "phase.probe.source = 'feature'"),
    ],
)
def test_features_that_would_move_are_refused(fake_dataset, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.run(probe_config(**changes, phases=("probe",)), tmp_path)


def test_a_phase_has_its_own_augmentation_and_sampler(fake_dataset):
    config = tiny_config(phases=("first", "reid"), augment={"flip": 0.0, "pad": 0})
    config["phase"]["first"] = config["phase"]["reid"] | {
        "augment": {"flip": 1.0, "pad": 0, "erase": {"probability": 0.0}},
        "sampler": {"identities": 2, "images": 4},
    }
    config["augment"]["erase"] = {"probability": 0.0}
    run = setup.prepare(run_options(config))
    first, reid = run.phase(0), run.phase(1)
    rows = run.task.sampler(first).batch_indices(0)
    assert len(np.unique(fake_dataset.splits["train"].label[rows])) == 2
    batch = {"image": np.random.default_rng(0).integers(0, 256, (8, 48, 32, 3), np.uint8)}
    key = jax.random.key(0)
    mirrored, plain = (
        np.asarray(jax.jit(run.task.prepare(phase))(key, batch, None)["image"])
        for phase in (first, reid)
    )
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])


def two_datasets() -> dict[str, Dataset]:
    """Nine people to begin with, six others afterwards."""
    first = dataclasses.replace(make_dataset(train_people=9), name="many", fingerprint="0" * 12)
    return {"many": first, "fake": make_dataset()}


def transfer_config(**changes) -> dict:
    config = tiny_config(phases=("pretrain", "reid"), evaluate__protocols=("A2G",))
    reid = config["phase"]["reid"] | {"epochs": 1}
    config["phase"] = {"pretrain": {**reid, "dataset": "many"}, "reid": reid}
    return changed(config, **changes)


@contextlib.contextmanager
def open_two() -> Iterator[None]:
    """Within it runs open one of the two datasets, by name."""
    datasets = two_datasets()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crops, "open_dataset", lambda name, **_: datasets[name])
        yield


@pytest.fixture
def two():
    with open_two():
        yield


@pytest.fixture(scope="module")
def transferred(tmp_path_factory):
    """A finished run of both phases: its folder and results."""
    workdir = tmp_path_factory.mktemp("transferred")
    with pytest.MonkeyPatch.context() as patch, open_two():
        patch.setattr(setup, "make_mesh", on_one_device)
        return workdir, loop.run(transfer_config(), workdir)


@pytest.mark.parametrize("step", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 5))])
def test_transfer_is_two_phases_and_resumes(transferred, two, tmp_path, step):
    whole, results = transferred
    # The run ends on its last dataset; each phase is scored on its own, by its own protocols.
    assert {(r.dataset, r.protocol) for r in results} == {("fake", "A2G")}
    assert {r.checkpoint for r in results} == {"last", loop.CHOSEN_ON_TEST}
    assert "evaluation/G2A" in (whole / "metrics.jsonl").read_text()
    stopped_and_resumed(transfer_config(), tmp_path, step)
    assert_same(whole, tmp_path)
    assert tensors(whole)["['params']['heads.weight']"].shape[0] == 6


def test_what_depends_on_identities_begins_anew(two):
    runs = setup.prepare_phases(run_options(transfer_config()))
    source, target = runs
    assert source.task.facts.num_classes == 9 and target.task.facts.num_classes == 6
    moved = nnx.map_state(lambda path, x: x + 1.0, nnx.state(source.model, nnx.Param))
    nnx.update(source.model, moved)
    drawn = np.asarray(target.model.heads.weight[...])
    setup.carry_over(source.options, source, target)
    np.testing.assert_array_equal(target.model.heads.weight[...], drawn)
    before, after = (
        dict(nnx.to_flat_state(nnx.state(run.model.backbone, nnx.Param))) for run in runs
    )
    assert before
    for path, leaf in before.items():
        np.testing.assert_array_equal(leaf[...], after[path][...])


def test_the_best_of_the_last_phase_is_kept_and_a_run_is_scored_alone(transferred, two, tmp_path):
    workdir, results = transferred
    copy = shutil.copytree(workdir, tmp_path / "copy")
    again = loop.evaluate(transfer_config(), copy, "best")
    assert [r.mAP for r in again] == [r.mAP for r in results if r.checkpoint != "last"]


def test_a_phase_that_does_not_fit_its_dataset_is_refused(two, tmp_path):
    config = transfer_config(phase__reid__sampler={"identities": 8, "images": 2})
    with pytest.raises(ValueError, match="only 6 identities"):
        loop.run(config, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
