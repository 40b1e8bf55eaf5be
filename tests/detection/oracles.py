"""The same geometry, written as plain loops."""

import numpy as np


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, np.float32(0)) * max(height, np.float32(0))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
    return inside / union if union > 0 else np.float32(0)


def nms(boxes, scores, threshold, mask=None):
    order = np.argsort(-scores, kind="stable")
    kept = []
    for i in order:
        if mask is not None and not mask[i]:
            continue
        if all(not float(iou(boxes[i], boxes[j])) > threshold for j in kept):
            kept.append(int(i))
    return kept


def roi_align(features, box, size, sampling, scale, aligned):
    channels = features.shape[2]
    shift = 0.5 if aligned else 0.0
    x0, y0, x1, y1 = np.asarray(box, np.float64) * scale - shift
    across, down = x1 - x0, y1 - y0
    if not aligned:
        across, down = max(across, 1.0), max(down, 1.0)
    out = np.zeros((size, size, channels))
    for i in range(size):
        for j in range(size):
            for a in range(sampling):
                for b in range(sampling):
                    y = y0 + (i + (a + 0.5) / sampling) * down / size
                    x = x0 + (j + (b + 0.5) / sampling) * across / size
                    out[i, j] += bilinear(features, y, x)
    return out / sampling**2


def bilinear(features, y, x):
    height, width, channels = features.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(channels)
    y, x = max(y, 0.0), max(x, 0.0)
    low_y, low_x = min(int(y), height - 1), min(int(x), width - 1)
    high_y, high_x = min(low_y + 1, height - 1), min(low_x + 1, width - 1)
    dy = y - low_y if low_y < height - 1 else 0.0
    dx = x - low_x if low_x < width - 1 else 0.0
    top = features[low_y, low_x] * (1 - dx) + features[low_y, high_x] * dx
    bottom = features[high_y, low_x] * (1 - dx) + features[high_y, high_x] * dx
    return top * (1 - dy) + bottom * dy
