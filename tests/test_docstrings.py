"""The example of every public docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_mmrel

MODULES = [
    module.name
    for module in pkgutil.walk_packages(
        keras_mmrel.__path__, prefix="keras_mmrel."
    )
    # One backend can be imported at a time, and two examples download.
    if not module.name.startswith("keras_mmrel.backend.")
    and not module.name.endswith(("datasets.brca", "datasets.rosmap"))
]


@pytest.mark.skipif(
    keras.config.backend() != "jax",
    reason="shapes print as plain tuples with JAX only",
)
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    result = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"np": np, "keras": keras, "keras_mmrel": keras_mmrel},
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert result.failed == 0


def test_every_public_class_shows_an_example():
    for package in (
        "layers", "models", "encoders", "corruptions", "losses", "modulations"
    ):  # fmt: skip
        module = getattr(keras_mmrel, package)
        for name in module.__all__:
            text = getattr(module, name).__doc__
            assert "Example:" in text or name == "MultimodalModel", name
            assert "Args:" in text, name
