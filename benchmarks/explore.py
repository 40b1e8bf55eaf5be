"""Time from a click on the explorer's page to its answer: a request over HTTP to a gallery in memory.

    python benchmarks/explore.py                      # 100,000 embeddings of 512 dimensions
    taskset -c 0,1 python benchmarks/explore.py       # on two cores

Random embeddings in 200 folders, no files and no model: the click ranks the gallery from one of its images,
without marks, with 5 right and 5 wrong ones, and in one folder. Pictures are fetched after the answer and
are not counted.
"""

import argparse
import functools
import http.client
import importlib.metadata
import json
import os
import pathlib
import platform
import threading
import time

import numpy as np

from g2ajax.apps.explore import Explorer, Groups, Shot
from g2ajax.apps.explore_galleries import folders_of
from g2ajax.apps.explore_server import Server
from g2ajax.retrieval.prepared import prepare


def synthetic(count: int, dim: int) -> Explorer:
    """An explorer of random unit embeddings."""
    features = np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    paths = [pathlib.PurePath(f"folder{row % 200:03d}/{row:07d}.jpg") for row in range(count)]
    return Explorer(
        root=pathlib.Path(os.devnull),
        names=tuple(path.as_posix() for path in paths),
        shots=tuple(Shot((pathlib.Path(os.devnull),)) for _ in paths),
        prepared=prepare(features),
        features=features,
        among=np.ones(count, bool),
        folders=folders_of(paths),
        cameras=Groups((), np.full(count, -1, np.int32)),
        embed_image=lambda pixels: features[0],
        embed_text=None,
    )


def click(connection: http.client.HTTPConnection, server: Server, content: dict) -> dict:
    """The answer to a question, as the page asks it."""
    headers = {"Content-Type": "application/json", "Origin": server.url[: -len(server.token) - 2]}
    body = json.dumps(content)
    connection.request("POST", f"/{server.token}/rank", body, headers)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {data!r}")
    return json.loads(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gallery", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--clicks", type=int, default=50)
    args = parser.parse_args()

    packages = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("jax", "numpy"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}, {packages}")
    start = time.perf_counter()
    with Server(synthetic(args.gallery, args.dim)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection(*server.server_address[:2])
        ask = functools.partial(click, connection, server)
        ask({"query": {"row": 0}})
        print(f"made and compiled in {time.perf_counter() - start:.1f} s", flush=True)
        rng = np.random.default_rng(1)
        kinds = {"a row": {}, "10 marks": {}, "one folder": {"folder": 7}}
        for name, more in kinds.items():
            times = []
            for _ in range(args.clicks):
                row, *marks = rng.choice(args.gallery, 11, replace=False).tolist()
                content = {"query": {"row": row}, **more}
                if name == "10 marks":
                    content |= {"right": marks[:5], "wrong": marks[5:]}
                start = time.perf_counter()
                answer = ask(content)
                times.append(1e3 * (time.perf_counter() - start))
                if name == "a row" and answer["results"][0]["row"] != row:
                    raise RuntimeError(f"the nearest of {row} is {answer['results'][0]}")
            print(
                f"{name:10} median {np.median(times):6.1f} ms, 90% {np.quantile(times, 0.9):6.1f} ms, "
                f"slowest {max(times):6.1f} ms",
                flush=True,
            )
        connection.close()
        server.shutdown()


if __name__ == "__main__":
    main()
