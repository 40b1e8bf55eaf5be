"""g2ajax finds a person across the sky and the ground.

import g2ajax

model = g2ajax.load("runs/agreid_vit")           # a run, a model's folder, hf:org/repo, a public file
features = model.embed(["a.jpg", "b.jpg"])       # [2, D]
print(model.distance(features, features))

load              a model, from wherever it is
evaluate          its scores on datasets
search            a folder of images, embedded, that answers images and sentences
search_tracklets  a folder of tracklets or of videos with tracks, embedded, that answers tracklets
datasets          the names of the datasets that can be opened
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["datasets", "evaluate", "load", "search", "search_tracklets"]

if TYPE_CHECKING:
    from g2ajax.apps.evaluate import evaluate_datasets as evaluate
    from g2ajax.apps.search import open_gallery as search
    from g2ajax.apps.search_tracklets import open_tracklet_gallery as search_tracklets
    from g2ajax.data.builders import names as datasets
    from g2ajax.models.load import load

# Imported when they are asked for: `import g2ajax` takes milliseconds and brings no jax.
_PLACES = {
    "load": ("g2ajax.models.load", "load"),
    "evaluate": ("g2ajax.apps.evaluate", "evaluate_datasets"),
    "search": ("g2ajax.apps.search", "open_gallery"),
    "search_tracklets": ("g2ajax.apps.search_tracklets", "open_tracklet_gallery"),
    "datasets": ("g2ajax.data.builders", "names"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
