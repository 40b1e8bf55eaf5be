"""The folder of compiled programs, and how the attention of a run is named."""

import pathlib

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.nn.attention import Device, traced_for
from g2ajax.training import startup
from g2ajax.training.startup import describe_attention, keep_programs


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A home of its own and no folder given to JAX; the suite's own afterwards."""
    given = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("HOME", str(tmp_path))
    startup._use(None, "")
    yield tmp_path
    startup._use(given, "")


def folder() -> str | None:
    return jax.config.jax_compilation_cache_dir


def test_programs_are_kept_in_the_home_by_default(fresh):
    line = keep_programs("auto")
    assert folder().startswith(str(fresh / ".cache/g2ajax/jax"))
    assert line == f"compiled programs: {folder()}"
    number = 3.25  # of a program that nothing else compiles
    shortest = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        jax.jit(lambda x: x * number + 1)(1.0)
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", shortest)
    assert list(pathlib.Path(folder()).iterdir())


def test_what_jax_was_given_is_kept(fresh):
    jax.config.update("jax_compilation_cache_dir", str(fresh / "given"))
    assert keep_programs("auto") == f"compiled programs: {fresh / 'given'}"
    assert folder() == str(fresh / "given")


def test_a_folder_of_ones_own_and_none(fresh):
    assert keep_programs("~/mine") == f"compiled programs: {fresh / 'mine'}"
    assert folder() == str(fresh / "mine")
    assert keep_programs("") == "compiled programs: not kept"
    assert folder() is None


def test_a_folder_that_cannot_be_written_costs_no_run(fresh):
    (fresh / ".cache").write_text("a file where the folder should be")  # root may write anywhere
    line = keep_programs("auto")
    assert line.startswith("compiled programs: not kept (") and "config.cache" in line
    assert folder() is None


def named(name: str, dtype, **options) -> str:
    task = methods.DataFacts(8, (64, 32), 2, dtype=jnp.dtype(dtype))
    options = {"name": name, **options}
    model = nnx.eval_shape(lambda: methods.build(options, task, rngs=nnx.Rngs(params=0)))
    return describe_attention(model)


def test_attention_is_named():
    vit = {"backbone": {"name": "vit_tiny"}, "head": {"pool": "Identity"}}
    assert named("strong_baseline", "float32", **vit) == "attention: XLA (float32, 64 wide heads)"
    with traced_for(Device("cuda", 9.0)):
        expected = "attention: cuDNN (bfloat16, 64 wide heads)"
        assert named("strong_baseline", "bfloat16", **vit) == expected
        assert named("irra", "bfloat16", backbone={"name": "clip_mini"}) == expected
        expected = "attention: XLA (bfloat16, 64 wide heads)"
        vit["backbone"]["attention"] = "xla"
        assert named("strong_baseline", "bfloat16", **vit) == expected
    assert named("strong_baseline", "float32", backbone={"name": "resnet18"}) == ""
