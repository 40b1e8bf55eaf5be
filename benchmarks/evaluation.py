"""Time and memory of the ranking metrics at the sizes of Market-1501 and MSMT17.

    python benchmarks/evaluation.py            # both sizes, each in a process of its own
    python benchmarks/evaluation.py --size=market

Random embeddings of 768 dimensions with the identities, cameras and numbers of images of the real
sets; distances included. Beside it the usual evaluation (whole distance matrix, full argsort per
query) in NumPy in the same run; at MSMT17's size on a stated part of the queries, since all of them
need 7.7 GB for the matrix and its order. Imports jax, numpy and g2ajax.retrieval only.
"""

import argparse
import importlib.metadata
import platform
import resource
import subprocess
import sys
import time

import numpy as np

SIZES = {
    # queries, gallery, identities, cameras, share of queries that NumPy ranks
    "market": (3368, 15913, 750, 6, 1.0),
    "msmt17": (11659, 82161, 3060, 15, 0.05),
}
DIMENSIONS = 768


def problem(queries: int, gallery: int, identities: int, cameras: int) -> tuple[np.ndarray, ...]:
    """Embeddings that cluster by identity, so that ranks are as mixed as a real network's."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(identities, DIMENSIONS)).astype(np.float32)
    q_id, g_id = rng.integers(0, identities, queries), rng.integers(0, identities, gallery)

    def embed(identity: np.ndarray) -> np.ndarray:
        noise = rng.normal(size=(len(identity), DIMENSIONS)).astype(np.float32)
        return centre[identity] + 6.0 * noise

    return (
        embed(q_id),
        embed(g_id),
        q_id,
        g_id,
        rng.integers(0, cameras, queries),
        rng.integers(0, cameras, gallery),
    )


def numpy_map(query, gallery, q_id, g_id, q_cam, g_cam) -> float:
    """mAP by the whole matrix and an argsort a query."""
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    distance = 1.0 - query @ gallery.T
    scores = []
    for row, identity, camera in zip(distance, q_id, q_cam, strict=True):
        order = np.argsort(row, kind="stable")
        order = order[(g_id[order] != identity) | (g_cam[order] != camera)]
        ranks = np.flatnonzero(g_id[order] == identity) + 1
        if len(ranks):
            scores.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return float(np.mean(scores))


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str) -> None:
    from g2ajax.retrieval import evaluate

    queries, gallery, identities, cameras, share = SIZES[name]
    arrays = problem(queries, gallery, identities, cameras)
    before = peak()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = evaluate(*arrays)
        times.append(time.perf_counter() - start)
    print(
        f"{name}: {queries} x {gallery} x {DIMENSIONS}: first {times[0]:.2f} s, "
        f"warm {min(times[1:]):.2f} s, peak {peak():.0f} MB "
        f"({peak() - before:.0f} MB above the {before:.0f} MB before)",
        flush=True,
    )
    part = max(1, int(share * queries))
    few = (arrays[0][:part], arrays[1], arrays[2][:part], arrays[3], arrays[4][:part], arrays[5])
    start = time.perf_counter()
    expected = numpy_map(*few)
    seconds = time.perf_counter() - start
    valid = result.valid[:part]
    value = float(result.average_precision[:part][valid].mean())
    start = time.perf_counter()
    evaluate(*few)
    own_seconds = min(times[1:]) if share == 1.0 else time.perf_counter() - start
    print(
        f"{name}: NumPy, {part} of {queries} queries: {seconds:.2f} s; ours on the same: "
        f"{own_seconds:.2f} s ({seconds / own_seconds:.1f} times as fast); mAP {100 * value:.4f} "
        f"against {100 * expected:.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=list(SIZES))
    size = parser.parse_args().size
    if size:
        measure(size)
        return
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("jax", "numpy"))
    print(f"{platform.processor() or platform.machine()}, {versions}", flush=True)
    for name in SIZES:
        subprocess.run([sys.executable, __file__, f"--size={name}"], check=True)


if __name__ == "__main__":
    main()
