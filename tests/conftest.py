"""One setting for the whole suite: eight virtual CPU devices and a compilation cache."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling takes most of the suite's time; what it compiles runs once or twice.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

# In the environment for the runs that tests start: they never write to the user's own cache.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(pathlib.Path(__file__).parents[1] / ".cache/jax")

import jax
import pytest
from absl import flags

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
# Grain reads absl flags, which only `app.run` parses.
flags.FLAGS.mark_as_parsed()


@pytest.fixture(autouse=True, scope="session")
def _home_of_datasets(tmp_path_factory):
    """Tests never read or write the user's own datasets."""
    os.environ["TFDS_DATA_DIR"] = str(tmp_path_factory.mktemp("tfds"))
