"""Time and memory of k-reciprocal re-ranking, beside the needs of the published formula.

    python benchmarks/reranking.py                                      # a small one
    python benchmarks/reranking.py --queries=1000 --gallery=50000       # the size of CARGO

Random embeddings that cluster by identity, 50 images each. Prints the scores with and without,
computed from the same embeddings, to show that the distances are usable. Imports jax, numpy and
g2ajax.retrieval only.
"""

import argparse
import importlib.metadata
import platform
import resource
import time

import numpy as np


def problem(queries: int, gallery: int, dim: int) -> tuple[np.ndarray, ...]:
    """Embeddings that cluster by identity, with neighbourhoods neither pure nor random; labels."""
    rng = np.random.default_rng(0)
    identities = max(2, gallery // 50)
    centre = rng.normal(size=(identities, dim)).astype(np.float32)
    q_id, g_id = rng.integers(0, identities, queries), rng.integers(0, identities, gallery)

    def embed(identity: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal(size=(len(identity), dim), dtype=np.float32)
        return centre[identity] + 2.5 * noise

    return (
        embed(q_id),
        embed(g_id),
        q_id,
        g_id,
        rng.integers(0, 6, queries),
        rng.integers(0, 6, gallery),
    )


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--gallery", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--k1", type=int, default=20)
    parser.add_argument("--k2", type=int, default=6)
    parser.add_argument("--variant", default="zhong")
    args = parser.parse_args()

    from g2ajax.retrieval import evaluate, evaluate_distances, rerank

    packages = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("jax", "numpy", "scipy"))
    print(f"{platform.processor() or platform.machine()}, {packages}", flush=True)
    query, gallery, *labels = problem(args.queries, args.gallery, args.dim)
    before = peak()
    start = time.perf_counter()
    distance = rerank(query, gallery, k1=args.k1, k2=args.k2, variant=args.variant)
    seconds = time.perf_counter() - start
    after = peak()
    count = args.queries + args.gallery
    print(
        f"{args.queries} queries x {args.gallery} gallery x {args.dim}, k1 {args.k1}, k2 {args.k2}, "
        f"{args.variant}: {seconds:.1f} s, peak {after:.0f} MB ({after - before:.0f} MB above the "
        f"{before:.0f} MB before)",
        flush=True,
    )
    matrix = 4 * count**2 / 1e9
    print(
        f"by the published formula, not run: a {count} x {count} float32 matrix is {matrix:.2f} GB; "
        f"distances, ranks, weights and mean weights at once are {4 * matrix:.2f} GB",
        flush=True,
    )
    plain, ranked = evaluate(query, gallery, *labels), evaluate_distances(distance, *labels)
    print(
        f"mAP {100 * plain.mAP:.2f} without, {100 * ranked.mAP:.2f} with; "
        f"rank-1 {100 * plain.rank(1):.2f} without, {100 * ranked.rank(1):.2f} with"
    )


if __name__ == "__main__":
    main()
