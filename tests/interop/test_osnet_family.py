"""torchreid's OSNet files: of ImageNet and of re-identification, wrapped or not."""

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from g2ajax import backbones
from g2ajax.interop import families
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.nn.heads import EmbeddingHead
from tests.interop.torch_writer import tensors, write_zip


class Method(nnx.Module):
    """A re-identification model with fast-reid's head."""

    def __init__(self, **options):
        rngs = nnx.Rngs(params=0)
        self.backbone = network(rngs=rngs, **options)
        self.heads = EmbeddingHead(self.backbone.feature_dim, 5, rngs=rngs)


def network(*, rngs, **options):
    return backbones.build("osnet_test", image_size=(64, 32), rngs=rngs, **options)


def public_file(*, classes, prefix="", **options):
    """A file as torchreid writes it, and its backbone's tensors."""
    rng = np.random.default_rng(0)
    trunk = {
        name: np.abs(value + rng.normal(size=value.shape)).astype("f4")
        for name, value in to_state_dict(network(rngs=nnx.Rngs(params=7), **options)).items()
    }
    head = {
        "fc.0.weight": np.zeros((512, 32), "f4"),
        "fc.0.bias": np.zeros(512, "f4"),
        "fc.1.weight": np.zeros(512, "f4"),
        "fc.1.running_var": np.zeros(512, "f4"),
        "conv5.bn.num_batches_tracked": np.array(3),
        "classifier.weight": np.zeros((classes, 512), "f4"),
        "classifier.bias": np.zeros(classes, "f4"),
    }
    return {prefix + name: value for name, value in {**trunk, **head}.items()}, trunk


def check(module, expected):
    found = to_state_dict(module)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", ["none", "ibn", "ain"])
@pytest.mark.parametrize(
    ("classes", "prefix", "wrap"), [(1000, "", False), (751, "", True), (751, "module.", True)]
)
def test_backbone_is_read(tmp_path, kind, classes, prefix, wrap):
    content, trunk = public_file(classes=classes, prefix=prefix, instance_norm=kind)
    content = tensors(content)
    path = write_zip(tmp_path / "osnet.pth", {"state_dict": content} if wrap else content)
    method = Method(instance_norm=kind)
    head = to_state_dict(method.heads)
    report = initialise(method, InitOptions(file=str(path)))
    assert report.family == "torchreid OSNet"
    assert "conv5.conv.weight" in report.why
    assert len(report.loaded) == len(trunk)
    check(method.backbone, trunk)
    check(method.heads, head)


def test_wrapped_names_in_another_format_and_a_bare_backbone(tmp_path):
    content, trunk = public_file(classes=9, prefix="module.")
    safetensors.numpy.save_file(content, tmp_path / "osnet.safetensors")
    bare = network(rngs=nnx.Rngs(params=0))
    initialise(bare, InitOptions(file=str(tmp_path / "osnet.safetensors")))
    check(bare, trunk)


def test_head_of_torchreid_is_not_a_neck(tmp_path):
    path = write_zip(tmp_path / "osnet.pth", tensors(public_file(classes=9)[0]))
    with pytest.raises(ValueError, match=r"torchreid OSNet .*use init\.part='backbone'"):
        initialise(Method(), InitOptions(file=str(path), part="all"))


def test_another_variant_is_refused_and_nothing_changes(tmp_path):
    path = write_zip(tmp_path / "ain.pth", tensors(public_file(classes=9, instance_norm="ain")[0]))
    method = Method()
    before = to_state_dict(method)
    with pytest.raises(ValueError, match=r"Unexpected in the file: .*backbone\.conv2\.0\.conv2\.0"):
        initialise(method, InitOptions(file=str(path)))
    check(method, before)


def test_family_is_told_from_fast_reid_and_resnet():
    plain = ["conv2.0.conv2a.conv1.weight", "conv5.conv.weight"]
    ain = ["module.conv2.0.conv2.0.layers.0.conv1.weight", "module.conv5.conv.weight"]
    for names in (plain, ain):
        assert families.detect_family(names)[0] == "torchreid OSNet"
    wrapped = [f"backbone.{name}" for name in plain]
    assert families.detect_family(wrapped)[0] == "fast-reid backbone"
    family = families.family("torchreid OSNet")
    assert families.our_name(family, "module.conv1.conv.weight") == "backbone.conv1.conv.weight"
    assert "osnet_x1_0_imagenet.pth" in families.usual_files("weights/osnet_ain_x1_0.pth")
