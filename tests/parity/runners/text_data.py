"""Runner of TBAGPR's annotation files."""

import numpy as np

from tfds_builders.tbagpr_files import ATTRIBUTES, VOTED, read_evaluation, read_train


def run_tbagpr_dataset(args, inputs, weights):
    if args["dataset_class"] != "AGDataAttr":
        raise NotImplementedError(f"the class {args['dataset_class']}")
    assert args["voted_attributes"] == list(range(VOTED))
    assert args["per_image_attributes"] == list(range(VOTED, len(ATTRIBUTES)))
    read = inputs["in_files"].__getitem__
    pairs, test, val = read_train(read), read_evaluation(read), read_evaluation(read, "val")
    # The reference adds to the second source's numbers that of the items read SO FAR. Nothing uses
    # the result, and it is made here only.
    first = sum(pair.aerial.startswith("AG-ReID/") for pair in pairs)
    number = [p.number + (row if row >= first else 0) for row, p in enumerate(pairs)]
    splits = ([p.identity for p in pairs], test.identity, val.identity)
    captions = (pairs, test.captions, val.captions)
    return {
        "out_train_pid": [p.identity for p in pairs],
        "out_train_image_id": number,
        "out_train_attr_aerial": [p.aerial_attributes for p in pairs],
        "out_train_attr_ground": [p.ground_attributes for p in pairs],
        "out_test_image_pid": test.identity,
        "out_test_caption_pid": test.caption_identity,
        "out_val_image_pid": val.identity,
        "out_counts": np.array(
            [n for s, c in zip(splits, captions, strict=True) for n in (len(set(s)), len(c))]
        ),
        "out_paths": {
            "train": [[p.aerial, p.ground, p.caption] for p in pairs],
            "test": list(test.aerial),
            "test_pair": list(test.ground),
        },
    }


RUNNERS = {"tbagpr_dataset": run_tbagpr_dataset}
