"""Scores a model, on its own dataset or on others, and prints one matrix."""

import argparse
from typing import Any

from g2ajax.apps.evaluate import evaluate_datasets, own_dataset
from g2ajax.cli.opening import folder_of, open_model
from g2ajax.evaluation import cross
from g2ajax.models.model import Model
from g2ajax.report.page import write_report
from g2ajax.report.records import Report


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError or FileNotFoundError when something does not fit."""
    model = with_evaluation(open_model(options), options)
    folder = folder_of(model, options.out, "")
    names, files = words(options.datasets), []

    def write(name: str, report: Report) -> None:
        # A run's own report.html stays.
        ending = f"-{name.replace('/', '_')}" if len(names) > 1 else ""
        files.append(folder / f"cross_report{ending}.html")
        write_report(report, files[-1])

    results = evaluate_datasets(
        model,
        names,
        words(options.rankings),
        data_dir=options.data_dir,
        manual_dir=options.manual_dir,
        report=write if options.report else None,
    )
    trained_on = own_dataset(model) or "unknown data"
    cross.write(results, trained_on, folder)
    print(cross.as_text(results, trained_on))
    print(f"written: {folder / 'cross_results'}.json, .md, .csv")
    for file in files:
        print(f"written: {file}")
    return 0


def with_evaluation(model: Model, options: argparse.Namespace) -> Model:
    """The model with the command line's changes to its evaluation."""
    rerank = {k: getattr(options, k) for k in ("k1", "k2", "lambda_value")}
    changes: dict[str, Any] = {"rerank": {k: v for k, v in rerank.items() if v is not None}}
    if options.flip:
        changes["flip"] = True
    changes = {k: v for k, v in changes.items() if v}
    return model.changed(evaluate=changes) if changes else model


def words(text: str) -> tuple[str, ...]:
    """The words between commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
