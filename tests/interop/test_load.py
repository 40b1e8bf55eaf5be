import sys
import types

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from g2ajax import backbones
from g2ajax.config import options
from g2ajax.interop import families
from g2ajax.interop.load import InitOptions
from g2ajax.interop.readers import read_checkpoint, read_tensors
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.training.checkpoint import Checkpoints, flat_state
from tests.interop.models import (
    SQUARE,
    Method,
    backbone_file,
    check_backbone,
    prefixed,
    start,
)
from tests.interop.torch_writer import tensors, write_stream, write_zip


def head_file(names, dim, classes=5):
    rng = np.random.default_rng(3)
    shapes = {"classifier": (classes, dim), "norm": (dim,)}
    return {
        name: np.abs(
            rng.normal(size=shapes["classifier" if "classifier" in kind else "norm"])
        ).astype("f4")
        for name, kind in names.items()
    }


def norm_names(prefix):
    return {f"{prefix}.{k}": "norm" for k in ("weight", "bias", "running_mean", "running_var")}


def test_torchvision_resnet_into_the_backbone_only(tmp_path, resnet):
    content = {**resnet, "fc.weight": np.zeros((10, 256), "f4"), "fc.bias": np.zeros(10, "f4")}
    content["bn1.num_batches_tracked"] = np.array(3)
    method = Method("resnet_tiny")
    before = to_state_dict(method)
    report = start(method, write_stream(tmp_path / "resnet.pth", tensors(content)))
    check_backbone(method, resnet)
    after = to_state_dict(method)
    for name in ("heads.weight", "heads.bottleneck.0.weight"):
        np.testing.assert_array_equal(after[name], before[name])
    assert len(report.loaded) == len(resnet)
    assert report.family == "torchvision/timm ResNet"
    text = str(report)
    assert "it has conv1.weight, layer1.0.conv1.weight" in text
    assert f"{len(resnet)} loaded, 5 kept, 3 ignored" in text
    assert "neck and classifier keep their init" in text
    assert "heads.weight" in text
    assert "fc.weight" in text
    assert "layer1.0.conv2.weight" not in text


def test_report_of_every_tensor_goes_to_a_file(tmp_path, resnet, monkeypatch):
    path = write_zip(tmp_path / "resnet.pth", tensors(resnet))
    monkeypatch.setenv("HOME", str(tmp_path))
    start(Method("resnet_tiny"), path, report="~/sub/report.txt")
    written = (tmp_path / "sub" / "report.txt").read_text()
    assert all(f"backbone.{name} " in written for name in resnet)


@pytest.mark.parametrize("neck", [False, True])
@pytest.mark.parametrize(
    ("family", "prefix", "names"),
    [
        (
            "fast-reid",
            "backbone.",
            {"heads.weight": "classifier", **norm_names("heads.bottleneck.0")},
        ),
        (
            "fast-reid, model zoo v0.1.1",
            "backbone.",
            {"heads.classifier.weight": "classifier", **norm_names("heads.bnneck")},
        ),
        (
            "reid-strong-baseline",
            "base.",
            {"classifier.weight": "classifier", **norm_names("bottleneck")},
        ),
    ],
)
def test_whole_reid_models(tmp_path, resnet, family, prefix, names, neck):
    head = head_file(names, 256)
    content = {**prefixed(prefix, resnet), **head, **norm_counts(names)}
    if prefix == "backbone.":
        content |= {
            "pixel_mean": np.ones((1, 3, 1, 1), "f4"),
            "pixel_std": np.ones((1, 3, 1, 1), "f4"),
        }
    else:
        content |= {"base.fc.weight": np.zeros((10, 256), "f4")}
    path = write_zip(tmp_path / "model.pth", {"model": tensors(prefixed("module.", content))})
    method = Method("resnet_tiny", neck=neck)
    report = start(method, path, part="all")
    assert report.family == family
    check_backbone(method, resnet)
    found = to_state_dict(method)
    ours = {
        "classifier": "neck.classifier.weight" if neck else "heads.weight",
        "norm": "neck.bottleneck." if neck else "heads.bottleneck.0.",
    }
    for name, value in head.items():
        target = ours["classifier"] if value.ndim == 2 else ours["norm"] + name.rpartition(".")[2]
        np.testing.assert_array_equal(found[target], value, err_msg=name)
    assert not report.names("kept")

    method = Method("resnet_tiny", neck=neck, classes=6)
    before = to_state_dict(method)
    message = (
        r"classifier\.weight|heads\.weight is for 5 classes, the model has 6; set init\.allow_"
    )
    with pytest.raises(ValueError, match=message):
        start(method, path, part="all")
    report = start(method, path, part="all", allow_classifier_mismatch=True)
    assert report.names("kept") == [ours["classifier"]]
    np.testing.assert_array_equal(
        to_state_dict(method)[ours["classifier"]], before[ours["classifier"]]
    )
    report = start(method, path)
    assert len(report.loaded) == len(resnet)


