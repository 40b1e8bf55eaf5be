"""Compiles the training steps of methods for a chip that is not here; a process of its own.

    python -m tests.training.compile_steps cuda strong_baseline seqnet

Prints a line for each method: OK, or what is wrong with its program. XLA reads its settings once, before
JAX is imported, hence the process.
"""

import os
import re
import sys
import traceback

from benchmarks import chips  # imports no JAX

TARGETS = {"tpu": "v5e-8", "cuda": "h200"}
# In the text of a compiled program.
FORBIDDEN = {
    "float64": r"\bf64\[",
    "host callback": r"custom_call_target=\"\S*callback\S*\"|\b(send|recv|infeed|outfeed)\(",
    "dynamic shape": r"\[(\d+,)*<=\d",
}


def main(platform: str, *names: str) -> None:
    target = chips.target(TARGETS[platform])
    chips.set_environment(target)
    # The programs are of another device than the one that writes the cache.
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    from g2ajax.training.mesh import make_mesh
    from tests.lowering import H200, V5E, tracing_for, training_steps

    mesh = make_mesh(devices=chips.devices(TARGETS[platform], target))
    device = H200 if platform == "cuda" else V5E
    for name in names:
        try:
            for loss, step, arguments in training_steps(name, mesh):
                with tracing_for(device):
                    lowered = step.trace(*arguments).lower(lowering_platforms=(platform,))
                text = lowered.compile().as_text()
                for what, pattern in FORBIDDEN.items():
                    if found := re.search(pattern, text):
                        raise ValueError(f"{loss}: {what}: {found[0]}")
            print(name, "OK", flush=True)
        except Exception as error:
            traceback.print_exc()
            print(name, type(error).__name__, str(error).splitlines()[0][:300], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
