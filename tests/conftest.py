"""Settings that every test shares."""

import keras
import pytest


def pytest_configure(config):
    if keras.config.backend() == "jax":
        import jax

        # Small graphs, many of them: compiling is nearly all of the time.
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A test that is marked `slow_on` the backend that runs is slow."""
    for item in items:
        for mark in item.iter_markers("slow_on"):
            if keras.config.backend() in mark.args:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.utils.clear_session(free_memory=False)
