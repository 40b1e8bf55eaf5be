"""A run on the dataset in memory as a program, for tests that kill it or start several.

python -m tests.training.run_fake WORKDIR '{"seed": 1}'
"""

import json
import sys

from g2ajax.tasks import crops
from g2ajax.training import loop
from g2ajax.training.mesh import initialise_processes
from tests.fake_data import make_dataset
from tests.runs import tiny_config

if __name__ == "__main__":
    initialise_processes()
    dataset = make_dataset()
    crops.open_dataset = lambda *args, **kwargs: dataset
    loop.run(tiny_config(**json.loads(sys.argv[2])), sys.argv[1])