def norm_counts(names):
    return {
        name.replace("running_var", "num_batches_tracked"): np.array(1)
        for name in names
        if name.endswith("running_var")
    }


def test_transreid_and_its_jigsaw_form(tmp_path):
    state = backbone_file("vit_test", cameras=3)
    names = {"classifier.weight": "classifier", **norm_names("bottleneck")}
    head = head_file(names, 32)
    unused = {"base.fc.weight": np.zeros((10, 32), "f4"), "base.fc.bias": np.zeros(10, "f4")}
    content = {**prefixed("base.", state), **unused, **head}
    method = Method("vit_test", cameras=3)
    path = write_zip(tmp_path / "transreid.pth", tensors(content))
    assert start(method, path, part="all").family == "TransReID"
    check_backbone(method, state)
    np.testing.assert_array_equal(method.heads.weight[...], head["classifier.weight"])

    # The jigsaw form's own last block and norm were never trained: their copies in b1 were.
    stale = {k: v * 0 for k, v in content.items() if k.startswith(("base.blocks.1.", "base.norm."))}
    last = {k.removeprefix("blocks.1."): v for k, v in state.items() if k.startswith("blocks.1.")}
    norm = {k.removeprefix("norm."): v for k, v in state.items() if k.startswith("norm.")}
    branches = {
        **prefixed("b1.0.", last),
        **prefixed("b1.1.", norm),
        **{k: v * 0 for k, v in {**prefixed("b2.0.", last), **prefixed("b2.1.", norm)}.items()},
        "bottleneck_1.weight": np.ones(32, "f4"),
        "classifier_1.weight": np.ones((5, 32), "f4"),
    }
    path = write_zip(tmp_path / "jpm.pth", tensors({**content, **stale, **branches}))
    method = Method("vit_test", cameras=3)
    assert start(method, path, part="all").family == "TransReID with jigsaw patches"
    check_backbone(method, state)


def test_side_information_keeps_its_init_from_imagenet_but_not_from_transreid(tmp_path, vit):
    path = write_zip(tmp_path / "vit.pth", tensors(vit))
    report = start(Method("vit_test", cameras=3), path)
    assert "backbone.sie_embed" in report.names("kept")
    path = write_zip(tmp_path / "transreid.pth", tensors(prefixed("base.", vit)))
    with pytest.raises(ValueError, match=r"Missing in the file: backbone\.sie_embed"):
        start(Method("vit_test", cameras=3), path)


def test_bare_backbone_takes_both_forms(tmp_path, vit):
    for name, content in {"a.pth": vit, "b.pth": prefixed("base.", vit)}.items():
        network = backbones.build("vit_test", image_size=SQUARE, cameras=2, rngs=nnx.Rngs(0))
        allow = (r"^sie_embed$",) if name == "b.pth" else ()
        path = write_zip(
            tmp_path / name, tensors({**content, "classifier.weight": vit["cls_token"]})
        )
        ignore = ("^classifier",) if name == "a.pth" else ()
        start(network, path, allow_missing=allow, ignore=ignore)
        for key, value in vit.items():
            np.testing.assert_array_equal(to_state_dict(network)[key], value)


def test_safetensors_gives_the_same_as_a_torch_file(tmp_path, vit):
    safetensors.numpy.save_file(vit, tmp_path / "model.safetensors")
    method = Method("vit_test")
    start(method, tmp_path / "model.safetensors")
    check_backbone(method, vit)


def test_strict_about_missing_unexpected_and_shapes_and_changes_nothing(tmp_path, resnet):
    content = dict(resnet)
    del content["layer3.0.conv2.weight"]
    content["layer9.weight"] = np.zeros(3, "f4")
    content["bn1.weight"] = np.zeros(9, "f4")
    method = Method("resnet_tiny")
    before = to_state_dict(method)
    with pytest.raises(ValueError, match="torchvision/timm ResNet") as caught:
        start(method, write_zip(tmp_path / "a.pth", tensors(content)))
    text = str(caught.value)
    assert "a.pth" in text
    assert "Missing in the file: backbone.layer3.0.conv2.weight" in text
    assert "Unexpected in the file: backbone.layer9.weight" in text
    assert "backbone.bn1.weight: (9,) in the file, expected (8,)" in text
    for name, value in to_state_dict(method).items():
        np.testing.assert_array_equal(value, before[name])


