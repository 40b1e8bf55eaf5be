"""Every method keeps the contract of `methods/base.py`, and so does one outside the package."""

import functools
import inspect
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.data.text import sentence_counts, sentence_ids
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.recipes.files import load
from g2ajax.training import loop

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "extending.md").read_text()
OUTSIDE = "tests.outside_method"
SIZE = (96, 64)
RESNET, VIT, CLIP = ({"name": name} for name in ("resnet_tiny", "vit_test", "clip_test"))
POOLED = {"name": "strong_baseline", "backbone": RESNET, "head": {"pool": "GlobalAvgPool"}}
SMALL = {
    "backbone": RESNET,
    "rpn": {"sizes": (8, 16), "aspect_ratios": (2.0,), "train_post_nms": 8, "test_post_nms": 8},
    "regions": {"samples": 8, "max_detections": 4},
}
# The smallest of each method.
OPTIONS = {
    "aea_firm": {"backbone": CLIP, "queue_length": 8},
    "clip_reid": {"backbone": CLIP, "camera_embedding": True, "platforms": 2},
    "coat": SMALL,
    "dts": {"backbone": VIT, "block": 0, "samples": 8},
    "explainable": {"stream1": POOLED},
    "faster_rcnn": SMALL,
    "gsalign": {"backbone": VIT},
    "head_distillation": {"student": {"name": "seqnet", **SMALL}},
    "head_teacher": {"backbone": RESNET},
    "irra": {"backbone": CLIP},
    "latex": {"backbone": CLIP},
    "mgn": {"backbone": RESNET},
    "sd_reid": {"backbone": VIT},
    "secap": {"backbone": VIT, "prompts": 4},
    "seqnet": SMALL,
    "strong_baseline": {"backbone": RESNET},
    "tag_clip": {"backbone": CLIP, "experts": 3, "aerial_experts": 2, "ground_experts": 2},
    "temporal_baseline": {"backbone": RESNET, "temporal": "attention", "attention_dim": 8},
    "transreid": {"backbone": VIT, "camera_embedding": True, "platforms": 2},
    "uav_group": {"backbone": RESNET},
    "uni_prompt": {"backbone": CLIP},
    "vdt": {"backbone": VIT},
    "visa": {"backbone": VIT, "experts": 2, "queries": 2, "neighbours": 4},
    "vsla_clip": {"backbone": CLIP, "adapter_width": 8, "bridge_blocks": 1},
    OUTSIDE: {"backbone": RESNET},
}
FACTS = methods.DataFacts(
    num_classes=4,
    image_size=SIZE,
    num_cameras=2,
    num_platforms=2,
    attribute_groups=(("bag", ("backpack", "nothing")), ("hat", ("yes", "no"))),
    attribute_rates=(0.5, 0.5, 0.5, 0.5),
    sentences=tuple(map(tuple, sentence_ids(Tokenizer()).tolist())),
    sentence_counts=sentence_counts(),
    caption_length=12,
)
IMAGES = jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32)
CODES = jax.ShapeDtypeStruct((2,), jnp.int32)
CLIPS = jax.ShapeDtypeStruct((2, 3, *SIZE, 3), jnp.float32)
MASK = jax.ShapeDtypeStruct((2, 3), jnp.bool)
CAPTION = jax.ShapeDtypeStruct((2, 12), jnp.int32)
FRAMES = {
    "image": jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.uint8),
    "size": jax.ShapeDtypeStruct((2, 2), jnp.int32),
    "boxes": jax.ShapeDtypeStruct((2, 3, 4), jnp.float32),
    "box_mask": jax.ShapeDtypeStruct((2, 3), jnp.bool),
}


@functools.cache
def make(name: str, facts: methods.DataFacts = FACTS) -> methods.Method:
    """The method without values; built once, and changed by no test."""
    config = {"name": name, **OPTIONS[name]}
    return nnx.eval_shape(lambda: methods.build(config, facts, rngs=nnx.Rngs(params=0)))


def call(model: methods.Method, function: str, *arguments, **named):
    """Shapes of what a function of the model gives in evaluation mode."""
    graphdef, state = methods.evaluated(model)

    def run(state, arguments, named):
        return nnx.merge(graphdef, state, copy=True).function(function)(*arguments, **named)

    return jax.eval_shape(run, state, arguments, named)


