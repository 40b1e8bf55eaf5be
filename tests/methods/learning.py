"""A small set-up for tests of methods that learn people and views: facts, a batch, some steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from g2ajax import methods
from g2ajax.interop.state_dict import to_state_dict

SIZE = (32, 32)
FACTS = methods.DataFacts(num_classes=4, image_size=SIZE, num_cameras=2, num_platforms=2)


def make_batch(seed=0):
    """Four people of one red each; aerial images are brighter in blue."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 100, (16, *SIZE, 3))
    label, platform = np.repeat(np.arange(4), 4), np.tile([0, 1], 8)
    image[..., 0] += 30 * label[:, None, None]
    image[..., 2] += 100 * (platform == 0)[:, None, None]
    arrays = {"label": label, "platform": platform, "camera": platform}
    return {
        "image": jnp.asarray(image, jnp.float32),
        **{k: jnp.asarray(v) for k, v in arrays.items()},
    }


def evaluation(model):
    return nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)


embed = nnx.jit(lambda model, images: model.embed(images))


def train(model, batch, count=40):
    """(loss, terms, gradient) of each step, the state dict before them; trains the model."""
    model.train()
    start = to_state_dict(model)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, key):
        gradient = nnx.value_and_grad(lambda m: m.loss(batch, nnx.Rngs(key)), has_aux=True)
        (loss, terms), grads = gradient(model)
        optimizer.update(model, grads)
        return loss, terms, grads

    steps = [step(model, optimizer, key) for key in jax.random.split(jax.random.key(0), count)]
    return steps, start


def untrained(gradient):
    """Paths of the parameters whose gradient is zero."""
    return [path for path, leaf in nnx.to_flat_state(gradient) if not bool(jnp.any(leaf[...] != 0))]


def check_learning(steps, terms=("identity", "triplet", "view")):
    """Checks that all numbers are finite and that each of the terms has fallen to a third."""
    first, last = ({k: float(v) for k, v in found.items()} for _, found, _ in (steps[0], steps[-1]))
    assert all(np.isfinite([*first.values(), *last.values()])), (first, last)
    for name in terms:
        assert last[name] < 0.3 * first[name], (name, first, last)


def check_embedding(model, width):
    """Checks that an embedding depends on its image alone, and leaves the model as it was."""
    model, images = evaluation(model), make_batch(1)["image"]
    before = to_state_dict(model)
    feature = embed(model, images)
    assert feature.shape == (16, width) and feature.dtype == jnp.float32
    assert np.isfinite(feature).all()
    np.testing.assert_array_equal(embed(model, images), feature)
    np.testing.assert_allclose(embed(model, images[::-1]), feature[::-1], rtol=1e-4, atol=1e-4)
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