def test_wrong_architecture_names_both_and_a_file_that_fits(tmp_path, vit, resnet):
    path = write_zip(tmp_path / "r50.pth", tensors(resnet))
    message = r"torchvision/timm ResNet file \(it has .*of a ResNet; .* a ViT.*jx_vit_base_p16_224"
    with pytest.raises(ValueError, match=message):
        start(Method("vit_test"), path)
    path = write_zip(tmp_path / "vit.pth", tensors(prefixed("base.", vit)))
    with pytest.raises(ValueError, match=r"TransReID file .*of a ViT; .*a ResNet.*resnet50-19c8"):
        start(Method("resnet_tiny"), path)


def test_imagenet_file_has_no_neck(tmp_path, resnet):
    path = write_zip(tmp_path / "r50.pth", tensors(resnet))
    with pytest.raises(ValueError, match=r"no neck or classifier .*init\.part='backbone'"):
        start(Method("resnet_tiny"), path, part="all")


def test_unknown_names_and_families(tmp_path, resnet):
    path = write_zip(tmp_path / "a.pth", tensors({"x.y": np.zeros(2, "f4")}))
    with pytest.raises(ValueError, match=r"of no known family \(1 names: x\.y.*timm ViT"):
        start(Method("resnet_tiny"), path)
    osnet = {"conv2.0.conv2a.conv1.weight": np.zeros(2, "f4")}
    with pytest.raises(ValueError, match="It looks like OSNet"):
        start(Method("resnet_tiny"), write_zip(tmp_path / "o.pth", tensors(osnet)))
    with pytest.raises(ValueError, match=r"no family 'timm'; known: .*timm ViT"):
        start(Method("resnet_tiny"), path, family="timm")
    path = write_zip(tmp_path / "b.pth", tensors(resnet))
    assert start(Method("resnet_tiny"), path, family="torchvision/timm ResNet").why == "as asked"


def test_detect_family_says_why():
    name, why = families.detect_family(["a", "backbone.conv1.weight", "heads.bnneck.weight"])
    assert name == "fast-reid, model zoo v0.1.1"
    assert why == "it has backbone.conv1.weight, heads.bnneck.weight"
    assert families.usual_files("my-resnet50.pth").count(".pth") == 1


@pytest.mark.parametrize("neck", [False, True])
def test_own_checkpoint_folders(tmp_path, neck):
    trained = Method("vit_test", neck=neck, seed=4)
    params = flat_state(nnx.state(trained, nnx.Param))
    stats = flat_state(nnx.state(trained, nnx.Not(nnx.Any(nnx.Param, nnx.RngState))))
    average = {name: value + 1 for name, value in params.items() if "blocks" in name}
    store = Checkpoints(tmp_path)
    store.save("latest", 3, {"params": params, "stats": stats, "ema": average}, {"step": 3})
    store.close()
    expected = to_state_dict(trained)
    for folder in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "latest" / "3"):
        read = read_checkpoint(folder, averaged=False)
        assert read.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(read[name], value, err_msg=name)
    method = Method("vit_test", neck=neck)
    report = start(method, tmp_path, part="all")
    assert (report.family, report.why) == ("g2ajax", "a checkpoint folder")
    for name, value in to_state_dict(method).items():
        np.testing.assert_array_equal(value, expected[name] + ("blocks" in name), err_msg=name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no checkpoint of this package"):
        read_tensors(tmp_path / "empty")


def test_hub_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'g2ajax\[hub\]'"):
        start(Method("vit_test"), "hf:timm/vit")
    with pytest.raises(ValueError, match="expected hf:org/repo"):
        start(Method("vit_test"), "hf:timm")


def test_hub_address_names_a_repository_or_a_file(monkeypatch, tmp_path, vit):
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        if file == "model.safetensors":
            raise OSError("offline")
        return str(write_zip(tmp_path / "w.bin", tensors(vit)))

    hub = types.SimpleNamespace(hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    start(Method("vit_test"), "hf:timm/vit_base_patch16_224.augreg")
    start(Method("vit_test"), "hf:org/repo/folder/weights.pth")
    assert asked == [
        ("timm/vit_base_patch16_224.augreg", "model.safetensors"),
        ("timm/vit_base_patch16_224.augreg", "pytorch_model.bin"),
        ("org/repo", "folder/weights.pth"),
    ]
    with pytest.raises(
        ValueError, match=r"could not be fetched \(model\.safetensors: OSError: off"
    ):
        start(Method("vit_test"), "hf:org/repo/model.safetensors")


def test_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="Usual starting points: resnet50-19c8e357"):
        start(Method("resnet_tiny"), tmp_path / "resnet50.pth")


def test_options_from_a_configuration():
    block = {"file": "w.pth", "part": "all", "position_grid": (4, 2)}
    assert options(InitOptions, block) == InitOptions("w.pth", part="all", position_grid=(4, 2))
    with pytest.raises(ValueError, match="part"):
        options(InitOptions, {"part": "head"})
