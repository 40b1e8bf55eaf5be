"""Prints the published scores on a dataset, protocols in separate columns."""

import argparse

from g2ajax.evaluation import published


def run(options: argparse.Namespace) -> int:
    """Runs the command. Raises ValueError for a dataset without published scores."""
    print(published.table(options.dataset))
    return 0
