"""Output of a run while it works: the progress line, `metrics.jsonl` and TensorBoard."""

import json
import pathlib
import time
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from g2ajax.evaluation.terminal import WIDTH, fitted


class Journal:
    """Writes scalars of a run, on the first process only.

    Entries later than `resume_step` come from an interrupted run and will be written again: they
    are dropped from `metrics.jsonl`.
    """

    def __init__(
        self, workdir: pathlib.Path, *, active: bool, resume_step: int, tensorboard: bool
    ) -> None:
        self.active = active
        self.path = workdir / "metrics.jsonl"
        self.writer = None
        if not active:
            return
        lines = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:  # the line being written when the run was killed
                    continue
                if entry.get("step", 0) <= resume_step:
                    lines.append(line)
        self.path.write_text("".join(line + "\n" for line in lines))
        self.file = self.path.open("a")
        if tensorboard:
            self.writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step + 1)

    def scalars(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Adds one entry of `kind` ("train", "evaluation") at `step`."""
        if not self.active:
            return
        entry = {"step": step, "kind": kind, "time": round(time.time(), 3), **values}
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        if self.writer:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self.writer.add_scalar(f"{kind}/{name}", value, step)

    def say(self, text: str) -> None:
        """Prints a line for the user."""
        if self.active:
            print(text, flush=True)

    def close(self) -> None:
        if self.active:
            self.file.close()
            if self.writer:
                self.writer.close()


class Progress:
    """Rate and time left, from the steps of this process alone (a resume starts anew)."""

    def __init__(self, step: int, total: int, batch_size: int) -> None:
        self.total, self.batch_size = total, batch_size
        self.step, self.time = step, time.perf_counter()
        self.compiled = False
        self.seconds_per_step = None

    def line(self, phase: str, step: int, metrics: Mapping[str, float], rate: float) -> str:
        """The step's line, with the terms that fit; `metrics.jsonl` has all."""
        order = sorted(metrics, key=lambda term: (term != "loss", term == "gradient_norm"))
        terms = [f"{term} {metrics[term]:.3f}" for term in order]
        place = f"{phase}  {step}/{self.total} ({100 * step / self.total:.0f}%)  "
        pace = f"lr {rate:.2e}"
        if self.seconds_per_step:
            images = self.batch_size / self.seconds_per_step
            remaining = clock(self.seconds_per_step * (self.total - step))
            pace += f"  {images:.0f} img/s  {remaining} left"
        return fitted(place, terms, pace, WIDTH)

    def advance(self, step: int) -> None:
        """Measures the time since the last call; the first interval, which compiles, is not kept."""
        now = time.perf_counter()
        if step > self.step and self.compiled:
            self.seconds_per_step = (now - self.time) / (step - self.step)
        self.step, self.time, self.compiled = step, now, True

    def pause(self) -> None:
        """Leaves out what happened since the last `advance` (an evaluation, a checkpoint)."""
        self.time = time.perf_counter()


def clock(seconds: float | int) -> str:
    """Seconds as `42s`, `3m20s` or `5h07m`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
