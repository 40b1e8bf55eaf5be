"""The history of a run, from its `metrics.jsonl`, and its report with the learning curve."""

import dataclasses
import json
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

from g2ajax.evaluation.results import Result
from g2ajax.report import charts
from g2ajax.report.charts import Point
from g2ajax.report.page import write_report
from g2ajax.report.records import Chart, Report
from g2ajax.tasks.scores import result_tables
from g2ajax.training.workdir import flat_config, stored_config

LOSSES = 200
"""Most points of a line of losses; neighbours are put together."""


def write_run_report(report: Report, workdir: pathlib.Path, results: Sequence[Result]) -> None:
    """Writes `report.html` and `figures/` of a finished run, with learning curve and settings.

    `results`: those of all checkpoints, for the tables.
    """
    entries = read_metrics(workdir / "metrics.jsonl")
    score = score_chart(entries, {result.protocol for result in results})
    loss = loss_chart(entries)
    settings = [
        (name, _value(value)) for name, value in flat_config(stored_config(workdir)).items()
    ]
    report = dataclasses.replace(
        report,
        learning=score or loss,
        charts=[*report.charts, *([loss] if score and loss else [])],
        tables=[*result_tables(results), *report.tables],
        settings=settings,
    )
    write_report(report, workdir / "report.html")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The entries of a run's `metrics.jsonl`; none if there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def score_chart(entries: Sequence[dict[str, Any]], protocols: Collection[str]) -> Chart | None:
    """mAP over the steps of the run, a line for each of the protocols, ranked by the method's own
    distance, that was evaluated twice or more; None if there is none."""
    lines: dict[str, list[Point]] = {}
    for entry in entries:
        kind, _, place = entry["kind"].partition("/")
        if kind == "evaluation" and "mAP" in entry and place in protocols:
            lines.setdefault(place, []).append(Point(entry["step"], entry["mAP"]))
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    # More lines cannot be told apart.
    shown = dict(list(lines.items())[: len(charts.COLOURS)])
    if not shown:
        return None
    note = "; ".join(
        f"{name}: {points[0].y:.1f} at step {points[0].x:g}, {points[-1].y:.1f} at step {points[-1].x:g}"
        for name, points in shown.items()
    )
    svg = charts.lines(shown, x="step", y="mAP in percent")
    return Chart("learning", "Learning curve", svg, note)


def loss_chart(entries: Sequence[dict[str, Any]]) -> Chart | None:
    """The loss over the steps of the run, a line for each phase; None without entries."""
    lines: dict[str, list[Point]] = {}
    for entry in entries:
        kind, _, phase = entry["kind"].partition("/")
        if kind == "train" and "loss" in entry:
            lines.setdefault(phase, []).append(Point(entry["step"], entry["loss"]))
    if not lines:
        return None
    lines = {name: _thinned(points) for name, points in lines.items()}
    note = "; ".join(f"{name}: {p[0].y:.3g} to {p[-1].y:.3g}" for name, p in lines.items())
    svg = charts.lines(lines, x="step", y="training loss")
    return Chart("loss", "Training loss", svg, note)


def _thinned(points: list[Point]) -> list[Point]:
    """Means of neighbouring points, at most `LOSSES`."""
    size = -(-len(points) // LOSSES)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [Point(part[-1].x, sum(p.y for p in part) / len(part)) for part in parts]
