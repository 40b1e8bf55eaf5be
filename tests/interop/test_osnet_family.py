"""torchreid's OSNet files: of ImageNet and of re-identification, wrapped or not."""

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from g2ajax import backbones, methods
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
        "fc.0.weight": rng.normal(size=(512, 32)).astype("f4"),
        "fc.0.bias": rng.normal(size=512).astype("f4"),
        "fc.1.weight": rng.normal(size=512).astype("f4"),
        "fc.1.bias": rng.normal(size=512).astype("f4"),
        "fc.1.running_mean": rng.normal(size=512).astype("f4"),
        "fc.1.running_var": rng.uniform(1, 2, size=512).astype("f4"),
        "fc.1.num_batches_tracked": np.array(3),
        "conv5.bn.num_batches_tracked": np.array(3),
        "classifier.weight": rng.normal(size=(classes, 512)).astype("f4"),
        "classifier.bias": rng.normal(size=classes).astype("f4"),
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


TASK = methods.DataFacts(num_classes=9, image_size=(64, 32))


def torchreids(fc_dim=512, **backbone):
    return methods.build(
        {
            "name": "strong_baseline",
            "backbone": {"name": "osnet_test", **backbone},
            "fc_dim": fc_dim,
            "metric": "squared_euclidean",
        },
        TASK,
        rngs=nnx.Rngs(params=0),
    )


def test_head_of_torchreid_is_not_a_neck(tmp_path):
    path = write_zip(tmp_path / "osnet.pth", tensors(public_file(classes=9)[0]))
    with pytest.raises(
        ValueError, match=r"torchreid OSNet .*use init\.part='backbone'.*method\.fc_dim=512"
    ):
        initialise(Method(), InitOptions(file=str(path), part="all"))


@pytest.mark.parametrize(("kind", "prefix"), [("none", ""), ("ain", "module.")])
def test_the_whole_file_is_read_and_embeds_as_torchreid_does(tmp_path, kind, prefix):
    content, trunk = public_file(classes=9, prefix=prefix, instance_norm=kind)
    path = write_zip(tmp_path / "osnet.pth", tensors(content))
    model = torchreids(instance_norm=kind)
    report = initialise(model, InitOptions(file=str(path), part="all"))
    assert report.family == "torchreid OSNet"
    file = {name.removeprefix(prefix): value for name, value in content.items()}
    used = {name for name in file if not name.endswith("num_batches_tracked")}
    assert len(report.loaded) == len(used)  # every tensor, `fc` and `classifier` with the rest
    assert not report.names("kept")
    check(model.backbone, trunk)
    assert families.detect_family(to_state_dict(model))[0] == "g2ajax with torchreid's head"
    model.eval()
    feature_map = np.random.default_rng(1).normal(size=(3, 4, 2, 32)).astype("f4")
    pooled = feature_map.mean((1, 2))
    linear = pooled @ file["fc.0.weight"].T + file["fc.0.bias"]
    shift, scale = file["fc.1.running_mean"], 1 / np.sqrt(file["fc.1.running_var"] + 1e-5)
    feature = np.maximum((linear - shift) * scale * file["fc.1.weight"] + file["fc.1.bias"], 0)
    np.testing.assert_allclose(
        model.heads.embed(jnp.asarray(feature_map)), feature, rtol=1e-4, atol=1e-4
    )
    out = model.heads(jnp.asarray(feature_map), jnp.zeros(3, jnp.int32))
    logits = feature @ file["classifier.weight"].T + file["classifier.bias"]
    np.testing.assert_allclose(out["cls_outputs"], logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(out["features"], feature, rtol=1e-4, atol=1e-4)


def test_a_missing_fc_and_other_widths_are_refused(tmp_path):
    content, _ = public_file(classes=9)
    del content["fc.1.running_mean"]
    path = write_zip(tmp_path / "osnet.pth", tensors(content))
    with pytest.raises(ValueError, match=r"heads\.fc\.1\.running_mean"):
        initialise(torchreids(), InitOptions(file=str(path), part="all"))
    path = write_zip(tmp_path / "whole.pth", tensors(public_file(classes=9)[0]))
    with pytest.raises(ValueError, match=r"heads\.fc\.0\.weight"):
        initialise(torchreids(fc_dim=256), InitOptions(file=str(path), part="all"))


def test_fc_of_imagenet_is_read_without_its_classifier(tmp_path):
    content, _ = public_file(classes=1000)
    path = str(write_zip(tmp_path / "osnet_imagenet.pth", tensors(content)))
    with pytest.raises(ValueError, match=r"for 1000 classes, the model has 9"):
        initialise(torchreids(), InitOptions(file=path, part="all"))
    model = torchreids()
    before = to_state_dict(model.heads.classifier)
    report = initialise(model, InitOptions(file=path, part="all", allow_classifier_mismatch=True))
    assert set(report.names("kept")) == {"heads.classifier.weight", "heads.classifier.bias"}
    check(model.heads.classifier, before)
    np.testing.assert_array_equal(to_state_dict(model.heads)["fc.0.weight"], content["fc.0.weight"])


def test_torchreids_resnet_is_told_from_torchvisions():
    names = ["conv1.weight", "layer1.0.conv1.weight", "fc.0.weight", "classifier.weight"]
    assert families.detect_family(names)[0] == "torchreid ResNet"
    assert families.detect_family([*names[:2], "fc.weight"])[0] == "torchvision/timm ResNet"
    family = families.family("torchreid ResNet")
    assert families.our_name(family, "module.fc.1.bias") == "heads.fc.1.bias"
    assert families.our_name(family, "layer1.0.conv1.weight") == "backbone.layer1.0.conv1.weight"


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
