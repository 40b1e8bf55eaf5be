"""Settings that cannot work are refused before the first step, in words that say what to do."""

import copy
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.data.samplers import make_sampler
from g2ajax.tasks import base, crops, embedder
from g2ajax.training import loop
from g2ajax.training.options import run_options
from g2ajax.training.phase import NonFiniteLoss
from tests import runs
from tests.fake_data import make_dataset, without_matches
from tests.runs import tiny_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "config has no option 'sed'; did you mean 'seed'"),
        ({"data__image_sise": (1, 1)}, "config.data has no option 'image_sise'; did you mean"),
        ({"phase__reid__optimizer__nam": "sgd"}, "optimizer has no option 'nam'; did you mean"),
        ({"phases": ("reid", "explain")}, "phases names 'explain', but phase has only"),
        ({"phases": ()}, "phases is empty"),
        ({"phase__reid__epochs": 0}, "phase.reid.epochs = 0"),
        ({"dtype": "float16"}, "config.dtype = 'float16'"),
        ({"data__image_size": (0, 128)}, r"data.image_size\[0\] = 0: expected a whole number, at"),
        ({"evaluate__bootstrap_samples": 0}, "config.evaluate.bootstrap_samples = 0: expected"),
    ],
)
def test_configuration(changes, message):
    with pytest.raises(ValueError, match=message):
        run_options(tiny_config(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler__identities": 12}, "only 6 identities"),
        ({"sampler__name": "naive"}, "no sampler 'naive'; did you mean 'naive_identity'"),
        ({"sampler__identities": 3, "sampler__images": 3}, "a batch of 9 cannot be dealt to 8 dev"),
        ({"mesh__fsdp": 3}, "mesh.fsdp=3 does not divide the 8 devices"),
        ({"mesh__data": 3}, "the run has 8 devices; set mesh.data=-1"),
        ({"evaluate__protocols": ("A2C",)}, "has no protocol 'A2C'; did you mean 'A2G'"),
        ({"method__name": "strong_base"}, "no method 'strong_base'; did you mean"),
        ({"phase__reid__trainable": ("head",)}, "names 'head', which has no parameter"),
        ({"phase__reid__frozen": ("*",)}, "leaves nothing to train"),
        (
            {"phase__reid__optimizer__factors": (("head", 2.0),)},
            "factors names 'head', which has no",
        ),
        ({"phase__reid__loss": "explain"}, "strong_baseline has no 'explain'"),
        ({"phase__reid__accumulate": 2}, "the terms triplet compare the images of a batch"),
        ({"init__file": "/nowhere/resnet50.pth"}, "/nowhere/resnet50.pth"),
    ],
)
def test_setup(fake_dataset, tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        loop.run(tiny_config(**changes), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_identities_with_one_image_are_named(monkeypatch, tmp_path):
    dataset = make_dataset()
    train = dataset.splits["train"]
    label = train.label.copy()
    label[0] = 6
    lonely_identity = train.identity[0]
    lonely = {**dataset.splits, "train": dataclasses.replace(train, label=label)}
    changed = dataclasses.replace(dataset, splits=lonely)
    monkeypatch.setattr(crops, "open_dataset", lambda *args, **kwargs: changed)
    with pytest.raises(ValueError, match=rf"1 identities have one image.*\({lonely_identity}\)"):
        loop.run(tiny_config(), tmp_path)


def test_cameras_unseen_in_training_are_refused_with_a_camera_embedding(monkeypatch, tmp_path):
    dataset = make_dataset()
    query = dataset.splits["query"]
    strange = {**dataset.splits, "query": dataclasses.replace(query, camera=query.camera + 1)}
    changed = dataclasses.replace(dataset, splits=strange)
    monkeypatch.setattr(crops, "open_dataset", lambda *args, **kwargs: changed)
    with pytest.raises(ValueError, match=r"cameras \[2\] of the query split"):
        loop.run(tiny_config(method__camera_embedding=True), tmp_path)


def test_a_protocol_without_a_match_is_left_out_with_a_line(capsys, monkeypatch):
    monkeypatch.setattr(base, "_WARNED", set())
    task = runs.opened(tiny_config(), without_matches(0)).task
    assert task.protocols == task.embedder.protocols == ("G2A",)
    err = capsys.readouterr().err
    assert "protocol A2G of fake is left out: none of its 5 queries has a match" in err


@pytest.mark.parametrize(
    ("platforms", "changes", "message"),
    [
        (
            (0,),
            {"evaluate__protocols": ("A2G",)},
            r"A2G of fake cannot .*; name others in evaluate",
        ),
        ((0,), {"evaluate__protocols": ("G2A", "A2G")}, r"A2G of fake cannot be scored: none of"),
        (
            (0, 1),
            {},
            r"A2G of fake cannot be scored: .*, 5 only images of their own camera, which do",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_first_step(
    monkeypatch, tmp_path, platforms, changes, message
):
    dataset = without_matches(*platforms)
    monkeypatch.setattr(crops, "open_dataset", lambda *args, **kwargs: dataset)
    with pytest.raises(ValueError, match=message):
        loop.run(tiny_config(**changes), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_corrupt_image_names_itself(monkeypatch, tmp_path):
    dataset = make_dataset()
    train = dataset.splits["train"]
    images = list(train.images)
    images[7] = b"\xff\xd8 no jpeg"
    broken = {**dataset.splits, "train": dataclasses.replace(train, images=tuple(images))}
    changed = dataclasses.replace(dataset, splits=broken)
    monkeypatch.setattr(crops, "open_dataset", lambda *args, **kwargs: changed)
    with pytest.raises(ValueError, match=f"{train.image_id[7]}.*cannot be decoded"):
        loop.run(tiny_config(), tmp_path)


def test_a_loss_that_is_not_finite_stops_with_step_term_and_images(
    one_device, fake_dataset, tmp_path, monkeypatch
):
    from g2ajax.methods import strong_baseline

    real = strong_baseline.triplet

    def poisoned(feature, label, **options):
        return real(feature, label, **options) + jnp.where(label[0] == 2, jnp.nan, 0.0)

    monkeypatch.setattr(strong_baseline, "triplet", poisoned)
    sampler = make_sampler(
        "naive_identity",
        fake_dataset.splits["train"].label,
        fake_dataset.splits["train"].camera,
        identities=4,
        images=2,
        seed=(0, 0),
    )
    label = fake_dataset.splits["train"].label
    first = next(i for i in range(60) if label[sampler.batch_indices(i)[0]] == 2)
    image = fake_dataset.splits["train"].image_id[sampler.batch_indices(first)[3]]
    with pytest.raises(NonFiniteLoss, match=f"triplet not finite at step {first + 1} of") as error:
        loop.run(tiny_config(phase__reid__epochs=20), tmp_path)
    assert image in str(error.value)


def test_embeddings_that_are_not_finite_are_refused(images_only, monkeypatch):
    run, real = images_only, embedder.embed_split
    monkeypatch.setattr(embedder, "embed_split", lambda *a: np.nan * real(*a))
    with pytest.raises(ValueError, match="5 of 5 query embeddings are not finite"):
        copy.copy(run.task).score(run.model, checkpoint="last", step=0)
