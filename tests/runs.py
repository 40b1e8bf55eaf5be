"""Small runs that tests share: their configurations, and the runs themselves."""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax
import pytest

from g2ajax.apps import evaluate
from g2ajax.backbones import clip
from g2ajax.recipes.files import load
from g2ajax.tasks import crops, tracklets
from g2ajax.training import loop, mesh, setup
from g2ajax.training.options import run_options
from tests.fake_captions import make_captions_dataset
from tests.fake_data import make_dataset


@contextlib.contextmanager
def opens(dataset) -> Iterator[None]:
    """Within it runs open this dataset, whatever their configuration names."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (crops, evaluate, tracklets):
            patch.setattr(module, "open_dataset", lambda *args, **kwargs: dataset)
        yield


def finished(workdir, config):
    """A run of `config` in the folder on the dataset in memory: folder, configuration, results."""
    with opens(make_dataset()):
        return workdir, config, loop.run(config, workdir)


def written(folder):
    """The files of a folder and the times when they were written: the same after what only reads it."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def ranked_config() -> dict:
    """One epoch, scored by re-ranking and query expansion too."""
    return tiny_config(
        phase__reid__epochs=1,
        evaluate__rankings=("rerank", "query_expansion"),
        evaluate__rerank={"k1": 5, "k2": 2},
        evaluate__reported_queries=400,
    )


def opened(config, dataset):
    """The run of `config` before its first step, on one device."""
    with pytest.MonkeyPatch.context() as patch, opens(dataset):
        patch.setattr(setup, "make_mesh", on_one_device)
        return setup.prepare(run_options(config), trains=False)


def opened_with_text():
    """A run on images and captions before its first step."""
    shallow = dataclasses.replace(clip.VARIANTS["clip_test"], vision_layers=1, text_layers=1)
    config = tiny_config(evaluate__batch_size=8)
    config["method"] = {"name": "irra", "backbone": {"name": "clip_shallow"}, "losses": ("sdm",)}
    config["text"] = {"length": 12}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clip.VARIANTS, "clip_shallow", shallow)
        return opened(config, make_captions_dataset())


def finished_frames(workdir):
    """A run on whole frames, on one device: its folder, the configuration and the results."""
    config = frames_config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "make_mesh", on_one_device)
        return workdir, config, loop.run(config, workdir)


def frames_config(**changes) -> dict:
    """One epoch of two steps of SeqNet on whole frames."""
    config = load("configs/seqnet.py:tiny").to_dict()
    config["phase"]["search"].update(epochs=1, steps_per_epoch=2)
    config["log"]["tensorboard"] = False
    config["method"]["regions"]["score_threshold"] = 0.2  # untrained, it is sure of nothing
    config["evaluate"]["rankings"] = ("cbgm", "true_boxes")
    return changed(config, **changes)


def on_one_device(data: int, fsdp: int) -> jax.sharding.Mesh:
    """The mesh of a run of one device: for eight virtual ones a detector takes long to compile."""
    return mesh.make_mesh(devices=jax.devices()[:1])


def explainable_config(**changes) -> dict:
    """Two epochs of `reid`, then two of `explain`, on the same images."""
    config = tiny_config()
    stream1 = config["method"]
    stream1["head"] = {"pool": "GlobalAvgPool"}
    config["method"] = {"name": "explainable", "stream1": stream1}
    reid = {**config["phase"]["reid"], "trainable": ("stream1",), "loss": "reid_loss"}
    explain = {
        **config["phase"]["reid"],
        "trainable": ("stream2", "adh"),
        "loss": "explain_loss",
        "copy": {"stream2": "stream1.backbone"},
        "rankings": ("reid", "distance", "decomposed", "reweighted_max"),
        "sampler": {"identities": 2, "images": 4},
    }
    config["phases"] = ("reid", "explain")
    config["phase"] = {"reid": reid, "explain": explain}
    return changed(config, **changes)


def changed(config: dict, **changes) -> dict:
    """The configuration with other values at dotted places, written with `__`."""
    for name, value in changes.items():
        node = config
        *path, leaf = name.split("__")
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return config


def tiny_config(*, backbone: str = "vit_test", **changes) -> dict:
    """A run of two epochs of three steps on 48 x 20 images."""
    pool = "Identity" if backbone == "vit_test" else "GlobalAvgPool"
    config = {
        "name": "tiny",
        "dataset": "fake",
        "method": {
            "name": "strong_baseline",
            "backbone": {"name": backbone},
            "head": {"pool": pool},
        },
        "data": {"image_size": (48, 32), "residency": "device"},
        "augment": {"pad": 2},
        "sampler": {"identities": 4, "images": 2},
        "phases": ("reid",),
        "phase": {
            "reid": {
                "epochs": 2,
                "steps_per_epoch": 3,
                "optimizer": {"name": "adam", "learning_rate": 1e-3},
            }
        },
        "mesh": {"data": -1},
        "evaluate": {
            "every_epochs": 1,
            "batch_size": 16,
            "bootstrap_samples": 50,
            "reported_queries": 0,
        },
        "checkpoint": {"every_steps": 2},
        "log": {"every_steps": 1, "tensorboard": False},
    }
    return changed(config, **changes)
