"""Settings that every test shares, and where each test runs.

`scripts/test.sh`, and so `.ci/run`, runs all tests on each backend in turn.
A test marked `one_backend` reaches no code that differs between backends
(arrays, files, tables, text) and runs on `ONE_BACKEND` only. That it runs
there is made sure of in two places: `deselect_one_backend` refuses the mark
beside one that takes the test away from that backend, and
tests/test_packaging.py reads the list of backends in `scripts/test.sh`.
Anywhere, `-m one_backend` runs them too.
"""

import gc
import os
from pathlib import Path

# JAX compiles most small programs of the tests again and again, in every
# worker and every process that a test starts: they share what was compiled.
# JAX reads these names when it is imported.
PROGRAMS = Path(__file__).resolve().parents[1] / ".pytest_cache/jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROGRAMS))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import pytest  # noqa: E402

ONE_BACKEND = "torch"
# Files whose tests take longest begin, so that no worker waits at the end.
FIRST = ("test_guides.py", "test_examples.py")

# Keras, and the framework with it, is imported where it is used: the process
# from which pytest-xdist starts its workers needs neither.


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    from tests.quick_compiler import use_quick_compiler

    use_quick_compiler()
    # What was imported stays; the garbage collector need not look at it.
    gc.collect()
    gc.freeze()
    items.sort(key=lambda item: item.path.name not in FIRST)
    # Side by side, for one of pytest-xdist's workers: each that has some of
    # them starts two devices.
    items.sort(key=lambda item: "replicas" not in item.fixturenames)
    for item in items:
        mark_slow(item)
    if "one_backend" not in config.option.markexpr:
        deselect_one_backend(config, items)


def mark_slow(item):
    """A test that is marked `slow_on` the backend that runs is slow."""
    import keras

    for mark in item.iter_markers("slow_on"):
        if keras.config.backend() in mark.args:
            item.add_marker(pytest.mark.slow)


def deselect_one_backend(config, items):
    """A test that is marked `one_backend` runs on that one."""
    import keras

    kept, left_out = [], []
    for item in items:
        one = item.get_closest_marker("one_backend") is not None
        slow_on = {b for m in item.iter_markers("slow_on") for b in m.args}
        if one and ONE_BACKEND in slow_on:
            raise pytest.UsageError(
                f"A test of one backend must not be slow on it. Received: "
                f"{item.nodeid}"
            )
        elsewhere = keras.config.backend() != ONE_BACKEND
        (left_out if one and elsewhere else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """What a module leaves (compiled programs) is not looked at again.

    Each whole collection would go through all of it, for a second and more.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def trained_on_two(request, tmp_path_factory):
    from tests import data_parallel

    cases = data_parallel.asked_for(request.session)
    return data_parallel.train_on_two(tmp_path_factory.mktemp("two"), cases)


@pytest.fixture
def replicas(trained_on_two, request):
    """Arrays of a test's case on each of two devices (data_parallel.py)."""
    case = request.node.callspec.params["case"]
    return trained_on_two[request.module.WORKER.__name__, case]


@pytest.fixture(autouse=True)
def seeded():
    import keras

    keras.utils.set_random_seed(0)
    yield
    keras.utils.clear_session(free_memory=False)
