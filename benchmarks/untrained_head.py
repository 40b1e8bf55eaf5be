"""Value of the learned embeddings of a person search: its search beside that of an untrained head.

    python benchmarks/untrained_head.py --workdir=runs/seqnet_skyground

Both rank the same detections, those of the run's checkpoint; the untrained embeddings come from the
same network with the weights of everything that embeds regions drawn anew (seed 1000).
"""

import argparse
import dataclasses
import pathlib

import numpy as np
from flax import nnx

from g2ajax import methods
from g2ajax.data.frame_source import FrameSplit
from g2ajax.evaluation.person_search import Found
from g2ajax.evaluation.results import as_table
from g2ajax.retrieval.person_search import FrameDetections
from g2ajax.tasks import frames
from g2ajax.training import loop
from g2ajax.training.workdir import stored_config

EMBED = ("reid_head", "embedding_head", "box_head_2nd", "box_head_3rd", "embedding_head_2nd")
EMBED += ("embedding_head_3rd",)


def with_people(split: FrameSplit, found: list[FrameDetections]) -> FrameSplit:
    """The frames of a split with the detections in place of their people."""
    offsets = np.cumsum([0, *(len(frame.boxes) for frame in found)]).astype(np.int64)
    nobody = np.full(offsets[-1], -1)
    return dataclasses.replace(
        split,
        offsets=offsets,
        boxes=np.concatenate([frame.boxes for frame in found]).astype(np.float32),
        identity=nobody.astype(np.int64),
        label=nobody.astype(np.int32),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--checkpoint", default="latest", choices=("latest", "best"))
    arguments = parser.parse_args()
    config, kind = stored_config(arguments.workdir), arguments.checkpoint
    run, meta = loop.reopen(config, arguments.workdir, kind, of=frames.Task)
    of = {"rankings": ("reid",), "checkpoint": loop.describe(kind), "step": meta["total_step"]}
    state = nnx.state(run.model)
    trained = run.task.search(state, ("reid",))

    fresh = methods.drawn(run.options.method, run.task.facts, seed=1000)
    values = dict(nnx.to_flat_state(nnx.state(fresh)))
    mixed = nnx.from_flat_state(
        (path, values[path] if path[:1] == ("roi_heads",) and path[1] in EMBED else leaf)
        for path, leaf in nnx.to_flat_state(state)
    )
    split = with_people(run.task.dataset.splits["gallery"], trained.gallery)
    most = max(len(frame.boxes) for frame in trained.gallery)
    fitted = frames.fit(split, dataclasses.replace(run.task.options.frames, max_boxes=most))
    embedded = run.task.each_frame(run.task.functions.embed, mixed, fitted)
    gallery = [
        dataclasses.replace(frame, features=features[: len(frame.boxes)] * frame.scores[:, None])
        for frame, features in zip(trained.gallery, embedded, strict=True)
    ]
    queries = run.task.each_frame(run.task.functions.embed, mixed, run.task.query)
    untrained = Found(gallery, np.stack([row[0] for row in queries]))
    results = [
        result
        for name, detections in (("trained", trained), ("untrained", untrained))
        for result in run.task.results_of(detections, name=name, **of)
    ]
    print(as_table(results))
    half = len(results) // 2
    for one, other in zip(results[:half], results[half:], strict=True):
        print(f"{one.label}: {one.mAP:.2f} / {other.mAP:.2f} = {one.mAP / other.mAP:.2f}")


if __name__ == "__main__":
    main()
