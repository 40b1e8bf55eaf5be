"""Files of Vision Transformers: Google's archives, DeiT, and position tables of other grids."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import backbones
from g2ajax.interop.readers import read_tensors
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.nn.patches import resize_pos_embed
from tests.interop.models import (
    SQUARE,
    TALL,
    Method,
    backbone_file,
    check_backbone,
    prefixed,
    start,
)
from tests.interop.torch_writer import tensors, write_zip


def google(state, heads=2):
    """The inverse of the reader's mapping: a Google file of timm's tensors."""
    dim = state["cls_token"].shape[-1]
    out = {
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": np.zeros((dim, 10), "f4"),
        "head/bias": np.zeros(10, "f4"),
        "pre_logits/kernel": np.zeros((dim, dim), "f4"),
    }
    for i in range(2):
        block, theirs = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        for ours, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            out[f"{theirs}{name}/scale"] = state[f"{block}{ours}.weight"]
            out[f"{theirs}{name}/bias"] = state[f"{block}{ours}.bias"]
        for ours, name in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            out[f"{theirs}MlpBlock_3/{name}/kernel"] = state[f"{block}mlp.{ours}.weight"].T
            out[f"{theirs}MlpBlock_3/{name}/bias"] = state[f"{block}mlp.{ours}.bias"]
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        for k, name in enumerate(("query", "key", "value")):
            rows = slice(k * dim, (k + 1) * dim)
            weight = state[f"{block}attn.qkv.weight"][rows]
            out[f"{attention}{name}/kernel"] = weight.T.reshape(dim, heads, -1)
            out[f"{attention}{name}/bias"] = state[f"{block}attn.qkv.bias"][rows].reshape(heads, -1)
        weight = state[f"{block}attn.proj.weight"]
        out[f"{attention}out/kernel"] = weight.T.reshape(heads, -1, dim)
        out[f"{attention}out/bias"] = state[f"{block}attn.proj.bias"]
    return out


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_google_npz_gives_the_same_features(tmp_path, prefix):
    source = backbones.build("vit_test", image_size=SQUARE, rngs=nnx.Rngs(params=5))
    state = to_state_dict(source)
    np.savez(tmp_path / "ViT.npz", **prefixed(prefix, google(state)))
    read = read_tensors(tmp_path / "ViT.npz")
    assert set(state) <= set(read)
    method = Method("vit_test")
    report = start(method, tmp_path / "ViT.npz")
    assert report.family == "timm ViT"
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)
    views = [
        nnx.view(m, deterministic=True, raise_if_not_found=False) for m in (source, method.backbone)
    ]
    np.testing.assert_array_equal(views[0](images), views[1](images))


def test_google_npz_without_its_keys_is_damaged(tmp_path, vit):
    content = google(vit)
    del content["Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"]
    np.savez(tmp_path / "ViT.npz", **content)
    with pytest.raises(ValueError, match=r"blocks\.1\.attn\.qkv\.weight has only query, value"):
        read_tensors(tmp_path / "ViT.npz")


def test_distilled_deit_loses_its_token_and_heads(tmp_path, vit):
    token = np.full((1, 1, 32), 9.0, "f4")
    table = vit["pos_embed"]
    content = {
        **vit,
        "dist_token": token,
        "pos_embed": np.concatenate([table[:, :1], token, table[:, 1:]], 1),
        "patch_embed.proj.weight": vit["patch_embed.proj.weight"].reshape(32, -1),
        "head.weight": np.zeros((10, 32), "f4"),
        "head_dist.weight": np.zeros((10, 32), "f4"),
    }
    method = Method("vit_test")
    report = start(method, write_zip(tmp_path / "deit.pth", {"model": tensors(content)}))
    assert report.family == "DeiT distilled"
    check_backbone(method, vit)


def test_position_table_is_resized_to_the_grid(tmp_path):
    state = backbone_file("vit_test", image_size=(64, 64))
    path = write_zip(tmp_path / "vit.pth", tensors(state))
    method = Method("vit_test", image_size=TALL)
    report = start(method, path)
    expected = resize_pos_embed(state["pos_embed"], (4, 2))
    check_backbone(method, {**state, "pos_embed": np.asarray(expected)})
    np.testing.assert_array_equal(method.backbone.pos_embed[:, 0], state["pos_embed"][:, 0])
    assert "positions resized from 4x4 to 4x2" in str(report)
    # As many places, but another grid: a square file on an 8 x 2 grid.
    method = Method("vit_test", image_size=(128, 32))
    start(method, path)
    expected = np.asarray(resize_pos_embed(state["pos_embed"], (8, 2)))
    check_backbone(method, {**state, "pos_embed": expected})


def test_position_table_of_a_trained_model_is_taken_as_it_is_or_with_its_grid(tmp_path):
    state = backbone_file("vit_test", image_size=TALL)
    path = write_zip(tmp_path / "reid.pth", tensors(prefixed("base.", state)))
    method = Method("vit_test", image_size=TALL)
    start(method, path)
    check_backbone(method, state)
    method = Method("vit_test", image_size=SQUARE)
    with pytest.raises(ValueError, match=r"say so in init\.position_grid"):
        start(method, path)
    report = start(method, path, position_grid=(4, 2))
    assert "positions resized from 4x2 to 2x2" in str(report)


def test_a_table_that_is_not_square_is_the_models_own(tmp_path):
    """A fine-tuned ViT in timm's names, its table resized already."""
    state = backbone_file("vit_test", image_size=TALL)
    module = Method("vit_test", image_size=TALL)
    start(module, write_zip(tmp_path / "vit.pth", tensors(state)))
    check_backbone(module, state)


@pytest.mark.parametrize("prefix", ["model.", "net.", "teacher.backbone.", "module."])
def test_wrapped_networks_with_a_stray_tensor(tmp_path, vit, prefix):
    content = {**prefixed(prefix, vit), "criterion.center": np.zeros(3, "f4")}
    module = Method("vit_test")
    start(
        module,
        write_zip(tmp_path / "vit.pth", tensors(content)),
        ignore=(r"^criterion\.",),
    )
    check_backbone(module, vit)


def test_a_fine_tuned_masked_autoencoder_says_what_it_lacks(tmp_path, vit):
    state = {k: v for k, v in vit.items() if not k.startswith("norm.")}
    state |= {"fc_norm.weight": np.ones(32, np.float32), "fc_norm.bias": np.zeros(32, np.float32)}
    path = write_zip(tmp_path / "mae.pth", {"model": tensors(state)})
    with pytest.raises(ValueError, match=r"no norm for the class token.*ignore=\('fc_norm',\)"):
        start(Method("vit_test"), path)
    report = start(Method("vit_test"), path, ignore=("fc_norm",), allow_missing=("backbone.norm",))
    assert {"backbone.norm.weight", "backbone.norm.bias"} <= set(report.names("kept"))


def test_the_decoder_of_a_masked_autoencoder_is_left_out(tmp_path, vit):
    decoder = {"mask_token": np.zeros((1, 1, 8), "f4"), "decoder_embed.weight": np.zeros((8, 32))}
    module = Method("vit_test")
    start(module, write_zip(tmp_path / "mae.pth", tensors({**vit, **decoder})))
    check_backbone(module, vit)
