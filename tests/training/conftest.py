import pytest

from g2ajax.training import setup
from tests.fake_data import make_dataset


@pytest.fixture
def fake_dataset(monkeypatch):
    """Runs open the dataset in memory, whatever their configuration names."""
    dataset = make_dataset()
    monkeypatch.setattr(setup, "open_dataset", lambda *args, **kwargs: dataset)
    return dataset


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
        "evaluate": {"every_epochs": 1, "batch_size": 16, "bootstrap_samples": 50},
        "checkpoint": {"every_steps": 2},
        "log": {"every_steps": 1, "tensorboard": False},
    }
    for name, value in changes.items():
        node = config
        *path, leaf = name.split("__")
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return config
