"""Your own crops, fine-tuned from a model that you have.

    g2ajax train --recipe=finetune --model=runs/agreid_vit_skyground --images=DIR

`--model` is the folder of a run or of a model, or a public file of weights. DIR has your images and a table
`crops.csv` beside them, with the columns path, identity, camera, platform (docs/datasets.md). Image size,
interpolation and network are the model's. Published: nothing; the scores are of your own people.
"""

from ml_collections import ConfigDict

from g2ajax.models.load import load
from g2ajax.recipes.finetune import finetune


def get_config(arguments: str | None = None) -> ConfigDict:
    given = dict(word.partition("=")[::2] for word in (arguments or "").split(",") if word)
    if given.keys() != {"model", "images"}:
        raise ValueError(
            "this experiment needs --model=PATH and --images=DIR (g2ajax train --recipe=finetune); in a file's "
            "name: configs/finetune.py:model=PATH,images=DIR"
        )
    model = load(given["model"])
    if model.card.task != "crops":
        raise ValueError(f"{given['model']} is a model on {model.card.task}; expected one on crops")
    return finetune(model.card.name, model.card.method, model.card.options["data"], **given)
