import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet

TASK = methods.DataFacts(num_classes=4, image_size=(48, 32), num_cameras=2)
CONFIGS = {
    "vit": {"backbone": {"name": "vit_test"}, "head": {"pool": "Identity"}},
    "resnet": {"backbone": {"name": "resnet_tiny"}},
    "gem, reduction, circle": {
        "backbone": {"name": "resnet_tiny"},
        "head": {
            "pool": "GeneralizedMeanPoolingP",
            "embedding_dim": 16,
            "classifier": "CircleSoftmax",
            "scale": 64.0,
            "margin": 0.35,
            "neck_feature": "after",
        },
        "hard_mining": False,
        "margin": None,
    },
    "cameras": {
        "backbone": {"name": "vit_test"},
        "head": {"pool": "Identity"},
        "camera_embedding": True,
    },
}


def make(**config):
    return methods.build({"name": "strong_baseline", **config}, TASK, rngs=nnx.Rngs(params=0))


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (8, 48, 32, 3)), jnp.float32),
        "label": jnp.repeat(jnp.arange(4), 2),
        "camera": jnp.tile(jnp.arange(2), 4),
        "platform": jnp.tile(jnp.arange(2), 4),
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_is_trained(name):
    model = make(**CONFIGS[name])
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def gradients(params, batch):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return model.loss(batch, nnx.Rngs(jax.random.key(0)))

        return jax.value_and_grad(loss, has_aux=True)(params)

    (total, metrics), gradient = gradients(params, make_batch())
    assert np.isfinite(total)
    assert set(metrics) == {"identity", "triplet", "accuracy"}
    silent = [
        path for path, leaf in nnx.to_flat_state(gradient) if not bool(jnp.any(leaf[...] != 0))
    ]
    # With the metric losses before the neck, a ViT's class token bias of the keys has no effect.
    assert not silent, silent


def test_loss_is_the_weighted_sum_of_its_terms():
    model = make(**CONFIGS["resnet"], identity_weight=2.0, triplet_weight=0.5)
    model.train()
    batch = make_batch()
    total, metrics = model.loss(batch, nnx.Rngs(0))
    np.testing.assert_allclose(total, 2 * metrics["identity"] + 0.5 * metrics["triplet"], rtol=1e-6)
    out = model.heads(model.features(batch["image"]), batch["label"])
    np.testing.assert_allclose(
        metrics["identity"],
        cross_entropy(out["cls_outputs"], batch["label"], smoothing=0.1, form="fastreid"),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        metrics["triplet"], triplet(out["features"], batch["label"], margin=0.3), rtol=1e-4
    )


def test_embedding_is_float32_deterministic_and_of_the_named_side_of_the_neck():
    after = make(**CONFIGS["resnet"])
    before = make(**CONFIGS["resnet"], test_feature="before")
    for model in (after, before):
        model.eval()
    # A neck that has seen data: otherwise both sides differ only by the batch norm's eps.
    after.heads.bottleneck[0].mean[...] = jnp.full(after.heads.feature_dim, 0.1)
    images = make_batch()["image"]
    one, other = after.embed(images), before.embed(images)
    assert one.dtype == jnp.float32
    np.testing.assert_array_equal(one, after.embed(images))
    assert not np.allclose(one, other)
    assert (after.feature_name, before.feature_name) == ("after neck", "before neck")


def test_cameras_move_the_embedding_only_if_asked():
    batch = make_batch()
    images, camera = batch["image"], batch["camera"]
    for name, moves in (("cameras", True), ("vit", False)):
        model = make(**CONFIGS[name])
        model.eval()
        same = np.allclose(
            model.embed(images, camera=camera), model.embed(images, camera=1 - camera)
        )
        assert same != moves


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="no method 'strong_baselin'; did you mean 'strong_base"):
        methods.build({"name": "strong_baselin"}, TASK, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="method has no option 'smothing'; did you mean 'smooth"):
        make(**CONFIGS["resnet"], smothing=0.1)
    with pytest.raises(ValueError, match="vit_test"):
        make(backbone={"name": "vit_tes"})


def test_adaptive_smoothing_is_of_one_form():
    with pytest.raises(ValueError, match=r"smoothing = -1 \(adaptive\) needs .*, not 'uniform'"):
        make(**CONFIGS["resnet"], smoothing=-1.0, smoothing_form="uniform")


def test_a_method_outside_the_package_is_named_by_its_module():
    assert methods.module("g2ajax.methods.strong_baseline") is methods.module("strong_baseline")


def test_torchreids_head_takes_only_a_pool():
    head = {"pool": "GlobalMaxPool", "classifier": "CircleSoftmax"}
    with pytest.raises(ValueError, match=r"method\.fc_dim = 16: .*nothing of method\.head but"):
        make(backbone={"name": "resnet_tiny"}, fc_dim=16, head=head)
    model = make(backbone={"name": "resnet_tiny"}, fc_dim=16, head={"pool": "GlobalMaxPool"})
    assert model.heads.embed(jnp.ones((8, 3, 2, 256))).shape == (8, 16)
