"""The example of every public docstring runs and prints what it says."""

import doctest
import importlib
import operator
import pkgutil
import re

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


class PlainShapes(doctest.OutputChecker):
    """Reads PyTorch's shapes as the tuples that the other backends print."""

    def check_output(self, want, got, optionflags):
        got = re.sub(r"torch\.Size\(\[(.*?)\]\)", self.as_tuple, got)
        return super().check_output(want, got, optionflags)

    def as_tuple(self, match):
        return str(tuple(int(n) for n in match[1].split(",") if n))


@pytest.mark.one_backend
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    names = {"np": np, "keras": keras, "keras_mmrel": keras_mmrel}
    runner = doctest.DocTestRunner(
        PlainShapes(),
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    for example in doctest.DocTestFinder().find(module, extraglobs=names):
        runner.run(example)
    assert runner.failures == 0


@pytest.mark.one_backend
def test_every_public_class_shows_an_example():
    for package in (
        "layers", "models", "encoders", "corruptions", "losses", "media",
        "modulations", "encoders.pretrained", "wrappers",
    ):  # fmt: skip
        module = operator.attrgetter(package)(keras_mmrel)
        for name in module.__all__:
            text = getattr(module, name).__doc__
            assert "Example:" in text or name == "MultimodalModel", name
            assert "Args:" in text, name
