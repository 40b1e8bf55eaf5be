"""Every public architecture at its true size: a file of its codebase's names is opened and embeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from g2ajax.interop.state_dict import public_shapes
from g2ajax.methods import DataFacts, Detects, build, evaluated
from g2ajax.models.architectures import ARCHITECTURES
from g2ajax.models.load import load
from g2ajax.training.options import run_options
from tests.parity import reference_weights

pytestmark = pytest.mark.slow
BRANCHES = (("backbone", "b1"), ("b2", "b2"), ("b3", "b3"))
# Our name → the codebase's, for files that `families` renames.
NAMES = {
    "osnet": (("heads.", ""), ("backbone.", "")),
    "resnet50_fc512": (("heads.", ""), ("backbone.", "")),
    "strong_baseline_r50": (
        ("backbone.", "base."),
        ("heads.bottleneck.0.", "bottleneck."),
        ("heads.weight", "classifier.weight"),
    ),
    "transreid_baseline": (
        ("backbone.", "base."),
        ("heads.bottleneck.0.", "bottleneck."),
        ("heads.weight", "classifier.weight"),
    ),
    "transreid": (
        ("backbone.blocks.11.", "b1.0."),
        ("backbone.norm.", "b1.1."),
        ("backbone.", "base."),
        ("b2.blocks.11.", "b2.0."),
        ("b2.norm.", "b2.1."),
        *((f"neck_{i}.bottleneck.", f"bottleneck_{i}.") for i in (1, 2, 3, 4)),
        *((f"neck_{i}.classifier.", f"classifier_{i}.") for i in (1, 2, 3, 4)),
        ("neck.", ""),
    ),
    "secap": (
        ("backbone.blocks.11.", "backbone.b1.0."),
        ("backbone.norm.", "backbone.b1.1."),
        ("backbone.", "backbone.base."),
        *((name, f"backbone.{name}") for name in ("prompt", "prm.", "lfrm.", "image_pe", "out_")),
    ),
    "fastreid_mgn_r50": (
        ("backbone.conv1.", "backbone.0."),
        ("backbone.bn1.", "backbone.1."),
        ("backbone.layer1.", "backbone.4."),
        ("backbone.layer2.", "backbone.5."),
        ("backbone.layer3.0.", "backbone.6."),
        *((f"{b}.layer3.{i + 1}.", f"{c}.0.{i}.") for b, c in BRANCHES for i in range(5)),
        *((f"{b}.layer4.", f"{c}.1.") for b, c in BRANCHES),
    ),
}


def public_name(architecture: str, name: str) -> str:
    key = next((key for key in NAMES if architecture.startswith(key)), "")
    key = architecture if architecture in NAMES else key
    for ours, theirs in NAMES.get(key, ()):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def shapes_of(architecture: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file of the architecture, made from our own method."""
    config = ARCHITECTURES[architecture].read(DRAWN[architecture])
    options = run_options(config.to_dict())
    size = getattr(options.task_options.data, "image_size", (928, 1504))
    facts = DataFacts(751, tuple(size), num_cameras=6)
    shapes = public_shapes(
        nnx.eval_shape(lambda: build(options.method, facts, rngs=nnx.Rngs(params=0)))
    )
    public = {public_name(architecture, name): shape for name, shape in shapes.items()}
    if architecture in ("transreid", "secap"):  # files keep ImageNet's last block and norm, too
        top = "backbone." if architecture == "secap" else ""
        kept = ((f"{top}b1.0.", f"{top}base.blocks.11."), (f"{top}b1.1.", f"{top}base.norm."))
        for own, kept_as in kept:
            originals = {n: shape for n, shape in public.items() if n.startswith(own)}
            public |= {kept_as + n.removeprefix(own): s for n, s in originals.items()}
    return public


def marks(**more):
    """Names that decide what `read` makes of a file."""
    return {"heads.fc.0.weight": (512, 512), **more}


