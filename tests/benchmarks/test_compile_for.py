"""Checks of `benchmarks/compile_for.py` without a compiler for absent chips."""

import dataclasses
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from benchmarks import account, chips, compile_for, flops, programs, published, traffic, whole_run
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import PhaseOptions
from g2ajax.training.state import abstract_state, begin

ROOT = pathlib.Path(__file__).parents[2]


def checked(*arguments: str) -> chips.Target:
    return compile_for.check(compile_for.parsed(["--configs=agreid_vit:tiny", *arguments]))


@pytest.fixture
def installed(monkeypatch):
    """Pretends that the compilers are installed, with no XLA_FLAGS set."""
    monkeypatch.setattr(chips, "check_installed", lambda wanted: None)
    monkeypatch.delenv("XLA_FLAGS", raising=False)


def test_unknown_target_names_the_nearest(installed):
    with pytest.raises(ValueError, match="no target 'v5e-9'; did you mean 'v5e-8'"):
        checked("--target=v5e-9")


@pytest.mark.parametrize(
    ("target", "command"),
    [("v5e-8", r"pip install 'g2ajax\[tpu\]'"), ("h200", r"pip install 'g2ajax\[cuda13\]'")],
)
def test_a_missing_compiler_is_named_with_its_extra(target, command, monkeypatch):
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with pytest.raises(ValueError, match=command):
        checked(f"--target={target}")


def test_fsdp_must_divide_the_chips(installed):
    with pytest.raises(ValueError, match="--fsdp=3 does not divide the 8 chips of v5e-8"):
        checked("--target=v5e-8", "--fsdp=3")
    assert checked("--target=v5e-8", "--fsdp=4").devices == 8


@pytest.mark.parametrize(
    "flags", ["--xla_gpu_autotune_level=4", "--xla_gpu_enable_triton_gemm", "--a=1 --xla_gpu_autotune_level=1"]
)  # fmt: skip
def test_contradicting_flags_are_refused(installed, monkeypatch, flags):
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(ValueError, match="it must be --xla_gpu_"):
        checked("--target=h200")


def test_other_flags_are_kept_and_what_is_needed_is_added():
    target = chips.target("h200")
    given = {"XLA_FLAGS": "--xla_dump_to=dumps --xla_gpu_autotune_level=0"}
    made = chips.environment(target, given)["XLA_FLAGS"]
    assert made == (
        "--xla_dump_to=dumps --xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
    )
    assert "XLA_FLAGS" not in chips.environment(chips.target("v5e-8"), given)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--steps=trains", "did you mean 'train'"),
        ("--batch=-1", "examples a chip"),
    ],
)
def test_other_bad_arguments(installed, argument, message):
    with pytest.raises(ValueError, match=message):
        checked("--target=h200", argument)


def test_arguments_of_configurations_keep_their_commas():
    found = compile_for.configurations(
        "agreid_bot_r50,market1501_bot_vit:dataset=x,tiny,agreid_vit"
    )
    assert found == ["agreid_bot_r50", "market1501_bot_vit:dataset=x,tiny", "agreid_vit"]
    assert compile_for.configurations("agreid_vitt,agreid_vit:tiny") == [
        "agreid_vitt",
        "agreid_vit:tiny",
    ]


def test_a_run_needs_all_steps(installed):
    with pytest.raises(ValueError, match="leave --steps out"):
        checked("--target=h200", "--run", "--steps=train")


def test_every_target_has_facts_with_a_source():
    for name, target in chips.KNOWN.items():
        chip = target.chip
        assert chip.sources and min(chip.bandwidth, chip.memory, chip.link) > 1e9, name
        assert chip.matrix["bfloat16"] >= chip.matrix["float32"] > chip.matrix["float32 highest"]
        if chip.platform == "cuda":
            facts = (chips.TARGETS / f"{name.partition('-')[0]}.txtpb").read_text()
            assert f"cuda_compute_capability {{ major: {int(chip.capability)} minor: 0 }}" in facts


