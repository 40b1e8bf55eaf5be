"""Compiles the programs of configurations for absent chips, and reports what they will need.

    python benchmarks/compile_for.py --target=h200 --configs=agreid_vit,market1501_bot_r50
    python benchmarks/compile_for.py --target=v5e-8 --configs=seqnet --batch=1 --steps=train
    python benchmarks/compile_for.py --target=v5e-256 --configs=agreid_vit --fsdp=8 --json=v5e.json
    python benchmarks/compile_for.py --target=h200 --configs=agreid_vit --run

The training step of each phase, the embedding of test data, and the ranking of a block of queries, at
true size, without data and without a parameter drawn. Nothing runs: the sizes and bytes are the
compiler's, the seconds are bounds from the chip's published rates (`benchmarks/chips.py`), which no
run can beat; they do not predict how close a run comes. FLOPs are those of matrix products,
convolutions and fused attention, counted in the traced program (`benchmarks/flops.py`).

Needs the package and the compiler of the target: libtpu (`pip install 'g2ajax[tpu]'`) or JAX's CUDA plugin
(`pip install 'g2ajax[cuda13]'`); no dataset and no accelerator.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import traceback

# So that `python benchmarks/compile_for.py` finds the modules beside it.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import chips  # imports no JAX

ROOT = pathlib.Path(__file__).resolve().parents[1]
GIB = 2**30
STEPS = ("train", "embed", "evaluate")


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", required=True, help=", ".join(chips.KNOWN))
    parser.add_argument("--configs", required=True, help="names of configs/, comma-separated")
    parser.add_argument("--batch", type=int, default=0, help="training examples a chip")
    parser.add_argument("--fsdp", type=int, default=1, help="chips that share parameters")
    parser.add_argument("--steps", default=",".join(STEPS), help="of train, embed, evaluate")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE",
                        help="a setting of the configuration: method.backbone.remat=True")  # fmt: skip
    parser.add_argument("--hlo", type=pathlib.Path, help="folder for the compiled programs' text")
    parser.add_argument("--json", type=pathlib.Path, help="file for the accounts")
    parser.add_argument("--run", action="store_true",
                        help="add up a whole run with the images on the device")  # fmt: skip
    options = parser.parse_args(arguments)
    options.configs, options.steps = configurations(options.configs), options.steps.split(",")
    return options


def configurations(text: str) -> list[str]:
    """The names in a list with commas; arguments of a configuration have commas too: in
    "seqnet:dataset=prw,hkd,agreid_vit" a piece that is no file of configs/ belongs to the one before."""
    files = {path.stem for path in (ROOT / "configs").glob("*.py")}
    names: list[str] = []
    for piece in text.split(","):
        if names and ":" in names[-1] and piece.partition(":")[0] not in files:
            names[-1] += f",{piece}"
        else:
            names.append(piece)
    return names


def check(given: argparse.Namespace) -> chips.Target:
    """The target. Raises ValueError for arguments that cannot work, before JAX is imported."""
    target = chips.target(given.target)
    for step in given.steps:
        if step not in STEPS:
            raise ValueError(f"--steps names {step!r}; {chips.nearest(step, STEPS)}")
    if given.run and set(given.steps) != set(STEPS):
        raise ValueError("--run adds up training, embedding and evaluation; leave --steps out")
    if given.batch < 0:
        raise ValueError(f"--batch={given.batch}: examples a chip, 1 or more")
    if given.fsdp < 1 or target.devices % given.fsdp:
        raise ValueError(
            f"--fsdp={given.fsdp} does not divide the {target.devices} chips of {given.target}"
        )
    chips.environment(target, chips.os.environ)
    chips.check_installed(target)
    return target


def compile_all(given: argparse.Namespace, target: chips.Target) -> tuple[list, list[str]]:
    """The accounts of all programs, printed one by one, and those that did not fit or compile."""
    from benchmarks import programs, whole_run
    from g2ajax.training.mesh import make_mesh

    accounts, failures = [], []
    read = whole_run.resident if given.run else programs.experiment
    experiments = [read(name, given.set) for name in given.configs]
    mesh = make_mesh(fsdp=given.fsdp, devices=chips.devices(given.target, target))
    for of in experiments:
        own, before = [], len(failures)
        try:
            for program in programs.programs(of, mesh, steps=given.steps, batch=given.batch):
                one, problem = compile_one(given, target, of, program)
                if problem:
                    failures.append(problem)
                    print(f"\n{problem}", flush=True)
                    continue
                own.append(one)
                print(described(one, target.chip), flush=True)
                save(given, [*accounts, *own], target)
        except Exception as error:  # of one configuration; the others are still wanted
            traceback.print_exc()
            failures.append(f"cannot be built: {of.name}: {_short(error)}")
        if given.run and len(failures) == before:
            print("\n" + whole_run.described(of, own, target), flush=True)
        accounts += own
    return accounts, failures


def compile_one(given: argparse.Namespace, target: chips.Target, of, program) -> tuple:
    """The account of a program, or the problem in words."""
    from benchmarks import account

    text = None
    if given.hlo:
        given.hlo.mkdir(parents=True, exist_ok=True)
        parts = (given.target, of.name, program.name)
        text = given.hlo / ("-".join(parts).translate(str.maketrans(" :,=", "____")) + ".txt")
    try:
        return account.account(of, program, given.target, target, given.fsdp, text), ""
    except account.DoesNotFit as error:
        return None, f"does not fit: {error}"
    except Exception as error:  # whatever the compiler raises; the other programs are still wanted
        traceback.print_exc()
        return None, f"does not compile: {of.name}, {program.name}: {_short(error)}"


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:300]}"


def described(one, chip: chips.Chip) -> str:
    """The account of a program for a reader."""
    kinds = [kind for kind, seconds in one.seconds.items() if seconds]
    total = sum(one.flops.values())
    lines = [
        f"\n{one.configuration}, {one.program}: {one.share} examples on each of "
        f"{one.chips} x {chip.name}" + f", fsdp {one.fsdp}" * (one.fsdp > 1),
        f"  memory       peak {one.peak_bytes / GIB:.2f} GiB of {chip.memory / GIB:.1f}; arguments "
        f"{one.argument_bytes / GIB:.2f}, temporary {one.temporary_bytes / GIB:.2f}",
        f"  FLOPs        {total / 1e12:.4g} T: "
        + ", ".join(f"{name} {value / 1e12:.4g}" for name, value in one.flops.items()),
        f"  bytes        {one.moved / 1e9:.4g} GB: "
        + ", ".join(f"{kind} {one.bytes[kind] / 1e9:.4g}" for kind in kinds)
        + f"; with scratch {sum(one.bytes.values()) / 1e9:.4g}",
        f"  bound        {1e3 * one.bound:.4g} ms: "
        + ", ".join(f"{kind} {1e3 * one.seconds[kind]:.3g}" for kind in kinds)
        + f"; MFU at most {100 * one.mfu:.0f}%",
        f"  compile      {one.compile_seconds:.0f} s after {one.trace_seconds:.0f} s of tracing",
    ]
    if one.compiler:
        counts = ", ".join(f"{value / 1e9:.4g} G {name}" for name, value in one.compiler.items())
        lines.insert(4, f"  XLA counts   {counts} (values kept on the chip too)")
    for kind, (count, size, sent) in one.collectives.items():
        lines.append(
            f"  {kind:12s} {count} of {size / 1e6:.4g} MB together, {sent / 1e6:.4g} MB sent a chip"
        )
    if one.collectives:
        low, high = one.efficiency
        lines.append(
            f"  scaling      a chip among {one.chips} at most {100 * high:.0f}% as fast as alone "
            f"({100 * low:.0f}% if no collective runs beside computation)"
        )
    for mover in one.largest:
        lines.append(
            f"  {mover['bytes'] / 1e9:8.3f} GB {mover['kind']:10s} x {mover['calls']:<5d} "
            f"{mover['source'] or '(no line)'} {mover['operation'].rpartition('/')[2]}"
        )
    return "\n".join(lines)


def table(accounts: list) -> str:
    """The accounts as a table in Markdown."""
    lines = [
        "| configuration, program | target | examples a chip | peak memory | TFLOP a chip | GB moved "
        "(fusions; with scratch) | MB sent a chip | bound | MFU at most | scaling at most | compile |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in accounts:
        sent = sum(sent for _, _, sent in one.collectives.values())
        cells = (
            f"{one.configuration}, {one.program}",
            one.target + f", fsdp {one.fsdp}" * (one.fsdp > 1),
            f"{one.share}",
            f"{one.peak_bytes / GIB:.2f} GiB",
            f"{sum(one.flops.values()) / 1e12:.3g}",
            f"{one.moved / 1e9:.3g} ({one.bytes['fusion'] / 1e9:.3g}; "
            f"{sum(one.bytes.values()) / 1e9:.3g})",
            f"{sent / 1e6:.3g}" if sent else "",
            f"{1e3 * one.bound:.3g} ms",
            f"{100 * one.mfu:.0f}%",
            f"{100 * one.efficiency[1]:.0f}%" if sent else "",
            f"{one.compile_seconds:.0f} s",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def save(given: argparse.Namespace, accounts: list, target: chips.Target) -> None:
    """Writes the accounts, with the facts of the chip, to the file of `--json`."""
    if given.json:
        facts = dataclasses.asdict(target.chip)
        rows = [
            {**dataclasses.asdict(one), "bound_seconds": one.bound, "efficiency": one.efficiency}
            for one in accounts
        ]
        given.json.write_text(json.dumps({"chip": facts, "accounts": rows}, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    try:
        target = check(options)
        chips.set_environment(target)
        accounts, failures = compile_all(options, target)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\nCompiled, not run. " + " ".join(target.chip.sources) + "\n\n" + table(accounts))
    if failures:
        sys.exit("\n".join(["", *failures]))


if __name__ == "__main__":
    main()
