"""Tracing the training steps of methods on a CPU for the devices that are not there."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from jax.sharding import Mesh

from benchmarks import programs
from g2ajax.nn.attention import Device, traced_for

H200 = Device("cuda", 9.0)
V5E = Device("tpu")
# In the text of a lowered program: cuDNN's attention, forward and backward.
CUDNN_ATTENTION = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward")
CONFIGS = {
    "strong_baseline": "agreid_bot_vit:tiny",
    "transreid": "agreid_transreid:tiny",
    "mgn": "agreid_mgn_r50:tiny",
    "uav_group": "market1501_uav_group:tiny",
    "vdt": "vdt:tiny",
    "clip_reid": "clip_reid:tiny",
    "latex": "latex:tiny",
    "uni_prompt": "uni_prompt:tiny",
    "secap": "secap:tiny",
    "dts": "dts:tiny",
    "gsalign": "gsalign:tiny",
    "sd_reid": "sd_reid:tiny",
    "visa": "visa:tiny",
    "temporal_baseline": "temporal_baseline:tiny",
    "vsla_clip": "vsla_clip:tiny",
    "explainable": "agreid_vit:tiny",
    "irra": "irra:tiny",
    "aea_firm": "aea_firm:tiny",
    "tag_clip": "tag_clip:tiny",
    "faster_rcnn": "faster_rcnn:tiny",
    "seqnet": "seqnet:tiny",
    "coat": "coat:tiny",
    "head_distillation": "seqnet:hkd,tiny",
    "head_teacher": "head_teacher:tiny",
}
"""A configuration of each method."""


@contextlib.contextmanager
def tracing_for(device: Device) -> Iterator[None]:
    """`traced_for`, where no cuDNN need be installed."""
    # While it traces, JAX asks the installed cuDNN for its version, with no public way to tell it:
    # without a GPU there is none. 9.10 is the oldest that JAX's CUDA plugin takes.
    version = "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version"
    with mock.patch(version, return_value=91000), traced_for(device):
        yield


def training_steps(method: str, mesh: Mesh) -> Iterator[tuple[str, Any, tuple]]:
    """The jitted step of the last phase of each loss of a method, computing in bfloat16 as accelerators
    do, and the shapes it is called with."""
    of = programs.experiment(CONFIGS[method], ["dtype=bfloat16"])
    phases = {of.options.phase[name].loss: name for name in of.options.phases}
    for loss, phase in phases.items():
        batch = -(-of.own_batch(phase) // mesh.size)
        program = programs.train_step(of, phase, mesh, batch)
        yield loss, program.call, program.arguments