def test_every_method_is_here():
    assert {*methods.names(), OUTSIDE} == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_what_callers_read_is_there(name):
    model = make(name)
    assert isinstance(model.preprocessing, methods.Preprocessing)
    assert model.metric in ("cosine", "squared_euclidean")
    assert model.feature_name and isinstance(model.feature_name, str)
    assert all(isinstance(term, str) for term in model.in_batch_terms)
    assert isinstance(model.needs_camera, bool) and isinstance(model.learns_from_attributes, bool)
    assert isinstance(model.learns_from_platforms, bool)
    assert model.needs_platform == (model.platforms > 0)
    assert isinstance(model.pretrained, nnx.Module)
    assert methods.method_name(model) == name
    losses = [name for name, _ in inspect.getmembers(model, callable) if name.endswith("loss")]
    assert all(model.function(loss) for loss in losses if not loss.startswith("_"))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_default_is_no_state(name):
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(make(name)))]
    declared = {key for key in vars(methods.Method) if not key.startswith("_")} - {"teacher"}
    assert not declared & {path[0] for path in paths}
    assert not {key for key in vars(methods.Method()) if not key.startswith("_")}


@pytest.mark.parametrize("name", OPTIONS)
def test_capabilities_are_kept(name):
    model = make(name)
    declared = {c for c in methods.CAPABILITIES if isinstance(model, c)}
    assert declared and declared <= methods.capabilities(name)
    for capability in declared:
        for function in (key for key, f in vars(capability).items() if inspect.isfunction(f)):
            own = getattr(type(model), function)
            assert all(own is not getattr(c, function, None) for c in methods.CAPABILITIES), (
                function
            )
    side = {"camera": CODES, "platform": CODES}
    if methods.EmbedsCrops in declared:
        feature = call(model, "embed", IMAGES, **side)
        assert feature.dtype == jnp.float32 and feature.ndim == 2 and len(feature.shape) == 2
    if methods.EmbedsCaptions in declared:
        assert call(model, "embed_text", CAPTION).shape == feature.shape
        assert model.caption_length >= 12
    if methods.EmbedsTracklets in declared:
        feature = call(model, "embed_tracklet", CLIPS, MASK, **side)
        assert feature.dtype == jnp.float32 and feature.shape[0] == 2 and feature.ndim == 2
    if methods.Explains in declared:
        explained = call(model, "explain", IMAGES, **side)
        assert explained.attribute_embedding.shape == (2, 4, explained.embedding.shape[1])
        assert explained.attention.shape[-1] == 4
    if methods.Detects in declared:
        detected = call(model, "detect", FRAMES)
        assert detected.boxes.shape == (*detected.scores.shape, 4) and detected.valid.dtype == bool
    if methods.SearchesPersons in declared:
        assert call(model, "embed_queries", FRAMES).shape[:2] == (2, 3)


# Facts that are equal build the same: a method that reads attributes, one of captions, one of frames.
@pytest.mark.parametrize("name", ["explainable", "latex", "seqnet"])
def test_the_facts_build_it_again_without_the_dataset(name):
    stored = json.loads(json.dumps(FACTS.as_dict()))
    facts = methods.DataFacts.from_dict(stored)
    assert facts == FACTS
    again = make.__wrapped__(name, facts)
    shapes = [jax.tree.map(lambda x: x.shape, nnx.state(model)) for model in (make(name), again)]
    assert shapes[0] == shapes[1]


def test_facts_of_a_later_version_are_refused():
    with pytest.raises(ValueError, match="no field 'num_lenses'"):
        methods.DataFacts.from_dict({**FACTS.as_dict(), "num_lenses": 2})


def test_a_capability_that_is_missing_is_named_with_who_has_it():
    with pytest.raises(
        ValueError,
        match=r"the page needs a method that explains its distances, and 'strong_baseline', as "
        r"configured, does not; choose from explainable",
    ):
        methods.require(make("strong_baseline"), methods.Explains, "the page")
    with pytest.raises(ValueError, match=r"predicts attributes .method.predictor=True., and 'expl"):
        methods.require(make("explainable"), methods.PredictsAttributes, "the ranking")
    with pytest.raises(
        ValueError, match="as configured, does not; choose from temporal_baseline, vsla"
    ):
        methods.require(make("mgn"), methods.EmbedsTracklets, "a dataset of tracklets")


def test_a_method_that_is_none_or_nowhere():
    with pytest.raises(ValueError, match=r"method 'tests.no_such' is no module that Python finds"):
        methods.module("tests.no_such")
    with pytest.raises(ValueError, match="no method 'base'; "):
        methods.module("base")
    with pytest.raises(ValueError, match="has no '_stripes'"):
        make("transreid").function("_stripes")


def test_the_page_shows_the_file_outside():
    source = pathlib.Path(__file__).parents[1].joinpath("outside_method.py").read_text()
    code = source.partition('"""\n')[2].strip()
    assert code in PAGE


def test_the_method_outside_trains_at_the_first_try(one_device, tmp_path):
    config = load("configs/agreid_bot_r50.py:tiny").to_dict()
    config["method"] = {"name": OUTSIDE, **OPTIONS[OUTSIDE]}
    config["phase"]["reid"]["epochs"] = 1
    results = loop.run(config, tmp_path)
    assert [r.protocol for r in results] == ["A2G", "G2A"] * 2
    assert {r.feature for r in results} == {"average of the last map"}