def test_unknown_configurations_settings_and_datasets_are_named():
    with pytest.raises(
        ValueError, match=r"no configuration file 'agreid_vitt\.py'; did you mean 'agreid_vit\.py'"
    ):
        programs.experiment("agreid_vitt")
    with pytest.raises(ValueError, match="has no block 'optics'"):
        programs.experiment("agreid_vit:tiny", ["method.optics.remat=True"])
    with pytest.raises(
        ValueError, match="does not know the sizes of 'agreidd'; did you mean 'agreid'"
    ):
        programs.experiment("agreid_vit:tiny", ["dataset=agreidd"])


@pytest.mark.parametrize(
    "name", ["agreid", "agreid_v2", "market1501", "cuhk_pedes", "cargo", "lagper"]
)
def test_published_sizes_of_crops_are_the_builders(name):
    module = __import__(f"tfds_builders.{name}.{name}_dataset_builder", fromlist=["Builder"])
    expected = getattr(module, "EXPECTED", None) or module.Builder.EXPECTED
    sizes = published.sizes(name)
    images, identities = expected["train"]
    assert (sizes.images, sizes.identities) == (images, identities)
    if "gallery" in expected:
        assert (sizes.query, sizes.gallery) == (expected["query"][0], expected["gallery"][0])
    if sizes.captions:
        assert sizes.captions == module.Builder.CAPTIONS["train"]


@pytest.mark.parametrize("name", ["g2aps", "prw", "cuhk_sysu"])
def test_published_sizes_of_frames_are_the_builders(name):
    module = __import__(f"tfds_builders.{name}.{name}_dataset_builder", fromlist=["Builder"])
    expected, sizes = module.Builder.EXPECTED_FRAMES, published.sizes(name)
    assert sizes.images == expected["train"][0] and sizes.identities == expected["train"][2]
    assert (sizes.query, sizes.gallery) == (expected["query"][0], expected["gallery"][0])


def test_published_classes_are_the_builders():
    from g2ajax.synthetic.captions import ATTRIBUTES
    from tfds_builders.agreid.attributes import GROUP_SIZES

    assert tuple(GROUP_SIZES.values()) == published.AGREID_CLASSES
    assert tuple(len(names) for names in dict(ATTRIBUTES).values()) == published.TBAGPR_CLASSES


def traced(function, *shapes, dtype=jnp.float32):
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return flops.count(jax.jit(function).trace(*arguments).jaxpr)


def test_flops_of_products_by_precision():
    assert traced(jnp.matmul, (2, 3, 4), (4, 5)) == {("matmul", "float32"): 2 * 2 * 3 * 4 * 5}
    half = traced(jnp.matmul, (3, 4), (4, 5), dtype=jnp.bfloat16)
    assert half == {("matmul", "bfloat16"): 120}
    highest = jax.lax.Precision.HIGHEST
    exact = traced(lambda a, b: jnp.matmul(a, b, precision=highest), (3, 4), (4, 5))
    assert exact == {("matmul", "float32 highest"): 120}


def test_flops_of_convolutions_and_of_their_gradients():
    def convolve(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=numbers)

    forward = traced(convolve, (2, 8, 8, 3), (3, 3, 3, 5))
    once = 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert forward == {("matmul", "float32"): once}
    both = traced(
        jax.grad(lambda x, w: (convolve(x, w) ** 2).sum(), (0, 1)), *((2, 8, 8, 3), (3, 3, 3, 5))
    )
    # Forward, to the kernel, and to the input, without the zeros between strides.
    assert both[("matmul", "float32")] == 3 * once


def test_flops_of_loops_branches_and_what_is_computed_again():
    def scanned(x, w):
        return jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=6)[0]

    assert traced(scanned, (4, 4), (4, 4))[("matmul", "float32")] == 6 * 128

    def branch(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w)

    assert traced(branch, (4, 4), (4, 4))[("matmul", "float32")] == 2 * 128

    def kept(x, w, wrap):
        return jnp.sum(wrap(lambda x: jnp.sin(jnp.sin(x @ w) @ w))(x))

    plain, again = (
        traced(jax.grad(lambda x, w, f=f: kept(x, w, f)), (4, 4), (4, 4))[("matmul", "float32")]
        for f in (lambda g: g, jax.checkpoint)
    )
    assert again > plain == 4 * 128


