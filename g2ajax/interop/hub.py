"""Files of weights from the Hugging Face hub."""

import importlib
import pathlib

HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
"""Usual names of weights in a repository, tried in this order."""


def fetch(address: str) -> pathlib.Path:
    """Downloads `hf:org/repo` (its usual weights) or `hf:org/repo/file`; returns the local path.

    Raises ValueError without `huggingface_hub`, and when no file could be downloaded.
    """
    parts = address.removeprefix("hf:").strip("/").split("/")
    if len(parts) < 2:
        raise ValueError(f"{address!r}: expected hf:org/repo or hf:org/repo/file")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError(
            f"{address}: reading from the Hugging Face hub needs huggingface_hub; install it "
            "(pip install 'g2ajax[hub]'), or download the file and name its path"
        ) from error
    repository, files = "/".join(parts[:2]), ["/".join(parts[2:])] if parts[2:] else HUB_FILES
    failures = []
    for file in files:
        try:
            return pathlib.Path(hub.hf_hub_download(repository, file))
        except Exception as error:  # the hub has a dozen kinds: offline, gated, absent, …
            failures.append(f"{file}: {type(error).__name__}: {error}")
    raise ValueError(
        f"{address} could not be fetched ({'; '.join(failures)}). Check the name and the network, "
        "or download the file elsewhere and name its path"
    )
