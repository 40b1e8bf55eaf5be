"""Stops runs at random moments and checks that they go on to the same bits.

    python -m benchmarks.random_stops --stops=100

Every run is stopped by Ctrl-C, SIGTERM or SIGKILL at a random moment, started again in the same folder, and so on
until it has finished; then its model, its results and its metrics are compared with those of a run that was left
alone. Prints a line for each stop and a table at the end; exits with 1 if a run differs, or if one that was
asked to stop printed a traceback.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CONFIGS = ("configs/agreid_bot_r50.py:tiny", "configs/seqnet.py:tiny")


def start(config: str, workdir: pathlib.Path, data: pathlib.Path) -> subprocess.Popen:
    """A run in a process of its own."""
    command = [sys.executable, "run.py", f"--config={config}", f"--workdir={workdir}"]
    command += [f"--config.data.dir={data}", "--config.checkpoint.every_steps=1"]
    with open(workdir.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)


def outcome(workdir: pathlib.Path) -> dict[str, str]:
    """Hashes of everything that a finished run leaves, without times and paths."""
    digests = {}
    for file in sorted((workdir / "model").iterdir()):
        if file.name != "model.json":  # it names the folder of the run
            digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    digests["results"] = json.dumps(json.loads((workdir / "results.json").read_text()))
    entries = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    kept = [{k: v for k, v in entry.items() if k != "time"} for entry in entries]
    digests["metrics"] = json.dumps(kept)
    return digests


def chain(config: str, folder: pathlib.Path, data: pathlib.Path, seconds: float, rng) -> tuple:
    """One run with all its stops: their signals, and what it left."""
    workdir, stops = folder / f"run{rng.getrandbits(32):08x}", []
    while True:
        process = start(config, workdir, data)
        try:
            # A later start has less to do: the moments stay dense up to the end.
            process.wait(rng.uniform(0.0, 1.05 * seconds))
        except subprocess.TimeoutExpired:
            stops.append(rng.choice(SIGNALS))
            process.send_signal(stops[-1])
            process.wait(600)  # it may be compiling, on a busy machine
            print(f"{config}: {stops[-1].name}, exit {process.returncode}", flush=True)
            continue
        if process.returncode:
            raise SystemExit(f"{config} ended with {process.returncode}: {workdir}.log")
        return stops, outcome(workdir), workdir.with_suffix(".log").read_text()


def main() -> int:
    """Runs the chains of all configurations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configs", default=",".join(CONFIGS))
    options = parser.parse_args()
    configs, rng, faults, table = options.configs.split(","), random.Random(options.seed), 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = folder / "data"
        for config in configs:
            alone = folder / f"alone{len(table)}"
            for workdir in (
                folder / f"first{len(table)}",
                alone,
            ):  # the first one builds and compiles
                begin = time.perf_counter()
                if start(config, workdir, data).wait():
                    raise SystemExit(workdir.with_suffix(".log").read_text()[-3000:])
                seconds = time.perf_counter() - begin
            expected, count, runs = outcome(alone), dict.fromkeys(SIGNALS, 0), 0
            while sum(count.values()) < options.stops // len(configs):
                stops, left, log = chain(config, folder, data, seconds, rng)
                runs += 1
                for one in stops:
                    count[one] += 1
                differing = [key for key in expected if left.get(key) != expected[key]]
                if differing or "Traceback" in log:
                    faults += 1
                    print(f"{config}: after {[s.name for s in stops]} differ: {differing}\n{log}")
            table.append((config, runs, *count.values()))
    print("configuration  finished runs  SIGINT  SIGTERM  SIGKILL")
    for row in table:
        print("  ".join(map(str, row)))
    print(f"{faults} runs differ from one that was left alone, or printed a traceback")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
