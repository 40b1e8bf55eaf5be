"""The geometry of the person-search detectors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from g2ajax.data.frame_batches import resize_bilinear
from g2ajax.detection import transform
from g2ajax.detection.anchors import cell_anchors, grid_anchors
from g2ajax.detection.boxes import clip_boxes, decode_boxes, encode_boxes, pairwise_iou
from g2ajax.detection.matcher import match
from g2ajax.detection.nms import batched_nms, nms
from g2ajax.detection.proposals import filter_proposals
from g2ajax.detection.roi_align import roi_align
from g2ajax.detection.sampler import sample_balanced
from g2ajax.detection.targets import select_training_samples
from g2ajax.nn.pooling import adaptive_average
from g2ajax.tasks.frames import enlargement


def run_anchors(args, inputs, weights):
    cell = cell_anchors(args["sizes"], args["aspect_ratios"])
    stride = args.get("stride")
    if stride is None:
        stride = [a // b for a, b in zip(args["image_hw"], args["feature_hw"], strict=True)]
    grid = grid_anchors(cell, tuple(args["feature_hw"]), tuple(stride))
    return {"out_cell_anchors": cell, "out_anchors": grid}


def run_box_coder(args, inputs, weights):
    proposals, truth = jnp.asarray(inputs["in_proposals"]), jnp.asarray(inputs["in_gt"])
    size, results = jnp.asarray(args["image_hw"]), {}
    for v in args["variants"]:
        codes = jnp.asarray(inputs[v["codes"]]).reshape(len(proposals), -1, 4)
        factors = tuple(v["weights"])
        decoded = decode_boxes(codes, proposals[:, None], factors, args["delta_clamp"])
        names = v["outputs"]
        results |= {
            names["encode"]: encode_boxes(truth, proposals, factors),
            names["decode"]: decoded,
            names["decode_clip"]: clip_boxes(decoded, size),
        }
    return results


def run_matcher(args, inputs, weights):
    iou = pairwise_iou(jnp.asarray(inputs["in_gt"]), jnp.asarray(inputs["in_boxes"]))
    results = {args["iou"]: iou}
    assert (args["below"], args["between"]) == (-1, -2)
    for v in args["variants"]:
        for name, table in (
            ("on_quality", jnp.asarray(inputs[args["quality"]])),
            ("on_iou", iou),
        ):
            results[v["outputs"][name]] = match(
                table, high=v["high"], low=v["low"], low_quality=v["allow_low_quality"]
            )
    return results


def run_nms(args, inputs, weights):
    boxes, scores = jnp.asarray(inputs["in_boxes"]), jnp.asarray(inputs["in_scores"])
    single, grouped = (
        jax.jit(form, static_argnames=("threshold", "tile")) for form in (nms, batched_nms)
    )
    results = {}
    for v in args["variants"]:
        # A tile smaller than the list, so that tiles meet.
        if v["batched"]:
            label = jnp.asarray(inputs[v["labels"]].astype(np.int32))
            kept = grouped(boxes, scores, label, threshold=v["threshold"], tile=16)
        else:
            kept = single(boxes, scores, threshold=v["threshold"], tile=16)
        results[v["output"]] = np.asarray(kept.index)[np.asarray(kept.valid)]
    return results


def run_roi_align(args, inputs, weights):
    features = jnp.asarray(inputs["in_features"]).transpose(0, 2, 3, 1)
    cotangent = jnp.asarray(inputs["in_grad"], jnp.float32)
    boxes = [jnp.asarray(inputs[name]) for name in args["boxes"]]

    def pooled(features):
        each = [
            roi_align(
                x,
                b,
                output_size=args["output_size"],
                sampling_ratio=args["sampling_ratio"],
                spatial_scale=args["spatial_scale"],
                aligned=args["aligned"],
            )
            for x, b in zip(features, boxes, strict=True)
        ]
        return jnp.concatenate(each).transpose(0, 3, 1, 2)

    @jax.jit
    def both(features):
        value, back = jax.vjp(pooled, features)
        return value, back(cotangent)[0]

    value, gradient = both(features)
    return {"out_pooled": value, "out_grad_features": gradient.transpose(0, 3, 1, 2)}


def run_rpn_filter(args, inputs, weights):
    anchor = args["anchors"]
    cell = cell_anchors(anchor["sizes"], anchor["aspect_ratios"])
    stride = anchor["stride"]
    stride = tuple(stride) if isinstance(stride, list) else (stride, stride)
    anchors = grid_anchors(cell, tuple(args["feature_hw"]), stride)
    codes = jnp.asarray(inputs["in_deltas"])
    logits = jnp.asarray(inputs["in_objectness"]).reshape(codes.shape[:2])
    results = {}
    for v in args["variants"]:
        compiled = jax.jit(
            functools.partial(
                filter_proposals,
                pre_nms=v["pre_nms_top_n"],
                post_nms=v["post_nms_top_n"],
                nms_threshold=args["nms"],
                min_size=args["min_size"],
                weights=tuple(args["box_weights"]),
                max_log_ratio=args["delta_clamp"],
            )
        )
        for image, size in enumerate(args["image_sizes"]):
            found = compiled(logits[image], codes[image], anchors, jnp.asarray(size))
            names = v["outputs"]
            found = jax.device_get(found)
            results[names["boxes"][image]] = found.boxes[found.valid]
            results[names["scores"][image]] = found.scores[found.valid]
    return results


def run_balanced_sampler(args, inputs, weights):
    drawn = []
    cases = [dict(zip(args["columns"], row, strict=True)) for row in inputs["in_cases"]]
    counts = [[int(case[k]) for k in ("positives", "negatives", "ignored")] for case in cases]
    # Padded to one length with ignored rows, so that few things compile.
    room = max(map(sum, counts))
    sample = jax.jit(sample_balanced, static_argnames=("size", "positive_fraction"))
    for case, numbers in zip(cases, counts, strict=True):
        label = np.repeat([1, 0, -1], [*numbers[:2], room - sum(numbers[:2])])
        sampled = sample(
            jax.random.key(0),
            jnp.asarray(label),
            size=int(case["batch_size"]),
            positive_fraction=float(case["positive_fraction"]),
        )
        taken = label[np.asarray(sampled.index)[np.asarray(sampled.valid)]]
        assert (taken >= 0).all()
        drawn.append([(taken == 1).sum(), (taken == 0).sum()])
    return {"out_num_pos_neg": np.asarray(drawn)}


def run_select_training_samples(args, inputs, weights):
    if args["sampler"] != "take_all" or args["allow_low_quality"]:
        raise NotImplementedError(f"sampler {args['sampler']}, or low-quality matches")
    results = {}
    for image in range(args["images"]):
        boxes = jnp.asarray(inputs[f"in_proposals_{image}"])
        truth = jnp.asarray(inputs[f"in_gt_{image}"])
        select = jax.jit(
            functools.partial(
                select_training_samples,
                foreground_iou=args["fg_iou"],
                background_iou=args["bg_iou"],
                size=2 * (len(boxes) + len(truth)),
                weights=tuple(args["box_weights"]),
            )
        )
        samples = select(
            jax.random.key(0),
            boxes,
            jnp.ones(len(boxes), bool),
            truth,
            jnp.asarray(inputs[f"in_labels_{image}"].astype(np.int32)),
            jnp.ones(len(truth), bool),
        )
        samples = jax.device_get(samples)
        valid = samples.valid
        results |= {
            f"out_proposals_{image}": samples.boxes[valid],
            f"out_matched_{image}": samples.matched[valid],
            f"out_labels_{image}": samples.label[valid],
            f"out_reg_targets_{image}": samples.codes[valid],
        }
    return results


def padded_size(sizes, multiple):
    """The reference's canvas of a batch: the largest height and width, rounded up to `multiple`."""
    height, width = (max(side) for side in zip(*sizes, strict=True))
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def on_canvas(image, size, canvas, mean=0.0, std=1.0):
    """An image of a case, [C, H, W], resized as runs resize frames, normalised and padded: [h, w, C]."""
    pixels = resize_bilinear(image.transpose(1, 2, 0).astype(np.float32), size)
    pixels = (pixels - np.float32(mean)) / np.float32(std)
    return np.pad(pixels, [(0, canvas[0] - size[0]), (0, canvas[1] - size[1]), (0, 0)])


