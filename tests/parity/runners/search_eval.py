"""Detection and search scores of person search, and its matching."""

import numpy as np

from g2ajax.retrieval.person_detection import evaluate_detection
from g2ajax.retrieval.person_search import (
    ContextMatching,
    FrameDetections,
    SearchQuery,
    match_people,
    search,
)


def _split(values, offsets):
    return np.split(values, offsets[1:-1])


def run_detection_eval(args, inputs, weights):
    truth = _split(inputs["in_gt_boxes"].astype(np.float64), inputs["in_gt_offsets"])
    pids = _split(inputs["in_gt_pids"], inputs["in_gt_offsets"])
    found = _split(inputs["in_dets"], inputs["in_det_offsets"])
    results = {}
    for v in args["variants"]:
        frames = list(zip(truth, pids, found, strict=True))
        if v["labeled_only"]:
            frames = [(t[p != args["unlabelled_pid"]], p, f) for t, p, f in frames]
            frames = [frame for frame in frames if len(frame[0])]
        result = evaluate_detection(
            [frame[0] for frame in frames],
            [frame[2][:, :4] for frame in frames],
            [frame[2][:, 4] for frame in frames],
            score_threshold=v["score_threshold"],
            iou_threshold=args["iou_threshold"],
        )
        results[v["output"]] = np.array([result.recall, result.average_precision])
    return results


def run_search_eval(args, inputs, weights):
    boxes = _split(inputs["in_gt_boxes"].astype(np.float64), inputs["in_gt_offsets"])
    pids = _split(inputs["in_gt_pids"], inputs["in_gt_offsets"])
    dets = _split(inputs["in_dets"], inputs["in_det_offsets"])
    features = _split(inputs["in_feats"], inputs["in_det_offsets"])
    detections = [
        FrameDetections(d[:, :4], d[:, 4], f) for d, f in zip(dets, features, strict=True)
    ]
    contexts = _split(inputs["in_context_feats"], inputs["in_context_offsets"])

    def gallery_of(query, cameras=None):
        """The frames and the person's boxes in them, by the protocol."""
        if args["protocol"] == "cuhk":
            corners = inputs[args["gallery"]][query], inputs["in_protocol_gt_xywh"][query]
            frames, xywh = corners[0], corners[1].astype(np.float64)
            xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
            return frames, np.where((xywh < 0).any(1, keepdims=True), np.nan, xyxy)
        own = inputs["in_query_image"][query]
        frames = np.array([k for k in range(len(boxes)) if k != own])
        if cameras is not None:
            frames = frames[cameras[frames] != cameras[own]]
        truth = np.full((len(frames), 4), np.nan)
        for row, frame in zip(truth, frames, strict=True):
            mine = np.flatnonzero(pids[frame] == inputs["in_query_pid"][query])
            if len(mine):
                row[:] = boxes[frame][mine[0]]
        return frames, truth

    def scored(queries, cbgm, cameras=None):
        return search(
            detections,
            [
                SearchQuery(inputs["in_query_feats"][k], *gallery_of(k, cameras), contexts[k])
                for k in queries
            ],
            score_threshold=args["score_threshold"],
            ranks=args["topk"],
            context_matching=ContextMatching(**cbgm) if cbgm else None,
        )

    everyone = range(len(inputs["in_query_image"]))
    results = {}
    for v in args["variants"]:
        result, names = scored(everyone, v["cbgm"]), v["outputs"]
        results |= {
            names["map"]: result.mAP,
            names["top"]: list(result.top.values()),
            names["ap_per_query"]: result.average_precision,
            names["top_per_query"]: result.hits.astype(float),
        }
    if "cross_camera" in args:
        cross = args["cross_camera"]
        queries = inputs[cross["queries"]].tolist()
        result = scored(queries, cross["cbgm"], inputs[cross["cameras"]])
        results[cross["output"]] = result.average_precision
    return results


def run_kuhn_munkres(args, inputs, weights):
    results = {}
    for case in args["cases"]:
        pairs, largest = match_people(inputs[case["weights"]])
        results |= {case["outputs"]["match"]: pairs, case["outputs"]["max"]: np.float32(largest)}
    return results


RUNNERS = {
    "detection_eval": run_detection_eval,
    "search_eval": run_search_eval,
    "kuhn_munkres": run_kuhn_munkres,
}
