"""Runners of video methods: the frames of a clip."""

import numpy as np

from g2ajax.data.clips import first_clips, padded


def run_frame_sampling(args, inputs, weights):
    first, last = args["tracklet_lengths"]
    lengths, size = np.arange(first, last + 1), args["clip_size"]
    loop = np.full((len(lengths), args["padded_width"]), args["fill"], np.int64)
    for row, length in zip(loop, lengths.tolist(), strict=True):
        frames = padded(length, size)
        row[: len(frames)] = frames
    return {"out_begin_indices": first_clips(lengths, size).frame, "out_loop_padded": loop}


RUNNERS = {"vsla_frame_sampling": run_frame_sampling}
