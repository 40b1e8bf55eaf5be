"""Time of a whole run at the bound: its steps, evaluations and checkpoints, and the host's part."""

import dataclasses
from collections.abc import Sequence

from benchmarks.account import Account
from benchmarks.chips import Target
from benchmarks.programs import QUERY_BLOCK, Experiment, experiment

# The host's part is not in the compiler's account. Its rates are assumptions, shown with the result.
DECODED = 2797
"""Images a second that a host decodes and resizes to 256 x 128: four threads on two cores
(`RESULTS.md`)."""
PCIE = 64e9
"""Bytes/s from host to device: PCIe 5.0 x16 in one direction."""
DISK = 1e9
"""Bytes/s of a checkpoint: one NVMe drive."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One kind of work of a run."""

    name: str
    times: int
    seconds: float
    """Seconds of all times together."""
    bytes: float
    """Bytes that move, in the memory of a device or through the host's link or disk."""


def resident(name: str, changes: Sequence[str] = ()) -> Experiment:
    """The experiment of a configuration with its training images on the devices.

    Raises ValueError for whole frames, which are read from the host.
    """
    if experiment(name, changes).on_frames:
        raise ValueError(f"--run keeps images on the device, and {name} is on whole frames")
    return experiment(name, [*changes, "data.residency=device"])


def evaluations(of: Experiment, phase: str) -> int:
    """Number of evaluations of a phase: every `every_epochs`, and at its end."""
    every, epochs = of.blocks.evaluate.every_epochs, of.options.phase[phase].epochs
    return (epochs - 1) // every + 1 if every else 1


def device_parts(of: Experiment, accounts: Sequence[Account]) -> list[Part]:
    """Training and evaluation at the bound."""
    by_name = {one.program: one for one in accounts}
    parts, scorings, explanations = [], 0, 0
    for phase in of.options.phases:
        step = by_name[f"train {phase}"]
        block = of.options.phase[phase]
        count = block.epochs * of.steps_per_epoch(phase, step.examples)
        parts.append(_times(f"steps of {phase}", count, step))
        times = evaluations(of, phase)
        scorings += times
        if set(of.phase(phase).options.rankings) - {"reid"}:
            explanations += times
    scorings += 1  # the best checkpoint, at the end
    images = of.sizes.query + of.sizes.gallery
    of_images = {
        "embed": scorings,
        "explain": explanations and explanations + 1,
        "embed text": scorings,
    }
    for name, times in of_images.items():
        if name in by_name and times:
            batches = -(-images // by_name[name].examples)
            parts.append(_times(f"{name}, test images", times * batches, by_name[name]))
    pairs = of.sizes.compared
    blocks = -(-pairs // (QUERY_BLOCK * of.sizes.gallery))
    parts.append(_times("ranking, query blocks", scorings * blocks, by_name["evaluate"]))
    if "compare" in by_name and explanations:
        # The best checkpoint is explained too.
        blocks = (explanations + 1) * -(-pairs // (QUERY_BLOCK * by_name["explain"].examples))
        parts.append(_times("explained distances, blocks of pairs", blocks, by_name["compare"]))
    return parts


def _times(name: str, count: int, one: Account) -> Part:
    return Part(name, count, count * one.bound, count * one.moved)


def host_parts(of: Experiment, accounts: Sequence[Account]) -> list[Part]:
    """Parts that the host adds, at the assumed rates."""
    options, sizes = of.options, of.sizes
    height, width = of.blocks.data.image_size
    pixels = 3 * height * width
    scorings = sum(evaluations(of, phase) for phase in options.phases) + 1
    test = scorings * (sizes.query + sizes.gallery)
    trained = {one.program: one for one in accounts if one.program.startswith("train ")}
    saves, size = 0, 0.0
    for phase in options.phases:
        step = trained[f"train {phase}"]
        count = options.phase[phase].epochs * of.steps_per_epoch(phase, step.examples)
        # Every so many steps, and at evaluations also the best: at most one a score.
        own = count // options.checkpoint.every_steps + 2 * evaluations(of, phase)
        saves, size = saves + own, size + own * step.state_bytes
    compiling = sum(one.compile_seconds + one.trace_seconds for one in accounts)
    return [
        Part("training images decoded, once", sizes.images, sizes.images / DECODED, 0),
        Part("test images decoded, every evaluation", test, test / DECODED, 0),
        Part("images to the device", sizes.images + test, (sizes.images + test) * pixels / PCIE,
             (sizes.images + test) * pixels),
        Part("checkpoints written", saves, size / DISK, size),
        Part("programs traced and compiled, as here", len(accounts), compiling, 0),
    ]  # fmt: skip


def described(of: Experiment, accounts: Sequence[Account], target: Target) -> str:
    """The account of a run for a reader."""
    device, host = device_parts(of, accounts), host_parts(of, accounts)
    lines = [
        f"{of.name}, a whole run on {target.devices} x {target.chip.name}, training images on the "
        "device, at the bound",
        f"  {'':42s} {'times':>9s} {'seconds':>9s} {'GB':>10s}",
    ]
    for title, parts in (("device", device), ("host", host)):
        for part in parts:
            size = f"{part.bytes / 1e9:10.1f}" if part.bytes else ""
            lines.append(f"  {part.name:42s} {part.times:9d} {part.seconds:9.1f} {size}")
        lines.append(f"  {title + ' together':42s} {'':9s} {sum(p.seconds for p in parts):9.1f}")
    lines.append(
        f"Assumed of the host: {DECODED} images/s decoded, {PCIE / 1e9:.0f} GB/s to the device, "
        f"{DISK / 1e9:.0f} GB/s to disk. Checkpoints are written, and calls of steps made, while the "
        "device works. Not counted: measures of explanations, the bootstrap, the report page, starting "
        "Python."
    )
    return "\n".join(lines)