@pytest.mark.parametrize(("primitive", "products"), [("fwd", 2), ("bwd", 5)])
def test_fused_attention_counts_two_products_forward_and_five_backward(primitive, products):
    # The primitives of jax._src.cudnn cannot be traced where cuDNN is not installed.
    query, key = (
        SimpleNamespace(aval=jax.ShapeDtypeStruct((2, length, 3, 8), jnp.bfloat16))
        for length in (6, 10)
    )
    name = SimpleNamespace(name=f"dot_product_attention_{primitive}_wrapper")
    equation = SimpleNamespace(primitive=name, params={}, invars=[query, key, key])
    found = flops.count(SimpleNamespace(eqns=[equation]))
    assert found == {("attention", "bfloat16"): products * 2 * 2 * 3 * 6 * 10 * 8}


def test_bounds_take_the_slower_of_both_and_leave_scratch_out():
    chip = dataclasses.replace(
        chips.H200, bandwidth=100.0, link=10.0,
        matrix={"bfloat16": 1000.0, "float32": 500.0, "float32 highest": 50.0},
    )  # fmt: skip
    counted = {("matmul", "bfloat16"): 2000.0, ("matmul", "float32"): 500.0}
    moved = dict.fromkeys(traffic.KINDS, 0) | {"matmul": 200, "fusion": 50, "scratch": 10**6}
    found = account.bounds(counted, moved, 30, chip)
    assert found["matmul"] == 3.0  # 2 + 1 s of products against 2 s of bytes
    assert found["fusion"] == 0.5 and found["collective"] == 3.0
    assert "scratch" not in found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("agreid_vit:tiny", ["train reid", "train attributes", "train explain", "embed", "explain", "evaluate", "compare"]),
        ("aea_firm:tiny", ["train reid", "embed", "embed text", "evaluate"]),
        ("seqnet:tiny", ["train search", "detect", "embed queries"]),
    ],
)  # fmt: skip
def test_programs_of_crops_captions_and_frames_without_data(name, expected):
    mesh = make_mesh(devices=jax.devices()[:2])
    made = list(programs.programs(programs.experiment(name), mesh))
    assert [program.name for program in made] == expected
    assert all(
        isinstance(x, jax.ShapeDtypeStruct) for p in made for x in jax.tree.leaves(p.arguments)
    )
    step = made[0]
    assert step.state_bytes > 0 and step.examples % 2 == 0


def test_a_program_is_accounted_for(monkeypatch):
    """The whole way on the CPU's compiler, whose text has the same form."""
    cpu = dataclasses.replace(chips.V5E)
    monkeypatch.setattr(chips.Chip, "platform", "cpu")
    target = chips.Target(cpu, 1, "")
    of = programs.experiment("agreid_bot_r50:tiny")
    mesh = make_mesh(devices=jax.devices()[:1])
    (program,) = (p for p in programs.programs(of, mesh, steps=("embed",)) if p.name == "embed")
    made = account.account(of, program, "cpu", target)
    assert made.peak_bytes > 0 and made.moved > 0 and 0 < made.mfu <= 1
    assert sum(made.flops.values()) > 0 and made.bound >= made.seconds["matmul"]
    text = compile_for.described(made, cpu)
    assert "agreid_bot_r50:tiny, embed" in text and "MFU at most" in text
    assert compile_for.table([made]).count("\n") == 2


def test_what_does_not_fit_says_the_sizes_and_what_to_change():
    of = programs.experiment("agreid_bot_vit:tiny")
    program = programs.Program("train reid", None, (), 8 * 64, state_bytes=6 * 2**30)
    text = account.too_large(of, program, 30 * 2**30, chips.target("v5e-8"), 1)
    assert "needs 30.0 GiB on each TPU v5e, which has 14.9 GiB, for 64 examples a chip" in text
    assert "and 6.00 GiB of parameters and optimizer" in text
    assert "--batch=23" in text and "--fsdp=8" in text
    with_remat = programs.experiment("agreid_bot_vit")
    assert "--set=method.backbone.remat=True" in account.too_large(
        with_remat, program, 30 * 2**30, chips.target("v5e-8"), 1
    )


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
         "temporaries (3.51T) exceeds available HBM (15.75G).", 3.51 * 2**40),
        ("Ran out of memory in memory space hbm. Used 20.25G of 15.75G hbm.", 20.25 * 2**30),
        ("RESOURCE_EXHAUSTED", 0.0),
    ],
)  # fmt: skip
def test_the_compilers_own_words_of_too_little_memory_are_read(message, size):
    assert account.needed(message) == pytest.approx(size)


