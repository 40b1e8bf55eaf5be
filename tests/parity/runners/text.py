"""Runners of text retrieval: tokens, masking, losses, metrics."""

import numpy as np

from g2ajax.data.tokenizer import END, MASK, PAD, START, Tokenizer


def run_tokenizer(args, inputs, weights):
    assert (args["start_id"], args["end_id"], args["mask_id"]) == (START, END, MASK)
    assert args["pad_id"] == PAD
    results = {}
    for name, output in args["outputs"].items():
        tokenizer = Tokenizer(output["vocabulary"])
        if output["context_length"] is None:
            ids = [tokenizer.encode(text) for text in inputs["in_captions"]]
            results[name] = np.array([len(row) for row in ids])
        else:
            results[name] = tokenizer(
                inputs["in_captions"], context_length=output["context_length"]
            )
    return results


RUNNERS = {"clip_tokenizer": run_tokenizer}
