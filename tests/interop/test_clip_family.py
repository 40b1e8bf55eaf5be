"""CLIP files of OpenAI (TorchScript), open_clip and transformers, and IRRA's, into our towers."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from g2ajax.backbones import clip
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.readers import read_tensors
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.nn import patches
from tests.interop.torch_writer import Script, Tensor, tensors, write_zip

SMALL = dataclasses.replace(
    clip.VARIANTS["clip_test"], vocabulary_size=20, context_length=6, vision_layers=1, text_layers=2
)


def towers(image_size=(32, 32), variant=SMALL, seed=0, **options):
    return clip.CLIP(variant, image_size=image_size, rngs=nnx.Rngs(seed), **options)


class Method(nnx.Module):
    """Named as IRRA's model is."""

    def __init__(self, classes=5, **options):
        self.base_model = towers(**options)
        self.classifier = nnx.Linear(32, classes, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def public():
    """Values under OpenAI's names, rounded to 16 bits so that every file can hold them."""
    rng = np.random.default_rng(0)
    shapes = {name: value.shape for name, value in to_state_dict(towers()).items()}
    return {n: rng.normal(size=s).astype("f2").astype("f4") for n, s in shapes.items()}


def check(module, expected):
    found = to_state_dict(module)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def script(arrays):
    """Nested modules with half-precision weights, as in OpenAI's archives."""
    tree = {}
    for name, value in arrays.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = Tensor(np.asarray(value))

    def module(node):
        inner = {k: module(v) if isinstance(v, dict) else v for k, v in node.items()}
        return Script(training=True, _is_full_backward_hook=None, **inner)

    return module(tree)


EXTRA = {
    "input_resolution": np.array(32),
    "context_length": np.array(6),
    "vocab_size": np.array(20),
    "logit_scale": np.array(4.6, "f4"),
}


def test_openai_archive(tmp_path, public):
    content = script({n: v.astype("f2") for n, v in public.items()} | EXTRA)
    path = write_zip(tmp_path / "ViT.pt", content, root="ViT-B-16", script=True)
    model = towers()
    report = initialise(model, InitOptions(file=str(path)))
    check(model, public)
    assert report.family == "CLIP" and sorted(report.names("ignored")) == sorted(EXTRA)
    assert "the activation is quick_gelu; no file says its own" in str(report)


@pytest.mark.parametrize("apart", [False, True])
def test_open_clip_file(tmp_path, public, apart):
    prefix = {n: "text." if apart and not n.startswith("visual.") else "" for n in public}
    arrays = {prefix[n] + n: v.astype(ml_dtypes.bfloat16) for n, v in public.items()}
    arrays["logit_scale"] = np.array(4.6, "f4")
    if apart:
        arrays["text.attn_mask"] = np.zeros((6, 6), "f4")
        safetensors.numpy.save_file(arrays, path := tmp_path / "open_clip_model.safetensors")
    else:
        content = {"epoch": 3, "state_dict": tensors({f"module.{n}": v for n, v in arrays.items()})}
        path = write_zip(tmp_path / "open_clip.pt", content)
    model = towers()
    initialise(model, InitOptions(file=str(path)))
    check(model, {n: v.astype(ml_dtypes.bfloat16).astype("f4") for n, v in public.items()})


def huggingface(public):
    """The same values as transformers stores them."""
    whole = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    parts = (
        ("visual.ln_pre.", "vision_model.pre_layrnorm."),
        ("visual.ln_post.", "vision_model.post_layernorm."),
        ("ln_final.", "text_model.final_layer_norm."),
        ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
        ("transformer.resblocks.", "text_model.encoder.layers."),
    )
    out = {
        "logit_scale": np.array(4.6, "f4"),
        "text_model.embeddings.position_ids": np.arange(6)[None],
        "visual_projection.weight": public["visual.proj"].T,
        "text_projection.weight": public["text_projection"].T,
    }
    for name, value in public.items():
        if name in ("visual.proj", "text_projection"):
            continue
        new = whole.get(name)
        if new is None:
            old, prefix = next(pair for pair in parts if name.startswith(pair[0]))
            new = prefix + name.removeprefix(old)
        for a, b in (
            (".attn.out_proj.", ".self_attn.out_proj."),
            (".ln_1.", ".layer_norm1."),
            (".ln_2.", ".layer_norm2."),
            (".c_fc.", ".fc1."),
            (".c_proj.", ".fc2."),
        ):
            new = new.replace(a, b)
        if ".attn.in_proj_" in new:
            for letter, part in zip("qkv", np.split(value, 3), strict=True):
                out[new.replace(".attn.in_proj_", f".self_attn.{letter}_proj.")] = part
        else:
            out[new] = value
    return {n: np.ascontiguousarray(v) for n, v in out.items()}


def test_transformers_file(tmp_path, public):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(huggingface(public), path)
    model = towers()
    initialise(model, InitOptions(file=str(path)))
    check(model, public)


def test_transformers_file_without_its_values(tmp_path, public):
    arrays = huggingface(public)
    del arrays["text_model.encoder.layers.1.self_attn.v_proj.bias"]
    safetensors.numpy.save_file(arrays, path := tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"resblocks\.1\.attn\.v_proj\.bias not; the file is dam"):
        read_tensors(path)


def test_positions_are_resized_to_the_grid(tmp_path, public):
    safetensors.numpy.save_file(public, path := tmp_path / "a.safetensors")
    model = towers(image_size=(64, 32))
    report = initialise(model, InitOptions(file=str(path)))
    table = public["visual.positional_embedding"]
    expected = patches.resize_pos_embed(table, (4, 2))
    np.testing.assert_array_equal(model.visual.positional_embedding[...], expected)
    np.testing.assert_array_equal(expected[0], table[0])
    assert "positions resized from 2x2 to 4x2" in str(report)


def test_into_a_method_and_from_its_own_checkpoint(tmp_path, public):
    safetensors.numpy.save_file(public, path := tmp_path / "a.safetensors")
    model = Method()
    before = to_state_dict(model)
    initialise(model, InitOptions(file=str(path)))
    heads = {n: before[n] for n in ("classifier.weight", "classifier.bias")}
    check(model, {f"base_model.{n}": v for n, v in public.items()} | heads)
    with pytest.raises(ValueError, match=r"no neck or classifier .* use init.part='backbone'"):
        initialise(model, InitOptions(file=str(path), part="all"))
    state = to_state_dict(model) | {"classifier.bias": np.ones(5, "f4")}
    safetensors.numpy.save_file(state, path := tmp_path / "irra.safetensors")
    report = initialise(model, InitOptions(file=str(path), part="all"))
    assert report.family == "IRRA" and report.ok
    check(model, state)
    with pytest.raises(ValueError, match=r"classifier.* is for 5 classes, the model has 7"):
        initialise(Method(classes=7), InitOptions(file=str(path), part="all"))
    bare = towers()
    initialise(bare, InitOptions(file=str(path)))
    check(bare, public)


def test_towers_that_do_not_match(tmp_path, public):
    safetensors.numpy.save_file(public, path := tmp_path / "a.safetensors")
    other = dataclasses.replace(SMALL, text_layers=1, patch_size=8)
    with pytest.raises(
        ValueError,
        match=r"another size: patch_size 16 \(the model's: 8\), text_layers 2 \(the model's: 1\)\.",
    ):
        initialise(towers(variant=other), InitOptions(file=str(path)))
    resnet = {"visual.attnpool.positional_embedding": np.zeros((50, 8), "f4")}
    resnet |= {n: v for n, v in public.items() if not n.startswith("visual.")}
    safetensors.numpy.save_file(resnet, path := tmp_path / "rn50.safetensors")
    with pytest.raises(ValueError, match=r"a CLIP with a ResNet is not built here"):
        initialise(towers(), InitOptions(file=str(path)))


def test_a_file_that_is_no_clip(tmp_path):
    arrays = {"conv1.weight": np.zeros((4, 3, 7, 7), "f4"), "layer1.0.conv1.weight": np.zeros(1)}
    safetensors.numpy.save_file(arrays, path := tmp_path / "resnet.safetensors")
    with pytest.raises(ValueError, match=r"of a ResNet; the model's backbone is a CLIP.*ViT-B-16"):
        initialise(towers(), InitOptions(file=str(path)))
