"""Time of one query against a loaded gallery: exact distances and the nearest entries.

    python benchmarks/search.py                      # 100,000 embeddings of 512 dimensions
    taskset -c 0,1 python benchmarks/search.py       # on two cores

Random embeddings. The time to embed the query is not counted. Imports jax, numpy
and g2ajax.retrieval only.
"""

import argparse
import importlib.metadata
import os
import platform
import time

import numpy as np


def milliseconds(ask, questions: np.ndarray) -> np.ndarray:
    """Milliseconds of each query, one by one."""
    times = []
    for question in questions:
        start = time.perf_counter()
        ask(question[None])
        times.append(1e3 * (time.perf_counter() - start))
    return np.array(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gallery", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--metric", default="cosine")
    args = parser.parse_args()

    from g2ajax.retrieval.prepared import prepare, search_prepared
    from g2ajax.retrieval.search import search

    packages = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("jax", "numpy"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {cores} cores, load {load:.1f}, {packages}", flush=True)
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((args.gallery, args.dim), dtype=np.float32)
    questions = rng.standard_normal((args.questions, args.dim), dtype=np.float32)
    start = time.perf_counter()
    ready = prepare(gallery, args.metric)
    search_prepared(questions[:1], ready, args.top)
    print(f"prepared and compiled in {time.perf_counter() - start:.2f} s", flush=True)

    def prepared(question: np.ndarray):
        return search_prepared(question, ready, args.top)

    def unprepared(question: np.ndarray):
        return search(question, gallery, args.top, metric=args.metric)

    for name, ask, count in (("prepared", prepared, len(questions)), ("search", unprepared, 4)):
        times = milliseconds(ask, questions[:count])[1:]
        print(
            f"{name:9} median {np.median(times):6.1f} ms, 90% {np.quantile(times, 0.9):6.1f} ms, "
            f"fastest {times.min():6.1f} ms",
            flush=True,
        )
    a, b = prepared(questions[:1]), unprepared(questions[:1])
    print("same list:", bool((a.index == b.index).all()))


if __name__ == "__main__":
    main()
