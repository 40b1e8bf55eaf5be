"""Models and files of weights for the tests of loading."""

import numpy as np
from flax import nnx

from g2ajax import backbones
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.nn.heads import BNNeck, EmbeddingHead

SQUARE, TALL = (32, 32), (64, 32)
DIM = {"vit_test": 32, "resnet_tiny": 256}


class Method(nnx.Module):
    """A re-identification model with fast-reid's head, or with the neck of the strong baseline."""

    def __init__(self, name, *, image_size=SQUARE, neck=False, classes=5, seed=0, **options):
        rngs = nnx.Rngs(params=seed)
        self.backbone = backbones.build(name, image_size=image_size, rngs=rngs, **options)
        if neck:
            self.neck = BNNeck(DIM[name], classes, rngs=rngs)
        else:
            self.heads = EmbeddingHead(DIM[name], classes, pool="Identity", rngs=rngs)


def backbone_file(name, seed=7, **options):
    """A state dictionary with the backbone's public names and drawn values (norms too)."""
    options = {"image_size": SQUARE, **options}
    state = to_state_dict(backbones.build(name, rngs=nnx.Rngs(params=seed), **options))
    rng = np.random.default_rng(seed)
    return {
        key: value + np.abs(rng.normal(size=value.shape)).astype("f4")
        for key, value in state.items()
    }


def prefixed(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def check_backbone(module, expected):
    state = to_state_dict(module.backbone)
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-6, err_msg=name)


def start(module, path, **options):
    return initialise(module, InitOptions(file=str(path), **options))