def test_remat_is_proposed_where_it_is_off():
    backbone = {"name": "resnet50"}
    assert account.remats({"backbone": backbone}, "method") == ["method.backbone.remat"]
    assert account.remats({"stream1": {"backbone": backbone}}, "m") == ["m.stream1.backbone.remat"]
    assert account.remats({"remat": True, "backbone": backbone}, "method") == []
    assert account.remats({"backbone": {**backbone, "remat": True}}, "method") == []


def test_a_whole_run_adds_up():
    of = whole_run.resident("agreid_bot_vit")
    blank = account.Account(
        "agreid_bot_vit", "", "h200", 1, 1, 64, 64, 10**9, 0, 0, 0, {}, {"fusion": 10**9}, [], {}, {},
        5.0, 1.0, {"fusion": 0.01, "collective": 0.0}, 0.5,
    )  # fmt: skip
    accounts = [dataclasses.replace(blank, program=p) for p in ("train reid", "embed", "evaluate")]
    parts = {part.name: part for part in whole_run.device_parts(of, accounts)}
    steps = 120 * (11554 // 64)
    assert parts["steps of reid"].times == steps
    assert parts["steps of reid"].seconds == pytest.approx(0.01 * steps)
    # Six evaluations of the phase (every 20 epochs) and that of the best checkpoint.
    assert parts["embed, test images"].times == 7 * -(-(2663 + 10535) // 64)
    host = {part.name: part for part in whole_run.host_parts(of, accounts)}
    assert host["checkpoints written"].times == steps // 1000 + 12
    assert "device together" in whole_run.described(of, accounts, chips.target("h200"))
    with pytest.raises(ValueError, match="whole frames"):
        whole_run.resident("seqnet:tiny")


def test_the_abstract_state_is_the_state_of_a_run():
    of = programs.experiment("agreid_bot_vit:tiny")
    mesh = make_mesh(fsdp=2, devices=jax.devices()[:4])
    phase, optimizer = PhaseOptions(ema=0.9), optax.sgd(0.1, momentum=0.9)
    program, shapes = abstract_state(of.model, phase, optimizer, mesh)
    model = nnx.merge(*nnx.split(of.model))
    model = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), nnx.state(model))
    real = nnx.merge(nnx.graphdef(of.model), model)
    own, leaves = begin(real, phase, optimizer, mesh)
    assert own.treedef == program.treedef and own.shardings == program.shardings
    for shape, leaf in zip(shapes, leaves, strict=True):
        assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)
        assert leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim)


def test_errors_end_the_command_with_a_sentence():
    done = subprocess.run(
        [sys.executable, "benchmarks/compile_for.py", "--target=h20", "--configs=agreid_vit"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: no target 'h20'; did you mean 'h200'?")


def test_what_does_not_fit_or_compile_leaves_the_rest(monkeypatch, installed, capsys):
    def accounted(of, program, *rest):
        if program.name == "embed":
            raise account.DoesNotFit("too large")
        raise NotImplementedError("Unsupported sequence length\nmore")

    monkeypatch.setattr(account, "account", accounted)
    monkeypatch.setattr(chips, "devices", lambda name, target: jax.devices()[:8])
    given = compile_for.parsed(
        ["--target=v5e-8", "--configs=agreid_bot_r50:tiny", "--steps=embed,evaluate"]
    )
    made, failed = compile_for.compile_all(given, compile_for.check(given))
    assert not made and failed == [
        "does not fit: too large",
        "does not compile: agreid_bot_r50:tiny, evaluate: NotImplementedError: Unsupported sequence length",
    ]
    assert "does not fit: too large" in capsys.readouterr().out