def run_detection_transform(args, inputs, weights):
    multiple, sizes, batch = args["size_divisible"], args["sizes"], args["batch"]
    rows = []
    for height, width in inputs[sizes["hw"]].tolist():
        new = transform.resized_size(height, width, sizes["min_size"], sizes["max_size"])
        rows.append([*new, *padded_size([new], multiple)])
    images = [inputs[name] for name in batch["images"]]
    old = [image.shape[1:] for image in images]
    new = [transform.resized_size(*size, batch["min_size"], batch["max_size"]) for size in old]
    canvas = padded_size(new, multiple)
    network = {"mean": args["image_mean"], "std": args["image_std"]}
    padded = [
        on_canvas(image, size, canvas, **network) for image, size in zip(images, new, strict=True)
    ]
    names = batch["outputs"]
    results = {
        sizes["output"]: np.asarray(rows),
        names["batch"]: np.stack(padded).transpose(0, 3, 1, 2),
        names["image_sizes"]: np.asarray(new),
    }
    for k, name in enumerate(batch["boxes"]):
        boxes = inputs[name] * enlargement(new[k], old[k])
        results[names["boxes"][k]] = boxes
        results[names["boxes_back"][k]] = boxes * enlargement(old[k], new[k])
    return results


def run_adaptive_avg_pool(args, inputs, weights):
    image = jnp.asarray(inputs[args["input"]]).transpose(0, 2, 3, 1)
    size = args["output_size"]
    size = tuple(size) if isinstance(size, list) else (size, size)
    pooled = adaptive_average(image, size).transpose(0, 3, 1, 2)
    return {"out_avg14": pooled, f"out_avg{size[0]}": pooled}


RUNNERS = {
    "anchors": run_anchors,
    "box_coder": run_box_coder,
    "matcher": run_matcher,
    "nms": run_nms,
    "roi_align": run_roi_align,
    "rpn_filter": run_rpn_filter,
    "balanced_sampler": run_balanced_sampler,
    "select_training_samples": run_select_training_samples,
    "detection_transform": run_detection_transform,
    "adaptive_avg_pool": run_adaptive_avg_pool,
}
