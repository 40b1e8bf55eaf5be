"""One setting for the whole suite: eight virtual CPU devices and a compilation cache."""

import ctypes
import gc
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling takes most of the suite's time; what it compiles runs once or twice. Parts of a program that are
# compiled beside each other cost more together than in one piece, and XLA's older emitters of fused
# operations compile a small program in two thirds of the time. `XLA_FLAGS=` in the environment: XLA's own.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1 --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_cpu_use_fusion_emitters=false",
)

# In the environment for the runs that tests start: they never write to the user's own cache. Every program
# is kept: both workers need it, and each again after it dropped its programs.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(pathlib.Path(__file__).parents[1] / ".cache/jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import pytest
from absl import flags

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Grain reads absl flags, which only `app.run` parses.
flags.FLAGS.mark_as_parsed()


LARGE = 1_500_000_000
"""Bytes in memory from which freed memory is given back to the system."""
MANY_PROGRAMS, TOO_MANY = LARGE + LARGE // 2, 2 * LARGE
"""Bytes from which compiled programs are dropped at the end of a file, and at that of a test."""


def _give_back() -> int:
    """Gives freed memory back where much is held: glibc keeps what compiling used, 9 GB a worker
    after a thousand programs. Returns the bytes still held."""
    if sys.platform != "linux":
        return 0

    def held() -> int:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    if held() > LARGE:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return held()


def _drop_programs(limit: int) -> None:
    """Drops compiled programs that pile up; the cache on the disk has those that are needed again."""
    if _give_back() > limit:
        jax.clear_caches()
        gc.collect()
        _give_back()


@pytest.fixture(autouse=True)
def _free_memory():
    yield
    _drop_programs(TOO_MANY)


@pytest.fixture(autouse=True, scope="module")
def _free_programs():
    yield
    _drop_programs(MANY_PROGRAMS)


def pytest_collection_finish():
    """Objects of importing and collecting stay to the end: the collector does not search them again and
    again while tests make the small objects of tracing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


# The runs that tests of several folders share, made once in a session of one process.
SHARED = ("ranked_run", "frames_run", "tracklets_only", "with_text", "images_only")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With `--dist loadgroup` a worker takes whole files, and one of them all tests of a shared run, so
    that no fixture of a file or run is made, and no program of it compiled, in both."""
    for item in items:
        group = next((name for name in SHARED if name in item.fixturenames), item.location[0])
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True, scope="session")
def _home_of_datasets(tmp_path_factory):
    """Tests never read or write the user's own datasets."""
    os.environ["TFDS_DATA_DIR"] = str(tmp_path_factory.mktemp("tfds"))


# The runs that tests of several folders share. What they import is imported when they are asked for:
# g2ajax must not be imported before its types are checked.


@pytest.fixture
def one_device(monkeypatch):
    """Runs have one device: for eight virtual ones they take four times as long to compile."""
    from g2ajax.training import setup
    from tests import runs

    monkeypatch.setattr(setup, "make_mesh", runs.on_one_device)


@pytest.fixture
def fake_dataset():
    """Runs open the dataset in memory, whatever their configuration names."""
    from tests import fake_data, runs

    dataset = fake_data.make_dataset()
    with runs.opens(dataset):
        yield dataset


@pytest.fixture(scope="session")
def ranked_run(tmp_path_factory):
    """A finished run of one epoch, scored by re-ranking and query expansion too: its folder, the
    configuration and the results."""
    from tests import runs

    return runs.finished(tmp_path_factory.mktemp("ranked"), runs.ranked_config())


@pytest.fixture(scope="session")
def images_only():
    """A run on images before its first step, on one device."""
    from tests import fake_data, runs

    return runs.opened(runs.tiny_config(evaluate__batch_size=8), fake_data.make_dataset())


@pytest.fixture(scope="session")
def with_text():
    """A run on images and captions before its first step, on one device."""
    from tests import runs

    return runs.opened_with_text()


@pytest.fixture(scope="session")
def frames_run(tmp_path_factory):
    """A finished run on whole frames: its folder, the configuration and the results."""
    from tests import runs

    return runs.finished_frames(tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="session")
def tracklets_only():
    """A run on tracklets before its first step, on one device."""
    from tests import fake_tracklets, runs
    from tests.tasks.test_tracklets import tracklets_config

    return runs.opened(tracklets_config(), fake_tracklets.make_tracklets())
