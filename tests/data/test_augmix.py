import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from g2ajax.data.augment import AugmentOptions, EraseOptions, augment
from g2ajax.data.augmix import augmix

H, W = 24, 12
IMAGES = np.random.default_rng(0).integers(0, 256, (64, H, W, 3)).astype(np.uint8)
KEYS = jax.random.split(jax.random.key(0), 64)
PLAIN = {"flip": 0.0, "pad": 0, "erase": EraseOptions(probability=0.0)}


@pytest.fixture(scope="module")
def mixed():
    return jax.jit(jax.vmap(augmix))


def test_mixtures_by_hand(mixed):
    """Black stays black. Chains of a smooth ramp of grey are the ramp, moved and bent a little: what
    is mixed cannot be brighter, and darkens where the outside comes in."""
    assert not np.asarray(mixed(KEYS, jnp.zeros_like(IMAGES))).any()
    column = np.linspace(40, 200, H).astype(np.uint8)[:, None, None]
    ramp = np.broadcast_to(column, (64, H, W, 3)).copy()
    out = np.asarray(mixed(KEYS, jnp.asarray(ramp))).astype(int)
    inside = out[:, 6:-6, 3:-3]
    # Autocontrast and equalize stretch 40..200 to 0..255: 55 levels at most; posterize takes 15.
    assert np.abs(inside - ramp[:, 6:-6, 3:-3]).max() <= 56
    same = (out == ramp).all((1, 2, 3))
    assert 0 < same.mean() < 0.5  # where all chains are translations by less than a pixel


def test_a_mixture_is_of_its_key_alone(mixed):
    out = np.asarray(mixed(KEYS, jnp.asarray(IMAGES)))
    swapped = np.asarray(mixed(KEYS[::-1], jnp.asarray(IMAGES[::-1])))
    np.testing.assert_array_equal(out, swapped[::-1])
    assert (
        len(np.unique(np.asarray(mixed(KEYS, jnp.asarray(IMAGES[:1].repeat(64, 0)))), axis=0)) > 40
    )


def test_it_happens_as_often_as_asked():
    options = AugmentOptions(**PLAIN, augmix=0.3)
    run = jax.jit(lambda key, x: augment(key, x, options, (0.0,) * 3, (1.0,) * 3))
    changed = np.asarray(run(jax.random.key(1), jnp.asarray(IMAGES))) != IMAGES
    assert 0.12 < changed.any((1, 2, 3)).mean() < 0.45


def test_turns_are_those_of_pillow():
    options = AugmentOptions(**PLAIN, rotation=30.0)
    run = jax.jit(lambda key, x: augment(key, x, options, (0.0,) * 3, (1.0,) * 3))
    key = jax.random.key(2)
    out = np.asarray(run(key, jnp.asarray(IMAGES)))
    keys = [jax.random.fold_in(one, 5) for one in jax.random.split(key, 64)]
    angles = [float(jax.random.uniform(one, (), minval=-30, maxval=30)) for one in keys[:8]]
    assert min(angles) < -5 and max(angles) > 5
    for image, angle, turned in zip(IMAGES, angles, out, strict=False):
        expected = Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR)
        # Pillow rounds the centre's shift in its matrix: a pixel at the border may be in or out.
        off = np.abs(np.asarray(expected).astype(int) - turned.astype(int)).max(-1) > 1
        assert off.mean() < 0.02
