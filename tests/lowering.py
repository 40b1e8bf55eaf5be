"""Tracing programs on a CPU for the devices that are not there."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from g2ajax.nn.attention import Device, traced_for

H200 = Device("cuda", 9.0)
V5E = Device("tpu")
# In the text of a lowered program: cuDNN's attention, forward and backward.
CUDNN_ATTENTION = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward")


@contextlib.contextmanager
def tracing_for(device: Device) -> Iterator[None]:
    """`traced_for`, where no cuDNN need be installed."""
    # While it traces, JAX asks the installed cuDNN for its version, with no public way to tell it:
    # without a GPU there is none. 9.10 is the oldest that JAX's CUDA plugin takes.
    version = "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version"
    with mock.patch(version, return_value=91000), traced_for(device):
        yield
