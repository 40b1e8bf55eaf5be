import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.recipes import view_aware
from tests.interop.models import backbone_file
from tests.interop.torch_writer import tensors, write_zip
from tests.methods.learning import (
    FACTS,
    check_embedding,
    check_learning,
    evaluation,
    make_batch,
    train,
    untrained,
)


def make(*, seed=0, **changes):
    backbone = {"name": "vit_test", "drop_path": 0.0}
    config = {"name": "secap", "backbone": backbone, "prompts": 3, **changes}
    return methods.build(config, FACTS, rngs=nnx.Rngs(params=seed))


@pytest.fixture(scope="module")
def trained():
    model = make(view_weight=1.0, decoder_depth=1)
    return train(model, make_batch())[0], model


def test_every_parameter_is_trained_but_the_weights_of_a_single_key(trained):
    loss, terms, gradient = trained[0][0]
    names = ("identity", "triplet", "view", "orthogonal", "local_identity", "local_triplet")
    np.testing.assert_allclose(loss, sum(terms[name] for name in names), rtol=1e-6)
    silent = {".".join(map(str, path[:3])) for path in untrained(gradient)}
    assert silent == {"prm.cross_attn.q_proj", "prm.cross_attn.k_proj"}


def test_it_learns_with_both_features(trained):
    steps, model = trained
    check_learning(steps, ("identity", "local_identity", "view"))
    check_embedding(model, 64)


def test_nothing_is_subtracted_after_the_last_block_and_the_patches_enter_it():
    images = make_batch()["image"][:2]
    model = evaluation(make())
    network = model.backbone
    network.view_token[...] += 0.5

    @nnx.jit
    def both(model):
        network = model.backbone
        tokens = network.blocks[0](network.embed_patches(model.preprocessing(images)))
        tokens = tokens.at[:, 0].add(-tokens[:, 1])
        last = network.norm(network.blocks[1](tokens))
        return (last[:, 0], last[:, 1], tokens[:, 2:]), model.encode(images)

    for expected, got in zip(*both(model), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)


def published(state):
    """The file of the published code: copies of the last block and the norm, and unused tensors."""
    unused = {"backbone.lfrm.out_token": np.ones((1, 32)), "backbone.prm.attn2.x": np.ones(3)}
    for name, value in state.items():
        top = name.split(".")[0]
        if name.startswith(("backbone.blocks.1.", "backbone.norm.")):
            copy = name.replace("backbone.blocks.1.", "backbone.b1.0.")
            unused[copy.replace("backbone.norm.", "backbone.b1.1.")] = value
            unused[name.replace("backbone.", "backbone.base.")] = np.zeros_like(value)
        elif top == "backbone":
            unused[name.replace("backbone.", "backbone.base.")] = value
        else:
            unused[name if top.endswith("heads") else f"backbone.{name}"] = value
    return {name: np.asarray(value, np.float32) for name, value in unused.items()}


def test_a_file_of_the_published_code_fills_all(tmp_path):
    state = {k: v + np.float32(0.5) for k, v in to_state_dict(make(seed=3)).items()}
    path = write_zip(tmp_path / "secap.pth", {"model": tensors(published(state))})
    model = make()
    report = initialise(model, InitOptions(file=str(path), part="all"))
    assert report.family == "SeCap" and not report.names("kept")
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_a_plain_vit_fills_its_last_block_and_norm(tmp_path):
    state = backbone_file("vit_test", image_size=(32, 32))
    path = write_zip(tmp_path / "vit.pth", tensors(state))
    model = make()
    initialise(model, InitOptions(file=str(path)))
    got = to_state_dict(model)
    for name in ("blocks.1.attn.qkv.weight", "norm.bias"):
        np.testing.assert_array_equal(got[f"backbone.{name}"], state[name])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="attention width 32 is not divisible by 3 heads"):
        make(decoder_heads=3)


def test_recipe():
    for dataset, stride, prompts, weight in (
        ("agreid", 12, 128, 10.0),
        ("lagper", 16, 64, 0.001),
    ):
        method = view_aware.secap(dataset).method
        found = (method.backbone.stride, method.prompts, method.view_weight)
        assert found == (stride, prompts, weight)
