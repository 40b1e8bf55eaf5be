"""Every kind of method as an ONNX model: small, with random weights, on random input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.apps import export, resizing
from g2ajax.backbones import clip, osnet
from g2ajax.data.images import resize
from g2ajax.data.text import sentence_counts, sentence_ids
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.nn.norm import BatchNorm

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
onnx_graph = pytest.importorskip("g2ajax.apps.onnx_graph")
SIZE, LENGTH = (64, 32), 12
TALLER = (96, 32)
"""MGN cuts its maps in three."""


def _baseline(backbone, pooling="GlobalAvgPool", /, **options):
    spec = {"name": backbone, **options}
    return {"name": "strong_baseline", "backbone": spec, "head": {"pool": pooling}}


RESNET, VIT, CLIP = ({"name": name} for name in ("resnet_tiny", "vit_test", "clip_shallow"))
GEM = "GeneralizedMeanPoolingP"
TRANSREID = {"name": "transreid", "backbone": VIT, "camera_embedding": False}
FAMILIES = {
    "bot": _baseline("resnet_tiny"),
    "basic": _baseline("resnet10", "AdaptiveAvgMaxPool", width=8, pool="torchvision"),
    "sbs": _baseline("resnet_tiny", GEM, with_nl=True, with_ibn=True),
    "agw": _baseline("resnet_tiny", GEM, with_nl=True),
    "se": _baseline("resnet_tiny", with_se=True, se_reduction=4),
    "osnet": _baseline("osnet_test"),
    "osnet_ain": _baseline("osnet_ain_test"),
    "osnet_ibn": {**_baseline("osnet_ibn_test"), "fc_dim": 16},
    "vit": _baseline("vit_test", "Identity", stride=12),
    "vit_loop": _baseline("vit_test", "Identity", scan=True, remat=True),
    "vit_pooled": _baseline("vit_test", GEM),
    "mgn": {"name": "mgn", "backbone": RESNET},
    "transreid": TRANSREID,
    "transreid_global": {**TRANSREID, "jigsaw": False},
    "explainable": {"name": "explainable", "stream1": _baseline("resnet_tiny")},
    "uav_group": {"name": "uav_group", "backbone": RESNET},
    "vdt": {"name": "vdt", "backbone": VIT},
    "irra": {"name": "irra", "backbone": CLIP},
    "aea_firm": {"name": "aea_firm", "backbone": CLIP, "queue_length": 8},
}
WITH_TEXT = ("irra", "aea_firm")
# Tried with `make test-slow`: others of the same family are among the quick ones.
VARIANTS = ("basic", "agw", "se", "osnet_ibn", "vit_pooled", "transreid_global", "uav_group")


@pytest.fixture(autouse=True, scope="module")
def _variants():
    """OSNets of one block a stage with instance norms, and a CLIP with few words."""
    with pytest.MonkeyPatch.context() as patch:
        small = osnet.VARIANTS["osnet_test"]
        for kind in ("ain", "ibn"):
            variant = dataclasses.replace(small, instance_norm=kind)
            patch.setitem(osnet.VARIANTS, f"osnet_{kind}_test", variant)
        shallow = dataclasses.replace(clip.VARIANTS["clip_test"], vision_layers=1, text_layers=1)
        patch.setitem(clip.VARIANTS, "clip_shallow", shallow)
        yield


def _build(config, size):
    facts = methods.DataFacts(
        num_classes=4,
        image_size=size,
        attribute_groups=(("bag", ("backpack", "nothing")), ("hat", ("yes", "no"))),
        attribute_rates=(0.5, 0.5, 0.5, 0.5),
        sentences=tuple(map(tuple, sentence_ids(Tokenizer()).tolist())),
        sentence_counts=sentence_counts(),
        caption_length=LENGTH,
    )
    model = methods.build(config, facts, rngs=nnx.Rngs(params=0))
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            features = module.mean[...].shape
            module.mean[...] = jnp.asarray(rng.normal(0.0, 0.1, features), jnp.float32)
            module.var[...] = jnp.asarray(rng.uniform(0.5, 1.0, features), jnp.float32)
    return model


def _images(size, rows=8):
    return np.random.default_rng(1).integers(0, 256, (rows, *size, 3), np.uint8)


def _programs(function, example, tmp_path):
    """The function in ONNX and in JAX."""
    path = tmp_path / "program.onnx"
    path.write_bytes(export.onnx(function, example))
    onnx.checker.check_model(path, full_check=True)
    return export.load(path), jax.jit(function)


def _compare(function, example, tmp_path):
    program, ours = _programs(function, example, tmp_path)
    expected = np.asarray(ours(example))
    assert expected.std(0).max() > 1e-3  # the input matters
    for rows in export.BATCH_SIZES:
        found = program(example[:rows])
        assert found.shape == (rows, expected.shape[1]) and found.dtype == np.float32
        assert export.difference(found, expected[:rows]) <= export.TOLERANCE


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in VARIANTS else ()) for n in FAMILIES]
)
def test_images(name, tmp_path):
    size = TALLER if name == "mgn" else SIZE
    model = _build(FAMILIES[name], size)
    make = export._frozen(model)

    def function(images):
        model, images = make(), images.astype(jnp.float32)
        features = model.embed(images)
        if name == "bot":  # as evaluate.flip
            features = (features + model.embed(images[:, :, ::-1])) / 2.0
        return export._as_compared(features, model.metric)

    _compare(function, _images(size), tmp_path)


@pytest.mark.parametrize("name", WITH_TEXT)
def test_captions(name, tmp_path):
    model = _build(FAMILIES[name], SIZE)
    make = export._frozen(model)
    captions = export._captions(np.random.default_rng(0), 8, LENGTH)
    _compare(
        lambda ids: export._as_compared(make().embed_text(ids), model.metric), captions, tmp_path
    )


def test_an_unknown_operation():
    with pytest.raises(ValueError, match=r"does not know the operation 'sort'; use format=stable"):
        export.onnx(lambda images: jnp.sort(images.astype(jnp.float32), 1), _images(SIZE))


def test_a_file_that_would_be_too_large(monkeypatch):
    monkeypatch.setattr(onnx_graph, "LARGEST", 20_000)
    weights = jnp.ones((*SIZE, 3))
    with pytest.raises(ValueError, match=r"0.0 GB of parameters: an ONNX file has at most 2 GB"):
        export.onnx(lambda images: images.astype(jnp.float32) * weights[None], _images(SIZE))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_resize_is_pils(interpolation, format, tmp_path):
    write = getattr(export, format)
    path = tmp_path / f"program.{format}"
    path.write_bytes(
        write(lambda images: images.astype(jnp.float32), _images(SIZE), resize=interpolation)
    )
    program = export.load(path)
    for size in ((64, 32), (150, 40), (30, 64), (300, 21), (97, 101)):
        images = _images(size, rows=2)
        expected = np.stack([resize(image, SIZE, interpolation) for image in images])
        away = np.abs(np.asarray(program(images)) - expected)
        assert away.max() <= (0 if size == SIZE else 1)
        assert (away > 0).mean() <= 2e-3


def test_resize_in_one_direction_first(monkeypatch):
    """PIL resizes otherwise in other versions, so the version is asked."""
    images = jnp.asarray(_images((300, 20), rows=1))
    found = []
    for first in (False, True):
        monkeypatch.setattr(resizing, "VERTICAL_FIRST", first)
        found.append(np.asarray(resizing.resized(images, SIZE, "bicubic")).astype(int))
    away = np.abs(found[0] - found[1])
    assert 0 < away.mean() < 1
