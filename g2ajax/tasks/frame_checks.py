"""Checks of a dataset of whole frames, and of a model on it, before anything is computed."""

from g2ajax.data import readable
from g2ajax.data.frame_source import FrameDataset
from g2ajax.evaluation.person_search import check_rankings
from g2ajax.methods import Detects, Method, SearchesPersons, method_name, require
from g2ajax.tasks.base import EvaluateOptions, RunInfo


def check(info: RunInfo, dataset: FrameDataset) -> None:
    """Raises ValueError for protocols and rankings that the frames do not have, and for a training
    split without identities."""
    evaluate = info.options.evaluate
    for name in evaluate.protocols:
        dataset.protocol(name)
    check_rankings(evaluate.rankings, "evaluate.rankings")
    for phase in info.phases:
        check_rankings(phase.options.rankings, f"phase.{phase.name}.rankings")
    if not dataset.num_identities:
        raise ValueError(f"{dataset.name}: no person of the training split has an identity")


def check_readable(info: RunInfo, dataset: FrameDataset) -> None:
    """Raises ValueError for test frames that cannot be read, unless they may be left out."""
    if info.options.frames.skip_unreadable:
        return
    for name in ("query", "gallery"):
        split = dataset.splits[name]
        bad = readable.unreadable(split, num_threads=info.options.data.num_threads)
        if bad:
            text = readable.describe(dataset.name, name, bad)
            raise ValueError(f"{text}; {readable.advice('frames.skip_unreadable')}")


def check_model(model: Method, evaluate: EvaluateOptions) -> None:
    """Raises ValueError for a method that detects no persons, and for options that need identities
    from a plain detector."""
    require(model, Detects, "a dataset of whole frames")
    ranks = evaluate.rankings or evaluate.best != "detection AP"
    if not isinstance(model, SearchesPersons) and ranks:
        raise ValueError(
            f"method {method_name(model)!r} finds people and does not tell them apart: give "
            "evaluate.rankings=() and evaluate.best='detection AP'"
        )