def resnet(depth: int, **more):
    return {f"backbone.layer3.{i}.conv1.weight": (256,) for i in range(depth)} | more


VIT = {"backbone.cls_token": (1, 1, 768), "backbone.sie_embed": (6, 1, 768)} | {
    f"backbone.blocks.{i}.norm1.weight": (768,) for i in range(12)
}
VIEW = {"backbone.view_token": (1, 1, 768)}
DRAWN: dict = {
    **{
        f"osnet_{kind}{width}": marks(
            **{"backbone.conv1.conv.weight": (first,)},
            **({"backbone.conv2.0.conv2.0.layers.0.conv1.weight": ()} if kind == "ain_" else {}),
            **({"backbone.conv2.0.IN.weight": ()} if kind == "ibn_" else {}),
        )
        for kind in ("", "ain_", "ibn_")
        for width, first in (("x1_0", 64), ("x0_75", 48), ("x0_5", 32), ("x0_25", 16))
        if kind != "ibn_" or width == "x1_0"
    },
    "resnet50_fc512": marks(),
    "fastreid_bot_r50": resnet(6),
    "fastreid_bot_r101": resnet(23),
    "fastreid_agw_r50": resnet(6, **{"backbone.NL_2.0.g.weight": ()}),
    "fastreid_agw_r101": resnet(23, **{"backbone.NL_2.0.g.weight": ()}),
    "fastreid_sbs_r50": resnet(6, **{"backbone.NL_2.0.g.weight": ()}),
    "fastreid_sbs_r101": resnet(23),
    "fastreid_mgn_r50": resnet(6),
    "fastreid_bot_vit": {**VIT, "backbone.pos_embed": (1, 129, 768)},
    "vdt": {**VIT, **VIEW, "backbone.pos_embed": (1, 130, 768)},
    "secap": {**VIT, **VIEW, "backbone.pos_embed": (1, 212, 768), "prompt": (1, 8, 768)},
    "transreid": {**VIT, "backbone.pos_embed": (1, 211, 768)},
    "transreid_baseline": {**VIT, "backbone.pos_embed": (1, 129, 768)},
    "strong_baseline_r50": resnet(6),
    "seqnet": {},
    "coat": {},
}
SMALL = ("osnet_x0_25", "osnet_ain_x0_25")


@pytest.mark.parametrize("architecture", DRAWN)
def test_a_file_of_true_size_embeds(architecture, tmp_path):
    shapes = shapes_of(architecture)
    path = tmp_path / "public.safetensors"
    save_file({name: reference_weights.draw(name, shape) for name, shape in shapes.items()}, path)
    model = load(path)
    assert f"as {architecture} " in model.card.origin and " 0 loaded" not in model.card.origin
    if isinstance(model.method, Detects):
        frame = np.random.default_rng(0).integers(0, 256, (300, 450, 3), np.uint8)
        assert model.embed_people(frame, [[10, 10, 90, 200]]).shape[0] == 1
        return
    count = 64 if architecture in SMALL else 4
    images = np.random.default_rng(0).integers(0, 256, (count, *model.image_size, 3), np.uint8)
    camera = [0] * count if model.method.needs_camera else None
    features = model.embed(images, camera=camera, normalised=False)
    graphdef, state = evaluated(model.method)

    def own(state, x):
        return nnx.merge(graphdef, state).embed(x, camera=jnp.zeros(len(x), jnp.int32))

    expected = np.asarray(jax.jit(own)(state, jnp.asarray(images, jnp.float32)))
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(features - expected).max() <= 1e-5 * scale


def test_every_architecture_is_tried():
    """Except those whose files are opened elsewhere: of sentences in the parity cases, of CLIP-ReID in
    `tests/methods/test_clip_reid.py`."""
    elsewhere = {"irra", "clip_vit_b16", "clip_vit_b32", "clip_vit_l14", "clip_reid"}
    assert DRAWN.keys() | elsewhere == ARCHITECTURES.keys()
