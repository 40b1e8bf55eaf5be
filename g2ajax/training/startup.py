"""Settles and reports, once before a run computes, its cache of programs and its attention."""

import os
import pathlib
import platform
import tempfile

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache

from g2ajax.nn.attention import Attention, MultiHeadAttention, attention_kernel
from g2ajax.nn.occluded import TokenAttention

CACHE = "~/.cache/g2ajax/jax"
KERNEL_NAMES = {"cudnn": "cuDNN", "xla": "XLA"}


def keep_programs(choice: str) -> str:
    """Sets the folder in which JAX keeps compiled programs; returns a line with its path.

    `choice` "auto" takes JAX's setting (`JAX_COMPILATION_CACHE_DIR`), else a folder in the
    user's home; "" keeps none. JAX writes from the first process of a run only, and ignores
    unreadable entries. An unwritable folder does not end the run: no programs are kept then.
    """
    jax_folder = jax.config.jax_compilation_cache_dir
    if choice == "auto" and jax_folder:
        return f"compiled programs: {jax_folder}"
    if not choice:
        return _use(None, "compiled programs: not kept")
    folder = _default() if choice == "auto" else os.path.expanduser(choice)
    try:
        if "://" not in folder:  # a bucket is JAX's business
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:
        return _use(None, f"compiled programs: not kept ({error}); name a folder with config.cache")
    return _use(folder, f"compiled programs: {folder}")


def _default() -> str:
    folder = pathlib.Path(CACHE).expanduser()
    # A CPU's program may use instructions that another machine with the same home does not have.
    return str(folder / platform.node() if jax.default_backend() == "cpu" else folder)


def _use(folder: str | None, line: str) -> str:
    if folder != jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", folder)
        # JAX keeps the folder of the first program that it compiled.
        compilation_cache.reset_cache()
    return line


def describe_attention(model: nnx.Module) -> str:
    """The kernels that compute a model's attention on this device, in one line; "" without any:
    "attention: cuDNN (bfloat16, 64 wide heads)"."""
    kinds = {}
    for _, module in nnx.iter_modules(model):
        if isinstance(module, Attention | MultiHeadAttention | TokenAttention):
            kernel = attention_kernel(module.kernel, module.dtype, module.head_dim)
            dtype = jnp.dtype(module.dtype).name
            kinds[f"{KERNEL_NAMES[kernel]} ({dtype}, {module.head_dim} wide heads)"] = None
    return f"attention: {', '.join(kinds)}" if kinds else ""
